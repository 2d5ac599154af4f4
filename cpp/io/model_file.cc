#include "gramian/io/model_file.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <system_error>
#include <utility>

#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "gramian/core/error.hpp"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model files hold little-endian tensors, which this file borrows as they are: big-endian machines need swaps"
#endif

namespace gramian {
namespace {

namespace fs = std::filesystem;

constexpr int kSchema = 1;
constexpr std::uint64_t kAlignment = 64;   // of the data and of every tensor, in the file
constexpr std::uint64_t kLengthBytes = 8;  // the header's length stands before it
constexpr std::uint64_t kMaxHeader = std::uint64_t{16} << 20;
constexpr std::size_t kMaxRank = 32;  // what every NumPy can hold
constexpr std::uint64_t kMaxBytes = std::numeric_limits<std::int64_t>::max();
constexpr char kMetadata[] = "__metadata__";
constexpr char kPadding[] = "_pad";
constexpr char kForeign[] = "not a gramian model (a safetensors file of something else)";

struct TypeInfo {
  const char* name;
  std::uint64_t bytes;
};
constexpr TypeInfo kTypes[] = {{"F32", 4}, {"F64", 8}, {"I64", 8}, {"U8", 1}};  // in the order of TensorType

const TypeInfo& info(TensorType type) {
  return kTypes[static_cast<std::size_t>(type)];
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
  return (value + step - 1) / step * step;
}

[[noreturn]] void fail_format(const std::string& message) {
  throw Error(ErrorCode::file_format, message);
}

// Text out of a file, made fit for a message.
std::string shown(const std::string& text) {
  constexpr std::size_t kLongest = 64;
  std::string result = "'" + text.substr(0, kLongest) + (text.size() > kLongest ? "...'" : "'");
  for (char& c : result) {
    if (c < ' ' || c > '~') c = '?';
  }
  return result;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string result = "[";
  for (const std::int64_t extent : shape) result += (result.size() > 1 ? ", " : "") + std::to_string(extent);
  return result + "]";
}

// Names that hold no tensor of a model: a "_pad" with digits fills a gap.
bool is_padding(const std::string& name) {
  const std::size_t digits = sizeof kPadding - 1;
  return name.size() > digits && name.compare(0, digits, kPadding) == 0 &&
         name.find_first_not_of("0123456789", digits) == std::string::npos;
}

// Bytes of a tensor; false where an extent is negative or the product does not fit. Zero extents do not hide an
// overflow of the others: programs that multiply from the left would trip over it.
bool tensor_bytes(TensorType type, const std::vector<std::int64_t>& shape, std::uint64_t* bytes) {
  std::uint64_t product = info(type).bytes;
  bool empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return false;
    const auto factor = static_cast<std::uint64_t>(extent);
    if (factor == 0) {
      empty = true;
    } else if (product > kMaxBytes / factor) {
      return false;
    } else {
      product *= factor;
    }
  }
  *bytes = empty ? 0 : product;
  return true;
}

// ---- the operating system ----------------------------------------------------------------------------------------

[[noreturn]] void fail_io(const std::string& what, const std::string& path, int reason) {
  throw Error(ErrorCode::io, "cannot " + what + " " + path + ": " + std::generic_category().message(reason));
}

// A C path ends at the first NUL: a longer one would name another file than the caller's.
void require_path(const std::string& path) {
  GRAMIAN_REQUIRE(path.find('\0') == std::string::npos, invalid_argument, "a path holds a NUL character");
}

// The bytes of a file, read-only.
class InputFile {
 public:
  InputFile(const std::string& path, std::uint64_t max_bytes);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const void* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static std::size_t checked_size(std::uint64_t size, std::uint64_t max_bytes) {
    if (size < kLengthBytes) fail_format("truncated: no model file is this short");
    if (size > max_bytes || size > std::numeric_limits<std::size_t>::max() / 2) {
      fail_format("refused: " + std::to_string(size) + " bytes are more than the limit");
    }
    return static_cast<std::size_t>(size);
  }

