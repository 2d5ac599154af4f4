#include "gramian/linalg/inverse_update.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "linalg/blocks.h"
#include "linalg/call.h"

namespace gramian {

using namespace linalg;

namespace {

Array<double> transposed(const Exec& exec, MatrixView<const double> x) {
  std::vector<double> one(static_cast<std::size_t>(x.rows * x.rows), 0.0);
  for (std::int64_t r = 0; r < x.rows; ++r) one[static_cast<std::size_t>(r * x.rows + r)] = 1;
  Array<double> identity(exec, x.rows, x.rows), out(exec, x.cols, x.rows);
  upload<double>(exec, {one.data(), x.rows, x.rows}, identity.view());
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, x, identity.view(), 0.0, out.view());
  return out;
}

// out = X A for rows X (k x n).
void multiply_rows(const Exec& exec, const SymmetricMatrix<double>& a, MatrixView<const double> x,
                   MatrixView<double> out) {
  if (x.rows == 1) {
    symmetric_multiply(exec, 1.0, a, {x.data, x.cols, 1}, 0.0, {out.data, out.cols, 1});
    return;
  }
  const Array<double> columns = transposed(exec, x);
  Array<double> product(exec, x.cols, x.rows);
  symmetric_multiply(exec, 1.0, a, columns.view(), 0.0, product.view());
  const Array<double> rows = transposed(exec, product.view());
  axpby<double, double>(exec, 1.0, rows.view(), 0.0, out);
}

// A = beta A + alpha X'X, each tile read and written once.
void scale_and_add(const Exec& exec, double beta, double alpha, MatrixView<const double> x,
                   SymmetricMatrix<double>& a) {
  const std::int64_t tiles = a.tiles(), edge = a.tile_edge();
  exec.parallel_for(tiles * tiles, [&](std::int64_t task) {
    const std::int64_t i = task / tiles, j = task % tiles;
    if (j > i) return;
    const Range ri = part_of(a.size(), edge, i), rj = part_of(a.size(), edge, j);
    const auto left = x.block(0, ri.begin, x.rows, ri.size());
    if (i == j) {
      gram_block<double>(exec, Trans::yes, alpha, left, beta, a.tile(i, j));
    } else {
      multiply_block<double>(exec, Trans::yes, Trans::no, alpha, left, x.block(0, rj.begin, x.rows, rj.size()), beta,
                             a.tile(i, j));
    }
  });
}

// The lower triangle of a square matrix.
SymmetricMatrix<double> symmetric_of(const Exec& exec, MatrixView<const double> square) {
  SymmetricMatrix<double> out(exec, square.rows);
  const std::int64_t edge = out.tile_edge();
  for (std::int64_t i = 0; i < out.tiles(); ++i) {
    const MatrixView<double> rows = out.tiles_of_row(i, 0, i + 1);
    axpby<double, double>(exec, 1.0, square.block(i * edge, 0, rows.rows, rows.cols), 0.0, rows);
  }
  return out;
}

std::vector<double> packed(const Exec& exec, const SymmetricMatrix<double>& a) {
  std::vector<double> out(static_cast<std::size_t>(a.size() * (a.size() + 1) / 2));
  if (!out.empty()) a.pack(exec, out.data());
  return out;
}

// A triangle that can be one of a positive definite matrix of this size, as far as its diagonal tells.
void require_triangle(const std::vector<double>& triangle, std::int64_t d) {
  bool good = static_cast<std::int64_t>(triangle.size()) == d * (d + 1) / 2;
  for (const double value : triangle) good = good && std::isfinite(value);
  for (std::int64_t r = 0; r < d && good; ++r) good = triangle[static_cast<std::size_t>(r * (r + 1) / 2 + r)] > 0;
  GRAMIAN_REQUIRE(good, invalid_argument, "the state is that of no inverse of size " + std::to_string(d));
}

}  // namespace

void symmetric_to_dense(const Exec& exec, const SymmetricMatrix<double>& a, MatrixView<double> out) {
  GRAMIAN_REQUIRE(out.rows == a.size() && out.cols == a.size(), shape_mismatch,
                  "symmetric_to_dense: the destination does not fit");
  const std::int64_t edge = a.tile_edge();
  for (std::int64_t i = 0; i < a.tiles(); ++i) {
    const MatrixView<double> rows = a.tiles_of_row(i, 0, i + 1);
    axpby<double, double>(exec, 1.0, rows, 0.0, out.block(i * edge, 0, rows.rows, rows.cols));
  }
  if (a.size() > 0)
    GRAMIAN_CALL(exec, symmetrize, code_of<double>(), out.rows, static_cast<void*>(out.data), out.stride);
}

