#include "gramian/analytic/class_moments.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "gramian/analytic/mapped_gaussian.hpp"
#include "gramian/core/error.hpp"
#include "io/file_error.h"

namespace gramian {
namespace {

constexpr char kModel[] = "class_moments";

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// The numbers of the rows of each label of y, those of weight 0 left out.
std::vector<std::vector<std::int64_t>> rows_by_label(const ClassTargets& y, std::int64_t rows, const double* weight) {
  GRAMIAN_REQUIRE(y.labels != nullptr && (y.codes != nullptr || rows == 0), invalid_argument,
                  "class targets need labels and codes");
  std::vector<std::vector<std::int64_t>> out(at(y.labels->size()));
  for (std::int64_t r = 0; r < rows; ++r) {
    GRAMIAN_REQUIRE(y.codes[r] >= 0 && y.codes[r] < y.labels->size(), invalid_argument,
                    "row " + std::to_string(r) + " has no label");
    if (weight == nullptr || weight[r] != 0) out[at(y.codes[r])].push_back(r);
  }
  return out;
}

// Calls change(state, rows, weight) with the rows of one label, without a copy of them.
template <class Change>
void with_rows(const RowsView& x, const std::vector<std::int64_t>& index, const double* weight, const Change& change) {
  std::vector<std::int64_t> storage(index);
  std::vector<double> weights;
  for (std::int64_t& r : storage) {
    if (weight != nullptr) weights.push_back(weight[r]);
    if (x.row_index != nullptr) r = x.row_index[r];
  }
  RowsView rows = x;
  rows.row_index = storage.data();
  rows.rows = static_cast<std::int64_t>(storage.size());
  change(rows, weight == nullptr ? nullptr : weights.data());
}

std::vector<double> mean_of(const GramState& state) {
  std::vector<double> mean, variance;
  state.feature_moments(mean, variance);
  return mean;
}

// What a Gaussian with the mean and the variances (biased) of the inputs of a class becomes behind the map.
GramState independent_inputs(const ClassMoments& moments, std::int64_t k) {
  const GramState& state = *moments.inputs(k);
  std::vector<double> mean, variance;
  state.feature_moments(mean, variance);
  return mapped_gaussian(state.exec(), *moments.map(), mean, variance, moments.options(), state.n_rows());
}

// A state of weight 1 with the mean and the variances (biased) of another one, features uncorrelated.
GramState independent_features(const GramState& state) {
  std::vector<double> mean, variance;
  state.feature_moments(mean, variance);
  // Weight, rows, sums of features and the lower triangle, around the mean; there are no targets.
  const std::int64_t d = state.n_features();
  std::vector<double> moments(at(2 + d + d * (d + 1) / 2), 0.0);
  moments[0] = 1;
  moments[1] = static_cast<double>(state.n_rows());
  for (std::int64_t j = 0; j < d; ++j) moments[at(2 + d + j * (j + 1) / 2 + j)] = variance[at(j)];
  return GramState::of_moments(state.exec(), d, 0, state.options(), moments, mean, {}, false);
}

void require_weights(const std::vector<double>& weight, const Labels& classes) {
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(weight.size()) == classes.size(), invalid_argument,
                  "class_weight has " + std::to_string(weight.size()) + " values for " +
                      std::to_string(classes.size()) + " classes");
  GRAMIAN_REQUIRE(!weight.empty(), not_fitted, "the model has not seen any rows yet");
  for (const double w : weight)
    GRAMIAN_REQUIRE(std::isfinite(w) && w > 0, invalid_argument, "class weights must be finite and above 0");
}

double length_of(const std::vector<double>& v) {
  double sum = 0;
  for (const double value : v) sum += value * value;
  return std::sqrt(sum);
}

}  // namespace