  void* data_ = nullptr;
  std::size_t size_ = 0;
#if defined(_WIN32)
  std::vector<std::uint64_t> storage_;
#endif
};

// A new file beside `target` that takes its place on commit(), and is gone without one.
class OutputFile {
 public:
  explicit OutputFile(const std::string& target);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t size);
  void commit();

 private:
  void create(int mode);
  [[noreturn]] void fail(int reason) const { fail_io("save the model to", target_.string(), reason); }

  fs::path target_;
  fs::path folder_;
  fs::path temporary_;
  int descriptor_ = -1;
  bool exists_ = false;  // the temporary
};

constexpr int kNoFile = -1;

#if defined(_WIN32)

InputFile::InputFile(const std::string& path, std::uint64_t max_bytes) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) throw Error(ErrorCode::io, "cannot open " + path + ": " + error.message());
  size_ = checked_size(size, max_bytes);
  storage_.resize(size_ / sizeof(std::uint64_t) + 1);
  data_ = storage_.data();
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) fail_io("open", path, errno);
  const std::size_t got = std::fread(data_, 1, size_, file);
  std::fclose(file);
  if (got != size_) fail_io("read", path, EIO);
}

InputFile::~InputFile() = default;

int open_new(const fs::path& path, int) {
  return ::_wopen(path.c_str(), _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY, _S_IREAD | _S_IWRITE);
}
std::int64_t write_some(int descriptor, const void* data, std::size_t size) {
  return ::_write(descriptor, data, static_cast<unsigned>(size));
}
int flush(int descriptor) {
  return ::_commit(descriptor);
}
int close_file(int descriptor) {
  return ::_close(descriptor);
}
int existing_mode(const fs::path&) {
  return kNoFile;
}
bool keep_mode(int, int) {
  return true;
}
int flush_folder(const fs::path&) {
  return 0;
}

#else

InputFile::InputFile(const std::string& path, std::uint64_t max_bytes) {
  // O_NONBLOCK: a pipe without a writer is refused below instead of waited for.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail_io("open", path, errno);
  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } const closer{descriptor};
  struct stat status;
  if (::fstat(descriptor, &status) != 0) fail_io("open", path, errno);
  if (S_ISDIR(status.st_mode)) fail_io("open", path, EISDIR);
  if (!S_ISREG(status.st_mode)) throw Error(ErrorCode::io, "cannot open " + path + ": not a regular file");
  const std::size_t size = checked_size(static_cast<std::uint64_t>(status.st_size), max_bytes);
  void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (mapped == MAP_FAILED) fail_io("map", path, errno);
  data_ = mapped;
  size_ = size;
}

InputFile::~InputFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

int open_new(const fs::path& path, int mode) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, static_cast<mode_t>(mode));
}
std::int64_t write_some(int descriptor, const void* data, std::size_t size) {
  return ::write(descriptor, data, size);
}
int flush(int descriptor) {
  return ::fsync(descriptor);
}
int close_file(int descriptor) {
  return ::close(descriptor);
}

// The permissions of the file to be replaced, kNoFile where there is none. A file that may not be written is not
// replaced either, although the folder would allow it.
int existing_mode(const fs::path& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return kNoFile;
  if (S_ISDIR(status.st_mode)) fail_io("save the model to", path.string(), EISDIR);
  // As root, a rename would replace even /dev/null.
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::io, "cannot save the model to " + path.string() + ": not a regular file");
  }
  if (::access(path.c_str(), W_OK) != 0) fail_io("save the model to", path.string(), EACCES);
  return static_cast<int>(status.st_mode & 0777);
}

bool keep_mode(int descriptor, int mode) {
  return ::fchmod(descriptor, static_cast<mode_t>(mode)) == 0;
}

