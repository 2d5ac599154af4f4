#include <charconv>
#include <cmath>
#include <string>

#include "gramian/core/error.hpp"
#include "gramian/sketch/operator.hpp"
#include "io/file_error.h"
#include "sketch/validate.h"

namespace gramian {

namespace {

constexpr const char* kNames[] = {"gaussian",      "rademacher",  "srht",      "hdhd",
                                  "count_sketch",  "sparse_sign", "long_axis", "row_sampling",
                                  "tensor_sketch", "tensor_srht", "dct"};
constexpr int kKinds = 11;
constexpr std::int64_t kMostRows = std::int64_t{1} << 30;
// Lengths multiply with m, with 4 and with themselves without overflow below it.
constexpr std::int64_t kLongest = std::int64_t{1} << 40;
constexpr std::int64_t kLongestCosine = std::int64_t{1} << 30;
constexpr std::size_t kMostFactors = 128;  // the factor has 8 bits in the counter, and a pair takes two

std::string number(std::int64_t value) {
  return std::to_string(value);
}

Json to_array(const std::vector<std::int64_t>& values) {
  Json out = Json::array();
  for (const std::int64_t value : values) out.push_back(value);
  return out;
}

std::vector<std::int64_t> integers(const Json& json) {
  std::vector<std::int64_t> out;
  for (const Json& item : json.items()) out.push_back(item.integer());
  return out;
}

void check_dims(const SketchDist& dist) {
  GRAMIAN_REQUIRE(dist.dims.size() >= 2 && dist.dims.size() <= kMostFactors, invalid_argument,
                  "dims must have 2 to 128 entries, got " + number(static_cast<std::int64_t>(dist.dims.size())));
  std::int64_t product = 1;
  for (const std::int64_t dim : dist.dims) {
    GRAMIAN_REQUIRE(dim >= 1, invalid_argument, "dims must be at least 1, got " + number(dim));
    GRAMIAN_REQUIRE(dim <= kLongest / product, invalid_argument, "the product of dims must be at most 2^40");
    product *= dim;
  }
  GRAMIAN_REQUIRE(dist.n_in == product, invalid_argument,
                  "n_in must be the product of dims, " + number(product) + ", got " + number(dist.n_in));
}

void check_scores(const SketchDist& dist) {
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(dist.scores.size()) == dist.n_in, invalid_argument,
                  "scores must have n_in = " + number(dist.n_in) + " entries, got " +
                      number(static_cast<std::int64_t>(dist.scores.size())));
  double total = 0;
  for (std::size_t i = 0; i < dist.scores.size(); ++i) {
    GRAMIAN_REQUIRE(std::isfinite(dist.scores[i]) && dist.scores[i] >= 0, invalid_argument,
                    "scores must be finite and not negative, but entry " + std::to_string(i) + " is not");
    total += dist.scores[i];
  }
  GRAMIAN_REQUIRE(std::isfinite(total) && total > 0, invalid_argument, "the sum of scores must be positive and finite");
}

void check_columns(const SketchDist& dist) {
  if (dist.columns.empty()) {
    GRAMIAN_REQUIRE(dist.n_out <= dist.n_in, invalid_argument,
                    "n_out must be at most n_in = " + number(dist.n_in) +
                        " for kind='dct': frequencies are drawn without replacement");
    return;
  }
  GRAMIAN_REQUIRE(dist.appended.empty(), invalid_argument, "chosen columns cannot be appended to");
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(dist.columns.size()) == dist.n_out, invalid_argument,
                  "columns must have n_out = " + number(dist.n_out) + " entries, got " +
                      number(static_cast<std::int64_t>(dist.columns.size())));
  for (const std::int64_t column : dist.columns) {
    GRAMIAN_REQUIRE(column >= 0 && column < dist.n_in, invalid_argument,
                    "columns must lie in [0, " + number(dist.n_in) + "), got " + number(column));
  }
}

bool streams(SketchKind kind) {
  return kind == SketchKind::gaussian || kind == SketchKind::rademacher || kind == SketchKind::count_sketch ||
         kind == SketchKind::sparse_sign;
}

// What one generation of `rows` rows asks for.
void check_generation(const SketchDist& dist, std::int64_t rows) {
  GRAMIAN_REQUIRE(rows >= 1 && rows < kMostRows, invalid_argument,
                  "n_out must be at least 1 and below 2^30, got " + number(rows));
  if (dist.kind == SketchKind::sparse_sign) {
    GRAMIAN_REQUIRE(dist.nnz >= 1 && dist.nnz <= rows, invalid_argument,
                    "nnz must be at least 1 and at most the " + number(rows) + " rows, got " + number(dist.nnz));
  }
  if (dist.kind == SketchKind::srht || dist.kind == SketchKind::hdhd) {
    std::int64_t padded = 1;
    while (padded < dist.n_in) padded *= 2;
    GRAMIAN_REQUIRE(rows <= padded, invalid_argument,
                    "n_out must be at most " + number(padded) + ", the power of two at or above n_in = " +
                        number(dist.n_in) + ": rows are drawn without replacement; got " + number(rows));
  }
}

}  // namespace

