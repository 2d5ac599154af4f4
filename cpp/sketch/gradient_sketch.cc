#include "gramian/sketch/gradient_sketch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/core/round_seed.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/sketching.hpp"
#include "sketch/family.h"

namespace gramian {

namespace {

constexpr std::uint32_t kNoiseTag = 7;
// Values of gradients that are copied at a time where they have to be changed.
constexpr std::int64_t kCopied = std::int64_t{1} << 22;

bool is_transform(SketchKind kind) {
  return kind == SketchKind::srht || kind == SketchKind::hdhd;
}

void require_kind(SketchKind kind) {
  const bool known = is_transform(kind) || kind == SketchKind::gaussian || kind == SketchKind::rademacher ||
                     kind == SketchKind::count_sketch || kind == SketchKind::sparse_sign || kind == SketchKind::dct;
  GRAMIAN_REQUIRE(known, invalid_argument,
                  std::string("kind='") + name_of(kind) + "' is no sketch of gradients: take 'srht', 'hdhd', 'dct', " +
                      "'gaussian', 'rademacher', 'sparse_sign' or 'count_sketch'");
}

// x += deviation N(0, 1), row r of x being row `first + r` of the batch.
template <class T>
void add_noise(const Exec& exec, const GradientGuard& guard, std::int64_t first, MatrixView<T> x) {
  const Array<T> noise(exec, 1, x.cols);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const RngStream stream(round_seed(guard.noise_seed, static_cast<std::uint64_t>(first + r)), RngFamily::noise,
                           kNoiseTag);
    fill_random<T>(exec, Distribution::gaussian, stream, guard.deviation, noise.view());
    axpby<T, T>(exec, 1.0, noise.view(), 1.0, x.block(r, 0, 1, x.cols));
  }
}

// The length of a row from the sum of its squares, or from that of a copy where they left the range of doubles, as
// those of floats do not.
template <class T>
double length_of(const Exec& exec, double square, MatrixView<const T> row) {
  if (sizeof(T) < sizeof(double) || (square > 1e-280 && square < 1e280)) return std::sqrt(square);
  const double factor = square > 1 ? 0x1p-600 : 0x1p600;
  const Array<T> scaled(exec, 1, row.cols);
  axpby<T, T>(exec, factor, row, 0.0, scaled.view());
  row_sumsq<T>(exec, scaled.view(), &square);
  return std::sqrt(square) / factor;
}

// Rows longer than `clip` are shortened to it: in two steps, a power of two and a factor near `clip`, because one
// factor for a very long row could be a number with few digits.
template <class T>
void clip_rows(const Exec& exec, double clip, std::int64_t first, MatrixView<T> x) {
  std::vector<double> squares(static_cast<std::size_t>(x.rows));
  row_sumsq<T>(exec, x, squares.data());
  std::vector<double> powers(squares.size(), 1.0), factors(squares.size(), 1.0);
  bool any = false;
  for (std::size_t r = 0; r < squares.size(); ++r) {
    const std::int64_t row = static_cast<std::int64_t>(r);
    const double length = length_of<T>(exec, squares[r], x.block(row, 0, 1, x.cols));
    GRAMIAN_REQUIRE(std::isfinite(length), non_finite,
                    "the length of gradient " + std::to_string(first + row) + " overflows");
    if (!(length > clip)) continue;
    any = true;
    const int power =
        std::clamp(std::ilogb(length), std::numeric_limits<T>::min_exponent, std::numeric_limits<T>::max_exponent - 2);
    powers[r] = std::ldexp(1.0, -power);
    // A hair below the bound, so that rounding cannot leave a row above it.
    constexpr double kHair = 4.0 * static_cast<double>(std::numeric_limits<T>::epsilon());
    factors[r] = clip * (1.0 - kHair) / (length * powers[r]);
  }
  if (!any) return;
  scale_rows<T>(exec, powers, x);
  scale_rows<T>(exec, factors, x);
}

// Noise below this is no longer normal: its numbers are few.
template <class T>
void require_noise(const GradientGuard& guard) {
  constexpr double kLeast = static_cast<double>(std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon());
  GRAMIAN_REQUIRE(guard.noise == GradientGuard::Noise::none || guard.deviation >= kLeast, invalid_argument,
                  "noise of deviation " + std::to_string(guard.deviation) + " is too small for the type of the sketch");
}

// E of the square of an entry of S'S off the diagonal, for N columns of +-1 / sqrt(s) of which s rows are drawn
// without replacement: products of two columns are balanced, so it is the variance of a mean without replacement.
double off_diagonal(double n, double s) {
  return n > 1 ? (n - s) / (s * (n - 1)) : 0;
}

// Nonzeros meet in a block of rows with probability 1 / its length.
double off_diagonal_of_blocks(std::int64_t s, std::int64_t nnz) {
  double sum = 0;
  for (std::int64_t b = 0; b < nnz; ++b) sum += 1.0 / static_cast<double>((b + 1) * s / nnz - b * s / nnz);
  return sum / (static_cast<double>(nnz) * static_cast<double>(nnz));
}

}  // namespace

