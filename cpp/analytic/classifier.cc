#include "gramian/analytic/classifier.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "analytic/golden_section.h"
#include "analytic/head_model.h"
#include "gramian/analytic/probabilities.hpp"
#include "gramian/core/error.hpp"

namespace gramian {
namespace {

using Places = std::vector<std::int64_t>;

constexpr char kModel[] = "analytic_classifier";
// Scores that the state fits without any error would make a temperature of zero.
constexpr double kTemperatureFloor = 1e-12;
constexpr double kCoolest = 1e-6;
constexpr double kHottest = 1e3;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

std::string rows_text(std::int64_t count) {
  return std::to_string(count) + (count == 1 ? " row" : " rows");
}

// Rows per entry of y.labels. Rows of weight 0 are as if they were not there; a weight that is no weight at all counts,
// and the state refuses it with its own message.
Places rows_per_label(const ClassTargets& y, std::int64_t rows, const double* weight) {
  GRAMIAN_REQUIRE(y.labels != nullptr && (y.codes != nullptr || rows == 0), invalid_argument,
                  "class targets need labels and codes");
  const std::int64_t size = y.labels->size();
  Places counts(at(size), 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    GRAMIAN_REQUIRE(
        y.codes[r] >= 0 && y.codes[r] < size, invalid_argument,
        "row " + std::to_string(r) + " has label code " + std::to_string(y.codes[r]) + " of " + std::to_string(size));
    if (!weight || weight[r] != 0) ++counts[at(y.codes[r])];
  }
  return counts;
}

// The labels that rows carry.
Labels carried(const Labels& labels, const Places& rows) {
  Labels some;
  some.kind = labels.kind;
  std::visit(
      [&](const auto& values) {
        std::decay_t<decltype(values)> kept;
        for (std::size_t k = 0; k < values.size(); ++k) {
          if (rows[k] > 0) kept.push_back(values[k]);
        }
        some.values = std::move(kept);
      },
      labels.values);
  return some;
}

// Error{invalid_argument} where a closed class would get more weight than it was closed with: before anything changes,
// and with the names of the caller.
void require_room(const RidgeHead& head, const LabelMap& labels, const ClassTargets& y, const Places& rows,
                  const double* weight, std::int64_t n_rows) {
  const Places places = labels.encode(*y.labels, true);
  std::vector<double> coming(rows.begin(), rows.end());
  if (weight != nullptr) {
    std::fill(coming.begin(), coming.end(), 0.0);
    for (std::int64_t r = 0; r < n_rows; ++r) coming[at(y.codes[r])] += weight[r];
  }
  for (std::size_t k = 0; k < places.size(); ++k) {
    if (rows[k] == 0 || places[k] < 0) continue;
    // A weight that is no number passes here, and is refused by its row.
    GRAMIAN_REQUIRE(!(coming[k] > head.room(places[k])), invalid_argument,
                    "class '" + y.labels->text(static_cast<std::int64_t>(k)) +
                        "' is closed: its rows were weighted by their declared or final count, and " +
                        rows_text(rows[k]) + " more have come");
  }
}

// Places in `map`, one per row. A label outside it belongs to rows of weight 0 only, which may point anywhere.
Places codes_in(const LabelMap& map, const ClassTargets& y, std::int64_t rows) {
  const Places places = map.encode(*y.labels, true);
  Places codes(at(rows));
  for (std::int64_t r = 0; r < rows; ++r) codes[at(r)] = std::max<std::int64_t>(places[at(y.codes[r])], 0);
  return codes;
}

// The head and what its columns mean, changed together: after every step, thrown out of or not, column k of the head is
// label k.
struct Columns {
  RidgeHead& head;
  LabelMap& labels;
  Places& counts;

  // `grown` holds all present labels; source[k] is the present place of its label k or -1.
  void adopt(LabelMap grown, const Places& source) {
    if (grown.size() == labels.size()) return;
    Places grown_counts;
    for (std::int64_t old : source) grown_counts.push_back(old < 0 ? 0 : counts[at(old)]);
    head.rearrange_outputs(source);
    labels = std::move(grown);
    counts = std::move(grown_counts);
  }

