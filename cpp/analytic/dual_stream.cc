#include "gramian/analytic/dual_stream.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>

#include "analytic/head_model.h"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/ridge_factor.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {
namespace {

using Places = std::vector<std::int64_t>;

constexpr char kModel[] = "dual_stream_classifier";
constexpr char kMainPrefix[] = "main.";
constexpr char kCompensationPrefix[] = "compensation.";

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// Rows of features at a time: about 8 MiB of them, and enough to feed the kernels.
std::int64_t block_rows(std::int64_t d) {
  return std::clamp<std::int64_t>((std::int64_t{1} << 20) / d, 64, 4096);
}

LabelMap map_of(const Labels& labels) {
  LabelMap map;
  map.insert(labels);
  return map;
}

RidgeConfig head_config(double ridge, DType products) {
  RidgeConfig config;
  config.ridge = ridge;
  config.gram.products = products;
  config.gram.intercept = false;
  return config;
}

void zero(const Exec& exec, const Array<double>& a) {
  axpby<double, double>(exec, 0.0, {}, 0.0, a.view());
}

// sum_r w_r a_r' b_r over the rows of x, a the features of one map and b those of the other.
Array<double> cross_products(const Exec& exec, const FeatureMap& a, const FeatureMap& b, const RowsView& x,
                             const double* weight) {
  const std::int64_t edge = std::min(block_rows(std::max(a.n_features(), b.n_features())), x.rows);
  Array<double> out(exec, a.n_features(), b.n_features());
  zero(exec, out);
  Array<double> left(exec, edge, a.n_features()), right(exec, edge, b.n_features());
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    exec.poll();
    const std::int64_t count = std::min(edge, x.rows - begin);
    const MatrixView<double> l = left.view().block(0, 0, count, a.n_features());
    const MatrixView<double> r = right.view().block(0, 0, count, b.n_features());
    a.transform(exec, x.slice(begin, count), l);
    b.transform(exec, x.slice(begin, count), r);
    if (weight != nullptr) scale_rows<double>(exec, {weight + begin, weight + begin + count}, r);
    gemm<double>(exec, Trans::yes, Trans::no, 1.0, l, r, 1.0, out.view());
  }
  return out;
}

}  // namespace

struct DualStreamClassifier::Impl {
  Impl(const Exec& exec_, std::int64_t n_inputs, DualStreamConfig config_, FeatureMapPtr main_map,
       FeatureMapPtr compensation_map)
      : exec(exec_),
        config(config_),
        map(std::move(compensation_map)),
        main(exec_, n_inputs, head_config(config_.ridge, config_.products), std::move(main_map)),
        second(exec_, n_inputs, 0, head_config(config_.compensation_ridge, config_.products), map) {
    GRAMIAN_REQUIRE(map != nullptr && main.head().map() != nullptr, invalid_argument, "both streams need a map");
  }

  std::int64_t d_main() const { return main.head().n_features(); }
  std::int64_t d_second() const { return map->n_features(); }
  std::int64_t classes() const { return main.classes().size(); }

