#include "gramian/gram/gram_state.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <utility>

#include "gram/gram_sums.h"

namespace gramian {

namespace {

// Share of a feature's sum of squares that may be the distance between shift and mean. All beyond what varies is
// rounded away again, so this much costs a sum at most 1 / (1 - share) times the error it has around the mean. After a
// move the share can only be reached again once that share of the rows is new: there are at most
// log(n) / -log(1 - share) moves, each of 2 d^2 flops and more, whatever the order of the rows.
constexpr double kShiftShare = 0.25;

bool all_zero(const std::vector<double>& v) {
  return std::all_of(v.begin(), v.end(), [](double x) { return x == 0; });
}

// The smallest power of two that is no less, for largest sums: after a row is taken out, what is left of its size in
// them must not tell more. A number above all powers of two stays.
double power_of_two_above(double x) {
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);
  if (!(fraction > 0.5) || exponent >= std::numeric_limits<double>::max_exponent) return x;
  return std::ldexp(1.0, exponent);
}

// q += alpha u v'
void add_outer(const Exec& exec, double alpha, const Array<double>& u, const Array<double>& v, Array<double>& q) {
  if (q.size() == 0) return;
  gemm<double>(exec, Trans::no, Trans::no, alpha, {u.data(), u.size(), 1}, v.view(), 1.0, q.view());
}

// The way from a shift to the nearest one that is made of floats.
std::vector<double> to_float_shift(const std::vector<double>& shift) {
  std::vector<double> by(shift.size());
  for (std::size_t k = 0; k < by.size(); ++k) by[k] = static_cast<double>(static_cast<float>(shift[k])) - shift[k];
  return by;
}

}  // namespace

GramState::Sums::Sums(const Exec& exec_, std::int64_t features, std::int64_t outputs, GramOptions options_)
    : exec(exec_), d(features), c(outputs), options(options_), products_when_empty(options_.products) {
  GRAMIAN_REQUIRE(d >= 1, invalid_argument, "n_features must be at least 1, got " + std::to_string(d));
  GRAMIAN_REQUIRE(c >= 0, invalid_argument, "n_outputs must be at least 0, got " + std::to_string(c));
  GRAMIAN_REQUIRE(options.products == DType::f32 || options.products == DType::f64, wrong_dtype,
                  "dtype must be float32 or float64");
  g_ = SymmetricMatrix<double>(exec, d);
  q = Array<double>(exec, c, d);
  diagonal_.resize(static_cast<std::size_t>(d));
  reset();
}

void GramState::Sums::reset() {
  s.assign(static_cast<std::size_t>(d), 0.0);
  shift.assign(static_cast<std::size_t>(d), 0.0);
  for (auto* v : {&t, &target_shift, &energy}) v->assign(static_cast<std::size_t>(c), 0.0);
  counts.assign(static_cast<std::size_t>(c), 0);
  n_rows = 0;
  weight_sum = 0;
  weighted_rows = 0;
  shift_known = false;
  kind = TargetKind::none;
  largest_trace_ = largest_energy = 0;
  largest_diagonal_.assign(static_cast<std::size_t>(d), 0.0);
  diagonal_known_ = false;
  longest_sum = operations = 0;
  removed = false;
  float_shift = false;
  options.products = products_when_empty;
  const Exec steady = exec.uninterrupted();
  wipe_waiting();
  g_.set_zero(steady);
  axpby<double, double>(steady, 0.0, {}, 0.0, q.view());
}

void GramState::Sums::read_diagonal() const {
  g_.diagonal(exec, diagonal_.data());
  double trace = 0;
  for (std::size_t k = 0; k < diagonal_.size(); ++k) {
    trace += diagonal_[k];
    largest_diagonal_[k] = power_of_two_above(std::max(largest_diagonal_[k], diagonal_[k]));
  }
  largest_trace_ = power_of_two_above(std::max(largest_trace_, trace));
}

void GramState::Sums::note_trace() {
  settle();
  read_diagonal();
  note_energy();
  diagonal_known_ = true;
  ++operations;
}

void GramState::Sums::count_weighted(std::int64_t rows, double sign) {
  if (weighted_rows < 0) return;
  // More go than are there: some came with another weight than they go with, and the count says nothing any more.
  weighted_rows = rows < 0 ? -1 : std::max<std::int64_t>(-1, weighted_rows + (sign > 0 ? rows : -rows));
}