// The rename itself reaches the disk with its folder. Returns 0 or the reason; folders that cannot be read, and file
// systems without this call, are no failure.
int flush_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return 0;
  const int reason = ::fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
  ::close(descriptor);
  return reason;
}

#endif

OutputFile::OutputFile(const std::string& target) : target_(target) {
  std::error_code ignored;  // where the link leads nowhere, the rename gives the reason
  if (fs::is_symlink(target_, ignored)) {
    const fs::path resolved = fs::canonical(target_, ignored);
    if (!resolved.empty()) target_ = resolved;
  }
  folder_ = target_.has_parent_path() ? target_.parent_path() : fs::path(".");
  const int mode = existing_mode(target_);
  create(mode != kNoFile ? mode : 0666);
  // The umask may have taken bits that the old file has.
  if (mode != kNoFile && !keep_mode(descriptor_, mode)) {
    const int reason = errno;
    close_file(descriptor_);
    fs::remove(temporary_, ignored);
    fail(reason);
  }
}

void OutputFile::create(int mode) {
  // O_EXCL decides who owns a name; the random part only makes a second try rare.
  constexpr int kTries = 100;
  std::random_device random;
  for (int i = 0; i < kTries && descriptor_ < 0; ++i) {
    char name[48];
    std::snprintf(name, sizeof name, ".gramian-%08x%08x.tmp", random(), random());
    temporary_ = folder_ / name;
    descriptor_ = open_new(temporary_, mode);
    if (descriptor_ < 0 && errno != EEXIST) break;
  }
  if (descriptor_ < 0) fail(errno);
  exists_ = true;
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close_file(descriptor_);
  std::error_code ignored;
  if (exists_) fs::remove(temporary_, ignored);
}

void OutputFile::write(const void* data, std::size_t size) {
  constexpr std::size_t kPiece = std::size_t{1} << 30;  // systems take at most 2 GiB at once
  const auto* next = static_cast<const char*>(data);
  while (size > 0) {
    const std::int64_t written = write_some(descriptor_, next, std::min(size, kPiece));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail(written < 0 ? errno : ENOSPC);
    next += written;
    size -= static_cast<std::size_t>(written);
  }
}

void OutputFile::commit() {
  if (flush(descriptor_) != 0) fail(errno);
  const int closed = close_file(std::exchange(descriptor_, -1));
  if (closed != 0) fail(errno);
  std::error_code error;
  fs::rename(temporary_, target_, error);
  if (error) throw Error(ErrorCode::io, "cannot save the model to " + target_.string() + ": " + error.message());
  exists_ = false;
  const int reason = flush_folder(folder_);
  if (reason != 0) fail_io("flush the folder of the saved model", target_.string(), reason);
}

}  // namespace

// ---- TensorView --------------------------------------------------------------------------------------------------

namespace {

void require_type(TensorType found, TensorType wanted) {
  GRAMIAN_REQUIRE(found == wanted, file_format,
                  std::string("a tensor of type ") + info(found).name + ", expected " + info(wanted).name);
}

}  // namespace

std::int64_t TensorView::size() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) {
    if (extent == 0) return 0;  // before the others can overflow
  }
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

const double* TensorView::f64() const {
  require_type(type, TensorType::f64);
  return static_cast<const double*>(data);
}

const float* TensorView::f32() const {
  require_type(type, TensorType::f32);
  return static_cast<const float*>(data);
}

const std::int64_t* TensorView::i64() const {
  require_type(type, TensorType::i64);
  return static_cast<const std::int64_t*>(data);
}

const std::uint8_t* TensorView::u8() const {
  require_type(type, TensorType::u8);
  return static_cast<const std::uint8_t*>(data);
}

// ---- ModelWriter -------------------------------------------------------------------------------------------------

