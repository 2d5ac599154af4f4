#include "gramian/analytic/truncated.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>

#include "core/row_count.h"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "io/file_error.h"

namespace gramian {

namespace {

constexpr char kModel[] = "truncated_classifier";
constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kPredictedRows = 1024;
// Squares of features of ordinary size keep all their digits; those of tiny ones underflow. So tiny ones are taken
// times a power of two, which costs no digits, in as many steps as they need.
constexpr int kUnitStep = 320, kLargestUnit = 3 * kUnitStep;
constexpr double kTinySquare = 1e-200;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

Array<double> copied(const Exec& exec, MatrixView<const double> x) {
  Array<double> out(exec, x.rows, x.cols);
  axpby<double, double>(exec, 1.0, x, 0.0, out.view());
  return out;
}

// x -= (x V') V for orthonormal rows V.
void project_out(const Exec& exec, MatrixView<const double> v, MatrixView<double> x) {
  if (v.rows == 0 || x.rows == 0) return;
  Array<double> inside(exec, x.rows, v.rows);
  gemm<double>(exec, Trans::no, Trans::yes, 1.0, x, v, 0.0, inside.view());
  gemm<double>(exec, Trans::no, Trans::no, -1.0, inside.view(), v, 1.0, x);
}

// Everything that rows change. Copied before a call and put in place after it, so that a call cannot fail half way.
struct State {
  Array<double> basis;           // k x d, orthonormal rows
  std::vector<double> energies;  // k, rising
  Array<double> cross;           // C x d: sums of the shifted features per class
  std::vector<double> sum;       // d, of the shifted features
  std::vector<double> shift;     // d: mean of the first block, zeros without intercept
  std::vector<std::int64_t> counts;
  std::int64_t n_rows = 0;
  double dropped = 0;
  int unit = 0;  // energies, cross, sum and dropped are those of the features times 2^unit; the shift is not
  LabelMap labels;

