// A small strict JSON value, for model headers and configurations.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "gramian/core/export.hpp"

namespace gramian {

// Objects keep their keys sorted, so equal values have equal text. Integers up to 2^63 keep all digits; doubles are
// written with the shortest text that reads back to the same bits. NaN and infinity cannot be written
// (Error{invalid_argument}).
class GRAMIAN_EXPORT Json {
 public:
  enum class Kind { null, boolean, integer, real, string, array, object };

  Json() = default;
  Json(std::nullptr_t) {}
  Json(bool value);
  Json(int value);
  Json(std::int64_t value);
  Json(double value);
  Json(const char* value);
  Json(std::string value);
  static Json array();
  static Json object();

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::null; }
  // Each throws Error{file_format} naming the kind found where another was wanted. number() accepts integers too.
  bool boolean() const;
  std::int64_t integer() const;
  double number() const;
  const std::string& string() const;
  const std::vector<Json>& items() const;
  const std::map<std::string, Json>& members() const;

  bool contains(const std::string& key) const;   // false unless an object
  const Json& at(const std::string& key) const;  // Error{file_format} naming a missing key
  Json& operator[](const std::string& key);      // null becomes an object
  void push_back(Json value);                    // null becomes an array

  std::string dump() const;
  // Strict RFC 8259 (no comments, no trailing commas, valid UTF-8, no duplicate keys), nesting at most `max_depth`.
  // Throws Error{file_format} with the byte position.
  static Json parse(std::string_view text, int max_depth = 32);

 private:
  Kind kind_ = Kind::null;
  bool boolean_ = false;
  std::int64_t integer_ = 0;
  double real_ = 0;
  std::string string_;
  std::vector<Json> items_;
  std::map<std::string, Json> members_;
};

}  // namespace gramian