namespace {

struct Piece {
  const void* data;
  std::size_t size;
};

// The file as pieces in their order; the first is `header`.
struct Layout {
  std::string header;
  std::vector<Piece> pieces;
};

Json tensor_entry(TensorType type, const std::vector<std::int64_t>& shape, std::uint64_t begin, std::uint64_t end) {
  Json entry;
  entry["dtype"] = info(type).name;
  entry["shape"] = Json::array();
  for (const std::int64_t extent : shape) entry["shape"].push_back(extent);
  entry["data_offsets"].push_back(static_cast<std::int64_t>(begin));
  entry["data_offsets"].push_back(static_cast<std::int64_t>(end));
  return entry;
}

std::string header_text(const Json& table) {
  const std::string json = table.dump();
  const std::uint64_t length = round_up(kLengthBytes + json.size(), kAlignment) - kLengthBytes;
  GRAMIAN_REQUIRE(length <= kMaxHeader, invalid_argument,
                  "the configuration and the table of tensors take " + std::to_string(length) +
                      " bytes; a model file holds " + std::to_string(kMaxHeader));
  std::string text(kLengthBytes, '\0');
  std::memcpy(text.data(), &length, sizeof length);
  text += json;
  text.resize(kLengthBytes + length, ' ');
  return text;
}

}  // namespace

struct ModelWriter::State {
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<std::int64_t> shape;
    const void* data;
    std::uint64_t bytes;
  };

  std::string model;
  Json config;
  std::vector<Tensor> tensors;
  std::deque<std::vector<double>> kept_doubles;  // a deque: what is in it stays where it is
  std::deque<std::vector<std::int64_t>> kept_integers;
  std::set<std::string> names;
  std::uint64_t end = 0;  // of the last tensor, from the first byte of data

  Json metadata() const {
    Json result;
    result["format"] = "gramian";
    result["schema"] = std::to_string(kSchema);
    result["model"] = model;
    result["lib_version"] = GRAMIAN_VERSION;
    result["config"] = config.dump();
    return result;
  }

  Layout layout() const {
    static const char kZeros[kAlignment] = {};
    Layout result;
    result.pieces.push_back({nullptr, 0});
    Json table;
    table[kMetadata] = metadata();
    std::uint64_t offset = 0;
    std::int64_t padding = 0;
    for (const Tensor& tensor : tensors) {
      const std::uint64_t gap = round_up(offset, kAlignment) - offset;
      if (gap > 0) {
        table[kPadding + std::to_string(padding++)] =
            tensor_entry(TensorType::u8, {static_cast<std::int64_t>(gap)}, offset, offset + gap);
        result.pieces.push_back({kZeros, static_cast<std::size_t>(gap)});
        offset += gap;
      }
      table[tensor.name] = tensor_entry(tensor.type, tensor.shape, offset, offset + tensor.bytes);
      result.pieces.push_back({tensor.data, static_cast<std::size_t>(tensor.bytes)});
      offset += tensor.bytes;
    }
    result.header = header_text(table);
    result.pieces[0] = {result.header.data(), result.header.size()};
    return result;
  }
};

ModelWriter::ModelWriter(std::string model, Json config) : state_(std::make_unique<State>()) {
  state_->model = std::move(model);
  state_->config = std::move(config);
}

ModelWriter::~ModelWriter() = default;
ModelWriter::ModelWriter(ModelWriter&&) noexcept = default;

void ModelWriter::add(const std::string& name, TensorType type, std::vector<std::int64_t> shape, const void* data) {
  const std::string label = "tensor " + shown(name);
  GRAMIAN_REQUIRE(!name.empty() && name != kMetadata && !is_padding(name), invalid_argument,
                  label + ": the name is reserved");
  GRAMIAN_REQUIRE(shape.size() <= kMaxRank, invalid_argument, label + " has too many dimensions");
  std::uint64_t bytes = 0;
  GRAMIAN_REQUIRE(tensor_bytes(type, shape, &bytes), invalid_argument,
                  label + ": impossible shape " + shape_text(shape));
  GRAMIAN_REQUIRE(bytes == 0 || data != nullptr, invalid_argument, label + " has no data");
  const std::uint64_t begin = round_up(state_->end, kAlignment);
  GRAMIAN_REQUIRE(begin <= kMaxBytes - kAlignment - kMaxHeader && bytes <= kMaxBytes - kAlignment - kMaxHeader - begin,
                  invalid_argument, label + " makes the file too large");
  GRAMIAN_REQUIRE(state_->names.insert(name).second, invalid_argument, label + " is there already");
  state_->tensors.push_back({name, type, std::move(shape), data, bytes});
  state_->end = begin + bytes;
}