  State copy(const Exec& exec) const {
    return {copied(exec, basis.view()),
            energies,
            copied(exec, cross.view()),
            sum,
            shift,
            counts,
            n_rows,
            dropped,
            unit,
            labels};
  }
};

// The same state for features times 2^unit.
void change_unit(const Exec& exec, int unit, State& state) {
  const double factor = std::ldexp(1.0, unit - state.unit);
  scale_rows<double>(exec, std::vector<double>(at(state.cross.rows()), factor), state.cross.view());
  for (double& value : state.sum) value *= factor;
  for (double& value : state.energies) value = value * factor * factor;
  state.dropped = state.dropped * factor * factor;
  state.unit = unit;
  // Beside the features that asked for it, some directions may be nothing.
  const auto lost = std::upper_bound(state.energies.begin(), state.energies.end(), 0.0) - state.energies.begin();
  if (lost == 0) return;
  state.energies.erase(state.energies.begin(), state.energies.begin() + lost);
  state.basis = copied(exec, state.basis.view().block(lost, 0, state.basis.rows() - lost, state.basis.cols()));
}

// An orthonormal basis of the rows that V leaves of x, at most `most` of them, strongest first; `lost` gains the energy
// of what is rounding.
Array<double> new_directions(const Exec& exec, MatrixView<const double> v, MatrixView<const double> x,
                             std::int64_t most, double& lost) {
  const Array<double> rest = copied(exec, x);
  for (int pass = 0; pass < 2; ++pass) project_out(exec, v, rest.view());
  SymmetricMatrix<double> k(exec, x.rows);
  outer_gram_update(exec, 1.0, rest.view(), k);
  std::vector<double> values;
  Array<double> vectors;
  symmetric_eigen(exec, k, values, vectors);
  // Below the first bound an eigenvalue is rounding of the eigenproblem, below the second of the projection.
  const double noise = 64 * kEps;
  const double floor = std::max(static_cast<double>(x.rows) * kEps * std::max(0.0, values.back()),
                                noise * noise * static_cast<double>(x.cols) * sum_of_squares<double>(exec, x));
  std::int64_t kept = 0;
  while (kept < std::min(x.rows, most) && values[at(x.rows - 1 - kept)] > floor) ++kept;
  const std::int64_t first = x.rows - kept;
  for (std::int64_t i = 0; i < first; ++i) lost += std::max(0.0, values[at(i)]);
  Array<double> out(exec, kept, x.cols);
  if (kept == 0) return out;
  gemm<double>(exec, Trans::no, Trans::no, 1.0, vectors.view().block(first, 0, kept, x.rows), rest.view(), 0.0,
               out.view());
  std::vector<double> inverse;
  for (std::int64_t i = first; i < x.rows; ++i) inverse.push_back(1.0 / std::sqrt(values[at(i)]));
  scale_rows<double>(exec, inverse, out.view());
  // A weak direction has lost digits on the way; Gram-Schmidt once more brings them back.
  project_out(exec, v, out.view());
  SymmetricMatrix<double> g(exec, kept);
  outer_gram_update(exec, 1.0, out.view(), g);
  GRAMIAN_REQUIRE(cholesky(exec, g) == 0, not_positive_definite, "the new directions of a block are dependent");
  cholesky_solve_half<double>(exec, Trans::no, g, out.view());
  return out;
}

// The second moment plus x'x, cut to the directions that config keeps.
void absorb(const Exec& exec, const TruncatedConfig& config, MatrixView<const double> x, State& state) {
  const std::int64_t k = state.basis.rows(), d = x.cols;
  const Array<double> fresh = new_directions(exec, state.basis.view(), x, d - k, state.dropped);
  const std::int64_t m = k + fresh.rows();
  if (m == 0) return;
  Array<double> both(exec, m, d), inside(exec, x.rows, m);
  axpby<double, double>(exec, 1.0, state.basis.view(), 0.0, both.view().block(0, 0, k, d));
  axpby<double, double>(exec, 1.0, fresh.view(), 0.0, both.view().block(k, 0, m - k, d));
  gemm<double>(exec, Trans::no, Trans::yes, 1.0, x, both.view(), 0.0, inside.view());
  SymmetricMatrix<double> core(exec, m);
  std::vector<double> packed(at(m * (m + 1) / 2), 0.0);
  for (std::int64_t i = 0; i < k; ++i) packed[at(i * (i + 1) / 2 + i)] = state.energies[at(i)];
  core.unpack(exec, packed.data());
  gram_update<double>(exec, 1.0, inside.view(), core);
  exec.poll();
  std::vector<double> values;
  Array<double> vectors;
  symmetric_eigen(exec, core, values, vectors);
  const double least = std::ldexp(config.tau, state.unit);
  std::int64_t kept = 0;
  while (kept < std::min(m, config.rank) && values[at(m - 1 - kept)] > least * least) ++kept;
  const std::int64_t first = m - kept;
  for (std::int64_t i = 0; i < first; ++i) state.dropped += std::max(0.0, values[at(i)]);
  Array<double> basis(exec, kept, d);
  gemm<double>(exec, Trans::no, Trans::no, 1.0, vectors.view().block(first, 0, kept, m), both.view(), 0.0,
               basis.view());
  state.basis = std::move(basis);
  state.energies.assign(values.begin() + first, values.end());
}

}  // namespace

struct TruncatedRidgeClassifier::Impl {
  Impl(const Exec& exec_, std::int64_t inputs, TruncatedConfig config_, FeatureMapPtr map_)
      : exec(exec_), n_inputs(inputs), config(config_), map(std::move(map_)), d(map ? map->n_features() : inputs) {
    GRAMIAN_REQUIRE(n_inputs >= 1, invalid_argument, "X must have at least one feature");
    GRAMIAN_REQUIRE(map == nullptr || map->n_inputs() == n_inputs, shape_mismatch,
                    "X has " + std::to_string(n_inputs) + " features, but the feature map expects " +
                        std::to_string(map ? map->n_inputs() : 0));
    GRAMIAN_REQUIRE(config.rank >= 1, invalid_argument, "rank must be at least 1, got " + std::to_string(config.rank));
    GRAMIAN_REQUIRE(std::isfinite(config.tau) && config.tau >= 0, invalid_argument,
                    "tau must be finite and not negative, got " + std::to_string(config.tau));
    GRAMIAN_REQUIRE(std::isfinite(config.ridge) && config.ridge >= 0, invalid_argument,
                    "ridge must be finite and not negative, got " + std::to_string(config.ridge));
    state.basis = Array<double>(exec, 0, d);
    state.cross = Array<double>(exec, 0, d);
    state.sum.assign(at(d), 0.0);
    state.shift.assign(at(d), 0.0);
  }