RunningInverse::RunningInverse(const Exec& exec, std::int64_t d, double diagonal, RunningInverseOptions options)
    : exec_(exec), options_(options), p_(exec, d) {
  GRAMIAN_REQUIRE(std::isfinite(diagonal) && diagonal > 0, invalid_argument, "the diagonal must be finite and above 0");
  GRAMIAN_REQUIRE(options.max_trace > 0, invalid_argument, "max_trace must be above 0");
  GRAMIAN_REQUIRE(options.check_every == 0 || options.keep_matrix, invalid_argument,
                  "checks of the inverse need the matrix");
  p_.add_diagonal(exec, 1 / diagonal);
  measure_trace();
  if (!options.keep_matrix) return;
  h_ = SymmetricMatrix<double>(exec, d);
  h_.add_diagonal(exec, diagonal);
}

double RunningInverse::largest_entry() const {
  std::vector<double> diagonal(static_cast<std::size_t>(size()));
  p_.diagonal(exec_, diagonal.data());
  return *std::max_element(diagonal.begin(), diagonal.end());
}

void RunningInverse::multiply(MatrixView<const double> x, MatrixView<double> out) const {
  GRAMIAN_REQUIRE(x.cols == size() && out.rows == x.rows && out.cols == size(), shape_mismatch,
                  "RunningInverse::multiply: the shapes do not fit");
  if (x.rows > 0) multiply_rows(exec_, p_, x, out);
}

void RunningInverse::update(double g, double beta, MatrixView<const double> x) {
  GRAMIAN_REQUIRE(x.cols == size(), shape_mismatch,
                  "the rows have " + std::to_string(x.cols) + " features, the inverse has " + std::to_string(size()));
  GRAMIAN_REQUIRE(g > 0 && g <= 1, invalid_argument, "forgetting must be above 0 and at most 1");
  GRAMIAN_REQUIRE(std::isfinite(beta) && beta != 0, invalid_argument, "the weight must be finite and not 0");
  const std::int64_t k = x.rows;
  if (k == 0) return;
  const double sign = beta > 0 ? 1.0 : -1.0;
  Array<double> u(exec_, k, size()), v(exec_, k, size()), seen(exec_, k, k);
  multiply_rows(exec_, p_, x, u.view());
  gemm<double>(exec_, Trans::no, Trans::yes, sign, x, u.view(), 0.0, seen.view());
  double trace = 0;
  // V with V'V = U'(g / |beta| I + sign X P X')^-1 U, so that the new P is (P - sign V'V) / g.
  const auto solve = [&](double ageing) {
    SymmetricMatrix<double> middle = symmetric_of(exec_, seen.view());
    const double own = ageing / std::fabs(beta);
    middle.add_diagonal(exec_, own);
    std::int64_t bad = cholesky(exec_, middle);
    if (bad == 0 && sign < 0) {
      std::vector<double> pivots(static_cast<std::size_t>(k));
      middle.diagonal(exec_, pivots.data());
      for (std::int64_t r = 0; r < k && bad == 0; ++r) {
        const double root = pivots[static_cast<std::size_t>(r)];
        if (!(root * root >= options_.least_left * own)) bad = r + 1;
      }
    }
    GRAMIAN_REQUIRE(bad == 0, not_positive_definite,
                    "nothing but rounding would be left of the matrix without row " + std::to_string(bad - 1));
    axpby<double, double>(exec_, 1.0, u.view(), 0.0, v.view());
    cholesky_solve_half<double>(exec_, Trans::no, middle, v.view());
    trace = (trace_ - sign * sum_of_squares<double>(exec_, v.view())) / ageing;
    GRAMIAN_REQUIRE(std::isfinite(trace), non_finite, "the inverse would overflow");
  };
  solve(g);
  const bool hold = sign > 0 && g < 1 && trace > options_.max_trace;
  if (hold) {
    g = 1;
    solve(g);
  }
  // From here on nothing fails.
  const Exec exec = exec_.uninterrupted();
  scale_and_add(exec, 1 / g, -sign / g, v.view(), p_);
  if (options_.keep_matrix) scale_and_add(exec, g, beta, x, h_);
  measure_trace();  // a sum that followed the updates would let its rounding grow by 1 / g each time
  updates_ += 1;
  held_back_ += hold ? 1 : 0;
  if (options_.check_every == 0 || updates_ % options_.check_every != 0) return;
  const double error = residual();
  if (error <= options_.refresh_above) return;
  if (error < 0.1) {
    refine();
  } else {
    rebuild();
  }
}

