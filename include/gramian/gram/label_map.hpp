// Class labels of one kind, sorted, and their places.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/io/json.hpp"

namespace gramian {

// Labels as a caller has them: integers (bool counts as one, see kind), reals, texts (UTF-8) or raw bytes.
struct GRAMIAN_EXPORT Labels {
  enum class Kind { none, boolean, integer, real, text, bytes };
  Kind kind = Kind::none;
  std::variant<std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>> values;

  static Labels integers(std::vector<std::int64_t> values);
  static Labels reals(std::vector<double> values);
  static Labels texts(std::vector<std::string> values);
  std::int64_t size() const;
  // Label k as a person reads it.
  std::string text(std::int64_t k) const;
  Json to_json() const;
  static Labels from_json(const Json& json);
};

// The sorted set of labels seen. Kinds do not mix: Error{wrong_dtype} names both.
class GRAMIAN_EXPORT LabelMap {
 public:
  std::int64_t size() const { return labels_.size(); }
  const Labels& labels() const { return labels_; }

  // Adds the labels of `batch` (any order, repeats allowed) that are new. Returns for each label of the new set its
  // old place or -1: the argument of GramState::rearrange_outputs.
  std::vector<std::int64_t> insert(const Labels& batch);
  // Keeps the places that are listed, in their order.
  void keep(const std::vector<std::int64_t>& places);
  // Place of each label of `batch`; an unknown one is Error{invalid_argument} naming it, or -1 if `allow_unknown`.
  std::vector<std::int64_t> encode(const Labels& batch, bool allow_unknown = false) const;

 private:
  Labels labels_;
};

}  // namespace gramian