  // Rows of a block: half the directions, where an update costs least per row.
  std::int64_t block_rows() const { return std::clamp<std::int64_t>(std::min(config.rank, d) / 2, 64, 512); }

  void features(const RowsView& x, const std::vector<double>& shift, MatrixView<double> out) const {
    if (!map) {
      load_rows<double>(exec, x, shift.data(), nullptr, out, "X");
      return;
    }
    map->transform(exec, x, out);
    add_to_rows(shift, -1.0, out);
  }

  // x[r, :] += sign v
  void add_to_rows(const std::vector<double>& v, double sign, MatrixView<double> x) const {
    std::vector<double> signed_v(v);
    for (double& value : signed_v) value *= sign;
    Array<double> device(exec, d);
    upload<double>(exec, {signed_v.data(), 1, d}, device.view());
    activate<double>(exec, Activation::identity, device.data(), 1.0, x);
  }

  void add_block(const RowsView& x, const std::int64_t* codes, State& next) const {
    const std::int64_t rows = x.rows;
    require_countable(next.n_rows, rows);
    const bool extra = config.intercept && next.n_rows > 0;
    Array<double> work(exec, rows + (extra ? 1 : 0), d);
    const MatrixView<double> block = work.view().block(0, 0, rows, d);
    if (config.intercept && next.n_rows == 0) {
      features(x, next.shift, block);
      next.shift = column_sums<double>(exec, block, {});
      for (double& value : next.shift) value /= static_cast<double>(rows);
    }
    double squares = 0;
    const auto load_in = [&](int unit) {
      if (unit != next.unit) change_unit(exec, unit, next);
      features(x, next.shift, block);
      if (unit != 0) scale_rows<double>(exec, std::vector<double>(at(rows), std::ldexp(1.0, unit)), block);
      squares = sum_of_squares<double>(exec, block);
    };
    const auto is_tiny = [&] { return squares < kTinySquare * static_cast<double>(rows * d); };
    const int before = next.unit;
    load_in(before);
    // As long as all features were constant, the unit is free.
    while (next.basis.rows() == 0 && is_tiny() && next.unit < kLargestUnit) load_in(next.unit + kUnitStep);
    if (squares == 0 && next.unit != before) load_in(before);
    while (!std::isfinite(squares) && next.unit > 0) load_in(next.unit - kUnitStep);
    GRAMIAN_REQUIRE(std::isfinite(squares), non_finite, "the squares of the features overflow");
    class_sums<double>(exec, block, codes, {}, next.cross.view());
    const std::vector<double> sum = column_sums<double>(exec, block, {});
    const auto n = static_cast<double>(next.n_rows), m = static_cast<double>(rows);
    if (config.intercept) {
      // The scatter around the mean of both is the scatters around each mean and one row between the means.
      std::vector<double> mean(sum), between(sum);
      for (std::size_t j = 0; j < mean.size(); ++j) {
        mean[j] /= m;
        if (extra) between[j] = std::sqrt(n * m / (n + m)) * (mean[j] - next.sum[j] / n);
      }
      add_to_rows(mean, -1.0, block);
      if (extra) upload<double>(exec, {between.data(), 1, d}, work.view().block(rows, 0, 1, d));
    }
    for (std::size_t j = 0; j < sum.size(); ++j) next.sum[j] += sum[j];
    for (std::int64_t r = 0; r < rows; ++r) ++next.counts[at(codes[r])];
    next.n_rows += rows;
    absorb(exec, config, work.view(), next);
  }