void GramState::Sums::note_energy() {
  largest_energy = power_of_two_above(std::max(largest_energy, target_size()));
}

double GramState::Sums::target_size() const {
  double total = kind == TargetKind::values ? 0.0 : weight_sum;
  for (std::size_t k = 0; kind == TargetKind::values && k < energy.size(); ++k) total += std::max(0.0, energy[k]);
  return std::min(total, std::numeric_limits<double>::max());
}

bool GramState::Sums::may_wait(std::int64_t rows) const {
  return rows_wait && rows <= kMostWaiting && diagonal_known_ && exec.device() == Device::cpu;
}

void GramState::Sums::make_room(std::int64_t rows) {
  // A line between rows: where d is a power of two they would share a few sets of the first cache.
  if (waiting_.size() == 0) waiting_ = Array<double>(exec, kMostWaiting, d + 8);
  if (waiting_rows_.load() + rows > kMostWaiting) settle();
}

void GramState::Sums::let_wait(MatrixView<const double> rows) {
  const std::int64_t before = waiting_rows_.load();
  for (std::int64_t r = 0; r < rows.rows; ++r) std::copy_n(rows.row(r), d, waiting_.view().row(before + r));
  waiting_rows_.store(before + rows.rows, std::memory_order_release);
  note_energy();
  ++operations;
}

void GramState::Sums::settle() const {
  if (waiting_rows_.load(std::memory_order_acquire) == 0) return;
  const std::lock_guard<std::mutex> lock(settling_);
  const std::int64_t rows = waiting_rows_.load();
  if (rows == 0) return;
  gram_update<double>(exec.uninterrupted(), 1.0, waiting_.view().block(0, 0, rows, d), g_);
  read_diagonal();
  wipe_waiting();
}

void GramState::Sums::wipe_waiting() const {
  std::fill_n(waiting_.data(), waiting_rows_.load() * waiting_.cols(), 0.0);
  waiting_rows_.store(0, std::memory_order_release);
}

void GramState::Sums::require_removable(std::int64_t rows, double weight, const std::vector<std::int64_t>& row_counts,
                                        const std::vector<double>& go) const {
  // Weights that do not belong to the rows would leave rows without weight, and means of nothing.
  constexpr double kSlack = 1e-12;
  const auto require_weight = [](double held, double leaving, const std::string& of) {
    GRAMIAN_REQUIRE(held - leaving > kSlack * held, invalid_argument,
                    "cannot remove a weight of " + std::to_string(leaving) + of +
                        ": rows would stay, but of the weight " + std::to_string(held) +
                        " nothing; is sample_weight the one the rows were added with?");
  };
  GRAMIAN_REQUIRE(rows <= n_rows, invalid_argument,
                  "cannot remove " + std::to_string(rows) + " rows: the state holds " + std::to_string(n_rows));
  for (std::size_t k = 0; k < row_counts.size(); ++k) {
    GRAMIAN_REQUIRE(row_counts[k] <= counts[k], invalid_argument,
                    "cannot remove " + std::to_string(row_counts[k]) + " rows of output " + std::to_string(k) +
                        ": the state holds " + std::to_string(counts[k]));
    if (row_counts[k] > 0 && row_counts[k] < counts[k])
      require_weight(t[k], go[k], " from output " + std::to_string(k));
  }
  if (rows < n_rows) require_weight(weight_sum, weight, "");
}

