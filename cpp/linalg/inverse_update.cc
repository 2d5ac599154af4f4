#include "gramian/linalg/inverse_update.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/sketching.hpp"
#include "linalg/blocks.h"
#include "linalg/call.h"

namespace gramian {

using namespace linalg;

namespace {

// Of x'P x, what g / beta must at least be for P along x to have a digit left when x is in.
constexpr double kLeastOwn = 4 * std::numeric_limits<double>::epsilon();
constexpr const char* kSingular = "the matrix of the inverse is numerically singular";

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

double trace_of(const Exec& exec, const SymmetricMatrix<double>& a) {
  std::vector<double> diagonal(static_cast<std::size_t>(a.size()));
  a.diagonal(exec, diagonal.data());
  double sum = 0;
  for (const double value : diagonal) sum += value;
  return sum;
}

// H^-1 from a Cholesky factor, or nothing where there is none, or where a pivot is less than `least` of its diagonal
// entry. d^3 flops.
SymmetricMatrix<double> inverse_of(const Exec& exec, const SymmetricMatrix<double>& h, double least = 0) {
  const std::int64_t d = h.size();
  SymmetricMatrix<double> l(exec, d);
  l.axpby(exec, 1.0, h, 0.0);
  std::vector<double> entries(static_cast<std::size_t>(d)), roots(entries);
  h.diagonal(exec, entries.data());
  if (cholesky(exec, l) != 0) return {};
  l.diagonal(exec, roots.data());
  for (std::size_t k = 0; k < roots.size(); ++k)
    if (!(roots[k] * roots[k] >= least * entries[k])) return {};
  // P = L^-T L^-1 = Z'Z with Z = L^-1.
  std::vector<double> one(static_cast<std::size_t>(d * d), 0.0);
  for (std::int64_t r = 0; r < d; ++r) one[static_cast<std::size_t>(r * d + r)] = 1;
  Array<double> z(exec, d, d), p(exec, d, d);
  upload<double>(exec, {one.data(), d, d}, z.view());
  cholesky_solve_half<double>(exec, Trans::no, l, z.view());
  gemm<double>(exec, Trans::yes, Trans::no, 1.0, z.view(), z.view(), 0.0, p.view());
  return symmetric_of(exec, p.view());
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
  GRAMIAN_REQUIRE(std::isfinite(diagonal) && diagonal > 0 && std::isfinite(static_cast<double>(d) / diagonal),
                  invalid_argument, "the diagonal must be finite and above 0, and so must its inverse");
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
  commit(prepare(g, beta, x));
}

RunningInverse::Change RunningInverse::prepare(double g, double beta, MatrixView<const double> x,
                                               InverseBlend blend) const {
  GRAMIAN_REQUIRE(x.cols == size(), shape_mismatch,
                  "the rows have " + std::to_string(x.cols) + " features, the inverse has " + std::to_string(size()));
  GRAMIAN_REQUIRE(g > 0 && g <= 1, invalid_argument, "forgetting must be above 0 and at most 1");
  GRAMIAN_REQUIRE(std::isfinite(beta) && beta != 0, invalid_argument, "the weight must be finite and not 0");
  const bool blended = blend.keep != 1 || blend.add != 0;
  GRAMIAN_REQUIRE(!blended || !options_.keep_matrix, invalid_argument,
                  "a blended inverse is not the inverse of the matrix kept");
  const std::int64_t k = x.rows;
  if (k == 0) return {};
  Array<double> u(exec_, k, size()), seen(exec_, k, k);
  multiply_rows(exec_, p_, x, u.view());
  if (blended) axpby<double, double>(exec_, blend.add, x, blend.keep, u.view());
  gemm<double>(exec_, Trans::no, Trans::yes, beta > 0 ? 1.0 : -1.0, x, u.view(), 0.0, seen.view());
  GRAMIAN_REQUIRE(is_finite<double>(exec_, seen.view()), non_finite,
                  "the rows are too long: their products with the inverse overflow");
  Change change = change_of(g, beta, x, blend, u.view(), seen.view());
  if (beta > 0 && g < 1 && change.trace > options_.max_trace) {
    change = change_of(1.0, beta, x, blend, u.view(), seen.view());
    change.held_back = true;
  }
  return change;
}

// u = X P, seen = sign X P X'. V with V'V = U'(g / |beta| I + seen)^-1 U.
RunningInverse::Change RunningInverse::change_of(double g, double beta, MatrixView<const double> x, InverseBlend blend,
                                                 MatrixView<const double> u, MatrixView<const double> seen) const {
  const std::int64_t k = x.rows;
  SymmetricMatrix<double> middle = symmetric_of(exec_, seen);
  const double own = g / std::fabs(beta);
  middle.add_diagonal(exec_, own);
  std::int64_t bad = cholesky(exec_, middle), lost = bad;
  std::vector<double> pivots(static_cast<std::size_t>(k));
  if (bad == 0) middle.diagonal(exec_, pivots.data());
  for (std::int64_t r = 0; r < k && bad == 0; ++r) {
    const double root = pivots[static_cast<std::size_t>(r)];
    if (beta < 0 && !(root * root >= options_.least_left * own)) bad = r + 1;
    if (beta > 0 && lost == 0 && !(own >= kLeastOwn * root * root)) lost = r + 1;
  }
  GRAMIAN_REQUIRE(beta > 0 || bad == 0, not_positive_definite,
                  "nothing but rounding would be left of the matrix without row " + std::to_string(bad - 1));
  // Without a factor there is nothing to go on with, refused or not.
  if (beta > 0 && lost > 0 && (options_.refuse_loss || bad != 0)) {
    Change anew = renewal_of(g, beta, x);
    GRAMIAN_REQUIRE(anew.p.size() > 0, not_positive_definite,
                    "beside row " + std::to_string(lost - 1) +
                        " all that the inverse knows is rounding: begin with a larger diagonal, or scale the rows");
    return anew;
  }
  Change out;
  out.forgetting = g;
  out.weight = beta;
  out.x = x;
  out.blend = blend;
  out.v = Array<double>(exec_, k, size());
  axpby<double, double>(exec_, 1.0, u, 0.0, out.v.view());
  cholesky_solve_half<double>(exec_, Trans::no, middle, out.v.view());
  const double before = blend.keep * trace_ + blend.add * static_cast<double>(size());
  out.trace = (before - (beta > 0 ? 1.0 : -1.0) * sum_of_squares<double>(exec_, out.v.view())) / g;
  GRAMIAN_REQUIRE(std::isfinite(out.trace), non_finite, "the inverse would overflow");
  return out;
}

// The new H and its inverse; without them where no H is kept, or it has lost its digits as well.
RunningInverse::Change RunningInverse::renewal_of(double g, double beta, MatrixView<const double> x) const {
  Change out;
  if (!options_.keep_matrix) return out;
  out.forgetting = g;
  out.weight = beta;
  out.h = SymmetricMatrix<double>(exec_, size());
  out.h.axpby(exec_, 1.0, h_, 0.0);
  scale_and_add(exec_, g, beta, x, out.h);
  out.p = inverse_of(exec_, out.h, kLeastLeft);
  if (out.p.size() == 0) return out;
  out.trace = trace_of(exec_, out.p);
  GRAMIAN_REQUIRE(std::isfinite(out.trace), non_finite, "the inverse would overflow");
  return out;
}

void RunningInverse::commit(Change change) {
  if (change.x.rows == 0 && change.p.size() == 0) return;
  const Exec exec = exec_.uninterrupted();
  if (change.p.size() > 0) {
    p_ = std::move(change.p);
    h_ = std::move(change.h);
    refreshes_ += 1;
  } else {
    const double g = change.forgetting;
    scale_and_add(exec, change.blend.keep / g, change.weight > 0 ? -1 / g : 1 / g, change.v.view(), p_);
    if (change.blend.add != 0) p_.add_diagonal(exec, change.blend.add / g);
    if (options_.keep_matrix) scale_and_add(exec, g, change.weight, change.x, h_);
  }
  measure_trace();  // a sum that followed the updates would let its rounding grow by 1 / g each time
  updates_ += 1;
  held_back_ += change.held_back ? 1 : 0;
  if (options_.check_every > 0 && updates_ % options_.check_every == 0) check();
}

void RunningInverse::check() {
  const double error = residual();
  if (error <= options_.refresh_above) return;
  if (error < 0.1) return refine();
  SymmetricMatrix<double> p = inverse_of(exec_, h_);
  if (p.size() == 0) return;  // P is the best there is
  p_ = std::move(p);
  measure_trace();
  refreshes_ += 1;
}

void RunningInverse::blend(InverseBlend blend) {
  GRAMIAN_REQUIRE(!options_.keep_matrix, invalid_argument, "a blended inverse is not the inverse of the matrix kept");
  p_.axpby(exec_, blend.keep, p_, 0.0);
  p_.add_diagonal(exec_, blend.add);
  measure_trace();
}

void RunningInverse::measure_trace() {
  trace_ = trace_of(exec_, p_);
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
  SymmetricMatrix<double> p = inverse_of(exec_, h_);
  GRAMIAN_REQUIRE(p.size() == size(), not_positive_definite, kSingular);
  p_ = std::move(p);
  measure_trace();
  refreshes_ += 1;
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