ClassMoments::ClassMoments(const Exec& exec, std::int64_t n_inputs, GramOptions options, FeatureMapPtr map,
                           std::int64_t rank, bool keep_inputs)
    : exec_(exec),
      n_inputs_(n_inputs),
      options_(options),
      map_(std::move(map)),
      rank_(rank),
      keep_inputs_(keep_inputs) {
  GRAMIAN_REQUIRE(n_inputs >= 1, invalid_argument, "X must have at least one feature");
  GRAMIAN_REQUIRE(map_ == nullptr || map_->n_inputs() == n_inputs, shape_mismatch,
                  "the feature map does not fit X of " + std::to_string(n_inputs) + " features");
  if (keep_inputs) {
    GRAMIAN_REQUIRE(map_ != nullptr && rank < 0, invalid_argument,
                    "inputs are kept beside the sums of features alone: of a feature map, and without a rank");
    require_gaussian_map(*map_);
  }
  // Sums of single classes are taken around their own means; whether the ridge has an intercept is its own affair.
  options_.intercept = true;
}

std::vector<std::int64_t> ClassMoments::class_counts() const {
  std::vector<std::int64_t> out;
  for (const Entry& entry : entries_) out.push_back(entry.count);
  return out;
}

std::int64_t ClassMoments::n_rows() const {
  std::int64_t sum = 0;
  for (const Entry& entry : entries_) sum += entry.count;
  return sum;
}

std::size_t ClassMoments::bytes() const {
  std::size_t sum = 0;
  for (const Entry& entry : entries_) {
    sum += entry.centroid.size() * sizeof(double);
    if (entry.state) sum += entry.state->bytes();
    if (entry.scatter) sum += entry.scatter->bytes();
    if (entry.inputs) sum += entry.inputs->bytes();
  }
  return sum;
}

const GramState* ClassMoments::state(std::int64_t k) const {
  return entries_.at(at(k)).state.get();
}

const LowRankScatter* ClassMoments::scatter(std::int64_t k) const {
  return entries_.at(at(k)).scatter.get();
}

const GramState* ClassMoments::inputs(std::int64_t k) const {
  return entries_.at(at(k)).inputs.get();
}

std::vector<double> ClassMoments::centroid(std::int64_t k) const {
  const Entry& entry = entries_.at(at(k));
  if (entry.scatter) return entry.scatter->mean();
  return entry.state ? mean_of(*entry.state) : entry.centroid;
}

double ClassMoments::weight(std::int64_t k) const {
  return entries_.at(at(k)).weight;
}

ClassMoments::Entry ClassMoments::with_more(std::int64_t place, const RowsView& x, const double* weight) const {
  Entry out;
  if (rank_ < 0) {
    out.state = place >= 0 ? std::make_unique<GramState>(entries_[at(place)].state->clone())
                           : std::make_unique<GramState>(exec_, n_features(), 0, options_);
    out.state->add(x, Targets(), weight, map_.get(), false);
    if (keep_inputs_) {
      out.inputs = place >= 0 ? std::make_unique<GramState>(entries_[at(place)].inputs->clone())
                              : std::make_unique<GramState>(exec_, n_inputs_, 0, options_);
      out.inputs->add(x, Targets(), weight, nullptr, false);
    }
    out.weight = out.state->weight_sum();
    out.count = out.state->n_rows();
  } else {
    out.scatter = std::make_unique<LowRankScatter>(place >= 0 ? entries_[at(place)].scatter->clone()
                                                              : LowRankScatter(exec_, n_features(), rank_));
    out.scatter->add(x, weight, map_.get());
    out.weight = out.scatter->weight_sum();
    out.count = out.scatter->n_rows();
  }
  return out;
}

