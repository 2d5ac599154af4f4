#include "case.h"

#include <cmath>
#include <cstdarg>

namespace conformance {

namespace {

/* Guards of inputs are NaN in every float type, so a read beyond a row poisons the result. Guards of outputs are a
 * tiny finite number, so a kernel that reads, changes and writes its padding leaves a trace. */
constexpr unsigned char kInputGuard = 0xFF;
constexpr unsigned char kOutputGuard = 0xA5;
constexpr size_t kGuard = 256;

std::string format_list(const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  return line;
}

}  // namespace

std::string text(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string line = format_list(format, arguments);
  va_end(arguments);
  return line;
}

const char* dtype_name(int dtype) {
  static const char* const names[] = {"f32", "f64", "f16", "u8", "i16", "bool", "i32", "i64"};
  return names[dtype];
}

bool holds_nan(const std::vector<double>& values) {
  for (double value : values) {
    if (std::isnan(value)) return true;
  }
  return false;
}

std::vector<int64_t> edge_sizes(int64_t largest) {
  std::vector<int64_t> sizes;
  for (int64_t n : {0, 1, 2, 3, 7, 8, 9, 15, 17, 31, 33, 63, 65, 127, 129, 200, 257}) {
    if (n <= largest) sizes.push_back(n);
  }
  return sizes;
}

uint64_t Random::bits() {
  state_ ^= state_ << 13;  // xorshift64
  state_ ^= state_ >> 7;
  state_ ^= state_ << 17;
  return state_ * 0x2545F4914F6CDD1Du;
}
double Random::uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(bits() >> 11) * 0x1p-53);
}
int64_t Random::index(int64_t count) {
  return static_cast<int64_t>((bits() >> 16) % static_cast<uint64_t>(count));
}

Matrix random_matrix(Random& random, int dtype, int64_t rows, int64_t cols) {
  Matrix matrix(dtype, rows, cols);
  for (double& value : matrix.v) value = round_to(dtype, random.uniform(-1.0, 1.0));
  return matrix;
}

/* --- buffers ------------------------------------------------------------------------------------------------- */

Buffer::Buffer(Machine& machine, bool is_input, int64_t rows, size_t row_bytes, size_t stride, size_t offset,
               const void* packed_rows)
    : machine_(machine),
      is_input_(is_input),
      rows_(rows),
      row_bytes_(row_bytes),
      stride_(stride),
      before_(kGuard + offset),
      original_(before_ + static_cast<size_t>(rows) * stride + kGuard, is_input ? kInputGuard : kOutputGuard) {
  const auto* source = static_cast<const unsigned char*>(packed_rows);
  for (int64_t r = 0; r < rows && row_bytes > 0; ++r) {
    std::memcpy(original_.data() + before_ + static_cast<size_t>(r) * stride, source, row_bytes);
    source += row_bytes;
  }
  void* memory = nullptr;
  const size_t bytes = original_.size();
  if (machine.table->alloc(machine.ctx(), bytes, &memory) != 0 || memory == nullptr) throw CaseFailed{};
  base_ = static_cast<unsigned char*>(memory);
  if (machine.table->upload(machine.ctx(), 1, bytes, original_.data(), static_cast<int64_t>(bytes), base_,
                            static_cast<int64_t>(bytes)) != 0) {
    machine.table->free(machine.ctx(), base_);
    throw CaseFailed{};
  }
}

Buffer::~Buffer() {
  machine_.table->free(machine_.ctx(), base_);
}

void Buffer::refresh() {
  if (fresh_) return;
  fresh_ = true;
  const auto bytes = static_cast<int64_t>(original_.size());
  current_.assign(original_.size(), 0);
  if (machine_.table->sync(machine_.ctx()) != 0 ||
      machine_.table->download(machine_.ctx(), 1, original_.size(), base_, bytes, current_.data(), bytes) != 0) {
    throw CaseFailed{};
  }
}

const unsigned char* Buffer::now(int64_t r) {
  refresh();
  return current_.data() + before_ + stride_ * static_cast<size_t>(r);
}

std::string Buffer::damage() {
  fresh_ = false;  // later calls may have written since the result was fetched
  refresh();
  for (size_t t = 0; t < original_.size(); ++t) {
    if (original_[t] == current_[t]) continue;
    const auto position = static_cast<int64_t>(t) - static_cast<int64_t>(before_);
    const auto row = position >= 0 && stride_ > 0 ? position / static_cast<int64_t>(stride_) : -1;
    const bool inside =
        row >= 0 && row < rows_ && position % static_cast<int64_t>(stride_) < static_cast<int64_t>(row_bytes_);
    if (inside && !is_input_) continue;
    return text("%s overwritten at byte %lld of %lld rows of %zu bytes, pitch %zu", inside ? "input" : "guard",
                static_cast<long long>(position), static_cast<long long>(rows_), row_bytes_, stride_);
  }
  return {};
}