void ModelWriter::add(const std::string& name, std::vector<std::int64_t> shape, std::vector<double> data) {
  state_->kept_doubles.push_back(std::move(data));
  add(name, TensorType::f64, std::move(shape), state_->kept_doubles.back().data());
}

void ModelWriter::add(const std::string& name, std::vector<std::int64_t> shape, std::vector<std::int64_t> data) {
  state_->kept_integers.push_back(std::move(data));
  add(name, TensorType::i64, std::move(shape), state_->kept_integers.back().data());
}

void ModelWriter::set_config(Json config) {
  state_->config = std::move(config);
}

std::vector<std::uint8_t> ModelWriter::bytes() const {
  const Layout layout = state_->layout();
  std::vector<std::uint8_t> result;
  result.reserve(layout.header.size() + static_cast<std::size_t>(state_->end));
  for (const Piece& piece : layout.pieces) {
    const auto* first = static_cast<const std::uint8_t*>(piece.data);
    result.insert(result.end(), first, first + piece.size);
  }
  return result;
}

void ModelWriter::save(const std::string& path) const {
  require_path(path);
  const Layout layout = state_->layout();
  OutputFile file(path);
  for (const Piece& piece : layout.pieces) file.write(piece.data, piece.size);
  file.commit();
}

// ---- ModelReader -------------------------------------------------------------------------------------------------

namespace {

TensorType parse_type(const std::string& name) {
  for (std::size_t i = 0; i < std::size(kTypes); ++i) {
    if (name == kTypes[i].name) return static_cast<TensorType>(i);
  }
  fail_format("unknown type " + shown(name));
}

// A tensor of the header before its place in the data is checked.
struct Entry {
  std::string name;
  TensorView view;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

std::uint64_t parse_offset(const Json& value) {
  if (value.integer() < 0) fail_format("a negative offset");
  return static_cast<std::uint64_t>(value.integer());
}

void parse_entry(const Json& json, Entry* entry) {
  if (json.members().size() != 3) fail_format("an entry must hold dtype, shape and data_offsets only");
  entry->view.type = parse_type(json.at("dtype").string());
  const std::vector<Json>& shape = json.at("shape").items();
  if (shape.size() > kMaxRank) fail_format("too many dimensions");
  for (const Json& extent : shape) entry->view.shape.push_back(extent.integer());
  const std::vector<Json>& offsets = json.at("data_offsets").items();
  if (offsets.size() != 2) fail_format("data_offsets must be two numbers");
  entry->begin = parse_offset(offsets[0]);
  entry->end = parse_offset(offsets[1]);
  std::uint64_t bytes = 0;
  if (!tensor_bytes(entry->view.type, entry->view.shape, &bytes)) {
    fail_format("impossible shape " + shape_text(entry->view.shape));
  }
  if (entry->end < entry->begin || entry->end - entry->begin != bytes) {
    fail_format("the shape and the type make " + std::to_string(bytes) + " bytes, the offsets are " +
                std::to_string(entry->begin) + " and " + std::to_string(entry->end));
  }
}

std::vector<Entry> parse_entries(const Json& table) {
  std::vector<Entry> entries;
  for (const auto& [name, json] : table.members()) {
    if (name == kMetadata) continue;
    entries.emplace_back();
    entries.back().name = name;
    try {
      parse_entry(json, &entries.back());
    } catch (const Error& error) {
      fail_format("tensor " + shown(name) + ": " + error.what());
    }
  }
  // Empty tensors begin where the next one does and stand before it.
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  return entries;
}

bool has_expected_shape(const std::vector<std::int64_t>& found, const std::vector<std::int64_t>& wanted) {
  return std::equal(found.begin(), found.end(), wanted.begin(), wanted.end(),
                    [](std::int64_t extent, std::int64_t expected) { return expected == -1 || extent == expected; });
}

}  // namespace

struct ModelReader::State {
  std::unique_ptr<InputFile> file;
  std::vector<std::uint64_t> copy;  // of borrowed bytes that stand at an odd address
  std::string model;
  std::string library_version;
  Json config;
  std::map<std::string, TensorView> tensors;
  std::string cut;              // name of the tensor that the file ends in, "" for a whole file
  std::uint64_t cut_bytes = 0;  // of it that are there
  bool may_be_cut = false;