void GramState::Sums::move_shift(const std::vector<double>& by, const std::vector<double>& targets_by) {
  // x - (shift + by) = (x - shift) - by, and the same for the targets; every sum follows. What needs memory comes
  // before what changes the sums.
  const Exec steady = exec.uninterrupted();
  const bool moves = !all_zero(by), targets_move = !all_zero(targets_by);
  std::vector<double> moved = s;
  for (std::size_t k = 0; k < s.size(); ++k) moved[k] -= weight_sum * by[k];
  const Array<double> s_device = to_device(steady, s), by_device = to_device(steady, by);
  const Array<double> moved_device = to_device(steady, moved), t_device = to_device(steady, t);
  const Array<double> targets_device = to_device(steady, targets_by);
  SymmetricMatrix<double>& g = mutable_g();
  if (moves) {
    g.add_outer(steady, -1.0, s_device.data(), by_device.data());
    g.add_outer(steady, weight_sum, by_device.data(), by_device.data());
    add_outer(steady, -1.0, t_device, by_device, q);
    s.swap(moved);
    for (std::size_t k = 0; k < s.size(); ++k) shift[k] += by[k];
  }
  if (targets_move) {
    add_outer(steady, -1.0, targets_device, moves ? moved_device : s_device, q);
    for (std::size_t k = 0; k < t.size(); ++k) {
      energy[k] += targets_by[k] * (weight_sum * targets_by[k] - 2 * t[k]);
      t[k] -= weight_sum * targets_by[k];
      target_shift[k] += targets_by[k];
    }
  }
}

void GramState::Sums::combine(const Sums& other, double sign) {
  // What needs memory comes first: once the sums begin to change, nothing may fail.
  const Exec steady = exec.uninterrupted();
  SymmetricMatrix<double>& g = mutable_g();
  const SymmetricMatrix<double>& others = other.g();
  const bool adopt = n_rows == 0 && sign > 0;
  // Other's rows seen from this state's shift: x - shift = (x - other.shift) + by.
  std::vector<double> by(s.size(), 0.0), targets_by(t.size(), 0.0), moved = other.s;
  const double n = other.weight_sum;
  for (std::size_t k = 0; !adopt && k < by.size(); ++k) {
    by[k] = other.shift[k] - shift[k];
    moved[k] += n * by[k];
  }
  for (std::size_t k = 0; !adopt && k < targets_by.size(); ++k) targets_by[k] = other.target_shift[k] - target_shift[k];
  const Array<double> s_device = to_device(steady, other.s), by_device = to_device(steady, by);
  const Array<double> moved_device = to_device(steady, moved), t_device = to_device(steady, other.t);
  const Array<double> targets_device = to_device(steady, targets_by);
  std::vector<double> adopted_shift = other.shift, adopted_target_shift = other.target_shift;

  if (adopt) {
    shift.swap(adopted_shift);
    target_shift.swap(adopted_target_shift);
    shift_known = other.shift_known;
  }
  if (kind == TargetKind::none) kind = other.kind;
  g.axpby(steady, sign, others, 1.0);
  axpby<double, double>(steady, sign, other.q.view(), 1.0, q.view());
  if (!all_zero(by)) {
    g.add_outer(steady, sign, s_device.data(), by_device.data());
    g.add_outer(steady, sign * n, by_device.data(), by_device.data());
    add_outer(steady, sign, t_device, by_device, q);
  }
  if (!all_zero(targets_by)) add_outer(steady, sign, targets_device, moved_device, q);
  for (std::size_t k = 0; k < s.size(); ++k) s[k] += sign * moved[k];
  for (std::size_t k = 0; k < t.size(); ++k) {
    t[k] += sign * (other.t[k] + n * targets_by[k]);
    energy[k] += sign * (other.energy[k] + targets_by[k] * (2 * other.t[k] + n * targets_by[k]));
    counts[k] += (sign > 0 ? 1 : -1) * other.counts[k];
  }
  n_rows += (sign > 0 ? 1 : -1) * other.n_rows;
  weight_sum += sign * n;
  count_weighted(other.weighted_rows, sign);
  if (other.options.products == DType::f32) options.products = DType::f32;
  const double times = std::abs(sign);
  largest_trace_ = std::max(largest_trace_, times * other.largest_trace());
  largest_energy = std::max(largest_energy, times * other.largest_energy);
  for (std::size_t k = 0; k < largest_diagonal_.size(); ++k)
    largest_diagonal_[k] = std::max(largest_diagonal_[k], times * other.largest_diagonal()[k]);
  longest_sum = std::max(longest_sum, other.longest_sum);
  operations += other.operations;
  removed = removed || other.removed || sign < 0;
  if (other.float_shift) float_shift = true;
  note_trace();
  if (sign > 0) follow_mean();
  if (float_shift && sign > 0) move_shift(to_float_shift(shift), std::vector<double>(t.size(), 0.0));
}