/* --- cases --------------------------------------------------------------------------------------------------- */

Buffer& Case::place(const Matrix& matrix, bool is_input) {
  static const int64_t pads[] = {3, 0, 1, 16};
  const uint64_t turn = number_ + placed_++;
  const int64_t ld = matrix.cols + pads[turn % 4];
  const size_t size = size_of(matrix.dtype);
  std::vector<unsigned char> packed(matrix.v.size() * size);
  for (size_t t = 0; t < matrix.v.size(); ++t) {
    const auto single = static_cast<float>(matrix.v[t]);
    if (matrix.dtype == GRAMIAN_F32) std::memcpy(packed.data() + t * size, &single, size);
    if (matrix.dtype == GRAMIAN_F64) std::memcpy(packed.data() + t * size, &matrix.v[t], size);
  }
  buffers_.push_back(std::make_unique<Buffer>(machine_, is_input, matrix.rows, static_cast<size_t>(matrix.cols) * size,
                                              static_cast<size_t>(ld) * size, turn / 4 % 2 * size, packed.data()));
  Buffer& buffer = *buffers_.back();
  buffer.dtype = matrix.dtype;
  buffer.ld = ld;
  buffer.cols = matrix.cols;
  record_.used |= mask_of(matrix.dtype);
  if (is_input) record_.read |= mask_of(matrix.dtype);
  return buffer;
}

Buffer& Case::raw(bool is_input, const void* bytes, size_t count, size_t offset) {
  buffers_.push_back(std::make_unique<Buffer>(machine_, is_input, 1, count, count, offset, bytes));
  return *buffers_.back();
}

Matrix Case::fetch(Buffer& buffer) {
  Matrix matrix(buffer.dtype, buffer.rows(), buffer.cols);
  const size_t size = size_of(buffer.dtype);
  matrix.was_nan = !matrix.v.empty();
  for (int64_t r = 0; r < matrix.rows; ++r) {
    const unsigned char *row = buffer.now(r), *before = buffer.was(r);
    for (int64_t c = 0; c < matrix.cols; ++c) {
      const size_t at = static_cast<size_t>(c) * size;
      matrix(r, c) = widen(buffer.dtype, row + at);
      matrix.was_nan = matrix.was_nan && std::isnan(widen(buffer.dtype, before + at));
    }
  }
  return matrix;
}

void Case::poison(Matrix& matrix, int64_t row, int64_t col, double value) {
  matrix(row, col) = value;
  if (std::isnan(value)) poisoned(matrix.dtype);
}

void Case::note_expected(const Matrix& got, bool nan, bool number) {
  expects_nan_ |= nan;
  expects_number_ |= number;
  record_.overwrote |= got.was_nan && number && !nan;
}

void Case::fail(const char* format, ...) {
  if (failed()) return;
  va_list arguments;
  va_start(arguments, format);
  failure_ = format_list(format, arguments);
  va_end(arguments);
}

void Case::expect(bool holds, const char* format, ...) {
  if (holds || failed()) return;
  va_list arguments;
  va_start(arguments, format);
  failure_ = format_list(format, arguments);
  va_end(arguments);
}

void Case::expect_status(int got, int want) {
  expects_refusal_ |= want != GRAMIAN_STATUS_OK;
  if (got == want) return;
  const char* reason = table().error_text();
  fail("returned %d instead of %d (%s)", got, want, reason != nullptr ? reason : "no error text");
}

void Case::close(const Matrix& got, const Estimate& want) {
  if (got.rows != want.rows || got.cols != want.cols) return fail("reference of another shape");
  bool nan = false, number = false;
  for (long double value : want.value) (std::isnan(value) ? nan : number) = true;
  note_expected(got, nan, number);
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t c = 0; c < got.cols; ++c) {
      const long double value = want.value[want.at(r, c)];
      const double bound = want.bound[want.at(r, c)];
      const double x = got(r, c);
      const bool right = std::isnan(value)   ? std::isnan(x)
                         : std::isinf(value) ? x == static_cast<double>(value)
                                             : std::fabs(x - value) <= bound;  // false for a NaN
      if (!right) {
        return fail("[%lld, %lld] is %.17g, should be %.17Lg within %.3g", static_cast<long long>(r),
                    static_cast<long long>(c), x, value, bound);
      }
    }
  }
}