struct GradientSketch::Rounds {
  std::mutex mutex;
  std::uint64_t round = 0;
  std::shared_ptr<const SketchOp> op;  // of that round; null before the first
};

GradientSketch::GradientSketch(SketchKind kind, std::int64_t n_params, std::int64_t n_sketch, std::uint64_t seed,
                               std::int64_t nnz)
    : rounds_(std::make_shared<Rounds>()) {
  require_kind(kind);
  GRAMIAN_REQUIRE(n_params >= 1 && n_sketch >= 1, invalid_argument, "n_params and n_sketch must be at least 1");
  dist_.kind = kind;
  dist_.n_in = n_params;
  dist_.n_out = n_sketch;
  dist_.seed = seed;
  dist_.nnz = nnz;
  SketchOp{dist_};  // refuses what no round could draw
}

std::int64_t GradientSketch::n_params() const {
  return dist_.n_in;
}
std::int64_t GradientSketch::n_sketch() const {
  return dist_.n_out;
}

SketchOp GradientSketch::at(std::uint64_t round) const {
  const std::lock_guard lock(rounds_->mutex);
  if (rounds_->op == nullptr || rounds_->round != round) {
    SketchDist dist = dist_;
    dist.seed = round_seed(dist_.seed, round);
    rounds_->op = std::make_shared<const SketchOp>(std::move(dist));
    rounds_->round = round;
  }
  return *rounds_->op;
}

double GradientSketch::second_moment() const {
  const auto d = static_cast<double>(dist_.n_in), s = static_cast<double>(dist_.n_out);
  const auto n = static_cast<double>(sketch::next_power_of_two(dist_.n_in));
  switch (dist_.kind) {
    case SketchKind::gaussian:
      return 1 + (d + 1) / s;
    case SketchKind::dct:  // R = sqrt(d / s) times orthonormal rows, so |R'R g|^2 = d / s |R g|^2
      return d / s;
    case SketchKind::srht:
      return 1 + (d - 1) * off_diagonal(n, s);
    case SketchKind::hdhd:
      // The inner round's entries off the diagonal, met by the outer signs and transform: N - 1 pairs feed each entry,
      // one pair fewer off the diagonal and twice as many on it.
      return 1 + off_diagonal(n, s) * (2 * (1 - 1 / n) + (d - 1) * (1 - 2 / n));
    case SketchKind::sparse_sign:
      return 1 + (d - 1) * off_diagonal_of_blocks(dist_.n_out, dist_.nnz);
    default:  // rademacher, count_sketch
      return 1 + (d - 1) / s;
  }
}

double GradientSketch::norm_bound() const {
  const auto s = static_cast<double>(dist_.n_out);
  if (dist_.kind == SketchKind::dct) return std::sqrt(static_cast<double>(dist_.n_in) / s);
  if (!is_transform(dist_.kind)) return std::numeric_limits<double>::infinity();
  return std::sqrt(static_cast<double>(sketch::next_power_of_two(dist_.n_in)) / s);
}