  // Right-hand sides of the second system as if the phase ended now, classes x features.
  Array<double> right_hand_side() const {
    Array<double> out(exec, classes(), d_second());
    axpby<double, double>(exec, 1.0, closed.view(), 0.0, out.view());
    if (phase.size() == 0) return out;
    Places fresh;
    for (std::int64_t k = 0; k < classes(); ++k)
      if (is_new[at(k)]) fresh.push_back(k);
    if (fresh.empty()) return out;
    const auto count = static_cast<std::int64_t>(fresh.size());
    const MatrixView<const double> w = main.head().solution().coef.view(), y = second.state().cross();
    Array<double> w_fresh(exec, count, d_main()), rows(exec, count, d_second());
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t from = fresh[at(k)];
      axpby<double, double>(exec, 1.0, w.block(from, 0, 1, d_main()), 0.0, w_fresh.view().block(k, 0, 1, d_main()));
      // A class that is new has had no rows before this phase, so its sums are those of the phase.
      axpby<double, double>(exec, 1.0, y.block(from, 0, 1, d_second()), 0.0, rows.view().block(k, 0, 1, d_second()));
    }
    gemm<double>(exec, Trans::no, Trans::no, -1.0, w_fresh.view(), phase.view(), 1.0, rows.view());
    for (std::int64_t k = 0; k < count; ++k)
      axpby<double, double>(exec, 1.0, rows.view().block(k, 0, 1, d_second()), 0.0,
                            out.view().block(fresh[at(k)], 0, 1, d_second()));
    return out;
  }

  Array<double> solved() const {
    if (!config.invariant) {
      const Array<double>& coef = second.solution().coef;
      Array<double> copy(exec, coef.rows(), coef.cols());
      axpby<double, double>(exec, 1.0, coef.view(), 0.0, copy.view());
      return copy;
    }
    // Right-hand sides lie in rows here, as the rows of the answer do.
    Array<double> w = right_hand_side();
    const RidgeFactor factor(second.state(), config.compensation_ridge);
    std::vector<double> host(at(w.size())), transposed(host.size());
    download<double>(exec, w.view(), {host.data(), w.rows(), w.cols()});
    for (std::int64_t k = 0; k < w.rows(); ++k)
      for (std::int64_t j = 0; j < w.cols(); ++j) transposed[at(j * w.rows() + k)] = host[at(k * w.cols() + j)];
    Array<double> columns(exec, w.cols(), w.rows());
    upload<double>(exec, {transposed.data(), w.cols(), w.rows()}, columns.view());
    cholesky_solve_half<double>(exec, Trans::no, factor.factor(), columns.view());
    cholesky_solve_half<double>(exec, Trans::yes, factor.factor(), columns.view());
    download<double>(exec, columns.view(), {transposed.data(), w.cols(), w.rows()});
    for (std::int64_t k = 0; k < w.rows(); ++k)
      for (std::int64_t j = 0; j < w.cols(); ++j) host[at(k * w.cols() + j)] = transposed[at(j * w.rows() + k)];
    upload<double>(exec, {host.data(), w.rows(), w.cols()}, w.view());
    return w;
  }

  const Array<double>& weights() const {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (has_weights) return coef;
    }
    GRAMIAN_REQUIRE(classes() > 0, not_fitted, "the model has seen no rows yet");
    // Not under the lock, as RidgeHead has it: of readers that come together each solves, and the first one's stay.
    Array<double> mine = solved();
    const std::lock_guard<std::mutex> lock(mutex);
    if (!has_weights) coef = std::move(mine);
    has_weights = true;
    return coef;
  }

  // Columns of the second stream follow those of the main one, which now has the classes of `now`.
  void follow(const LabelMap& before, const LabelMap& now) {
    const Places source = before.encode(now.labels(), true);
    second.rearrange_outputs(source);
    const auto size = static_cast<std::int64_t>(source.size());
    Array<double> rows(exec, size, d_second());
    zero(exec, rows);
    std::vector<bool> flags(source.size(), true);
    for (std::int64_t k = 0; k < size; ++k) {
      const std::int64_t from = source[at(k)];
      if (from < 0) continue;
      flags[at(k)] = is_new[at(from)];
      if (config.invariant)
        axpby<double, double>(exec, 1.0, closed.view().block(from, 0, 1, d_second()), 0.0,
                              rows.view().block(k, 0, 1, d_second()));
    }
    is_new = std::move(flags);
    closed = std::move(rows);
  }

  void add_invariant(const RowsView& x, const ClassTargets& y, const double* weight) {
    // Everything long comes first; the main stream then takes the rows whole or not at all.
    const LabelMap before = map_of(main.classes()), batch = map_of(*y.labels);
    const Places places = batch.encode(*y.labels);
    Places codes(at(x.rows));
    for (std::int64_t r = 0; r < x.rows; ++r) codes[at(r)] = places[at(y.codes[r])];
    RidgeHead fresh(exec, x.cols, batch.size(), second.config(), map);
    fresh.add(x, Targets::of_codes(codes.data()), weight, false);
    const Array<double> products = cross_products(exec, *main.head().map(), *map, x, weight);
    Array<double> first;
    if (phase.size() == 0) {
      first = Array<double>(exec, d_main(), d_second());
      zero(exec, first);
    }
    main.partial_fit(x, y, weight, true);

    const LabelMap now = map_of(main.classes());
    follow(before, now);
    fresh.rearrange_outputs(batch.encode(now.labels(), true));
    second.merge(fresh);
    if (phase.size() == 0) phase = std::move(first);
    axpby<double, double>(exec.uninterrupted(), 1.0, products.view(), 1.0, phase.view());
  }

  void add_published(const RowsView& x, const ClassTargets& y, const double* weight) {
    AnalyticClassifier next(exec, x.cols, main.head().config(), main.head().map());
    if (classes() > 0) next.merge(main);
    next.partial_fit(x, y, weight, true);
    const LabelMap before = map_of(main.classes()), now = map_of(next.classes());
    const std::int64_t c = now.size();
    if (c == 0) return;
    const Places source = before.encode(now.labels(), true), places = now.encode(*y.labels, true);
    std::vector<double> residual(at(x.rows * c));
    next.decision_function(x, {residual.data(), x.rows, c});
    for (std::int64_t r = 0; r < x.rows; ++r) {
      for (std::int64_t k = 0; k < c; ++k) {
        double& value = residual[at(r * c + k)];
        const bool fresh = source[at(k)] < 0 || is_new[at(source[at(k)])];
        value = fresh ? (places[at(y.codes[r])] == k ? 1.0 : 0.0) - value : 0.0;
      }
    }
    RidgeHead part(exec, x.cols, c, second.config(), map);
    part.add(x, Targets::of_values(RowsView::dense<double>({residual.data(), x.rows, c})), weight, false);

    exec.poll_now();
    follow(before, now);
    second.merge(part);
    main = std::move(next);
  }

  Exec exec;
  DualStreamConfig config;
  FeatureMapPtr map;
  AnalyticClassifier main;
  RidgeHead second;          // published: fed with residuals; invariant: with labels, of which `closed` is made
  std::vector<bool> is_new;  // per class: first seen in this phase
  Array<double> closed;      // classes x d_second: X_c'E of ended phases, transposed (invariant)
  Array<double> phase;       // d_main x d_second: X_m'X_c of this phase (invariant); empty before its first rows
  std::int64_t phases = 0;
  mutable std::mutex mutex;  // guards the two below among readers; held for moments only
  mutable bool has_weights = false;
  mutable Array<double> coef;
};

