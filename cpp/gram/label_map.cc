#include "gramian/gram/label_map.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <type_traits>
#include <utility>

#include "gramian/core/error.hpp"

namespace gramian {
namespace {

using Integers = std::vector<std::int64_t>;
using Reals = std::vector<double>;
using Texts = std::vector<std::string>;

const char* name_of(Labels::Kind kind) {
  switch (kind) {
    case Labels::Kind::none:
      return "none";
    case Labels::Kind::boolean:
      return "boolean";
    case Labels::Kind::integer:
      return "integer";
    case Labels::Kind::real:
      return "real";
    case Labels::Kind::text:
      return "text";
    case Labels::Kind::bytes:
      return "bytes";
  }
  return "unknown";
}

Labels::Kind kind_from(const std::string& name) {
  using Kind = Labels::Kind;
  for (Kind kind : {Kind::none, Kind::boolean, Kind::integer, Kind::real, Kind::text, Kind::bytes}) {
    if (name == name_of(kind)) return kind;
  }
  throw Error(ErrorCode::file_format, "\"" + name + "\" is not a kind of labels");
}

constexpr char kHexDigits[] = "0123456789abcdef";

// JSON texts are UTF-8 and bytes are anything.
std::string to_hex(const std::string& bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kHexDigits[byte >> 4];
    hex += kHexDigits[byte & 15];
  }
  return hex;
}

unsigned hex_digit(char c) {
  const char* end = kHexDigits + 16;
  const char* found = std::find(kHexDigits, end, c);
  GRAMIAN_REQUIRE(found != end, file_format, "a bytes label is not lower-case hexadecimal");
  return static_cast<unsigned>(found - kHexDigits);
}

std::string from_hex(const std::string& hex) {
  GRAMIAN_REQUIRE(hex.size() % 2 == 0, file_format, "a bytes label has half a byte");
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(hex_digit(hex[i]) << 4 | hex_digit(hex[i + 1]));
  }
  return bytes;
}

// Printable ASCII as it is, the rest as \xNN.
std::string printable(const std::string& bytes) {
  std::string out;
  for (char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') {
      out += c;
    } else {
      out += {'\\', 'x', kHexDigits[byte >> 4], kHexDigits[byte & 15]};
    }
  }
  return out;
}

template <class T>
constexpr bool holds(Labels::Kind kind) {
  using Kind = Labels::Kind;
  if (std::is_same_v<T, std::int64_t>) return kind == Kind::none || kind == Kind::boolean || kind == Kind::integer;
  if (std::is_same_v<T, double>) return kind == Kind::real;
  return kind == Kind::text || kind == Kind::bytes;
}

void check_values(Labels::Kind kind, const Integers& values) {
  if (kind != Labels::Kind::boolean) return;
  for (std::int64_t value : values) {
    GRAMIAN_REQUIRE(value == 0 || value == 1, invalid_argument,
                    "boolean labels are 0 and 1, not " + std::to_string(value));
  }
}

// NaN has no place in an order and infinity none in a model file.
void check_values(Labels::Kind, const Reals& values) {
  for (double value : values) {
    GRAMIAN_REQUIRE(std::isfinite(value), non_finite, "a label is NaN or infinite");
  }
}

void check_values(Labels::Kind, const Texts&) {}

void check_labels(const Labels& labels) {
  std::visit(
      [&](const auto& values) {
        using T = typename std::decay_t<decltype(values)>::value_type;
        const bool right = holds<T>(labels.kind) && (labels.kind != Labels::Kind::none || values.empty());
        GRAMIAN_REQUIRE(right, invalid_argument,
                        std::string("labels of kind ") + name_of(labels.kind) + " hold values of another type");
        check_values(labels.kind, values);
      },
      labels.values);
}

// One spelling for equal labels: -0.0 is 0.0.
std::int64_t canonical(std::int64_t value) {
  return value;
}
double canonical(double value) {
  return value + 0.0;
}
const std::string& canonical(const std::string& value) {
  return value;
}

template <class T>
std::vector<T> sorted_set(const std::vector<T>& values) {
  std::vector<T> set;
  set.reserve(values.size());
  for (const T& value : values) set.push_back(canonical(value));
  std::sort(set.begin(), set.end());  // texts compare by bytes, which is the order of their code points
  set.erase(std::unique(set.begin(), set.end()), set.end());
  return set;
}

// Place of `value` in the sorted `set`, or -1.
template <class T>
std::int64_t place_of(const std::vector<T>& set, const T& value) {
  const auto found = std::lower_bound(set.begin(), set.end(), value);
  return found != set.end() && !(value < *found) ? found - set.begin() : -1;
}

void check_same_kind(const Labels& known, const Labels& batch) {
  GRAMIAN_REQUIRE(known.kind == batch.kind, wrong_dtype,
                  std::string("labels of kind ") + name_of(batch.kind) + " do not mix with the labels of kind " +
                      name_of(known.kind) + " seen before");
}

std::vector<std::int64_t> identity(std::int64_t size) {
  std::vector<std::int64_t> places(static_cast<std::size_t>(size));
  for (std::size_t k = 0; k < places.size(); ++k) places[k] = static_cast<std::int64_t>(k);
  return places;
}

Json value_to_json(Labels::Kind kind, std::int64_t value) {
  return kind == Labels::Kind::boolean ? Json(value != 0) : Json(value);
}
Json value_to_json(Labels::Kind, double value) {
  return Json(value);
}
Json value_to_json(Labels::Kind kind, const std::string& value) {
  return Json(kind == Labels::Kind::bytes ? to_hex(value) : value);
}

}  // namespace