void GramState::Sums::settle_after_removal() {
  removed = true;
  if (n_rows == 0) {
    reset();
    return;
  }
  const Exec steady = exec.uninterrupted();
  for (std::size_t k = 0; kind == TargetKind::codes && k < counts.size(); ++k) {
    if (counts[k] != 0) continue;
    // A class without rows: what is left of its sums is rounding.
    axpby<double, double>(steady, 0.0, {}, 0.0, q.view().block(static_cast<std::int64_t>(k), 0, 1, d));
    t[k] = energy[k] = 0;
  }
  // The shift may remember rows that are gone; the mean of those that are left does not.
  if (options.intercept) move_to_mean(!all_zero(target_shift));
}

void GramState::Sums::move_to_mean(bool targets) {
  // The difference that really is applied is the one between the rounded shifts.
  std::vector<double> by(s.size()), targets_by(t.size(), 0.0);
  for (std::size_t k = 0; k < by.size(); ++k) {
    const double mean = shift[k] + s[k] / weight_sum;
    by[k] = (float_shift ? static_cast<double>(static_cast<float>(mean)) : mean) - shift[k];
  }
  for (std::size_t k = 0; targets && k < targets_by.size(); ++k)
    targets_by[k] = (target_shift[k] + t[k] / weight_sum) - target_shift[k];
  move_shift(by, targets_by);
  note_trace();
}

void GramState::Sums::follow_mean() {
  if (!options.intercept || n_rows == 0) return;
  // A feature that does not vary has a sum of squares which is all rounding, as is the way to its mean: that way is
  // too short for a move to be one.
  constexpr double kRounding = 8 * std::numeric_limits<double>::epsilon();
  const auto is_far = [&](double sum, double squares, double from) {
    return sum * sum > kShiftShare * weight_sum * squares && std::abs(sum) > kRounding * weight_sum * std::abs(from);
  };
  bool features = false, targets = false;
  const auto look = [&] {
    features = false;
    for (std::size_t k = 0; k < s.size(); ++k) features = features || is_far(s[k], diagonal_[k], shift[k]);
  };
  look();
  if (features && waiting_rows_.load() > 0) {
    // Rows that wait only add to the squares: what is not far without them is not far. What is, is looked at again.
    settle();
    look();
  }
  for (std::size_t k = 0; kind == TargetKind::values && k < t.size(); ++k)
    targets = targets || is_far(t[k], energy[k], target_shift[k]);
  if (!features && !targets) return;
  try {
    move_to_mean(kind == TargetKind::values);
  } catch (const std::bad_alloc&) {  // move_shift takes its memory before it changes a sum
  } catch (const Error&) {
  }
}

double GramState::Sums::centred_energy(std::size_t k) const {
  if (!options.intercept || weight_sum <= 0) return energy[k];
  return std::max(0.0, energy[k] - t[k] * t[k] / weight_sum);
}

std::vector<double> GramState::Sums::centred_cross() const {
  std::vector<double> rows(static_cast<std::size_t>(c * d)), out(rows.size());
  download<double>(exec, q.view(), {rows.data(), c, d});
  for (std::int64_t k = 0; k < c; ++k) {
    const double mean = options.intercept && weight_sum > 0 ? t[static_cast<std::size_t>(k)] / weight_sum : 0.0;
    for (std::int64_t j = 0; j < d; ++j)
      out[static_cast<std::size_t>(j * c + k)] =
          rows[static_cast<std::size_t>(k * d + j)] - mean * s[static_cast<std::size_t>(j)];
  }
  return out;
}

double GramState::Sums::rounding_unit() const {
  return options.products == DType::f32 ? static_cast<double>(std::numeric_limits<float>::epsilon())
                                        : std::numeric_limits<double>::epsilon();
}

GramState::GramState(const Exec& exec, std::int64_t n_features, std::int64_t n_outputs, GramOptions options)
    : sums_(std::make_unique<Sums>(exec, n_features, n_outputs, options)) {}
GramState::GramState(GramState&&) noexcept = default;
GramState& GramState::operator=(GramState&&) noexcept = default;
GramState::~GramState() = default;