  void read(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const char*>(data);
    const std::size_t length = header_length(bytes, size);
    const Json table = parse_header({bytes + kLengthBytes, length});
    read_metadata(table);
    read_tensors(table, bytes, kLengthBytes + length, size);
  }

 private:
  static std::size_t header_length(const char* bytes, std::size_t size) {
    if (size < kLengthBytes) fail_format("truncated: no model file is this short");
    std::uint64_t length = 0;
    std::memcpy(&length, bytes, sizeof length);
    if (length > kMaxHeader) {
      fail_format("not a gramian model, or damaged: a header of " + std::to_string(length) + " bytes");
    }
    if (length > size - kLengthBytes) fail_format("truncated within the header");
    return static_cast<std::size_t>(length);
  }

  static Json parse_header(std::string_view text) {
    constexpr int kDepth = 3;  // the table, an entry, its shape
    if (text.empty() || text[0] != '{') fail_format("not a gramian model, or damaged: the header is no JSON object");
    try {
      return Json::parse(text, kDepth);
    } catch (const Error& error) {
      fail_format(std::string("damaged header: ") + error.what());
    }
  }

  // First of all whose file this is, then whether we are new enough for it: a newer schema may change all the rest.
  void read_metadata(const Json& table) {
    if (!table.contains(kMetadata)) fail_format(kForeign);
    const Json& metadata = table.at(kMetadata);
    for (const auto& member : metadata.members()) {
      if (member.second.kind() != Json::Kind::string) fail_format("the metadata must be strings");
    }
    if (!metadata.contains("format") || metadata.at("format").string() != "gramian") fail_format(kForeign);
    library_version = metadata.at("lib_version").string();
    require_schema(metadata.at("schema").string());
    model = metadata.at("model").string();
    try {
      config = Json::parse(metadata.at("config").string());
    } catch (const Error& error) {
      fail_format(std::string("damaged configuration: ") + error.what());
    }
  }

  void require_schema(const std::string& text) const {
    const bool digits = !text.empty() && text[0] != '0' && text.find_first_not_of("0123456789") == std::string::npos;
    if (!digits) fail_format("damaged: the schema is " + shown(text));
    if (text == std::to_string(kSchema)) return;
    fail_format("written by gramian " + shown(library_version) + " with schema " + shown(text) +
                "; this is gramian " GRAMIAN_VERSION ", which reads schema " + std::to_string(kSchema));
  }