Labels Labels::integers(std::vector<std::int64_t> values) {
  Labels labels;
  labels.kind = Kind::integer;
  labels.values = std::move(values);
  return labels;
}

Labels Labels::reals(std::vector<double> values) {
  Labels labels;
  labels.kind = Kind::real;
  labels.values = std::move(values);
  return labels;
}

Labels Labels::texts(std::vector<std::string> values) {
  Labels labels;
  labels.kind = Kind::text;
  labels.values = std::move(values);
  return labels;
}

std::int64_t Labels::size() const {
  return std::visit([](const auto& v) { return static_cast<std::int64_t>(v.size()); }, values);
}

std::string Labels::text(std::int64_t k) const {
  GRAMIAN_REQUIRE(k >= 0 && k < size(), invalid_argument,
                  "there is no label " + std::to_string(k) + " of " + std::to_string(size()));
  const auto i = static_cast<std::size_t>(k);
  switch (kind) {
    case Kind::boolean:
      return std::get<Integers>(values)[i] != 0 ? "True" : "False";
    case Kind::integer:
      return std::to_string(std::get<Integers>(values)[i]);
    case Kind::real:
      return Json(std::get<Reals>(values)[i]).dump();
    case Kind::text:
      return std::get<Texts>(values)[i];
    case Kind::bytes:
      return printable(std::get<Texts>(values)[i]);
    case Kind::none:
      break;
  }
  throw Error(ErrorCode::internal, "labels without a kind have values");
}

Json Labels::to_json() const {
  check_labels(*this);
  Json list = Json::array();
  std::visit(
      [&](const auto& all) {
        for (const auto& value : all) list.push_back(value_to_json(kind, value));
      },
      values);
  Json json = Json::object();
  json["kind"] = Json(name_of(kind));
  json["values"] = std::move(list);
  return json;
}

Labels Labels::from_json(const Json& json) {
  const Kind kind = kind_from(json.at("kind").string());
  const std::vector<Json>& items = json.at("values").items();
  GRAMIAN_REQUIRE(kind != Kind::none || items.empty(), file_format, "labels without a kind have values");
  Integers integers;
  Reals reals;
  Texts texts;
  for (const Json& item : items) {
    if (kind == Kind::boolean) integers.push_back(item.boolean() ? 1 : 0);
    if (kind == Kind::integer) integers.push_back(item.integer());
    if (kind == Kind::real) reals.push_back(item.number());
    if (kind == Kind::text) texts.push_back(item.string());
    if (kind == Kind::bytes) texts.push_back(from_hex(item.string()));
  }
  Labels labels;
  labels.kind = kind;
  if (kind == Kind::real) {
    labels.values = std::move(reals);
  } else if (kind == Kind::text || kind == Kind::bytes) {
    labels.values = std::move(texts);
  } else {
    labels.values = std::move(integers);
  }
  return labels;
}

std::vector<std::int64_t> LabelMap::insert(const Labels& batch) {
  check_labels(batch);
  if (batch.size() == 0) return identity(size());
  if (size() > 0) check_same_kind(labels_, batch);
  std::vector<std::int64_t> source;
  Labels merged;
  merged.kind = batch.kind;
  std::visit(
      [&](const auto& values) {
        using Values = std::decay_t<decltype(values)>;
        const Values added = sorted_set(values);
        const Values none;
        const Values& known = size() > 0 ? std::get<Values>(labels_.values) : none;
        Values all;
        all.reserve(known.size() + added.size());
        std::set_union(known.begin(), known.end(), added.begin(), added.end(), std::back_inserter(all));
        source.reserve(all.size());
        for (const auto& value : all) source.push_back(place_of(known, value));
        merged.values = std::move(all);
      },
      batch.values);
  labels_ = std::move(merged);
  return source;
}

void LabelMap::keep(const std::vector<std::int64_t>& places) {
  std::int64_t last = -1;
  for (std::int64_t place : places) {
    GRAMIAN_REQUIRE(place > last && place < size(), invalid_argument,
                    "places to keep must rise and stay below " + std::to_string(size()));
    last = place;
  }
  if (places.empty()) {
    labels_ = Labels();  // an empty map has no kind: what comes next decides
    return;
  }
  std::visit(
      [&](auto& values) {
        std::decay_t<decltype(values)> kept;
        kept.reserve(places.size());
        for (std::int64_t place : places) kept.push_back(values[static_cast<std::size_t>(place)]);
        values = std::move(kept);
      },
      labels_.values);
}

std::vector<std::int64_t> LabelMap::encode(const Labels& batch, bool allow_unknown) const {
  check_labels(batch);
  if (size() > 0 && batch.size() > 0) check_same_kind(labels_, batch);
  std::vector<std::int64_t> places;
  places.reserve(static_cast<std::size_t>(batch.size()));
  std::visit(
      [&](const auto& values) {
        using Values = std::decay_t<decltype(values)>;
        const Values none;
        const Values& known = size() > 0 && !values.empty() ? std::get<Values>(labels_.values) : none;
        for (const auto& value : values) places.push_back(place_of(known, value));
      },
      batch.values);
  const auto unknown = std::find(places.begin(), places.end(), -1);
  GRAMIAN_REQUIRE(allow_unknown || unknown == places.end(), invalid_argument,
                  "label '" + batch.text(unknown - places.begin()) + "' is not a class of this model");
  return places;
}

}  // namespace gramian