GramState GramState::clone() const {
  GramState copy(sums_->exec, sums_->d, sums_->c, sums_->options);
  const Exec steady = sums_->exec.uninterrupted();
  copy.sums_->mutable_g().axpby(steady, 1.0, sums_->g(), 0.0);
  axpby<double, double>(steady, 1.0, sums_->q.view(), 0.0, copy.sums_->q.view());
  copy.sums_->s = sums_->s;
  copy.sums_->shift = sums_->shift;
  copy.sums_->t = sums_->t;
  copy.sums_->target_shift = sums_->target_shift;
  copy.sums_->energy = sums_->energy;
  copy.sums_->counts = sums_->counts;
  copy.sums_->n_rows = sums_->n_rows;
  copy.sums_->weight_sum = sums_->weight_sum;
  copy.sums_->weighted_rows = sums_->weighted_rows;
  copy.sums_->products_when_empty = sums_->products_when_empty;
  copy.sums_->shift_known = sums_->shift_known;
  copy.sums_->kind = sums_->kind;
  copy.sums_->float_shift = sums_->float_shift;
  copy.sums_->mutable_largest_diagonal() = sums_->largest_diagonal();
  copy.sums_->mutable_largest_trace() = sums_->largest_trace();
  copy.sums_->largest_energy = sums_->largest_energy;
  copy.sums_->longest_sum = sums_->longest_sum;
  copy.sums_->operations = sums_->operations;
  copy.sums_->removed = sums_->removed;
  return copy;
}

std::int64_t GramState::n_features() const {
  return sums_->d;
}
std::int64_t GramState::n_outputs() const {
  return sums_->c;
}
std::int64_t GramState::n_rows() const {
  return sums_->n_rows;
}
double GramState::weight_sum() const {
  return sums_->weight_sum;
}
std::int64_t GramState::weighted_rows() const {
  return sums_->weighted_rows;
}
const std::vector<std::int64_t>& GramState::counts() const {
  return sums_->counts;
}
const GramOptions& GramState::options() const {
  return sums_->options;
}
const GramState::Sums& GramState::sums() const {
  return *sums_;
}
const Exec& GramState::exec() const {
  return sums_->exec;
}
double GramState::largest_trace() const {
  return sums_->largest_trace();
}
double GramState::largest_energy() const {
  return sums_->largest_energy;
}
void GramState::let_few_rows_wait(bool may) {
  sums_->rows_wait = may;
}
void GramState::clear() {
  sums_->reset();
}

std::size_t GramState::bytes() const {
  return sums_->g().bytes() +
         static_cast<std::size_t>(sums_->c * sums_->d + 2 * sums_->d + 4 * sums_->c) * sizeof(double);
}

namespace {

void require_same_shape(const GramState& a, const GramState& b) {
  GRAMIAN_REQUIRE(a.n_features() == b.n_features() && a.n_outputs() == b.n_outputs(), shape_mismatch,
                  "the states differ in size: " + std::to_string(a.n_features()) + " features and " +
                      std::to_string(a.n_outputs()) + " outputs against " + std::to_string(b.n_features()) + " and " +
                      std::to_string(b.n_outputs()));
  GRAMIAN_REQUIRE(a.options().intercept == b.options().intercept, invalid_argument,
                  "one state has an intercept and the other has none");
  GRAMIAN_REQUIRE(a.exec().device() == b.exec().device() && a.exec().device_index() == b.exec().device_index(),
                  invalid_argument, "the states are on different devices");
}

void require_same_kind(GramState::Sums::TargetKind a, GramState::Sums::TargetKind b) {
  using Kind = GramState::Sums::TargetKind;
  GRAMIAN_REQUIRE(a == b || a == Kind::none || b == Kind::none, invalid_argument,
                  "one state holds class codes and the other numeric targets");
}

}  // namespace

void GramState::merge(const GramState& other) {
  require_same_shape(*this, other);
  require_same_kind(sums_->kind, other.sums_->kind);
  if (other.n_rows() == 0) return;
  require_countable(n_rows(), other.n_rows());
  if (&other == this) return merge(clone());
  sums_->combine(*other.sums_, 1.0);
}