  void read_tensors(const Json& table, const char* bytes, std::size_t data_begin, std::size_t size) {
    const std::uint64_t data_size = size - data_begin;
    std::uint64_t expected = 0;
    std::vector<Entry> entries = parse_entries(table);
    for (Entry& entry : entries) {
      const std::string label = "tensor " + shown(entry.name);
      if (entry.begin != expected) fail_format(label + (entry.begin > expected ? ": a gap before it" : ": overlaps"));
      if (entry.end > data_size) {
        const bool last = &entry == &entries.back() && entry.begin < data_size && !is_padding(entry.name);
        if (!may_be_cut || !last) fail_format("truncated: " + label + " ends beyond the file");
        cut = entry.name;
        cut_bytes = data_size - entry.begin;
      }
      if ((data_begin + entry.begin) % info(entry.view.type).bytes != 0) fail_format(label + " is not aligned");
      expected = entry.end;
      entry.view.data = bytes + data_begin + entry.begin;
      if (!is_padding(entry.name)) tensors.emplace(std::move(entry.name), std::move(entry.view));
    }
    if (expected != data_size && cut.empty()) fail_format("bytes after the last tensor");
  }
};

ModelReader::ModelReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
ModelReader::~ModelReader() = default;
ModelReader::ModelReader(ModelReader&&) noexcept = default;

ModelReader ModelReader::from_file(const std::string& path, std::uint64_t max_bytes) {
  return ModelReader(read_file(path, max_bytes, false));
}

ModelReader ModelReader::from_file_head(const std::string& path, std::uint64_t max_bytes) {
  return ModelReader(read_file(path, max_bytes, true));
}

std::unique_ptr<ModelReader::State> ModelReader::read_file(const std::string& path, std::uint64_t max_bytes,
                                                           bool may_be_cut) {
  require_path(path);
  auto state = std::make_unique<State>();
  state->may_be_cut = may_be_cut;
  try {
    state->file = std::make_unique<InputFile>(path, max_bytes);
    state->read(state->file->data(), state->file->size());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::file_format) throw;
    fail_format(path + ": " + error.what());
  }
  return state;
}

ModelReader ModelReader::from_bytes(const void* data, std::size_t size) {
  auto state = std::make_unique<State>();
  if (size > 0 && reinterpret_cast<std::uintptr_t>(data) % alignof(std::uint64_t) != 0) {
    state->copy.resize(size / sizeof(std::uint64_t) + 1);
    std::memcpy(state->copy.data(), data, size);
    data = state->copy.data();
  }
  state->read(data, size);
  return ModelReader(std::move(state));
}

const std::string& ModelReader::model() const {
  return state_->model;
}
const std::string& ModelReader::library_version() const {
  return state_->library_version;
}
const Json& ModelReader::config() const {
  return state_->config;
}
bool ModelReader::has(const std::string& name) const {
  return state_->tensors.count(name) != 0;
}

std::vector<std::string> ModelReader::names() const {
  std::vector<std::string> result;
  for (const auto& tensor : state_->tensors) result.push_back(tensor.first);
  return result;
}

TensorView ModelReader::tensor(const std::string& name) const {
  const auto found = state_->tensors.find(name);
  if (found == state_->tensors.end()) fail_format("the model has no tensor " + shown(name));
  if (name == state_->cut) fail_format("truncated: tensor " + shown(name) + " ends beyond the file");
  return found->second;
}

const double* ModelReader::tensor_head(const std::string& name, std::int64_t count) const {
  const auto found = state_->tensors.find(name);
  if (found == state_->tensors.end()) fail_format("the model has no tensor " + shown(name));
  const TensorView& view = found->second;
  if (view.shape.size() != 1 || count < 0 || count > view.size()) {
    fail_format("tensor " + shown(name) + " of shape " + shape_text(view.shape) + " has no first " +
                std::to_string(count) + " elements");
  }
  const double* data = view.f64();
  if (name == state_->cut && static_cast<std::uint64_t>(count) * sizeof(double) > state_->cut_bytes) {
    fail_format("truncated: the file ends before element " + std::to_string(count) + " of tensor " + shown(name));
  }
  return data;
}

TensorView ModelReader::tensor(const std::string& name, TensorType type, const std::vector<std::int64_t>& shape) const {
  TensorView view = tensor(name);
  if (view.type != type || !has_expected_shape(view.shape, shape)) {
    fail_format("tensor " + shown(name) + " is " + info(view.type).name + shape_text(view.shape) + ", expected " +
                info(type).name + shape_text(shape));
  }
  return view;
}

}  // namespace gramian
