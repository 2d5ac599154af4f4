// Heads in files: the description that all share, the sums, the weights or all widths, and back.
#include "gram/ridge_head_impl.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "gram/gram_sums.h"
#include "gram/nested_rows.h"
#include "gram/sums_rounding.h"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"
#include "io/file_error.h"

namespace gramian {

namespace {

// How the weights were solved, for files that hold no more than them. JSON has no infinity.
Json described(const SolveReport& report) {
  constexpr double kMost = std::numeric_limits<double>::max();
  const auto finite = [](double value) { return value <= kMost ? value : kMost; };  // NaN is no small number
  Json json = Json::object();
  json["method"] = report.method;
  json["form"] = report.form;
  if (!report.fallback.empty()) json["fallback"] = report.fallback;
  json["size"] = report.size;
  json["rank"] = report.rank;
  json["condition"] = finite(report.condition);
  json["residual"] = finite(report.residual);
  json["refinements"] = std::int64_t{report.refinements};
  json["updates"] = report.updates;
  json["anchors"] = report.anchors;
  if (report.removal_bound > 0) json["removal_bound"] = finite(report.removal_bound);
  return json;
}

SolveReport report_of(const Json& json) {
  const auto require = [](bool possible, const char* name) {
    GRAMIAN_REQUIRE(possible, file_format, std::string("the report of the file has an impossible ") + name);
  };
  const auto whole = [&](const char* name) {
    const std::int64_t value = json.at(name).integer();
    require(value >= 0, name);
    return value;
  };
  const auto real = [&](const char* name) {
    const double value = json.at(name).number();
    require(value >= 0, name);
    return value;
  };
  SolveReport report;
  report.method = json.at("method").string();
  report.form = json.at("form").string();
  if (json.contains("fallback")) report.fallback = json.at("fallback").string();
  report.size = whole("size");
  report.rank = whole("rank");
  report.condition = real("condition");
  report.residual = real("residual");
  const std::int64_t refinements = whole("refinements");
  require(refinements <= std::numeric_limits<int>::max(), "refinements");
  report.refinements = static_cast<int>(refinements);
  report.updates = whole("updates");
  report.anchors = whole("anchors");
  if (json.contains("removal_bound")) report.removal_bound = real("removal_bound");
  return report;
}

// What the file of a nested model says of the sums behind it.
LargestHeld largest_held(const Json& json, const ModelReader& reader, const std::string& prefix, double weight,
                         std::int64_t d) {
  const double* squares = reader.tensor(prefix + "largest_squares", TensorType::f64, {d}).f64();
  LargestHeld held;
  held.unit = json.at("unit").number();
  held.trace = json.at("trace").number();
  held.energy = json.at("energy").number();
  held.weight = weight;
  held.squares.assign(squares, squares + d);
  const auto possible = [](double value) { return value >= 0; };
  GRAMIAN_REQUIRE(possible(held.unit) && possible(held.trace) && possible(held.energy) &&
                      std::all_of(squares, squares + d, possible),
                  file_format, "what the file says of larger sums is impossible");
  return held;
}

std::vector<double> read_scores(const ModelReader& reader, const std::string& name) {
  const TensorView view = reader.tensor(name, TensorType::f64, {-1});
  const std::vector<double> out(view.f64(), view.f64() + view.size());
  for (const double value : out)
    GRAMIAN_REQUIRE(value >= 0, file_format, "the scores of the choice hold a negative number or NaN");
  return out;
}

}  // namespace

// The part that all files share. What is not in use leaves no trace, so older readers read such a file.
Json RidgeHead::describe(ModelWriter& writer, const std::string& prefix) const {
  Json json = Json::object();
  json["n_inputs"] = impl_->n_inputs;
  json["n_outputs"] = impl_->n_outputs;
  json["ridge"] = impl_->config.ridge;
  json["gcv"] = impl_->config.gcv;
  Json ridges = Json::array();
  for (const double ridge : impl_->config.ridges) ridges.push_back(ridge);
  json["ridges"] = std::move(ridges);
  json["standardize"] = impl_->config.standardize;
  if (impl_->config.holdout != HoldoutRule::none) {
    Json holdout = Json::object();
    holdout["rule"] = name_of(impl_->config.holdout);
    holdout["fraction"] = impl_->config.holdout_fraction;
    holdout["seed"] = std::to_string(impl_->config.holdout_seed);  // 64 bits, more than a JSON number keeps
    json["holdout"] = std::move(holdout);
  }
  // Written where they are not what a reader takes for granted, so that other files stay what they were.
  if (impl_->config.low_latency) json["low_latency"] = true;
  if (impl_->config.forgetting != 1) {
    json["forgetting"] = impl_->config.forgetting;
    json["ridge_decay"] = impl_->decay;
  }
  json["products"] = name_of(impl_->config.gram.products);
  json["intercept"] = impl_->config.gram.intercept;
  json["map"] = impl_->map ? impl_->map->save(writer, prefix + "map.") : Json();
  if (impl_->config.balance != Balance::none) json["balance"] = name_of(impl_->config.balance);
  if (impl_->config.loo) json["loo"] = true;
  if (impl_->config.loo_width) json["loo_width"] = true;
  if (impl_->config.width > 0) json["width"] = impl_->config.width;
  if (impl_->choice) {
    const RidgeChoice& choice = *impl_->choice;
    Json& out = json["choice"];
    out = Json::object();
    out["ridge"] = choice.ridge;
    out["width"] = choice.width;
    out["at_edge"] = choice.at_edge;
    // Scores may be infinite, which tensors hold and JSON does not.
    const auto add = [&](const char* name, const std::vector<double>& values) {
      writer.add(prefix + name, {static_cast<std::int64_t>(values.size())}, values);
    };
    add("choice.ridges", choice.ridges);
    add("choice.ridge_scores", choice.ridge_scores);
    add("choice.width_scores", choice.width_scores);
  }
  return json;
}

Json RidgeHead::save(ModelWriter& writer, const std::string& prefix, bool weights_only) const {
  Json json = describe(writer, prefix);
  if (!weights_only) {
    impl_->require_state();
    if (impl_->held) json["holdout"]["held"] = impl_->held->save(writer, prefix + "held.");
    if (impl_->fitted) json["holdout"]["fitted"] = impl_->fitted->save(writer, prefix + "fitted.");
    if (impl_->state) {
      json["state"] = impl_->state->save(writer, prefix);
    } else {
      json["balanced_state"] = impl_->balanced->save(writer, prefix);
    }
    return json;
  }
  const Solution& weights = solution();
  std::vector<double> coef(static_cast<std::size_t>(weights.coef.size()));
  download<double>(impl_->exec, weights.coef.view(), {coef.data(), weights.coef.rows(), weights.coef.cols()});
  writer.add(prefix + "coef", {weights.coef.rows(), weights.coef.cols()}, std::move(coef));
  writer.add(prefix + "intercept", {n_outputs()}, weights.intercept);
  json["ridge_used"] = weights.report.ridge;
  json["noise_variance"] = noise_variance();
  json["report"] = described(weights.report);
  if (width_used() < n_features()) json["width_used"] = width_used();
  return json;
}

Json RidgeHead::save_nested(ModelWriter& writer, const std::string& prefix) const {
  Json json = describe(writer, prefix);
  const GramState& sums = state();
  const RidgeFactor factor(sums, ridge_used(), impl_->config.standardize);
  double energy = 0;
  for (std::size_t k = 0; k < factor.target_mean().size(); ++k) energy += sums.sums().centred_energy(k);
  json["nested"] = Json::object();
  json["nested"]["width"] = width_used();
  json["nested"]["n_features"] = n_features();
  json["ridge_used"] = ridge_used();
  json["energy"] = energy;
  json["weight_sum"] = sums.weight_sum();
  writer.add(prefix + "target_mean", {n_outputs()}, factor.target_mean());
  if (sums.sums().removed) {
    LargestHeld held(sums.sums());
    json["largest_held"] = Json::object();
    json["largest_held"]["unit"] = held.unit;
    json["largest_held"]["trace"] = held.trace;
    json["largest_held"]["energy"] = held.energy;
    writer.add(prefix + "largest_squares", {n_features()}, std::move(held.squares));
  }
  // Last in the file, so that a reader of the first rows needs none of what follows.
  std::vector<double> rows = pack_nested_rows(factor);
  const auto size = static_cast<std::int64_t>(rows.size());
  writer.add(prefix + "nested_rows", {size}, std::move(rows));
  return json;
}

RidgeHead RidgeHead::load(const Exec& exec, const Json& json, const ModelReader& reader, const std::string& prefix,
                          std::int64_t width) {
  if (width != 0) {
    GRAMIAN_REQUIRE(json.contains("nested"), invalid_argument, "only a file of what=\"nested\" is read by a width");
    const std::int64_t d = json.at("nested").at("n_features").integer();
    GRAMIAN_REQUIRE(width >= 1 && width <= d, invalid_argument,
                    "width must lie in 1 .. " + std::to_string(d) + ", got " + std::to_string(width));
  }
  return io::reading([&] { return read(exec, json, reader, prefix, width); });
}

RidgeHead RidgeHead::read(const Exec& exec, const Json& json, const ModelReader& reader, const std::string& prefix,
                          std::int64_t width) {
  RidgeConfig config;
  config.ridge = json.at("ridge").number();
  config.gcv = json.at("gcv").boolean();
  for (const Json& ridge : json.at("ridges").items()) config.ridges.push_back(ridge.number());
  config.loo = json.contains("loo") && json.at("loo").boolean();
  config.loo_width = json.contains("loo_width") && json.at("loo_width").boolean();
  if (json.contains("width")) config.width = json.at("width").integer();
  config.standardize = json.at("standardize").boolean();
  if (json.contains("holdout")) {
    const Json& holdout = json.at("holdout");
    config.holdout = parse_holdout_rule(holdout.at("rule").string());
    config.holdout_fraction = holdout.at("fraction").number();
    const std::string& seed = holdout.at("seed").string();
    const auto parsed = std::from_chars(seed.data(), seed.data() + seed.size(), config.holdout_seed);
    GRAMIAN_REQUIRE(parsed.ec == std::errc() && parsed.ptr == seed.data() + seed.size(), file_format,
                    "the seed of the held-out rows is not a number");
  }
  double decay = 1;
  if (json.contains("low_latency")) config.low_latency = json.at("low_latency").boolean();
  if (json.contains("forgetting")) {
    config.forgetting = json.at("forgetting").number();
    decay = json.at("ridge_decay").number();
    GRAMIAN_REQUIRE(decay > 0 && decay <= 1, file_format, "the ridge of the file has decayed to nothing");
  }
  const std::string& products = json.at("products").string();
  GRAMIAN_REQUIRE(products == "float32" || products == "float64", file_format, "unknown products '" + products + "'");
  config.gram.products = products == "float32" ? DType::f32 : DType::f64;
  config.gram.intercept = json.at("intercept").boolean();
  FeatureMapPtr map;
  if (!json.at("map").is_null()) map = load_feature_map(json.at("map"), reader, prefix + "map.");
  const std::int64_t n_inputs = json.at("n_inputs").integer(), n_outputs = json.at("n_outputs").integer();
  GRAMIAN_REQUIRE(n_outputs >= 0, file_format, "the model has an impossible size");

  if (json.contains("balance")) {
    const std::string& balance = json.at("balance").string();
    GRAMIAN_REQUIRE(balance == name_of(Balance::rows) || balance == name_of(Balance::classes), file_format,
                    "unknown balance '" + balance + "'");
    config.balance = parse_balance(balance);
  }

  std::unique_ptr<RidgeChoice> choice;
  if (json.contains("choice")) {
    choice = std::make_unique<RidgeChoice>();
    choice->ridge = json.at("choice").at("ridge").number();
    choice->width = json.at("choice").at("width").integer();
    choice->at_edge = json.at("choice").at("at_edge").boolean();
    choice->ridges = read_scores(reader, prefix + "choice.ridges");
    choice->ridge_scores = read_scores(reader, prefix + "choice.ridge_scores");
    choice->width_scores = read_scores(reader, prefix + "choice.width_scores");
    const std::int64_t features = map ? map->n_features() : n_inputs;
    GRAMIAN_REQUIRE(std::isfinite(choice->ridge) && choice->ridge >= 0 && choice->width >= 1 &&
                        choice->width <= features && choice->ridges.size() == choice->ridge_scores.size(),
                    file_format, "the choice of ridge and width in the file is impossible");
  }
  const bool sums = json.contains("state") || json.contains("balanced_state");
  GRAMIAN_REQUIRE(choice || sums || !(config.loo || config.loo_width), file_format,
                  "the file lacks the choice of its ridge or width");

  if (json.contains("balanced_state")) {
    BalancedState state = BalancedState::load(exec, json.at("balanced_state"), reader, prefix);
    RidgeHead head(std::make_unique<Impl>(n_inputs, n_outputs, config, std::move(map), exec));
    GRAMIAN_REQUIRE(config.balance != Balance::none && state.n_features() == head.n_features() &&
                        state.n_outputs() == n_outputs && state.options().intercept == config.gram.intercept,
                    file_format, "the state does not fit the model");
    head.impl_->balanced = std::make_unique<BalancedState>(std::move(state));
    head.impl_->choice = std::move(choice);
    return head;
  }
  if (json.contains("nested")) {
    RidgeHead head(std::make_unique<Impl>(n_inputs, n_outputs, config, std::move(map), exec));
    const std::int64_t d = head.n_features();
    if (width == 0) width = json.at("nested").at("width").integer();
    GRAMIAN_REQUIRE(width >= 1 && width <= d && json.at("nested").at("n_features").integer() == d, file_format,
                    "the width of the file is impossible");
    const double* mean = reader.tensor(prefix + "target_mean", TensorType::f64, {n_outputs}).f64();
    const double* rows = reader.tensor_head(prefix + "nested_rows", nested_rows_size(width, n_outputs));
    NestedModel model = unpack_nested_rows(exec, {rows, width, n_outputs}, std::vector<double>(mean, mean + n_outputs));
    const double weight = json.at("weight_sum").number(), energy = json.at("energy").number();
    GRAMIAN_REQUIRE(weight > 0 && energy >= 0, file_format, "the sums of weights and targets are impossible");
    auto solved = std::make_unique<Impl::Solved>();
    solved->noise_variance =
        std::max(0.0, energy - model.explained) / (weight * static_cast<double>(std::max<std::int64_t>(1, n_outputs)));
    solved->noise_known = true;
    const double ridge = json.at("ridge_used").number();
    model.solution.report.ridge = ridge;
    if (json.contains("largest_held")) {
      const LargestHeld held = largest_held(json.at("largest_held"), reader, prefix, weight, d);
      model.solution.report.removal_bound = removal_bound(held, model.scale, width, ridge, 0.0, model.coef);
    }
    solved->solution = head.impl_->padded(std::move(model.solution));
    head.impl_->solved = std::move(solved);
    head.impl_->choice = std::move(choice);
    head.impl_->loaded_width = width;
    return head;
  }
  if (json.contains("state")) {
    GRAMIAN_REQUIRE(config.balance == Balance::none, file_format, "the state does not fit the model");
    GramState state = GramState::load(exec, json.at("state"), reader, prefix);
    RidgeHead head(std::make_unique<Impl>(n_inputs, n_outputs, config, std::move(map), exec));
    GRAMIAN_REQUIRE(state.n_features() == head.n_features() && state.n_outputs() == n_outputs &&
                        state.options().intercept == config.gram.intercept,
                    file_format, "the state does not fit the model");
    head.impl_->state = std::make_unique<GramState>(std::move(state));
    head.impl_->decay = decay;
    head.impl_->choice = std::move(choice);
    if (config.holdout == HoldoutRule::none) return head;
    const auto side = [&](const char* name) {
      auto read =
          std::make_unique<GramState>(GramState::load(exec, json.at("holdout").at(name), reader, prefix + name + "."));
      GRAMIAN_REQUIRE(read->n_features() == head.n_features() && read->n_outputs() == n_outputs &&
                          read->options().intercept == config.gram.intercept,
                      file_format, "the sums of the held-out rows do not fit the model");
      return read;
    };
    head.impl_->held = side("held");
    if (config.holdout == HoldoutRule::ranpac) head.impl_->fitted = side("fitted");
    GRAMIAN_REQUIRE(config.holdout == HoldoutRule::ranpac || head.impl_->held->n_rows() <= head.impl_->state->n_rows(),
                    file_format, "the model holds out more rows than it has");
    return head;
  }
  // Without a state: its memory is never taken.
  RidgeHead head(std::make_unique<Impl>(n_inputs, n_outputs, config, std::move(map), exec));
  const std::int64_t d = head.n_features();
  const double* coef = reader.tensor(prefix + "coef", TensorType::f64, {n_outputs, d}).f64();
  const double* intercept = reader.tensor(prefix + "intercept", TensorType::f64, {n_outputs}).f64();
  const auto finite = [](double value) { return std::isfinite(value); };
  GRAMIAN_REQUIRE(
      std::all_of(coef, coef + n_outputs * d, finite) && std::all_of(intercept, intercept + n_outputs, finite),
      file_format, "the weights hold NaN or infinity");
  auto solved = std::make_unique<Impl::Solved>();
  solved->solution.coef = Array<double>(exec, n_outputs, d);
  upload<double>(exec, {coef, n_outputs, d}, solved->solution.coef.view());
  solved->solution.intercept.assign(intercept, intercept + n_outputs);
  SolveReport& report = solved->solution.report;
  if (json.contains("report")) {
    report = report_of(json.at("report"));
  } else {
    report.method = "loaded";
    if (json.contains("removal_bound")) report.removal_bound = json.at("removal_bound").number();
    GRAMIAN_REQUIRE(report.removal_bound >= 0, file_format, "the bound of the file is impossible");
  }
  report.ridge = json.at("ridge_used").number();
  solved->noise_variance = json.at("noise_variance").number();
  solved->noise_known = true;
  head.impl_->solved = std::move(solved);
  if (json.contains("width_used")) {
    head.impl_->loaded_width = json.at("width_used").integer();
    GRAMIAN_REQUIRE(head.impl_->loaded_width >= 1 && head.impl_->loaded_width <= d, file_format,
                    "the width of the file is impossible");
  }
  head.impl_->choice = std::move(choice);
  return head;
}

}  // namespace gramian