void GramState::unmerge(const GramState& other) {
  require_same_shape(*this, other);
  require_same_kind(sums_->kind, other.sums_->kind);
  if (other.n_rows() == 0) return;
  const bool codes = other.sums_->kind == Sums::TargetKind::codes;
  sums_->require_removable(other.n_rows(), other.weight_sum(), codes ? other.counts() : std::vector<std::int64_t>(),
                           other.sums_->t);
  if (&other == this) return clear();
  sums_->combine(*other.sums_, -1.0);
  sums_->settle_after_removal();
}

void GramState::scale(double factor) {
  GRAMIAN_REQUIRE(std::isfinite(factor) && factor > 0, invalid_argument, "sums can only be scaled by a number above 0");
  const Exec steady = sums_->exec.uninterrupted();
  SymmetricMatrix<double>& g = sums_->mutable_g();
  g.axpby(steady, factor, g, 0.0);
  axpby<double, double>(steady, factor, sums_->q.view(), 0.0, sums_->q.view());
  for (auto* v : {&sums_->s, &sums_->t, &sums_->energy})
    for (double& value : *v) value *= factor;
  sums_->weight_sum *= factor;
  // A row of another weight may have become one of weight 1, which no count can tell.
  if (factor != 1) sums_->weighted_rows = sums_->weighted_rows == 0 ? sums_->n_rows : -1;
  ++sums_->operations;
}

void GramState::rearrange_outputs(const std::vector<std::int64_t>& source) {
  const std::int64_t c = sums_->c, d = sums_->d;
  std::vector<bool> used(static_cast<std::size_t>(c), false);
  for (const std::int64_t from : source) {
    GRAMIAN_REQUIRE(from >= -1 && from < c, invalid_argument, "rearrange_outputs: no output " + std::to_string(from));
    if (from < 0) continue;
    GRAMIAN_REQUIRE(!used[static_cast<std::size_t>(from)], invalid_argument,
                    "rearrange_outputs: output " + std::to_string(from) + " appears twice");
    used[static_cast<std::size_t>(from)] = true;
  }
  const auto size = static_cast<std::int64_t>(source.size());
  const Exec steady = sums_->exec.uninterrupted();
  Array<double> q(steady, size, d);
  axpby<double, double>(steady, 0.0, {}, 0.0, q.view());
  const auto gathered = [&](const auto& old) {
    std::decay_t<decltype(old)> out(source.size(), 0);
    for (std::size_t k = 0; k < source.size(); ++k)
      if (source[k] >= 0) out[k] = old[static_cast<std::size_t>(source[k])];
    return out;
  };
  auto t = gathered(sums_->t), target_shift = gathered(sums_->target_shift), energy = gathered(sums_->energy);
  auto counts = gathered(sums_->counts);
  for (std::int64_t k = 0; k < size; ++k) {
    const std::int64_t from = source[static_cast<std::size_t>(k)];
    if (from >= 0)
      axpby<double, double>(steady, 1.0, sums_->q.view().block(from, 0, 1, d), 0.0, q.view().block(k, 0, 1, d));
  }
  sums_->q = std::move(q);
  sums_->t = std::move(t);
  sums_->target_shift = std::move(target_shift);
  sums_->energy = std::move(energy);
  sums_->counts = std::move(counts);
  sums_->c = size;
}

void GramState::feature_moments(std::vector<double>& mean, std::vector<double>& variance) const {
  const double n = sums_->weight_sum;
  mean.assign(sums_->s.size(), 0.0);
  variance.assign(sums_->s.size(), 0.0);
  if (n <= 0) return;
  sums_->g().diagonal(sums_->exec, variance.data());
  for (std::size_t k = 0; k < mean.size(); ++k) {
    const double offset = sums_->s[k] / n;
    mean[k] = sums_->shift[k] + offset;
    variance[k] = std::max(0.0, variance[k] / n - offset * offset);
  }
}