  // Reads the counts off the state; a class without rows goes.
  void settle() {
    Places present = head.counts(), kept;
    for (std::size_t k = 0; k < present.size(); ++k) {
      if (present[k] > 0) kept.push_back(static_cast<std::int64_t>(k));
    }
    if (kept.size() < present.size()) {
      LabelMap left = labels;
      left.keep(kept);
      Places left_counts;
      for (std::int64_t place : kept) left_counts.push_back(present[at(place)]);
      head.rearrange_outputs(kept);
      labels = std::move(left);
      present = std::move(left_counts);
    }
    counts = std::move(present);
  }

  // Changes the sums. Where that throws, classes that came for rows which are not in go again.
  template <class Change>
  void change(const Change& change_head) {
    try {
      change_head();
    } catch (...) {
      try {
        settle();
      } catch (const std::exception&) {
        // Out of memory: the model is whole, and a class without rows stays listed until the next change.
      }
      throw;
    }
    settle();
  }
};

// Integer labels as a set and codes.
struct IntegerTargets {
  Labels labels;
  Places codes;
  ClassTargets targets() const { return {&labels, codes.data()}; }
};

IntegerTargets integer_targets(const std::int64_t* labels, std::int64_t rows) {
  GRAMIAN_REQUIRE(labels != nullptr || rows == 0, invalid_argument, "labels are missing");
  Places set(labels, labels + rows);
  std::sort(set.begin(), set.end());
  set.erase(std::unique(set.begin(), set.end()), set.end());
  IntegerTargets result;
  result.codes.resize(at(rows));
  for (std::int64_t r = 0; r < rows; ++r) {
    result.codes[at(r)] = std::lower_bound(set.begin(), set.end(), labels[r]) - set.begin();
  }
  result.labels = Labels::integers(std::move(set));
  return result;
}

// log(sum(exp(scores / temperature))) - largest / temperature, with the sum's largest term 1.
double log_sum(const double* scores, std::int64_t size, double largest, double temperature) {
  double sum = 0;
  for (std::int64_t c = 0; c < size; ++c) sum += std::exp((scores[c] - largest) / temperature);
  return std::log(sum);
}

double mean_log_loss(MatrixView<const double> scores, const Places& places, double temperature) {
  double sum = 0;
  for (std::int64_t r = 0; r < scores.rows; ++r) {
    const double* row = scores.row(r);
    const double largest = *std::max_element(row, row + scores.cols);
    sum += (largest - row[places[at(r)]]) / temperature + log_sum(row, scores.cols, largest, temperature);
  }
  return sum / static_cast<double>(scores.rows);
}

// Rows scored at a time where the scores themselves are not asked for: about 8 MB of them, a multiple of 1024 rows.
std::int64_t rows_at_a_time(std::int64_t classes) {
  return std::clamp<std::int64_t>((std::int64_t{1} << 20) / classes / 1024, 1, 64) * 1024;
}

bool in_order(const Places& places) {
  for (std::size_t k = 0; k < places.size(); ++k) {
    if (places[k] != static_cast<std::int64_t>(k)) return false;
  }
  return true;
}

LabelMap read_labels(const Json& json) {
  const Labels labels = Labels::from_json(json);
  LabelMap map;
  map.insert(labels);
  const bool sorted = map.size() == labels.size() && in_order(map.encode(labels));
  GRAMIAN_REQUIRE(sorted, file_format, "the labels of the file are not a sorted set");
  return map;
}

Places read_counts(const Json& json, std::int64_t size) {
  Places counts;
  for (const Json& item : json.items()) {
    GRAMIAN_REQUIRE(item.integer() >= 0, file_format, "a class count of the file is negative");
    counts.push_back(item.integer());
  }
  GRAMIAN_REQUIRE(
      static_cast<std::int64_t>(counts.size()) == size, file_format,
      "the file has " + std::to_string(counts.size()) + " class counts for " + std::to_string(size) + " classes");
  return counts;
}

}  // namespace

AnalyticClassifier::AnalyticClassifier(const Exec& exec, std::int64_t n_inputs, RidgeConfig config, FeatureMapPtr map)
    : head_(exec, n_inputs, 0, std::move(config), std::move(map)) {}

AnalyticClassifier::AnalyticClassifier(RidgeHead head, LabelMap labels, double temperature)
    : head_(std::move(head)), labels_(std::move(labels)), calibrated_temperature_(temperature) {}

// The new classes join before the rows do, as empty columns that cost nothing to take back.
void AnalyticClassifier::partial_fit(const RowsView& x, const ClassTargets& y, const double* weight, bool atomic,
                                     const double* totals) {
  analytic::require_sums(head_);  // a file of weights alone cannot learn
  analytic::check_width(x, head_);
  const Places rows = rows_per_label(y, x.rows, weight);
  LabelMap grown = labels_;
  const Places source = grown.insert(carried(*y.labels, rows));
  if (x.rows == 0 || grown.size() == 0) return;  // no row, or none that counts before the first class
  require_room(head_, labels_, y, rows, weight, x.rows);
  const Places codes = codes_in(grown, y, x.rows);
  std::vector<double> of_columns;
  if (totals != nullptr) {
    of_columns.assign(at(grown.size()), 0.0);
    const Places places = grown.encode(*y.labels, true);
    for (std::size_t k = 0; k < places.size(); ++k)
      if (places[k] >= 0) of_columns[at(places[k])] = totals[k];
  }
  Columns columns{head_, labels_, counts_};
  columns.adopt(std::move(grown), source);
  columns.change([&] {
    head_.add(x, Targets::of_codes(codes.data()), weight, atomic, totals == nullptr ? nullptr : of_columns.data());
  });
}

void AnalyticClassifier::partial_fit(const RowsView& x, const std::int64_t* labels, const double* weight, bool atomic) {
  partial_fit(x, integer_targets(labels, x.rows).targets(), weight, atomic);
}

void AnalyticClassifier::add_moved(const Labels& labels, const std::vector<MovedRows>& parts) {
  head_.state();
  GRAMIAN_REQUIRE(labels.size() == static_cast<std::int64_t>(parts.size()), invalid_argument,
                  "every part needs a label of its own");
  LabelMap grown = labels_;
  const Places source = grown.insert(labels);
  const Places places = grown.encode(labels);
  Columns columns{head_, labels_, counts_};
  columns.adopt(std::move(grown), source);
  columns.change([&] {
    for (std::size_t k = 0; k < parts.size(); ++k) {
      head_.exec().poll();
      GRAMIAN_REQUIRE(parts[k].rows != nullptr, invalid_argument, "a part has no rows");
      head_.add_moved(*parts[k].rows, places[k], parts[k].factor, parts[k].by);
    }
  });
}

void AnalyticClassifier::forget(const RowsView& x, const ClassTargets& y, const double* weight, bool atomic) {
  analytic::require_sums(head_);
  analytic::check_width(x, head_);
  const Places rows = rows_per_label(y, x.rows, weight);
  const Places places = labels_.encode(*y.labels, true);
  Places asked(counts_.size(), 0);
  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (rows[k] == 0) continue;
    const std::string of_class = rows_text(rows[k]) + " of class '" + y.labels->text(static_cast<std::int64_t>(k));
    GRAMIAN_REQUIRE(places[k] >= 0, invalid_argument, "cannot forget " + of_class + "': the model never saw it");
    GRAMIAN_REQUIRE(std::isinf(head_.room(places[k])), invalid_argument,
                    "rows of class '" + y.labels->text(static_cast<std::int64_t>(k)) +
                        "' cannot be forgotten: it is closed, and its rows were weighted by how many they are");
    const std::int64_t held = counts_[at(places[k])];
    asked[at(places[k])] += rows[k];
    GRAMIAN_REQUIRE(asked[at(places[k])] <= held, invalid_argument,
                    "cannot forget " + of_class + "': the model holds " + std::to_string(held));
  }
  if (x.rows == 0 || labels_.size() == 0) return;
  const Places codes = codes_in(labels_, y, x.rows);
  Columns columns{head_, labels_, counts_};
  columns.change([&] { head_.remove(x, Targets::of_codes(codes.data()), weight, atomic); });
}

