#include "gramian/io/json.hpp"

#include <charconv>
#include <cmath>
#include <system_error>
#include <utility>

#include "gramian/core/error.hpp"

namespace gramian {
namespace {

constexpr int kMaxDepth = 32;
// A value takes some 140 bytes where its text may take two, so a hostile text is stopped at about 150 MB. dump()
// keeps the same limits: whatever it writes, parse() reads.
constexpr std::size_t kMaxValues = std::size_t{1} << 20;

const char* kind_name(Json::Kind kind) {
  switch (kind) {
    case Json::Kind::null:
      return "null";
    case Json::Kind::boolean:
      return "boolean";
    case Json::Kind::integer:
      return "integer";
    case Json::Kind::real:
      return "real";
    case Json::Kind::string:
      return "string";
    case Json::Kind::array:
      return "array";
    case Json::Kind::object:
      return "object";
  }
  return "unknown";
}

void require_kind(Json::Kind found, Json::Kind wanted) {
  GRAMIAN_REQUIRE(found == wanted, file_format,
                  std::string("JSON: expected ") + kind_name(wanted) + ", found " + kind_name(found));
}

// Bytes of the UTF-8 character at `pos`, 0 where there is no valid one (overlong forms and surrogates included).
std::size_t utf8_length(std::string_view text, std::size_t pos) {
  const auto byte = [&](std::size_t i) {
    return pos + i < text.size() ? static_cast<unsigned char>(text[pos + i]) : 0u;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

void append_utf8(std::uint32_t code, std::string& out) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

// ---- writing ---------------------------------------------------------------------------------------------------

void write_string(const std::string& text, std::string& out) {
  static const char kHex[] = "0123456789abcdef";
  out.push_back('"');
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t length = utf8_length(text, pos);
    GRAMIAN_REQUIRE(length > 0, invalid_argument, "JSON: cannot write a string that is not UTF-8");
    const auto byte = static_cast<unsigned char>(text[pos]);
    if (byte == '"' || byte == '\\') {
      out.push_back('\\');
      out.push_back(text[pos]);
    } else if (byte == '\n') {
      out += "\\n";
    } else if (byte < 0x20) {
      out += "\\u00";
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 0xF]);
    } else {
      out.append(text, pos, length);
    }
    pos += length;
  }
  out.push_back('"');
}

void write_integer(std::int64_t value, std::string& out) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void write_real(double value, std::string& out) {
  GRAMIAN_REQUIRE(std::isfinite(value), invalid_argument, "JSON: cannot write NaN or infinity");
  char digits[32];
  const std::string_view text(
      digits, static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, value).ptr - digits));
  out += text;
  // Without it 3.0 would come back as an integer.
  if (text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

struct Writer {
  std::string out;
  std::size_t values = 0;

  void write(const Json& value, int depth) {
    GRAMIAN_REQUIRE(++values <= kMaxValues, invalid_argument,
                    "JSON: cannot write more than " + std::to_string(kMaxValues) + " values");
    switch (value.kind()) {
      case Json::Kind::null:
        out += "null";
        break;
      case Json::Kind::boolean:
        out += value.boolean() ? "true" : "false";
        break;
      case Json::Kind::integer:
        write_integer(value.integer(), out);
        break;
      case Json::Kind::real:
        write_real(value.number(), out);
        break;
      case Json::Kind::string:
        write_string(value.string(), out);
        break;
      case Json::Kind::array:
        write_array(value, depth + 1);
        break;
      case Json::Kind::object:
        write_object(value, depth + 1);
        break;
    }
  }

  void write_array(const Json& value, int depth) {
    require_depth(depth);
    out.push_back('[');
    const char* separator = "";
    for (const Json& item : value.items()) {
      out += separator;
      write(item, depth);
      separator = ",";
    }
    out.push_back(']');
  }

  void write_object(const Json& value, int depth) {
    require_depth(depth);
    out.push_back('{');
    const char* separator = "";
    for (const auto& [key, member] : value.members()) {
      out += separator;
      write_string(key, out);
      out.push_back(':');
      write(member, depth);
      separator = ",";
    }
    out.push_back('}');
  }

  static void require_depth(int depth) {
    GRAMIAN_REQUIRE(depth <= kMaxDepth, invalid_argument,
                    "JSON: cannot write values nested more than " + std::to_string(kMaxDepth) + " deep");
  }
};

// ---- reading ---------------------------------------------------------------------------------------------------

class Parser {
 public:
  Parser(std::string_view text, int max_depth) : text_(text), max_depth_(max_depth) {}

  Json document() {
    Json value = this->value(0);
    skip_space();
    if (pos_ != text_.size()) fail("unexpected text after the value");
    return value;
  }

 private:
  Json value(int depth) {
    if (++values_ > kMaxValues) fail("more than " + std::to_string(kMaxValues) + " values");
    skip_space();
    switch (peek()) {
      case '{':
        return object(depth + 1);
      case '[':
        return array(depth + 1);
      case '"':
        return Json(string());
      case 't':
        return literal("true", Json(true));
      case 'f':
        return literal("false", Json(false));
      case 'n':
        return literal("null", Json());
      default:
        return number();
    }
  }

  Json object(int depth) {
    enter(depth);
    Json result = Json::object();
    if (take_after_space('}')) return result;
    do {
      skip_space();
      const std::size_t key_pos = pos_;
      if (peek() != '"') fail("expected a string as the key");
      std::string key = string();
      if (result.contains(key)) {
        pos_ = key_pos;
        fail("a key for the second time");
      }
      if (!take_after_space(':')) fail("expected ':'");
      result[key] = value(depth);
    } while (take_after_space(','));
    if (!take_after_space('}')) fail("expected ',' or '}'");
    return result;
  }

  Json array(int depth) {
    enter(depth);
    Json result = Json::array();
    if (take_after_space(']')) return result;
    do {
      result.push_back(value(depth));
    } while (take_after_space(','));
    if (!take_after_space(']')) fail("expected ',' or ']'");
    return result;
  }

  std::string string() {
    std::string result;
    ++pos_;  // the opening quote
    while (!take('"')) {
      if (pos_ == text_.size()) fail("the text ends within a string");
      if (static_cast<unsigned char>(text_[pos_]) < 0x20) fail("a control character within a string");
      if (take('\\')) {
        escape(result);
        continue;
      }
      const std::size_t length = utf8_length(text_, pos_);
      if (length == 0) fail("not UTF-8");
      result.append(text_.substr(pos_, length));
      pos_ += length;
    }
    return result;
  }

  void escape(std::string& result) {
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (take('u')) {
      append_utf8(escaped_character(), result);
      return;
    }
    const std::size_t which = pos_ < text_.size() ? kNames.find(text_[pos_]) : std::string_view::npos;
    if (which == std::string_view::npos) fail("unknown escape");
    result.push_back(kMeanings[which]);
    ++pos_;
  }

  // After "\u". Characters above U+FFFF come as two halves, and a half alone is no character.
  std::uint32_t escaped_character() {
    const std::uint32_t first = four_hex_digits();
    if (first < 0xD800 || first > 0xDFFF) return first;
    if (first > 0xDBFF || !take('\\') || !take('u')) fail("half of a surrogate pair");
    const std::uint32_t second = four_hex_digits();
    if (second < 0xDC00 || second > 0xDFFF) fail("half of a surrogate pair");
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
  }

  std::uint32_t four_hex_digits() {
    std::uint32_t code = 0;
    const std::string_view digits = text_.substr(pos_, 4);
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (digits.size() < 4 || result.ptr != digits.data() + 4) fail("expected four hexadecimal digits");
    pos_ += 4;
    return code;
  }

  Json number() {
    const std::size_t start = pos_;
    take('-');
    if (!take('0')) digits("expected a value");
    const std::size_t integer_end = pos_;
    if (take('.')) digits("expected a digit");
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits("expected a digit");
    }
    const char* first = text_.data() + start;
    const char* last = text_.data() + pos_;
    if (pos_ == integer_end) {
      std::int64_t integer = 0;
      if (std::from_chars(first, last, integer).ec == std::errc()) return Json(integer);
    }
    double real = 0;  // integers beyond 64 bits too
    if (std::from_chars(first, last, real).ec != std::errc()) {
      pos_ = start;
      fail("a number outside the range of a double");
    }
    return Json(real);
  }

  void digits(const char* complaint) {
    const std::size_t start = pos_;
    while (peek() >= '0' && peek() <= '9') ++pos_;
    if (pos_ == start) fail(complaint);
  }

  Json literal(std::string_view word, Json value) {
    if (text_.substr(pos_, word.size()) != word) fail("expected a value");
    pos_ += word.size();
    return value;
  }

  void enter(int depth) {
    if (depth > max_depth_) fail("nested more than " + std::to_string(max_depth_) + " deep");
    ++pos_;
  }

  // '\0' at the end of the text; a NUL within it starts no value, so the two need no telling apart.
  char peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }

  bool take(char c) {
    if (pos_ == text_.size() || text_[pos_] != c) return false;
    ++pos_;
    return true;
  }

  bool take_after_space(char c) {
    skip_space();
    return take(c);
  }

  void skip_space() {
    while (pos_ < text_.size() && std::string_view(" \t\n\r").find(text_[pos_]) != std::string_view::npos) ++pos_;
  }

  [[noreturn]] void fail(const std::string& complaint) const {
    throw Error(ErrorCode::file_format, "JSON, byte " + std::to_string(pos_) + ": " + complaint);
  }

  std::string_view text_;
  std::size_t pos_ = 0;
  std::size_t values_ = 0;
  int max_depth_;
};

}  // namespace