DualStreamClassifier::DualStreamClassifier(const Exec& exec, std::int64_t n_inputs, DualStreamConfig config,
                                           FeatureMapPtr main, FeatureMapPtr compensation)
    : impl_(std::make_unique<Impl>(exec, n_inputs, config, std::move(main), std::move(compensation))) {
  set_compensation(config.compensation);
}
DualStreamClassifier::DualStreamClassifier(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DualStreamClassifier::DualStreamClassifier(DualStreamClassifier&&) noexcept = default;
DualStreamClassifier& DualStreamClassifier::operator=(DualStreamClassifier&&) noexcept = default;
DualStreamClassifier::~DualStreamClassifier() = default;

void DualStreamClassifier::partial_fit(const RowsView& x, const ClassTargets& y, const double* weight) {
  analytic::require_sums(impl_->main.head());
  analytic::check_width(x, impl_->main.head());
  GRAMIAN_REQUIRE(y.labels != nullptr && (y.codes != nullptr || x.rows == 0), invalid_argument,
                  "class targets need labels and codes");
  if (x.rows == 0) return;
  for (std::int64_t r = 0; r < x.rows; ++r)
    GRAMIAN_REQUIRE(y.codes[r] >= 0 && y.codes[r] < y.labels->size(), invalid_argument,
                    "row " + std::to_string(r) + " has a label code outside its labels");
  if (impl_->config.invariant) {
    impl_->add_invariant(x, y, weight);
  } else {
    impl_->add_published(x, y, weight);
  }
  impl_->has_weights = false;
}

void DualStreamClassifier::end_phase() {
  analytic::require_sums(impl_->main.head());
  GRAMIAN_REQUIRE(impl_->classes() > 0, not_fitted, "the model has seen no rows yet");
  if (impl_->config.invariant) {
    impl_->closed = impl_->right_hand_side();
    impl_->phase = Array<double>();
  }
  std::fill(impl_->is_new.begin(), impl_->is_new.end(), false);
  ++impl_->phases;
}

std::int64_t DualStreamClassifier::n_phases() const {
  return impl_->phases;
}
const DualStreamConfig& DualStreamClassifier::config() const {
  return impl_->config;
}

void DualStreamClassifier::set_compensation(double factor) {
  GRAMIAN_REQUIRE(std::isfinite(factor) && factor >= 0, invalid_argument,
                  "compensation must be finite and not negative, got " + std::to_string(factor));
  impl_->config.compensation = factor;
}

const AnalyticClassifier& DualStreamClassifier::main() const {
  return impl_->main;
}
const RidgeHead& DualStreamClassifier::head() const {
  return impl_->main.head();
}
const FeatureMapPtr& DualStreamClassifier::compensation_map() const {
  return impl_->map;
}

std::size_t DualStreamClassifier::bytes() const {
  const std::int64_t own = impl_->closed.size() + impl_->phase.size();
  return impl_->main.head().bytes() + impl_->second.bytes() + at(own) * sizeof(double);
}

void DualStreamClassifier::solve() const {
  head().solution();
  impl_->weights();
}

void DualStreamClassifier::compensation_weights(MatrixView<double> out) const {
  const Array<double>& w = impl_->weights();
  GRAMIAN_REQUIRE(out.rows == w.rows() && out.cols == w.cols(), shape_mismatch, "the output has the wrong shape");
  download<double>(impl_->exec, w.view(), out);
}

void DualStreamClassifier::decision_function(const RowsView& x, MatrixView<double> out) const {
  impl_->main.decision_function(x, out);
  if (impl_->config.compensation == 0 || x.rows == 0) return;
  const Exec& exec = impl_->exec;
  const Array<double>& w = impl_->weights();
  const std::int64_t d = w.cols(), c = w.rows(), edge = std::min(block_rows(d), x.rows);
  Array<double> features(exec, edge, d), scores(exec, edge, c);
  std::vector<double> host(at(edge * c));
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    exec.poll();
    const std::int64_t count = std::min(edge, x.rows - begin);
    const MatrixView<double> z = features.view().block(0, 0, count, d), s = scores.view().block(0, 0, count, c);
    impl_->map->transform(exec, x.slice(begin, count), z);
    gemm<double>(exec, Trans::no, Trans::yes, impl_->config.compensation, z, w.view(), 0.0, s);
    download<double>(exec, s, {host.data(), count, c});
    for (std::int64_t r = 0; r < count; ++r)
      for (std::int64_t k = 0; k < c; ++k) out(begin + r, k) += host[at(r * c + k)];
  }
}