void RunningInverse::blend(double keep, double add) {
  GRAMIAN_REQUIRE(!options_.keep_matrix, invalid_argument, "a blended inverse is not the inverse of the matrix kept");
  p_.axpby(exec_, keep, p_, 0.0);
  p_.add_diagonal(exec_, add);
  measure_trace();
}

void RunningInverse::measure_trace() {
  std::vector<double> diagonal(static_cast<std::size_t>(size()));
  p_.diagonal(exec_, diagonal.data());
  trace_ = 0;
  for (const double value : diagonal) trace_ += value;
}

void RunningInverse::require_matrix() const {
  GRAMIAN_REQUIRE(options_.keep_matrix, invalid_argument, "the matrix was not kept, so the inverse cannot be checked");
}

double RunningInverse::residual(int probes) const {
  require_matrix();
  const std::int64_t d = size();
  if (d == 0) return 0;
  Array<double> z(exec_, probes, d), hz(exec_, probes, d), phz(exec_, probes, d);
  fill_random<double>(exec_, Distribution::rademacher, RngStream(17, RngFamily::rademacher, 1), 1.0, z.view());
  multiply_rows(exec_, h_, z.view(), hz.view());
  multiply_rows(exec_, p_, hz.view(), phz.view());
  axpby<double, double>(exec_, -1.0, z.view(), 1.0, phz.view());
  return std::sqrt(sum_of_squares<double>(exec_, phz.view()) / static_cast<double>(probes * d));
}

void RunningInverse::set_from_dense(MatrixView<const double> p) {
  p_ = symmetric_of(exec_, p);
  measure_trace();
  refreshes_ += 1;
}

void RunningInverse::refine() {
  require_matrix();
  const std::int64_t d = size();
  Array<double> p(exec_, d, d), h(exec_, d, d), ph(exec_, d, d);
  symmetric_to_dense(exec_, p_, p.view());
  symmetric_to_dense(exec_, h_, h.view());
  gemm<double>(exec_, Trans::no, Trans::no, 1.0, p.view(), h.view(), 0.0, ph.view());
  axpby<double, double>(exec_, 2.0, p.view(), 0.0, h.view());
  gemm<double>(exec_, Trans::no, Trans::no, -1.0, ph.view(), p.view(), 1.0, h.view());
  set_from_dense(h.view());
}

void RunningInverse::rebuild() {
  require_matrix();
  const std::int64_t d = size();
  SymmetricMatrix<double> l(exec_, d);
  l.axpby(exec_, 1.0, h_, 0.0);
  GRAMIAN_REQUIRE(cholesky(exec_, l) == 0, not_positive_definite, "the matrix of the inverse is numerically singular");
  // P = L^-T L^-1 = Z'Z with Z = L^-1.
  std::vector<double> one(static_cast<std::size_t>(d * d), 0.0);
  for (std::int64_t r = 0; r < d; ++r) one[static_cast<std::size_t>(r * d + r)] = 1;
  Array<double> z(exec_, d, d), p(exec_, d, d);
  upload<double>(exec_, {one.data(), d, d}, z.view());
  cholesky_solve_half<double>(exec_, Trans::no, l, z.view());
  gemm<double>(exec_, Trans::yes, Trans::no, 1.0, z.view(), z.view(), 0.0, p.view());
  set_from_dense(p.view());
}

RunningInverseState RunningInverse::state() const {
  return {packed(exec_, p_), packed(exec_, h_), updates_, held_back_, refreshes_};
}

void RunningInverse::restore(const RunningInverseState& state) {
  require_triangle(state.inverse, size());
  require_triangle(state.matrix, options_.keep_matrix ? size() : 0);
  GRAMIAN_REQUIRE(state.updates >= 0 && state.held_back >= 0 && state.refreshes >= 0, invalid_argument,
                  "the counts of a state must not be negative");
  SymmetricMatrix<double> p(exec_, size()), h(exec_, h_.size());
  if (size() > 0) p.unpack(exec_, state.inverse.data());
  if (h.size() > 0) h.unpack(exec_, state.matrix.data());
  p_ = std::move(p);
  h_ = std::move(h);
  updates_ = state.updates;
  held_back_ = state.held_back;
  refreshes_ = state.refreshes;
  measure_trace();
}

}  // namespace gramian