  // The weights of the present state.
  struct Solved {
    std::vector<double> coef, intercept;
  };

  std::unique_ptr<Solved> solve() const {
    GRAMIAN_REQUIRE(state.n_rows > 0, not_fitted, "the model has not seen any rows yet");
    const auto c = static_cast<std::int64_t>(state.counts.size());
    const std::int64_t k = state.basis.rows();
    const auto n = static_cast<double>(state.n_rows);
    std::vector<double> cross(at(c * d)), inverse(at(k), 0.0), weights(at(c * d), 0.0), constants(at(c), 0.0);
    download<double>(exec, state.cross.view(), {cross.data(), c, d});
    for (std::int64_t o = 0; config.intercept && o < c; ++o)
      for (std::int64_t j = 0; j < d; ++j)
        cross[at(o * d + j)] -= static_cast<double>(state.counts[at(o)]) / n * state.sum[at(j)];
    const double ridge = std::ldexp(config.ridge, 2 * state.unit), unit = std::ldexp(1.0, state.unit);
    const double floor = k == 0 ? 0.0 : static_cast<double>(d) * kEps * state.energies.back();
    for (std::int64_t i = 0; i < k; ++i)
      if (state.energies[at(i)] > floor) inverse[at(i)] = 1.0 / (state.energies[at(i)] + ridge);
    if (k > 0) {
      Array<double> b(exec, c, d), inside(exec, c, k), factors(exec, k), w(exec, c, d);
      upload<double>(exec, {cross.data(), c, d}, b.view());
      upload<double>(exec, {inverse.data(), 1, k}, factors.view());
      gemm<double>(exec, Trans::no, Trans::yes, 1.0, b.view(), state.basis.view(), 0.0, inside.view());
      scale_columns<double>(exec, factors.data(), inside.view());
      gemm<double>(exec, Trans::no, Trans::no, 1.0, inside.view(), state.basis.view(), 0.0, w.view());
      download<double>(exec, w.view(), {weights.data(), c, d});
      for (double& value : weights) value *= unit;
    }
    for (std::int64_t o = 0; config.intercept && o < c; ++o) {
      constants[at(o)] = static_cast<double>(state.counts[at(o)]) / n;
      for (std::int64_t j = 0; j < d; ++j)
        constants[at(o)] -= weights[at(o * d + j)] * (state.shift[at(j)] + state.sum[at(j)] / n / unit);
    }
    const auto finite = [](double value) { return std::isfinite(value); };
    GRAMIAN_REQUIRE(
        std::all_of(weights.begin(), weights.end(), finite) && std::all_of(constants.begin(), constants.end(), finite),
        not_positive_definite,
        "the features are so small that their weights overflow (rank " + std::to_string(k) + " of " +
            std::to_string(d) + "); multiply X by a large number");
    auto out = std::make_unique<Solved>();
    out->coef = std::move(weights);
    out->intercept = std::move(constants);
    return out;
  }