void AnalyticClassifier::forget(const RowsView& x, const std::int64_t* labels, const double* weight, bool atomic) {
  forget(x, integer_targets(labels, x.rows).targets(), weight, atomic);
}

void AnalyticClassifier::close_classes(const Labels& labels) {
  analytic::require_sums(head_);
  head_.close(labels_.encode(labels));
}

void AnalyticClassifier::merge(const AnalyticClassifier& other) {
  analytic::require_sums(head_);
  analytic::require_sums(other.head_);
  analytic::check_same_map(head_, other.head_);
  LabelMap both = labels_;
  const Places source = both.insert(other.labels_.labels());
  const Places source_of_other = other.labels_.encode(both.labels(), true);
  Columns columns{head_, labels_, counts_};
  if (&other != this && in_order(source_of_other)) {
    columns.adopt(std::move(both), source);
    columns.change([&] { head_.merge(other.head_); });
    return;
  }
  RidgeHead copy = analytic::copy_of(other.head_);
  copy.rearrange_outputs(source_of_other);
  columns.adopt(std::move(both), source);
  columns.change([&] { head_.merge(copy); });
}

void AnalyticClassifier::merge(const GramState& sums, const Labels& labels) {
  head_.state();
  LabelMap theirs;
  theirs.insert(labels);
  GRAMIAN_REQUIRE(theirs.size() == labels.size() && in_order(theirs.encode(labels)), invalid_argument,
                  "classes must be sorted and without repeats");
  GRAMIAN_REQUIRE(sums.n_outputs() == labels.size(), shape_mismatch,
                  "the sums have " + std::to_string(sums.n_outputs()) + " outputs for " +
                      std::to_string(labels.size()) + " classes");
  GRAMIAN_REQUIRE(sums.n_features() == head_.n_features(), shape_mismatch,
                  "the sums have " + std::to_string(sums.n_features()) + " features, the model has " +
                      std::to_string(head_.n_features()));
  LabelMap both = labels_;
  const Places source = both.insert(labels);
  GramState copy = sums.clone();
  copy.rearrange_outputs(theirs.encode(both.labels(), true));
  Columns columns{head_, labels_, counts_};
  columns.adopt(std::move(both), source);
  columns.change([&] { head_.merge(copy); });
}