void Case::same(const Matrix& got, const Matrix& want) {
  if (got.rows != want.rows || got.cols != want.cols) return fail("reference of another shape");
  bool nan = false, number = false;
  for (double value : want.v) (std::isnan(value) ? nan : number) = true;
  note_expected(got, nan, number);
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t c = 0; c < got.cols; ++c) {
      const double x = got(r, c), y = want(r, c);
      const bool right = std::isnan(y) ? std::isnan(x) : x == y && std::signbit(x) == std::signbit(y);
      if (!right) {
        return fail("[%lld, %lld] is %.17g (%a), should be exactly %.17g (%a)", static_cast<long long>(r),
                    static_cast<long long>(c), x, x, y, y);
      }
    }
  }
}

void Case::pattern(const Matrix& got, const std::vector<bool>& nan) {
  if (got.v.size() != nan.size()) return fail("a pattern of another shape");
  bool any_nan = false, number = false;
  for (bool is_nan : nan) (is_nan ? any_nan : number) = true;
  note_expected(got, any_nan, number);
  for (size_t t = 0; t < nan.size(); ++t) {
    const auto at = static_cast<int64_t>(t);
    expect(std::isnan(got.v[t]) == nan[t], "[%lld, %lld] is %g, should be %s", ll(at / got.cols), ll(at % got.cols),
           got.v[t], nan[t] ? "NaN" : "a number");
  }
}

void Case::upper_untouched(Buffer& buffer) {
  const size_t size = size_of(buffer.dtype);
  for (int64_t r = 0; r + 1 < buffer.cols && r < buffer.rows(); ++r) {
    const size_t skip = static_cast<size_t>(r + 1) * size;
    if (std::memcmp(buffer.now(r) + skip, buffer.was(r) + skip, buffer.row_bytes() - skip) != 0) {
      return fail("strict upper triangle of row %lld was written", static_cast<long long>(r));
    }
  }
}

void Case::check_guards() {
  for (const auto& buffer : buffers_) {
    const std::string damage = buffer->damage();
    if (!damage.empty()) return fail("%s", damage.c_str());
  }
}

void Case::check_trace() {
  if (record_.poisoned == 0) return;
  expect(expects_nan_ || expects_refusal_, "a NaN went in, and nothing is expected of it");
  // All NaN, as of one row or one column, says nothing of what must stay a number.
  if (!(expects_nan_ && expects_number_) && !expects_refusal_) record_.poisoned = 0;
}

/* --- the list ------------------------------------------------------------------------------------------------ */

namespace {

template <auto Entry>
struct Counted;

/* One thunk per entry: counts, then forwards to the pointer of the table under test. */
template <class Result, class... Arguments, Result (*gramian_op_table::*Entry)(Arguments...)>
struct Counted<Entry> {
  static inline Result (*real)(Arguments...) = nullptr;
  static inline int64_t count = 0;

  static Result forward(Arguments... arguments) {
    ++count;
    return real(arguments...);
  }
  static bool present(const Table& table) { return table.*Entry != nullptr; }
  static void clear(Table& table) { table.*Entry = nullptr; }
  static void wrap(Table& table) {
    real = table.*Entry;
    count = 0;
    if (real != nullptr) table.*Entry = &forward;
  }
  static int64_t calls() { return count; }
};

template <auto Entry>
Op make_op(const char* name, const char* without_nan, Old old, size_t offset, void (*cases)(Harness&)) {
  using Thunk = Counted<Entry>;
  return {name, without_nan, old, offset, &Thunk::present, &Thunk::clear, &Thunk::wrap, &Thunk::calls, cases};
}

}  // namespace