  const Solved& solved_now() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (solved) return *solved;
    }
    // Not under the lock: the cancel hook of a solve may wait for a lock of the caller's that another reader holds.
    std::unique_ptr<Solved> mine = solve();
    const std::lock_guard<std::mutex> lock(mutex);
    if (!solved) solved = std::move(mine);
    return *solved;
  }

  Json extra_of(const Json& extra, ModelWriter& writer) const {
    Json json = Json::object();
    json["n_inputs"] = n_inputs;
    json["rank"] = config.rank;
    json["tau"] = config.tau;
    json["ridge"] = config.ridge;
    json["intercept"] = config.intercept;
    json["map"] = map ? map->save(writer, "map.") : Json();
    json["labels"] = state.labels.labels().to_json();
    json["n_rows"] = state.n_rows;
    json["dropped"] = state.dropped;
    json["unit"] = state.unit;
    json["extra"] = extra;
    return json;
  }

  ModelWriter writer(const Json& extra) const {
    ModelWriter out(kModel, Json::object());
    const std::int64_t k = state.basis.rows(), c = state.cross.rows();
    const auto tensor = [&](const char* name, const Array<double>& array, std::int64_t rows) {
      std::vector<double> host(at(rows * d));
      download<double>(exec, array.view(), {host.data(), rows, d});
      out.add(name, {rows, d}, std::move(host));
    };
    tensor("basis", state.basis, k);
    tensor("cross", state.cross, c);
    out.add("energies", {k}, state.energies);
    out.add("sum", {d}, state.sum);
    out.add("shift", {d}, state.shift);
    out.add("counts", {c}, state.counts);
    out.set_config(extra_of(extra, out));
    return out;
  }

  Exec exec;
  std::int64_t n_inputs;
  TruncatedConfig config;
  FeatureMapPtr map;
  std::int64_t d;
  State state;
  std::mutex mutex;  // guards `solved` among readers; held for moments only
  std::unique_ptr<Solved> solved;
};

TruncatedRidgeClassifier::TruncatedRidgeClassifier(const Exec& exec, std::int64_t n_inputs, TruncatedConfig config,
                                                   FeatureMapPtr map)
    : impl_(std::make_unique<Impl>(exec, n_inputs, config, std::move(map))) {}
TruncatedRidgeClassifier::TruncatedRidgeClassifier(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TruncatedRidgeClassifier::TruncatedRidgeClassifier(TruncatedRidgeClassifier&&) noexcept = default;
TruncatedRidgeClassifier& TruncatedRidgeClassifier::operator=(TruncatedRidgeClassifier&&) noexcept = default;
TruncatedRidgeClassifier::~TruncatedRidgeClassifier() = default;

void TruncatedRidgeClassifier::partial_fit(const RowsView& x, const ClassTargets& y) {
  Impl& self = *impl_;
  GRAMIAN_REQUIRE(
      x.cols == self.n_inputs, shape_mismatch,
      "X has " + std::to_string(x.cols) + " features, but " + std::to_string(self.n_inputs) + " are expected");
  GRAMIAN_REQUIRE(y.labels != nullptr && (y.codes != nullptr || x.rows == 0), invalid_argument,
                  "class targets need labels and codes");
  if (x.rows == 0) return;
  State next = self.state.copy(self.exec);
  const std::vector<std::int64_t> source = next.labels.insert(*y.labels);
  const std::vector<std::int64_t> places = next.labels.encode(*y.labels);
  const auto classes = static_cast<std::int64_t>(source.size());
  Array<double> cross(self.exec, classes, self.d);
  std::vector<std::int64_t> counts(source.size(), 0), codes(at(x.rows));
  axpby<double, double>(self.exec, 0.0, {}, 0.0, cross.view());
  for (std::int64_t k = 0; k < classes; ++k) {
    if (source[at(k)] < 0) continue;
    axpby<double, double>(self.exec, 1.0, next.cross.view().block(source[at(k)], 0, 1, self.d), 0.0,
                          cross.view().block(k, 0, 1, self.d));
    counts[at(k)] = next.counts[at(source[at(k)])];
  }
  next.cross = std::move(cross);
  next.counts = std::move(counts);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    GRAMIAN_REQUIRE(y.codes[r] >= 0 && y.codes[r] < y.labels->size(), invalid_argument,
                    "row " + std::to_string(r) + " has no label");
    codes[at(r)] = places[at(y.codes[r])];
  }
  const std::int64_t edge = self.block_rows();
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    self.exec.poll();
    self.add_block(x.slice(begin, std::min(edge, x.rows - begin)), codes.data() + begin, next);
  }
  self.exec.poll_now();
  self.state = std::move(next);
  self.solved.reset();
}