void ClassMoments::partial_fit(const RowsView& x, const ClassTargets& y, const double* weight) {
  GRAMIAN_REQUIRE(x.cols == n_inputs_, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but " + std::to_string(n_inputs_) + " are expected");
  const auto rows = rows_by_label(y, x.rows, weight);
  const std::vector<std::int64_t> places = labels_.encode(*y.labels, true);
  // Everything new is made beside what there is.
  LabelMap grown = labels_;
  std::vector<Entry> made(rows.size());
  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (rows[k].empty()) continue;
    const std::int64_t place = places[k];
    GRAMIAN_REQUIRE(place < 0 || !(ended_ || past(place)), invalid_argument,
                    "class '" + y.labels->text(static_cast<std::int64_t>(k)) +
                        "' is of an earlier phase: only its centroid is left, and no row can be added to it");
    with_rows(x, rows[k], weight, [&](const RowsView& part, const double* w) { made[k] = with_more(place, part, w); });
  }
  const bool any = std::any_of(made.begin(), made.end(), [](const Entry& entry) { return entry.count > 0; });
  if (!any) return;
  std::vector<std::vector<double>> centroids(entries_.size());
  if (ended_)
    for (std::size_t k = 0; k < entries_.size(); ++k) centroids[k] = centroid(static_cast<std::int64_t>(k));
  // Labels without rows of weight do not become classes.
  std::vector<std::int64_t> kept;
  for (std::size_t k = 0; k < rows.size(); ++k)
    if (made[k].count > 0) kept.push_back(static_cast<std::int64_t>(k));
  LabelMap batch;
  batch.insert(*y.labels);
  const std::vector<std::int64_t> order = batch.encode(*y.labels);
  std::vector<std::int64_t> sorted;
  for (const std::int64_t k : kept) sorted.push_back(order[at(k)]);
  std::sort(sorted.begin(), sorted.end());
  batch.keep(sorted);
  const std::vector<std::int64_t> source = grown.insert(batch.labels());
  const std::vector<std::int64_t> target = grown.encode(*y.labels, true);
  std::vector<Entry> entries(source.size());
  exec_.poll_now();

  for (std::size_t k = 0; ended_ && k < entries_.size(); ++k) {
    entries_[k].state.reset();
    entries_[k].scatter.reset();
    entries_[k].inputs.reset();
    entries_[k].centroid = std::move(centroids[k]);
  }
  for (std::size_t k = 0; k < source.size(); ++k)
    if (source[k] >= 0) entries[k] = std::move(entries_[at(source[k])]);
  for (const std::int64_t k : kept) entries[at(target[at(k)])] = std::move(made[at(k)]);
  entries_ = std::move(entries);
  labels_ = std::move(grown);
  ended_ = false;
}

void ClassMoments::forget(const RowsView& x, const ClassTargets& y, const double* weight) {
  GRAMIAN_REQUIRE(x.cols == n_inputs_, shape_mismatch,
                  "X has " + std::to_string(x.cols) + " features, but " + std::to_string(n_inputs_) + " are expected");
  const auto rows = rows_by_label(y, x.rows, weight);
  const std::vector<std::int64_t> places = labels_.encode(*y.labels, true);
  std::vector<std::unique_ptr<GramState>> made(rows.size()), made_inputs(rows.size());
  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (rows[k].empty()) continue;
    const std::string of_class =
        std::to_string(rows[k].size()) + " rows of class '" + y.labels->text(static_cast<std::int64_t>(k)) + "'";
    GRAMIAN_REQUIRE(places[k] >= 0, invalid_argument, "cannot forget " + of_class + ": the model never saw it");
    const Entry& entry = entries_[at(places[k])];
    GRAMIAN_REQUIRE(entry.scatter == nullptr, invalid_argument,
                    "cannot forget " + of_class + ": only its strongest directions and its variances are kept");
    GRAMIAN_REQUIRE(entry.state != nullptr, invalid_argument,
                    "cannot forget " + of_class + ": only its centroid is left");
    GRAMIAN_REQUIRE(static_cast<std::int64_t>(rows[k].size()) <= entry.count, invalid_argument,
                    "cannot forget " + of_class + ": the model holds " + std::to_string(entry.count));
    made[k] = std::make_unique<GramState>(entry.state->clone());
    if (keep_inputs_) made_inputs[k] = std::make_unique<GramState>(entry.inputs->clone());
    with_rows(x, rows[k], weight, [&](const RowsView& part, const double* w) {
      made[k]->remove(part, Targets(), w, map_.get(), false);
      if (keep_inputs_) made_inputs[k]->remove(part, Targets(), w, nullptr, false);
    });
  }
  std::vector<bool> gone(entries_.size(), false);
  for (std::size_t k = 0; k < rows.size(); ++k)
    if (made[k] && made[k]->n_rows() == 0) gone[at(places[k])] = true;
  std::vector<std::int64_t> kept;
  for (std::size_t k = 0; k < gone.size(); ++k)
    if (!gone[k]) kept.push_back(static_cast<std::int64_t>(k));
  LabelMap left = labels_;
  left.keep(kept);
  std::vector<Entry> entries(kept.size());
  exec_.poll_now();

  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (!made[k]) continue;
    Entry& entry = entries_[at(places[k])];
    entry.state = std::move(made[k]);
    entry.inputs = std::move(made_inputs[k]);
    entry.weight = entry.state->weight_sum();
    entry.count = entry.state->n_rows();
  }
  for (std::size_t k = 0; k < kept.size(); ++k) entries[k] = std::move(entries_[at(kept[k])]);
  entries_ = std::move(entries);
  labels_ = std::move(left);
}