void GramState::raw_moments(MatrixView<double> gram, MatrixView<double> cross) const {
  const std::int64_t d = sums_->d, c = sums_->c;
  GRAMIAN_REQUIRE(gram.rows == d && gram.cols == d && cross.rows == c && cross.cols == d, shape_mismatch,
                  "raw_moments: the outputs do not fit");
  std::vector<double> packed(static_cast<std::size_t>(d * (d + 1) / 2));
  sums_->g().pack(sums_->exec, packed.data());
  const auto& s = sums_->s;
  const auto& m = sums_->shift;
  const double n = sums_->weight_sum;
  for (std::int64_t i = 0; i < d; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      const auto a = static_cast<std::size_t>(i), b = static_cast<std::size_t>(j);
      gram(i, j) = gram(j, i) =
          packed[static_cast<std::size_t>(i * (i + 1) / 2 + j)] + s[a] * m[b] + m[a] * s[b] + n * m[a] * m[b];
    }
  }
  download<double>(sums_->exec, sums_->q.view(), cross);
  for (std::int64_t k = 0; k < c; ++k) {
    const auto a = static_cast<std::size_t>(k);
    for (std::int64_t j = 0; j < d; ++j) {
      const auto b = static_cast<std::size_t>(j);
      cross(k, j) += sums_->t[a] * m[b] + sums_->target_shift[a] * (s[b] + n * m[b]);
    }
  }
}

MatrixView<const double> GramState::cross() const {
  return sums_->q.view();
}

Json GramState::save(ModelWriter& writer, const std::string& prefix) const {
  const Sums& sums = *sums_;
  std::vector<double> packed(static_cast<std::size_t>(sums.d * (sums.d + 1) / 2));
  sums.g().pack(sums.exec, packed.data());
  const auto packed_size = static_cast<std::int64_t>(packed.size());
  writer.add(prefix + "gram", {packed_size}, std::move(packed));
  std::vector<double> cross(static_cast<std::size_t>(sums.c * sums.d));
  download<double>(sums.exec, sums.q.view(), {cross.data(), sums.c, sums.d});
  writer.add(prefix + "cross", {sums.c, sums.d}, std::move(cross));
  writer.add(prefix + "feature_sum", {sums.d}, sums.s);
  writer.add(prefix + "feature_shift", {sums.d}, sums.shift);
  writer.add(prefix + "target_sum", {sums.c}, sums.t);
  writer.add(prefix + "target_shift", {sums.c}, sums.target_shift);
  writer.add(prefix + "target_energy", {sums.c}, sums.energy);
  writer.add(prefix + "counts", {sums.c}, sums.counts);
  writer.add(prefix + "largest_diagonal", {sums.d}, sums.largest_diagonal());
  Json json = Json::object();
  json["n_features"] = sums.d;
  json["n_outputs"] = sums.c;
  json["products"] = name_of(sums.options.products);
  json["products_when_empty"] = name_of(sums.products_when_empty);
  json["float_shift"] = sums.float_shift;
  json["intercept"] = sums.options.intercept;
  json["n_rows"] = sums.n_rows;
  json["weight_sum"] = sums.weight_sum;
  if (sums.weighted_rows >= 0) json["weighted_rows"] = sums.weighted_rows;
  json["shift_known"] = sums.shift_known;
  json["targets"] = sums.kind == Sums::TargetKind::codes    ? "codes"
                    : sums.kind == Sums::TargetKind::values ? "values"
                                                            : "none";
  json["largest_trace"] = sums.largest_trace();
  // Written where it is not what a reader takes for granted, so that other files stay what they were.
  if (sums.largest_energy != power_of_two_above(sums.target_size())) json["largest_energy"] = sums.largest_energy;
  json["longest_sum"] = sums.longest_sum;
  json["operations"] = sums.operations;
  json["removed"] = sums.removed;
  return json;
}

namespace {

const double* read_finite(const ModelReader& reader, const std::string& name, const std::vector<std::int64_t>& shape) {
  const TensorView tensor = reader.tensor(name, TensorType::f64, shape);
  const double* values = tensor.f64();
  GRAMIAN_REQUIRE(std::all_of(values, values + tensor.size(), [](double value) { return std::isfinite(value); }),
                  file_format, "tensor '" + name + "' holds NaN or infinity");
  return values;
}

std::vector<double> read_vector(const ModelReader& reader, const std::string& name, std::int64_t size) {
  const double* values = read_finite(reader, name, {size});
  return {values, values + size};
}

}  // namespace