void AnalyticClassifier::unmerge(const AnalyticClassifier& other) {
  head_.state();
  other.head_.state();
  analytic::check_same_map(head_, other.head_);
  const Places places = labels_.encode(other.labels_.labels(), true);
  for (std::size_t k = 0; k < places.size(); ++k) {
    const std::string of_class =
        rows_text(other.counts_[k]) + " of class '" + other.labels_.labels().text(static_cast<std::int64_t>(k));
    GRAMIAN_REQUIRE(places[k] >= 0, invalid_argument, "cannot unmerge " + of_class + "': the model never saw it");
    const std::int64_t held = counts_[at(places[k])];
    GRAMIAN_REQUIRE(other.counts_[k] <= held, invalid_argument,
                    "cannot unmerge " + of_class + "': the model holds " + std::to_string(held));
  }
  RidgeHead copy = analytic::copy_of(other.head_);
  copy.rearrange_outputs(other.labels_.encode(labels_.labels(), true));
  Columns columns{head_, labels_, counts_};
  columns.change([&] { head_.unmerge(copy); });
}

void AnalyticClassifier::choose(const RowsView& x, const ClassTargets& y, const double* weight) {
  analytic::check_width(x, head_);
  const Places rows = rows_per_label(y, x.rows, weight);
  labels_.encode(carried(*y.labels, rows));  // names a label that is no class
  const Places codes = codes_in(labels_, y, x.rows);
  head_.choose(x, Targets::of_codes(codes.data()), weight);
}

const Labels& AnalyticClassifier::classes() const {
  return labels_.labels();
}
const std::vector<std::int64_t>& AnalyticClassifier::class_counts() const {
  return counts_;
}
const RidgeHead& AnalyticClassifier::head() const {
  return head_;
}
RidgeHead& AnalyticClassifier::head() {
  return head_;
}

void AnalyticClassifier::decision_function(const RowsView& x, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(labels_.size() > 0, not_fitted, "the model has seen no rows yet");
  head_.scores(x, out);
}

void AnalyticClassifier::predict(const RowsView& x, std::int64_t* places) const {
  GRAMIAN_REQUIRE(labels_.size() > 0, not_fitted, "the model has seen no rows yet");
  const std::int64_t classes = labels_.size(), block = rows_at_a_time(classes);
  std::vector<double> scores(at(std::min(block, x.rows) * classes));
  for (std::int64_t begin = 0; begin < x.rows; begin += block) {
    const std::int64_t count = std::min(block, x.rows - begin);
    const MatrixView<double> out(scores.data(), count, classes);
    head_.scores(x.slice(begin, count), out);
    for (std::int64_t r = 0; r < count; ++r) {
      places[begin + r] = std::max_element(out.row(r), out.row(r) + classes) - out.row(r);
    }
  }
}