ModelWriter ClassMoments::writer(const Json& extra) const {
  ModelWriter writer(kModel, Json::object());
  Json list = Json::array();
  for (std::size_t k = 0; k < entries_.size(); ++k) {
    const std::string prefix = "class." + std::to_string(k) + ".";
    const Entry& entry = entries_[k];
    Json json = Json::object();
    json["weight"] = entry.weight;
    json["count"] = entry.count;
    json["state"] = entry.state ? entry.state->save(writer, prefix) : Json();
    if (entry.inputs) json["inputs"] = entry.inputs->save(writer, prefix + "inputs.");
    if (entry.scatter) {
      json["scatter"] = entry.scatter->save(writer, prefix);
    } else if (!entry.state) {
      writer.add(prefix + "centroid", {n_features()}, entry.centroid);
    }
    list.push_back(std::move(json));
  }
  Json config = Json::object();
  config["n_inputs"] = n_inputs_;
  config["products"] = name_of(options_.products);
  config["map"] = map_ ? map_->save(writer, "map.") : Json();
  config["labels"] = labels_.labels().to_json();
  config["classes"] = std::move(list);
  config["ended"] = ended_;
  if (rank_ >= 0) config["rank"] = rank_;
  if (keep_inputs_) config["inputs"] = true;
  config["extra"] = extra;
  writer.set_config(std::move(config));
  return writer;
}

std::vector<std::uint8_t> ClassMoments::save_bytes(const Json& extra) const {
  return writer(extra).bytes();
}

void ClassMoments::save(const std::string& path, const Json& extra) const {
  writer(extra).save(path);
}