GramState GramState::load(const Exec& exec, const Json& json, const ModelReader& reader, const std::string& prefix) {
  const std::int64_t d = json.at("n_features").integer(), c = json.at("n_outputs").integer();
  // Below 2^31 each, so that no product of two of them overflows.
  GRAMIAN_REQUIRE(d >= 1 && d < (std::int64_t{1} << 31) && c >= 0 && c < (std::int64_t{1} << 31), file_format,
                  "the state has an impossible size");
  GramOptions options;
  const std::string& products = json.at("products").string();
  GRAMIAN_REQUIRE(products == "float32" || products == "float64", file_format, "unknown products '" + products + "'");
  const std::string& empty_products = json.at("products_when_empty").string();
  GRAMIAN_REQUIRE(empty_products == products || empty_products == "float64", file_format,
                  "unknown products '" + empty_products + "'");
  options.products = empty_products == "float32" ? DType::f32 : DType::f64;
  options.intercept = json.at("intercept").boolean();
  // The tensors are looked up, and so their sizes checked, before memory for the state is taken.
  const double* gram = read_finite(reader, prefix + "gram", {d * (d + 1) / 2});
  const double* cross = read_finite(reader, prefix + "cross", {c, d});
  const std::int64_t* counts = reader.tensor(prefix + "counts", TensorType::i64, {c}).i64();
  GramState state(exec, d, c, options);
  Sums& sums = *state.sums_;
  sums.options.products = products == "float32" ? DType::f32 : DType::f64;
  sums.float_shift = json.at("float_shift").boolean();
  sums.mutable_largest_diagonal() = read_vector(reader, prefix + "largest_diagonal", d);
  sums.mutable_g().unpack(exec, gram);
  upload<double>(exec, {cross, c, d}, sums.q.view());
  sums.s = read_vector(reader, prefix + "feature_sum", d);
  sums.shift = read_vector(reader, prefix + "feature_shift", d);
  sums.t = read_vector(reader, prefix + "target_sum", c);
  sums.target_shift = read_vector(reader, prefix + "target_shift", c);
  sums.energy = read_vector(reader, prefix + "target_energy", c);
  sums.counts.assign(counts, counts + c);
  sums.n_rows = json.at("n_rows").integer();
  sums.weight_sum = json.at("weight_sum").number();
  sums.weighted_rows = json.contains("weighted_rows") ? json.at("weighted_rows").integer() : -1;
  sums.shift_known = json.at("shift_known").boolean();
  const std::string& kind = json.at("targets").string();
  GRAMIAN_REQUIRE(kind == "codes" || kind == "values" || kind == "none", file_format, "unknown targets '" + kind + "'");
  sums.kind = kind == "codes"    ? Sums::TargetKind::codes
              : kind == "values" ? Sums::TargetKind::values
                                 : Sums::TargetKind::none;
  sums.mutable_largest_trace() = json.at("largest_trace").number();
  sums.largest_energy =
      json.contains("largest_energy") ? json.at("largest_energy").number() : power_of_two_above(sums.target_size());
  sums.longest_sum = json.at("longest_sum").integer();
  sums.operations = json.at("operations").integer();
  sums.removed = json.at("removed").boolean();
  std::int64_t counted = 0;
  for (const std::int64_t count : sums.counts) {
    GRAMIAN_REQUIRE(count >= 0 && count <= sums.n_rows - counted, file_format, "the state has impossible counts");
    counted += count;
  }
  const bool codes = sums.kind == Sums::TargetKind::codes;
  GRAMIAN_REQUIRE(sums.n_rows >= 0 && sums.n_rows <= kMostRows && (sums.weight_sum > 0) == (sums.n_rows > 0) &&
                      sums.weight_sum >= 0 && std::isfinite(sums.weight_sum) && (codes || counted == 0) &&
                      sums.shift_known == (sums.n_rows > 0) && sums.weighted_rows <= sums.n_rows &&
                      (sums.weighted_rows >= 0 || !json.contains("weighted_rows")),
                  file_format, "the state has impossible counts");
  GRAMIAN_REQUIRE(sums.largest_trace() >= 0 && sums.largest_energy >= 0 && sums.longest_sum >= 0 &&
                      sums.longest_sum <= kMostRows && sums.operations >= 0 && sums.operations <= kMostRows,
                  file_format, "the state has an impossible history");
  if (sums.n_rows == 0) sums.reset();
  return state;
}

}  // namespace gramian
