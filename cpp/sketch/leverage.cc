#include "gramian/sketch/leverage.hpp"

#include <algorithm>
#include <cmath>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/sketch/operator.hpp"
#include "linalg/binary_scale.h"
#include "sketch/distortion.h"

namespace gramian {
namespace {

using linalg::column_maxima;
using linalg::exponents_of;
using linalg::is_safe;
using linalg::ScaledRows;
constexpr std::uint32_t kProjection = 11;
constexpr std::int64_t kBlockElements = std::int64_t{1} << 21;
// Beyond as many rows the sketch is larger than any matrix.
constexpr double kMostRows = 1e15;

using sketching::distortion_of;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// Columns of equal length, so that the rank does not depend on their units; a zero column stays.
std::vector<double> equal_lengths(const Exec& exec, MatrixView<double> r) {
  const std::int64_t d = r.cols;
  std::vector<double> host(at(r.rows * d)), scale(at(d), 0.0);
  download<double>(exec, r, {host.data(), r.rows, d});
  for (std::int64_t j = 0; j < d; ++j) {
    double largest = 0, sum = 0;
    for (std::int64_t i = 0; i < r.rows; ++i) largest = std::max(largest, std::abs(host[at(i * d + j)]));
    if (largest > 0) {
      for (std::int64_t i = 0; i < r.rows; ++i) sum += std::pow(host[at(i * d + j)] / largest, 2);
      scale[at(j)] = 1 / (largest * std::sqrt(sum));
    }
  }
  Array<double> device(exec, d);
  upload<double>(exec, {scale.data(), 1, d}, device.view());
  scale_columns<double>(exec, device.data(), r);
  return scale;
}

std::int64_t rank_of(const std::vector<double>& s, double rtol) {
  std::int64_t rank = 0;
  while (rank < static_cast<std::int64_t>(s.size()) && s[at(rank)] > rtol * s.front()) ++rank;
  return rank;
}

double tolerance(const LeverageOptions& options, std::int64_t d) {
  return options.rtol >= 0 ? options.rtol : default_rtol(d);
}

LeverageScores exact(const Exec& exec, const RowsView& a, const LeverageOptions& options) {
  const std::int64_t n = a.rows, d = a.cols, k = std::min(n, d);
  LeverageScores out;
  Array<double> q(exec, n, d), r(exec, k, d), u(exec, k, k), vt(exec, k, d);
  // Scores do not depend on the units of the columns.
  const ScaledRows scaled = ScaledRows(exec, a, exponents_of(column_maxima(exec, a, "A")), "A");
  load_rows<double>(exec, scaled.view(), nullptr, nullptr, q.view(), "A");
  exec.poll();
  qr_thin<double>(exec, q.view(), r.view());
  equal_lengths(exec, r.view());
  std::vector<double> s;
  small_svd<double>(exec, r.view(), u.view(), s, vt.view());
  out.rank = rank_of(s, tolerance(options, d));
  out.scores.assign(at(n), 0.0);
  if (out.rank == 0) return out;
  // A = Q U S V': the rows of Q times the leading columns of U.
  Array<double> basis(exec, n, out.rank);
  gemm<double>(exec, Trans::no, Trans::no, 1.0, q.view().block(0, 0, n, k), u.view().block(0, 0, k, out.rank), 0.0,
               basis.view());
  out.scores = row_squares<double>(exec, basis.view());
  return out;
}

struct Plan {
  std::int64_t rows = 0, columns = 0;  // of the sketch; of the projection, 0 for none
};

// The fewest rows with which a sketch changes no squared length by more than this share (see distortion_of: sparse
// signs with 8 entries a column do no worse than a Gaussian sketch, measured).
double rows_for(double share, std::int64_t d) {
  double high = static_cast<double>(d);
  while (high < kMostRows && distortion_of(static_cast<std::int64_t>(high), d) > share) high *= 2;
  double low = high / 2;
  while (high < kMostRows && high - low > 1) {
    const double middle = std::floor((low + high) / 2);
    (distortion_of(static_cast<std::int64_t>(middle), d) > share ? low : high) = middle;
  }
  return high;
}

// A sketch that changes squares by a share e leaves (1 + e_j) / (1 - e) <= 1 + eps and (1 - e_j) / (1 + e) >= 1 - eps
// to a projection of error e_j, whose chi-square tail must leave delta over n rows. A small e wants many rows of the
// sketch, which are factored, a large one many columns of the projection, which all rows of A are multiplied with: the
// fewest flops of both.
Plan plan(std::int64_t n, std::int64_t d, const LeverageOptions& options) {
  constexpr int kGrid = 40;
  const double wide = static_cast<double>(d), tall = static_cast<double>(n), eps = options.eps;
  const double most = eps / (1 + eps);
  const double fewest = rows_for(most, d);
  Plan out;
  out.rows = static_cast<std::int64_t>(fewest);
  out.columns = options.projection;
  if (out.columns > 0) return out;
  double least = 2 * wide * wide * (fewest + tall);
  for (int i = 1; i < kGrid; ++i) {
    const double e = most * i / kGrid, rows = rows_for(e, d);
    const double tail = std::min((1 + eps) * (1 - e) - 1, 1 - (1 - eps) * (1 + e));
    const double columns = std::ceil(std::log(2 * tall / options.delta) / (tail * tail / 4 - tail * tail * tail / 6));
    const double flops = 2 * wide * (wide * rows + columns * (tall + wide));
    if (columns >= wide || rows >= tall || flops >= least) continue;
    least = flops;
    out.rows = static_cast<std::int64_t>(rows);
    out.columns = static_cast<std::int64_t>(columns);
  }
  return out;
}

// False where columns of the sketch leave the range in which they can be squared.
bool sketch_fits(const Exec& exec, const SketchOp& op, const RowsView& a, MatrixView<double> out) {
  try {
    op.apply<double>(exec, a, out);
  } catch (const Error& error) {
    // Sums may be too large where no value is.
    if (error.code() != ErrorCode::non_finite) throw;
    return false;
  }
  std::vector<double> host(at(out.rows * out.cols)), peaks(at(out.cols), 0.0);
  download<double>(exec, out, {host.data(), out.rows, out.cols});
  for (std::size_t t = 0; t < host.size(); ++t) {
    if (!std::isfinite(host[t])) return false;
    double& peak = peaks[t % peaks.size()];
    peak = std::max(peak, std::abs(host[t]));
  }
  return is_safe(exponents_of(peaks)) && *std::min_element(peaks.begin(), peaks.end()) > 0;
}

LeverageScores sketched(const Exec& exec, const RowsView& given, const LeverageOptions& options, const Plan& plan) {
  const std::int64_t n = given.rows, d = given.cols;
  LeverageScores out;
  out.method = LeverageMethod::sketched;
  out.sketch_rows = plan.rows;
  SketchDist dist;
  dist.kind = SketchKind::sparse_sign;
  dist.n_out = plan.rows;
  dist.n_in = n;
  dist.nnz = std::min<std::int64_t>(8, plan.rows);
  dist.seed = options.seed;
  Array<double> sa(exec, plan.rows, d), r(exec, d, d), u(exec, d, d), vt(exec, d, d);
  const SketchOp op(dist);
  ScaledRows rows_in(given);
  if (!sketch_fits(exec, op, given, sa.view())) {
    rows_in = ScaledRows(exec, given, exponents_of(column_maxima(exec, given, "A")), "A");
    op.apply<double>(exec, rows_in.view(), sa.view());
  }
  const RowsView a = rows_in.view();
  qr_factor_r<double>(exec, sa.view(), r.view());
  const std::vector<double> scale = equal_lengths(exec, r.view());
  std::vector<double> s;
  small_svd<double>(exec, r.view(), u.view(), s, vt.view());
  out.rank = rank_of(s, tolerance(options, d));
  out.scores.assign(at(n), 0.0);
  if (out.rank == 0) return out;
  // M = diag(scale) V diag(1 / s): A M is nearly orthonormal.
  Array<double> m(exec, d, out.rank);
  std::vector<double> inverse;
  for (std::int64_t i = 0; i < out.rank; ++i) inverse.push_back(1 / s[at(i)]);
  const MatrixView<double> leading = vt.view().block(0, 0, out.rank, d);
  scale_rows<double>(exec, inverse, leading);
  transpose<double>(exec, leading, m.view());
  scale_rows<double>(exec, scale, m.view());
  if (plan.columns > 0 && plan.columns < out.rank) {
    out.projection = plan.columns;
    Array<double> g(exec, out.rank, plan.columns), turned(exec, d, plan.columns);
    fill_random<double>(exec, Distribution::gaussian, RngStream(options.seed, RngFamily::leverage, kProjection),
                        1 / std::sqrt(static_cast<double>(plan.columns)), g.view());
    gemm<double>(exec, Trans::no, Trans::no, 1.0, m.view(), g.view(), 0.0, turned.view());
    m = std::move(turned);
  }
  const std::int64_t edge = std::max<std::int64_t>(256, kBlockElements / std::max(d, m.cols()));
  Array<double> block(exec, a.sparse ? 0 : std::min(edge, n), d), image(exec, std::min(edge, n), m.cols());
  for (std::int64_t begin = 0; begin < n; begin += edge) {
    exec.poll();
    const std::int64_t count = std::min(edge, n - begin);
    const MatrixView<double> part = image.view().block(0, 0, count, m.cols());
    if (a.sparse) {
      sparse_multiply<double>(exec, a.slice(begin, count), m.view(), part);
    } else {
      const MatrixView<double> rows = block.view().block(0, 0, count, d);
      load_rows<double>(exec, a.slice(begin, count), nullptr, nullptr, rows, "A");
      gemm<double>(exec, Trans::no, Trans::no, 1.0, rows, m.view(), 0.0, part);
    }
    const std::vector<double> squares = row_squares<double>(exec, part);
    std::copy(squares.begin(), squares.end(), out.scores.begin() + begin);
  }
  return out;
}

}  // namespace

LeverageScores leverage_scores(const Exec& exec, const RowsView& a, const LeverageOptions& options) {
  GRAMIAN_REQUIRE(a.rows >= 1 && a.cols >= 1, shape_mismatch, "A has no rows or no columns");
  GRAMIAN_REQUIRE(options.eps > 0 && options.eps < 1 && options.delta > 0 && options.delta < 1, invalid_argument,
                  "eps and delta must lie between 0 and 1");
  GRAMIAN_REQUIRE(!(options.rtol >= 1) && options.projection >= 0, invalid_argument,
                  "rtol must be below 1, the columns of the projection at least 0");
  if (options.method != LeverageMethod::exact) {
    const Plan sizes = plan(a.rows, a.cols, options);
    // The sketch is factored as A would be: it pays where it is much smaller.
    const std::int64_t most = options.method == LeverageMethod::sketched ? a.rows : a.rows / 4;
    if (sizes.rows < most) return sketched(exec, a, options, sizes);
  }
  return exact(exec, a, options);
}

}  // namespace gramian