ModelWriter DualStreamClassifier::writer(bool weights_only, const Json& extra) const {
  const Impl& impl = *impl_;
  ModelWriter writer(kModel, Json::object());
  const auto add = [&](const char* name, const Array<double>& array) {
    std::vector<double> host(at(array.size()));
    download<double>(impl.exec, array.view(), {host.data(), array.rows(), array.cols()});
    writer.add(std::string(kCompensationPrefix) + name, {array.rows(), array.cols()}, std::move(host));
  };
  Json config = impl.main.describe(writer, kMainPrefix, weights_only);
  config["extra"] = extra;
  config["variant"] = impl.config.invariant ? "invariant" : "published";
  config["compensation"] = impl.config.compensation;
  config["compensation_ridge"] = impl.config.compensation_ridge;
  config["compensation_map"] = impl.map->save(writer, std::string(kCompensationPrefix) + "map.");
  config["phases"] = impl.phases;
  if (weights_only) {
    add("coef", impl.weights());
    writer.set_config(std::move(config));
    return writer;
  }
  config["second"] = impl.second.save(writer, kCompensationPrefix, false);
  Json flags = Json::array();
  for (const bool flag : impl.is_new) flags.push_back(Json(flag));
  config["new_classes"] = std::move(flags);
  config["in_phase"] = impl.phase.size() > 0;
  if (impl.config.invariant && impl.closed.size() > 0) add("closed", impl.closed);
  if (impl.phase.size() > 0) add("phase", impl.phase);
  writer.set_config(std::move(config));
  return writer;
}