const std::vector<Op>& all_ops() {
#define GRAMIAN_LIST_OP(entry, why, old) \
  make_op<&gramian_op_table::entry>(#entry, why, old, offsetof(gramian_op_table, entry), &cases_##entry),
  static const std::vector<Op> ops = {GRAMIAN_CONFORMANCE_OPS(GRAMIAN_LIST_OP)};
#undef GRAMIAN_LIST_OP
  return ops;
}

const Op* find_op(const std::string& name) {
  for (const Op& op : all_ops()) {
    if (name == op.name) return &op;
  }
  return nullptr;
}

std::string list_defect(const std::vector<Op>& ops) {
  const size_t slot = sizeof(void (*)());
  const size_t first = offsetof(gramian_op_table, open);  // the entries follow the header fields without a break
  const size_t slots = (sizeof(gramian_op_table) - first) / slot;
  if (slots != ops.size()) {
    return text("gramian_op_table has %zu entries, the conformance list knows %zu", slots, ops.size());
  }
  for (size_t k = 0; k < slots; ++k) {
    if (ops[k].offset != first + k * slot) return text("entry %zu of gramian_op_table is not `%s`", k, ops[k].name);
  }
  return {};
}

std::string nan_defect(const Op& op, const Record& record) {
  const bool excused = *op.without_nan != 0;
  if (excused && record.read != 0) return text("the op reads numbers and has no NaN case (%s)", op.without_nan);
  if (excused && record.poisoned != 0) return text("the op has a NaN case and a reason to have none");
  for (int dtype : {GRAMIAN_F32, GRAMIAN_F64}) {
    const unsigned mask = mask_of(dtype);
    if (!excused && (record.used & mask) != 0 && (record.poisoned & mask) == 0) {
      return text("the op has no NaN case in %s", dtype_name(dtype));
    }
  }
  if (!excused && record.poisoned == 0) return "the op has no NaN case";
  if (op.old == kOverwrites && !record.overwrote) return "no case begins with NaN in the output";
  if (op.old == kUpdates && record.overwrote) return "the op overwrites its output, and the list says that it does not";
  return {};
}

/* --- running ------------------------------------------------------------------------------------------------- */

Harness::Harness(const Table& table, OnFailure on_failure, const Table* elsewhere)
    : counted_(table), on_failure_(on_failure), random_(1) {
  for (const Op& op : all_ops()) op.wrap(counted_);
  machine_.table = elsewhere != nullptr ? elsewhere : &counted_;
  open_ = counted_.open != nullptr && counted_.open(0, &machine_.context.device_state) == 0;
}

Harness::~Harness() {
  if (open_ && counted_.close != nullptr) counted_.close(machine_.context.device_state);
}

Tally Harness::check_header() {
  op_ = nullptr;
  tally_ = Tally{};
  if (counted_.api_version != GRAMIAN_OP_API_VERSION) note("header", text("api_version is %u", counted_.api_version));
  if (counted_.struct_size != sizeof(Table)) note("header", text("struct_size is %u", counted_.struct_size));
  if (counted_.name == nullptr || *counted_.name == 0) note("header", "the table has no name");
  return tally_;
}

Tally Harness::run_op(const Op& op) {
  op_ = &op;
  tally_ = Tally{};
  record_ = Record{};
  number_ = 0;
  random_ = Random(0x9E3779B97F4A7C15u + op.offset);  // an op's data do not depend on which ops ran before
  for (const Op& needed : all_ops()) {
    if (needed.offset != op.offset && needed.offset > offsetof(gramian_op_table, sync)) continue;
    if (!needed.present(counted_)) {
      note("table", text("entry `%s` is null", needed.name));
      return tally_;
    }
  }
  if (!open_) {
    note("table", "open(0) failed");
    return tally_;
  }
  op.cases(*this);
  if (tally_.passed + tally_.failed == 0) note("list", "the op has no case");
  const std::string defect = nan_defect(op, record_);
  if (!defect.empty()) note("list", defect);
  return tally_;
}

void Harness::note(const std::string& what, const std::string& why) {
  ++tally_.failed;
  if (on_failure_ == OnFailure::stop) throw RunStopped{why};
  if (on_failure_ == OnFailure::print && tally_.failed <= 5) {
    const char* table = counted_.name != nullptr ? counted_.name : "?";
    const char* op = op_ != nullptr ? op_->name : "table";
    std::printf("FAILED %s %s: %s: %s\n", table, op, what.c_str(), why.c_str());
    if (tally_.failed == 5) std::printf("       %s %s: further failures are only counted\n", table, op);
    std::fflush(stdout);
  }
}

void Harness::run(const std::string& what, const std::function<void(Case&)>& body) {
  const int64_t calls = op_->calls();
  std::string why;
  {
    Case running(machine_, number_++);
    try {
      body(running);
      running.check_guards();
      running.check_trace();
      if (op_->calls() == calls) running.fail("the case did not call this table's entry");
    } catch (const CaseFailed&) {
      running.fail("alloc, upload, sync or download failed");
    }
    why = running.failure();
    record_.used |= running.record().used;
    record_.read |= running.record().read;
    record_.poisoned |= running.record().poisoned;
    record_.overwrote |= running.record().overwrote;
  }
  if (why.empty()) {
    ++tally_.passed;
  } else {
    note(what, why);
  }
}

std::vector<Tally> check_table(Harness& harness, const std::vector<Op>& ops, Tally* total) {
  total->failed += harness.check_header().failed;
  std::vector<Tally> row;
  for (const Op& op : ops) {
    row.push_back(harness.run_op(op));
    total->passed += row.back().passed;
    total->failed += row.back().failed;
  }
  return row;
}

bool passes(const Tally& total) {
  return total.failed == 0 && total.passed > 0;
}

}  // namespace conformance