template <class T>
void GradientSketch::encode(const Exec& exec, const RowsView& gradients, std::uint64_t round,
                            const GradientGuard& guard, MatrixView<T> out) const {
  GRAMIAN_REQUIRE(gradients.cols == n_params(), shape_mismatch,
                  "gradients have " + std::to_string(gradients.cols) +
                      " entries, the sketch takes n_params = " + std::to_string(n_params()));
  GRAMIAN_REQUIRE(
      guard.clip >= 0 && std::isfinite(guard.clip) && guard.deviation >= 0 && std::isfinite(guard.deviation),
      invalid_argument, "clip and the deviation of the noise must be finite and not negative");
  require_noise<T>(guard);
  if (gradients.rows == 0) return;
  const SketchOp op = at(round);
  const bool early = guard.noise == GradientGuard::Noise::gradient;
  if (guard.clip == 0 && !early) {
    op.project<T>(exec, gradients, out);
  } else {
    const Exec host = exec.on_host();
    const std::int64_t block = std::min(gradients.rows, std::max<std::int64_t>(1, kCopied / n_params()));
    const Array<T> copy(host, block, n_params());
    for (std::int64_t begin = 0; begin < gradients.rows; begin += block) {
      exec.poll();
      const std::int64_t count = std::min(block, gradients.rows - begin);
      const MatrixView<T> rows = copy.view().block(0, 0, count, n_params());
      load_rows<T>(host, gradients.slice(begin, count), nullptr, nullptr, rows, "gradients");
      if (guard.clip > 0) clip_rows<T>(host, guard.clip, begin, rows);
      if (early) add_noise<T>(host, guard, begin, rows);
      op.project<T>(exec, RowsView::dense<T>(rows), out.block(begin, 0, count, out.cols));
    }
  }
  if (guard.noise == GradientGuard::Noise::sketch) add_noise<T>(exec, guard, 0, out);
  GRAMIAN_REQUIRE(is_finite<T>(exec, out), non_finite, "the sketches of the gradients overflow");
}

template <class T>
void GradientSketch::decode(const Exec& exec, MatrixView<const T> sketches, std::uint64_t round,
                            MatrixView<T> out) const {
  GRAMIAN_REQUIRE(
      sketches.cols == n_sketch(), shape_mismatch,
      "sketches have " + std::to_string(sketches.cols) + " entries, expected n_sketch = " + std::to_string(n_sketch()));
  GRAMIAN_REQUIRE(
      out.rows == sketches.rows && out.cols == n_params(), shape_mismatch,
      "the output must have the shape (" + std::to_string(sketches.rows) + ", " + std::to_string(n_params()) + ")");
  if (out.empty()) return;
  const SketchOp op = at(round);
  if (sketches.rows == 1) {
    // A vector is a row and a column.
    op.apply_adjoint<T>(exec, {sketches.data, n_sketch(), 1}, 0, {out.data, n_params(), 1});
  } else {
    const Array<T> columns(exec, n_sketch(), sketches.rows), back(exec, n_params(), sketches.rows);
    copy_transposed<T>(exec, sketches, columns.view());
    op.apply_adjoint<T>(exec, columns.view(), 0, back.view());
    copy_transposed<T>(exec, back.view(), out);
  }
  GRAMIAN_REQUIRE(is_finite<T>(exec, out), non_finite, "the estimates of the gradients overflow");
}

#define GRAMIAN_INSTANTIATE(T)                                                                            \
  template GRAMIAN_EXPORT void GradientSketch::encode<T>(const Exec&, const RowsView&, std::uint64_t,     \
                                                         const GradientGuard&, MatrixView<T>) const;      \
  template GRAMIAN_EXPORT void GradientSketch::decode<T>(const Exec&, MatrixView<const T>, std::uint64_t, \
                                                         MatrixView<T>) const;
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