const Labels& TruncatedRidgeClassifier::classes() const {
  return impl_->state.labels.labels();
}
const std::vector<std::int64_t>& TruncatedRidgeClassifier::class_counts() const {
  return impl_->state.counts;
}
std::int64_t TruncatedRidgeClassifier::n_rows() const {
  return impl_->state.n_rows;
}
std::int64_t TruncatedRidgeClassifier::n_inputs() const {
  return impl_->n_inputs;
}
std::int64_t TruncatedRidgeClassifier::n_features() const {
  return impl_->d;
}
const TruncatedConfig& TruncatedRidgeClassifier::config() const {
  return impl_->config;
}
const FeatureMapPtr& TruncatedRidgeClassifier::map() const {
  return impl_->map;
}
const Exec& TruncatedRidgeClassifier::exec() const {
  return impl_->exec;
}
std::size_t TruncatedRidgeClassifier::bytes() const {
  const State& state = impl_->state;
  return sizeof(double) * (at(state.basis.size() + state.cross.size()) + state.energies.size() + 2 * state.sum.size());
}
std::int64_t TruncatedRidgeClassifier::rank() const {
  return impl_->state.basis.rows();
}
std::vector<double> TruncatedRidgeClassifier::singular_values() const {
  const State& state = impl_->state;
  std::vector<double> out(state.energies.rbegin(), state.energies.rend());
  for (double& value : out) value = std::ldexp(std::sqrt(value), -state.unit);
  return out;
}
double TruncatedRidgeClassifier::dropped_energy() const {
  return std::ldexp(impl_->state.dropped, -2 * impl_->state.unit);
}

void TruncatedRidgeClassifier::basis(MatrixView<double> out) const {
  const std::int64_t k = rank();
  GRAMIAN_REQUIRE(out.rows == k && out.cols == n_features(), shape_mismatch, "the output has the wrong shape");
  for (std::int64_t i = 0; i < k; ++i)
    download<double>(impl_->exec, impl_->state.basis.view().block(k - 1 - i, 0, 1, out.cols),
                     out.block(i, 0, 1, out.cols));
}

const std::vector<double>& TruncatedRidgeClassifier::coef() const {
  return impl_->solved_now().coef;
}
const std::vector<double>& TruncatedRidgeClassifier::intercept() const {
  return impl_->solved_now().intercept;
}

void TruncatedRidgeClassifier::decision_function(const RowsView& x, MatrixView<double> out) const {
  const Impl& self = *impl_;
  const std::vector<double>& weights = coef();
  const std::vector<double>& constants = intercept();
  const auto c = static_cast<std::int64_t>(self.state.counts.size());
  GRAMIAN_REQUIRE(
      x.cols == self.n_inputs, shape_mismatch,
      "X has " + std::to_string(x.cols) + " features, but " + std::to_string(self.n_inputs) + " are expected");
  GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == c, shape_mismatch, "the output has the wrong shape");
  const std::int64_t edge = std::min(kPredictedRows, std::max<std::int64_t>(1, x.rows));
  const std::vector<double> nothing(at(self.d), 0.0);
  Array<double> w(self.exec, c, self.d), z(self.exec, edge, self.d), scores(self.exec, edge, c);
  upload<double>(self.exec, {weights.data(), c, self.d}, w.view());
  for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
    self.exec.poll();
    const std::int64_t count = std::min(edge, x.rows - begin);
    const MatrixView<double> features = z.view().block(0, 0, count, self.d);
    const MatrixView<double> block = scores.view().block(0, 0, count, c);
    self.features(x.slice(begin, count), nothing, features);
    gemm<double>(self.exec, Trans::no, Trans::yes, 1.0, features, w.view(), 0.0, block);
    download<double>(self.exec, block, out.block(begin, 0, count, c));
  }
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t k = 0; k < c; ++k) out(r, k) += constants[at(k)];
}