namespace sketch {

void validate(const SketchDist& dist) {
  const int kind = static_cast<int>(dist.kind);
  GRAMIAN_REQUIRE(kind >= 0 && kind < kKinds, invalid_argument, "no such kind of sketch");
  GRAMIAN_REQUIRE(dist.n_in >= 0 && dist.n_in <= kLongest, invalid_argument,
                  "n_in must not be negative nor above 2^40, got " + number(dist.n_in));
  GRAMIAN_REQUIRE(dist.n_in > 0 || streams(dist.kind), invalid_argument,
                  std::string("kind='") + name_of(dist.kind) + "' must know n_in");
  std::int64_t first = dist.n_out;
  for (const std::int64_t rows : dist.appended) {
    check_generation(dist, rows);
    first -= rows;
  }
  check_generation(dist, first);
  GRAMIAN_REQUIRE(dist.n_out < kMostRows, invalid_argument, "n_out must be below 2^30, got " + number(dist.n_out));
  GRAMIAN_REQUIRE(dist.generation + dist.appended.size() < 65536, invalid_argument,
                  "a sketch has at most 65536 generations");
  if (dist.kind == SketchKind::long_axis) {
    GRAMIAN_REQUIRE(dist.nnz >= 1 && dist.nnz <= dist.n_in, invalid_argument,
                    "nnz must be at least 1 and at most n_in = " + number(dist.n_in) + ", got " + number(dist.nnz));
  }
  if (dist.kind == SketchKind::tensor_sketch || dist.kind == SketchKind::tensor_srht) check_dims(dist);
  if (dist.kind == SketchKind::row_sampling) check_scores(dist);
  if (dist.kind == SketchKind::dct) {
    GRAMIAN_REQUIRE(dist.n_in <= kLongestCosine, invalid_argument, "n_in must be at most 2^30 for kind='dct'");
    check_columns(dist);
  }
}

}  // namespace sketch

const char* name_of(SketchKind kind) {
  return kNames[static_cast<int>(kind)];
}

SketchKind parse_sketch_kind(const std::string& name) {
  std::string known;
  for (int k = 0; k < kKinds; ++k) {
    if (name == kNames[k]) return static_cast<SketchKind>(k);
    known += std::string(k == 0 ? "'" : ", '") + kNames[k] + "'";
  }
  throw Error(ErrorCode::invalid_argument, "kind must be one of " + known + ", got '" + name + "'");
}

Json SketchDist::to_json() const {
  Json json = Json::object();
  json["kind"] = name_of(kind);
  json["n_out"] = n_out;
  json["n_in"] = n_in;
  json["seed"] = std::to_string(seed);  // 64 bits, more than a JSON number keeps
  json["nnz"] = nnz;
  json["permute"] = permute;
  json["generation"] = static_cast<std::int64_t>(generation);
  json["appended"] = to_array(appended);
  json["dims"] = to_array(dims);
  json["columns"] = to_array(columns);
  json["scores"] = Json::array();
  for (const double score : scores) json["scores"].push_back(score);
  return json;
}

SketchDist SketchDist::from_json(const Json& json) {
  return io::reading([&] {
    SketchDist dist;
    dist.kind = parse_sketch_kind(json.at("kind").string());
    dist.n_out = json.at("n_out").integer();
    dist.n_in = json.at("n_in").integer();
    const std::string& text = json.at("seed").string();
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), dist.seed);
    GRAMIAN_REQUIRE(parsed.ec == std::errc() && parsed.ptr == text.data() + text.size(), file_format,
                    "the seed of a sketch is not a number");
    dist.nnz = json.at("nnz").integer();
    dist.permute = json.at("permute").boolean();
    const std::int64_t generation = json.at("generation").integer();
    GRAMIAN_REQUIRE(generation >= 0 && generation < 65536, file_format, "the generation of a sketch is out of range");
    dist.generation = static_cast<std::uint32_t>(generation);
    dist.appended = integers(json.at("appended"));
    dist.dims = integers(json.at("dims"));
    dist.columns = integers(json.at("columns"));
    for (const Json& score : json.at("scores").items()) dist.scores.push_back(score.number());
    sketch::validate(dist);
    return dist;
  });
}

SketchDist SketchDist::with_rows(std::int64_t more) const {
  SketchDist out = *this;
  out.n_out += more;
  out.appended.push_back(more);
  sketch::validate(out);
  return out;
}

}  // namespace gramian