ClassMoments ClassMoments::load(const Exec& exec, const ModelReader& reader) {
  return io::reading([&] {
    GRAMIAN_REQUIRE(reader.model() == kModel, file_format,
                    "the file holds a model of kind \"" + reader.model() + "\", not \"" + kModel + "\"");
    const Json& config = reader.config();
    GramOptions options;
    const std::string& products = config.at("products").string();
    GRAMIAN_REQUIRE(products == "float32" || products == "float64", file_format, "unknown products '" + products + "'");
    options.products = products == "float32" ? DType::f32 : DType::f64;
    FeatureMapPtr map;
    if (!config.at("map").is_null()) map = load_feature_map(config.at("map"), reader, "map.");
    const std::int64_t rank = config.contains("rank") ? config.at("rank").integer() : -1;
    GRAMIAN_REQUIRE(rank >= -1, file_format, "the rank of the classes is impossible");
    const bool keep_inputs = config.contains("inputs") && config.at("inputs").boolean();
    ClassMoments out(exec, config.at("n_inputs").integer(), options, std::move(map), rank, keep_inputs);
    const Labels labels = Labels::from_json(config.at("labels"));
    out.labels_.insert(labels);
    const std::vector<std::int64_t> places = out.labels_.encode(labels);
    for (std::size_t k = 0; k < places.size(); ++k)
      GRAMIAN_REQUIRE(places[k] == static_cast<std::int64_t>(k), file_format, "the labels are not a sorted set");
    const std::vector<Json>& list = config.at("classes").items();
    GRAMIAN_REQUIRE(list.size() == places.size() && out.labels_.size() == labels.size(), file_format,
                    "the file has another number of labels than of classes");
    for (std::size_t k = 0; k < list.size(); ++k) {
      const std::string prefix = "class." + std::to_string(k) + ".";
      Entry entry;
      entry.weight = list[k].at("weight").number();
      entry.count = list[k].at("count").integer();
      GRAMIAN_REQUIRE(entry.weight > 0 && entry.count > 0, file_format, "a class of the file has no rows");
      if (list[k].contains("scatter")) {
        entry.scatter =
            std::make_unique<LowRankScatter>(LowRankScatter::load(exec, list[k].at("scatter"), reader, prefix));
        GRAMIAN_REQUIRE(list[k].at("state").is_null() && entry.scatter->n_features() == out.n_features() &&
                            entry.scatter->rank() == rank && entry.scatter->n_rows() == entry.count &&
                            entry.scatter->weight_sum() == entry.weight,
                        file_format, "the scatter of a class does not fit the model");
      } else if (list[k].at("state").is_null()) {
        const double* values = reader.tensor(prefix + "centroid", TensorType::f64, {out.n_features()}).f64();
        entry.centroid.assign(values, values + out.n_features());
        GRAMIAN_REQUIRE(
            std::all_of(entry.centroid.begin(), entry.centroid.end(), [](double v) { return std::isfinite(v); }),
            file_format, "a centroid of the file is not finite");
      } else {
        entry.state = std::make_unique<GramState>(GramState::load(exec, list[k].at("state"), reader, prefix));
        GRAMIAN_REQUIRE(rank < 0 && entry.state->n_features() == out.n_features() && entry.state->n_outputs() == 0 &&
                            entry.state->options().intercept && entry.state->n_rows() == entry.count &&
                            entry.state->weight_sum() == entry.weight,
                        file_format, "the sums of a class do not fit the model");
      }
      if (keep_inputs && entry.state != nullptr) {
        entry.inputs =
            std::make_unique<GramState>(GramState::load(exec, list[k].at("inputs"), reader, prefix + "inputs."));
        GRAMIAN_REQUIRE(entry.inputs->n_features() == out.n_inputs() && entry.inputs->n_outputs() == 0 &&
                            entry.inputs->options().intercept && entry.inputs->n_rows() == entry.count &&
                            entry.inputs->weight_sum() == entry.weight,
                        file_format, "the sums of the inputs of a class do not fit the model");
      }
      out.entries_.push_back(std::move(entry));
    }
    out.ended_ = config.at("ended").boolean();
    return out;
  });
}

std::int64_t most_alike(const ClassMoments& moments, std::int64_t k) {
  const std::vector<double> past = moments.centroid(k);
  const double length = length_of(past);
  std::int64_t best = -1;
  double largest = 0;
  for (std::int64_t c = 0; c < moments.classes().size(); ++c) {
    if (moments.state(c) == nullptr) continue;
    const std::vector<double> mean = moments.centroid(c);
    const double lengths = length * length_of(mean);
    double product = 0;
    for (std::size_t j = 0; j < mean.size(); ++j) product += mean[j] * past[j];
    const double cosine = lengths > 0 ? product / lengths : 0.0;
    if (best >= 0 && cosine <= largest) continue;
    best = c;
    largest = cosine;
  }
  GRAMIAN_REQUIRE(best >= 0, not_fitted, "no class of the present phase has rows");
  return best;
}

AnalyticClassifier translate_past(const ClassMoments& moments, const RidgeConfig& config) {
  const std::int64_t classes = moments.classes().size();
  GRAMIAN_REQUIRE(classes > 0, not_fitted, "the model has not seen any rows yet");
  std::vector<MovedRows> parts;
  std::vector<std::vector<double>> moves(at(classes));
  for (std::int64_t k = 0; k < classes; ++k) {
    const GramState* state = moments.state(k);
    if (state == nullptr) {
      const std::int64_t like = most_alike(moments, k);
      state = moments.state(like);
      moves[at(k)] = moments.centroid(k);
      const std::vector<double> mean = moments.centroid(like);
      for (std::size_t j = 0; j < mean.size(); ++j) moves[at(k)][j] -= mean[j];
    }
    parts.push_back({state, 1.0, moves[at(k)].empty() ? nullptr : moves[at(k)].data()});
  }
  AnalyticClassifier out(moments.exec(), moments.n_inputs(), config, moments.map());
  out.add_moved(moments.classes(), parts);
  return out;
}