Json::Json(bool value) : kind_(Kind::boolean), boolean_(value) {}
Json::Json(int value) : kind_(Kind::integer), integer_(value) {}
Json::Json(std::int64_t value) : kind_(Kind::integer), integer_(value) {}
Json::Json(double value) : kind_(Kind::real), real_(value) {}
Json::Json(const char* value) : kind_(Kind::string), string_(value) {}
Json::Json(std::string value) : kind_(Kind::string), string_(std::move(value)) {}

Json Json::array() {
  Json result;
  result.kind_ = Kind::array;
  return result;
}

Json Json::object() {
  Json result;
  result.kind_ = Kind::object;
  return result;
}

bool Json::boolean() const {
  require_kind(kind_, Kind::boolean);
  return boolean_;
}

std::int64_t Json::integer() const {
  require_kind(kind_, Kind::integer);
  return integer_;
}

double Json::number() const {
  if (kind_ == Kind::integer) return static_cast<double>(integer_);
  require_kind(kind_, Kind::real);
  return real_;
}

const std::string& Json::string() const {
  require_kind(kind_, Kind::string);
  return string_;
}

const std::vector<Json>& Json::items() const {
  require_kind(kind_, Kind::array);
  return items_;
}

const std::map<std::string, Json>& Json::members() const {
  require_kind(kind_, Kind::object);
  return members_;
}

bool Json::contains(const std::string& key) const {
  return members_.count(key) != 0;
}

const Json& Json::at(const std::string& key) const {
  const auto found = members().find(key);
  GRAMIAN_REQUIRE(found != members_.end(), file_format, "JSON: missing key '" + key + "'");
  return found->second;
}

Json& Json::operator[](const std::string& key) {
  if (is_null()) kind_ = Kind::object;
  require_kind(kind_, Kind::object);
  return members_[key];
}

void Json::push_back(Json value) {
  if (is_null()) kind_ = Kind::array;
  require_kind(kind_, Kind::array);
  items_.push_back(std::move(value));
}

std::string Json::dump() const {
  Writer writer;
  writer.write(*this, 0);
  return std::move(writer.out);
}

Json Json::parse(std::string_view text, int max_depth) {
  return Parser(text, max_depth).document();
}

}  // namespace gramian