void DualStreamClassifier::save(const std::string& path, bool weights_only, const Json& extra) const {
  writer(weights_only, extra).save(path);
}

std::vector<std::uint8_t> DualStreamClassifier::save_bytes(bool weights_only, const Json& extra) const {
  return writer(weights_only, extra).bytes();
}

DualStreamClassifier DualStreamClassifier::load(const Exec& exec, const ModelReader& reader) {
  analytic::check_kind(kModel, reader);
  const Json& json = reader.config();
  AnalyticClassifier main = AnalyticClassifier::read(exec, json, reader, kMainPrefix);
  const std::int64_t c = main.classes().size();
  DualStreamConfig config;
  config.ridge = main.head().config().ridge;
  config.products = main.head().config().gram.products;
  config.compensation = json.at("compensation").number();
  config.compensation_ridge = json.at("compensation_ridge").number();
  const std::string& variant = json.at("variant").string();
  GRAMIAN_REQUIRE(variant == "invariant" || variant == "published", file_format, "unknown variant '" + variant + "'");
  config.invariant = variant == "invariant";
  FeatureMapPtr map = load_feature_map(json.at("compensation_map"), reader, std::string(kCompensationPrefix) + "map.");
  GRAMIAN_REQUIRE(map->n_inputs() == main.head().n_inputs() && main.head().map() != nullptr &&
                      !main.head().config().gram.intercept && std::isfinite(config.compensation) &&
                      config.compensation >= 0,
                  file_format, "the two streams of the file do not fit each other");
  auto impl = std::make_unique<Impl>(exec, main.head().n_inputs(), config, main.head().map(), map);
  impl->main = std::move(main);
  impl->phases = json.at("phases").integer();
  const auto tensor = [&](const char* name, std::int64_t rows, std::int64_t cols) {
    const double* values = reader.tensor(std::string(kCompensationPrefix) + name, TensorType::f64, {rows, cols}).f64();
    GRAMIAN_REQUIRE(std::all_of(values, values + rows * cols, [](double value) { return std::isfinite(value); }),
                    file_format, std::string("tensor '") + name + "' holds NaN or infinity");
    Array<double> out(exec, rows, cols);
    upload<double>(exec, {values, rows, cols}, out.view());
    return out;
  };
  if (!json.contains("second")) {
    GRAMIAN_REQUIRE(!impl->main.head().has_state(), file_format, "the second stream of the file is missing");
    impl->coef = tensor("coef", c, map->n_features());
    impl->has_weights = true;
    return DualStreamClassifier(std::move(impl));
  }
  RidgeHead second = RidgeHead::load(exec, json.at("second"), reader, kCompensationPrefix);
  GRAMIAN_REQUIRE(second.has_state() && impl->main.head().has_state() && second.n_outputs() == c &&
                      second.n_inputs() == map->n_inputs() && second.n_features() == map->n_features() &&
                      second.n_rows() == impl->main.head().n_rows() && !second.config().gram.intercept,
                  file_format, "the two streams of the file do not fit each other");
  impl->second = std::move(second);
  for (const Json& flag : json.at("new_classes").items()) impl->is_new.push_back(flag.boolean());
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(impl->is_new.size()) == c, file_format,
                  "the file marks the new ones of another number of classes");
  if (config.invariant && c > 0) impl->closed = tensor("closed", c, map->n_features());
  if (config.invariant && json.at("in_phase").boolean())
    impl->phase = tensor("phase", impl->d_main(), impl->d_second());
  return DualStreamClassifier(std::move(impl));
}

}  // namespace gramian