AnalyticClassifier align(const ClassMoments& moments, const std::vector<double>& weight, const RidgeConfig& config) {
  require_weights(weight, moments.classes());
  std::vector<MovedRows> parts;
  for (std::int64_t k = 0; k < moments.classes().size(); ++k) {
    GRAMIAN_REQUIRE(!moments.past(k), invalid_argument,
                    "of class '" + moments.classes().text(k) + "' only the centroid is left");
    if (moments.rank() < 0) parts.push_back({moments.state(k), weight[at(k)] / moments.weight(k), nullptr});
  }
  AnalyticClassifier out(moments.exec(), moments.n_inputs(), config, moments.map());
  if (moments.rank() < 0) {
    out.add_moved(moments.classes(), parts);
    return out;
  }
  LabelMap labels;
  labels.insert(moments.classes());
  for (std::int64_t k = 0; k < moments.classes().size(); ++k) {
    moments.exec().poll();
    LabelMap one = labels;
    one.keep({k});
    const GramState sums = moments.scatter(k)->moments(moments.options());  // of one class at a time
    out.add_moved(one.labels(), {{&sums, weight[at(k)] / moments.weight(k), nullptr}});
  }
  return out;
}

double align_error(const ClassMoments& moments, const std::vector<double>& weight) {
  require_weights(weight, moments.classes());
  double sum = 0;
  for (std::int64_t k = 0; k < moments.classes().size(); ++k)
    if (moments.scatter(k) != nullptr) sum += weight[at(k)] / moments.weight(k) * moments.scatter(k)->error_bound();
  return sum;
}

AnalyticClassifier align(const AnalyticClassifier& model, const std::vector<double>& weight,
                         const RidgeConfig& config) {
  require_weights(weight, model.classes());
  const GramState& state = model.head().state();
  const GramState pooled = state.pooled_covariance();
  std::vector<double> offsets(at(state.n_outputs() * state.n_features())), rows;
  state.class_moments(rows, {offsets.data(), state.n_outputs(), state.n_features()});
  std::vector<MovedRows> parts;
  for (std::int64_t k = 0; k < state.n_outputs(); ++k)
    parts.push_back({&pooled, weight[at(k)], offsets.data() + k * state.n_features()});
  AnalyticClassifier out(model.head().exec(), model.head().n_inputs(), config, model.head().map());
  out.add_moved(model.classes(), parts);
  return out;
}

AnalyticClassifier top_up(const ClassMoments& moments, const RidgeConfig& config) {
  const std::int64_t classes = moments.classes().size();
  GRAMIAN_REQUIRE(classes > 0, not_fitted, "the model has not seen any rows yet");
  double largest = 0;
  for (std::int64_t k = 0; k < classes; ++k) {
    GRAMIAN_REQUIRE(moments.state(k) != nullptr, invalid_argument,
                    "of class '" + moments.classes().text(k) + "' only the centroid is left");
    largest = std::max(largest, moments.weight(k));
  }
  AnalyticClassifier out(moments.exec(), moments.n_inputs(), config, moments.map());
  std::vector<MovedRows> parts;
  for (std::int64_t k = 0; k < classes; ++k) parts.push_back({moments.state(k), 1.0, nullptr});
  out.add_moved(moments.classes(), parts);
  LabelMap labels;
  labels.insert(moments.classes());
  for (std::int64_t k = 0; k < classes; ++k) {
    const double missing = largest - moments.weight(k);
    if (missing <= 0) continue;
    LabelMap one = labels;
    one.keep({k});
    const GramState gaussian =
        moments.keeps_inputs() ? independent_inputs(moments, k) : independent_features(*moments.state(k));
    out.add_moved(one.labels(), {{&gaussian, missing, nullptr}});
  }
  return out;
}

}  // namespace gramian