std::vector<std::uint8_t> TruncatedRidgeClassifier::save_bytes(const Json& extra) const {
  return impl_->writer(extra).bytes();
}

void TruncatedRidgeClassifier::save(const std::string& path, const Json& extra) const {
  impl_->writer(extra).save(path);
}

namespace {

// A tensor of finite numbers.
std::vector<double> numbers(const ModelReader& reader, const char* name, const std::vector<std::int64_t>& shape) {
  const TensorView tensor = reader.tensor(name, TensorType::f64, shape);
  std::vector<double> out(tensor.f64(), tensor.f64() + tensor.size());
  GRAMIAN_REQUIRE(std::all_of(out.begin(), out.end(), [](double value) { return std::isfinite(value); }), file_format,
                  std::string("tensor \"") + name + "\" holds NaN or infinity");
  return out;
}

}  // namespace

TruncatedRidgeClassifier TruncatedRidgeClassifier::load(const Exec& exec, const ModelReader& reader) {
  return io::reading([&] {
    GRAMIAN_REQUIRE(reader.model() == kModel, file_format,
                    "the file holds a model of kind \"" + reader.model() + "\", not \"" + kModel + "\"");
    const Json& json = reader.config();
    TruncatedConfig config;
    config.rank = json.at("rank").integer();
    config.tau = json.at("tau").number();
    config.ridge = json.at("ridge").number();
    config.intercept = json.at("intercept").boolean();
    FeatureMapPtr map = json.at("map").is_null() ? nullptr : load_feature_map(json.at("map"), reader, "map.");
    const std::int64_t inputs = json.at("n_inputs").integer(), d = map ? map->n_features() : inputs;
    // The tensors are read, and so their sizes checked, before memory for the state is taken.
    const std::vector<double> sum = numbers(reader, "sum", {d}), shift = numbers(reader, "shift", {d});
    const std::vector<double> energies = numbers(reader, "energies", {-1});
    const auto k = static_cast<std::int64_t>(energies.size());
    const Labels labels = Labels::from_json(json.at("labels"));
    const std::int64_t c = labels.size();
    const std::vector<double> basis = numbers(reader, "basis", {k, d}), cross = numbers(reader, "cross", {c, d});
    const std::int64_t* counts = reader.tensor("counts", TensorType::i64, {c}).i64();
    auto impl = std::make_unique<Impl>(exec, inputs, config, std::move(map));
    State& state = impl->state;
    state.labels.insert(labels);
    state.counts.assign(counts, counts + c);
    state.n_rows = json.at("n_rows").integer();
    state.dropped = json.at("dropped").number();
    // A file without a unit has features as they are.
    const std::int64_t unit = json.contains("unit") ? json.at("unit").integer() : 0;
    GRAMIAN_REQUIRE(unit >= 0 && unit <= kLargestUnit, file_format, "the model has an impossible unit");
    state.unit = static_cast<int>(unit);
    std::int64_t counted = 0;
    for (const std::int64_t count : state.counts) {
      GRAMIAN_REQUIRE(count >= 0 && count <= state.n_rows - counted, file_format, "the model has impossible counts");
      counted += count;
    }
    GRAMIAN_REQUIRE(state.n_rows <= kMostRows && state.labels.size() == c && counted == state.n_rows &&
                        k <= std::min(config.rank, d) && std::is_sorted(energies.begin(), energies.end()) &&
                        (k == 0 || energies.front() > 0) && state.dropped >= 0 && std::isfinite(state.dropped),
                    file_format, "the model has an impossible state");
    state.basis = Array<double>(exec, k, d);
    state.cross = Array<double>(exec, c, d);
    upload<double>(exec, {basis.data(), k, d}, state.basis.view());
    upload<double>(exec, {cross.data(), c, d}, state.cross.view());
    state.energies = energies;
    state.sum = sum;
    state.shift = shift;
    return TruncatedRidgeClassifier(std::move(impl));
  });
}

}  // namespace gramian