void AnalyticClassifier::predict_proba(const RowsView& x, MatrixView<double> out) const {
  decision_function(x, out);
  softmax_rows(head_.exec(), temperature(), out);
}

double AnalyticClassifier::temperature() const {
  if (calibrated_temperature_ > 0) return calibrated_temperature_;
  return std::max(head_.noise_variance(), kTemperatureFloor);
}

void AnalyticClassifier::calibrate(const RowsView& x, const ClassTargets& y) {
  GRAMIAN_REQUIRE(labels_.size() > 1, invalid_argument, "calibration needs a model of two or more classes");
  GRAMIAN_REQUIRE(x.rows > 0, invalid_argument, "calibration needs rows");
  const Places rows = rows_per_label(y, x.rows, nullptr);
  labels_.encode(carried(*y.labels, rows));  // names a label that is no class
  const Places places = codes_in(labels_, y, x.rows);
  std::vector<double> values(at(x.rows * labels_.size()));
  const MatrixView<double> scores(values.data(), x.rows, labels_.size());
  decision_function(x, scores);
  const auto loss = [&](double log_temperature) {
    head_.exec().poll();
    return mean_log_loss(scores, places, std::exp(log_temperature));
  };
  // The loss is convex in 1 / temperature, so it has one valley on the logarithm of the temperature too.
  calibrated_temperature_ = std::exp(golden_section(std::log(kCoolest), std::log(kHottest), 1e-7, loss));
}

Json AnalyticClassifier::description() const {
  Json counts = Json::array();
  for (std::int64_t count : counts_) counts.push_back(Json(count));
  Json config = Json::object();
  config["labels"] = labels_.labels().to_json();
  config["class_counts"] = std::move(counts);
  config["temperature"] = Json(calibrated_temperature_);
  return config;
}

Json AnalyticClassifier::describe(ModelWriter& writer, const std::string& prefix, bool weights_only) const {
  Json config = description();
  config["head"] = head_.save(writer, prefix, weights_only);
  return config;
}

ModelWriter AnalyticClassifier::writer(bool weights_only, const Json& extra) const {
  ModelWriter writer(kModel, Json::object());
  Json config = describe(writer, analytic::kHeadPrefix, weights_only);
  config["extra"] = extra;
  writer.set_config(std::move(config));
  return writer;
}

void AnalyticClassifier::save(const std::string& path, bool weights_only, const Json& extra) const {
  writer(weights_only, extra).save(path);
}

std::vector<std::uint8_t> AnalyticClassifier::save_bytes(bool weights_only, const Json& extra) const {
  return writer(weights_only, extra).bytes();
}

void AnalyticClassifier::save_nested(const std::string& path, const Json& extra) const {
  Json config = description();
  config["extra"] = extra;
  analytic::nested_writer(kModel, head_, std::move(config)).save(path);
}

AnalyticClassifier AnalyticClassifier::load(const Exec& exec, const ModelReader& reader, std::int64_t width) {
  analytic::check_kind(kModel, reader);
  return read(exec, reader.config(), reader, analytic::kHeadPrefix, width);
}

AnalyticClassifier AnalyticClassifier::read(const Exec& exec, const Json& json, const ModelReader& reader,
                                            const std::string& prefix, std::int64_t width) {
  RidgeHead head = RidgeHead::load(exec, json.at("head"), reader, prefix, width);
  LabelMap labels = read_labels(json.at("labels"));
  GRAMIAN_REQUIRE(labels.size() == head.n_outputs(), file_format,
                  "the file has " + std::to_string(labels.size()) + " labels for " + std::to_string(head.n_outputs()) +
                      " columns of scores");
  Places counts = read_counts(json.at("class_counts"), labels.size());
  GRAMIAN_REQUIRE(!head.has_state() || counts == head.counts(), file_format,
                  "the class counts of the file are not those of its sums");
  const double temperature = json.at("temperature").number();
  GRAMIAN_REQUIRE(temperature >= 0, file_format, "the temperature of the file is negative");
  AnalyticClassifier model(std::move(head), std::move(labels), temperature);
  model.counts_ = std::move(counts);
  return model;
}

AnalyticClassifier AnalyticClassifier::load(const Exec& exec, const std::string& path) {
  return load(exec, ModelReader::from_file(path));
}

}  // namespace gramian
