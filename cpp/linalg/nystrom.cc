#include "gramian/linalg/nystrom.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/probes.hpp"
#include "gramian/linalg/sketching.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "linalg/curvature.h"

namespace gramian {
namespace {

using linalg::symmetric_part;
using View = MatrixView<double>;
using ConstView = MatrixView<const double>;

constexpr std::uint32_t kTestMatrix = 3, kProbes = 9;
constexpr std::int64_t kFirstRank = 16;
// Directions of a small Gram matrix below this share of the largest are left out: rounding of the products counts as
// many times more along them.
constexpr double kDependent = 1e-2;
// Negative curvature up to as many times the rounding of A, or of the products, is none.
constexpr double kSlack = 10;
constexpr double kEps = std::numeric_limits<double>::epsilon();
// Matrices are brought near 1 where their products are not between 1 / kFar and kFar: squares stay in range then.
constexpr double kFar = 1e100;
constexpr int kMostPower = 1000;  // of the factor, whose inverse is a double too

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

void add(const Exec& exec, double alpha, ConstView x, double beta, View y) {
  axpby<double, double>(exec, alpha, x, beta, y);
}

std::vector<double> to_host(const Exec& exec, ConstView x) {
  std::vector<double> host(at(x.rows * x.cols));
  download<double>(exec, x, {host.data(), x.rows, x.cols});
  return host;
}

double frobenius(const Exec& exec, ConstView x) {
  return std::sqrt(sum_of_squares<double>(exec, x));
}

[[noreturn]] void refuse(double curvature) {
  char text[160];
  std::snprintf(text, sizeof text,
                "the matrix is not positive semi-definite: v'A v / v'v is at most %.6g for a vector v, so it has no "
                "Nystrom approximation",
                curvature);
  throw Error(ErrorCode::not_positive_definite, text);
}

class Builder {
 public:
  Builder(const Exec& exec, const BlockMap& a, std::int64_t n, const NystromOptions& options)
      : exec_(exec), a_(a), n_(n), options_(options) {}

  NystromFactor run() {
    const bool adaptive = options_.rank == 0;
    const std::int64_t most = options_.max_rank > 0 ? std::min(options_.max_rank, n_) : n_;
    std::int64_t rank = adaptive ? std::min(kFirstRank, most) : options_.rank;
    for (int check = 1;; ++check) {
      exec_.poll();
      grow(rank);
      factor();
      out_.error = std::numeric_limits<double>::infinity();
      if (options_.certify) certify(adaptive ? check : 0);
      out_.why = adaptive ? reached() : "rank";
      if (!out_.why.empty()) break;
      if (rank == most) {
        out_.why = rank == n_ ? "full" : "limit";
        out_.converged = false;
        break;
      }
      rank = std::min(2 * rank, most);
    }
    out_.products = products_;
    const double unit = 1 / alpha_;
    for (double& value : out_.eigenvalues) value *= unit;
    out_.error *= unit;
    // A product that is subnormal was rounded.
    if (alpha_ != 1) out_.error = std::nextafter(out_.error, std::numeric_limits<double>::infinity());
    out_.rounding *= unit;
    return std::move(out_);
  }

 private:
  void apply(ConstView in, View out) {
    a_(in, out);
    if (alpha_ != 1) add(exec_, 0.0, {}, alpha_, out);
    products_ += in.rows;
  }

  // Everything below is done for alpha A; the first products tell which alpha.
  void choose_scale(View y) {
    double largest = 0;
    for (const double value : to_host(exec_, y)) largest = std::abs(value) <= largest ? largest : std::abs(value);
    GRAMIAN_REQUIRE(std::isfinite(largest), non_finite, "the products of the matrix contain NaN or infinity");
    if (largest == 0 || (largest > 1 / kFar && largest < kFar)) return;
    alpha_ = std::ldexp(1.0, std::clamp(-std::ilogb(largest), -kMostPower, kMostPower));
    add(exec_, 0.0, {}, alpha_, y);
  }

  // Orthonormal test vectors up to this number, and their products; what is there stays.
  void grow(std::int64_t rank) {
    const std::int64_t before = omega_.rows(), more = rank - before;
    Array<double> omega(exec_, rank, n_), y(exec_, rank, n_);
    const View old = omega.view().block(0, 0, before, n_), fresh = omega.view().block(before, 0, more, n_);
    if (before > 0) {
      add(exec_, 1.0, omega_.view(), 0.0, old);
      add(exec_, 1.0, y_.view(), 0.0, y.view().block(0, 0, before, n_));
    }
    fill_random_tile<double>(exec_, Distribution::gaussian, RngStream(options_.seed, RngFamily::gaussian, kTestMatrix),
                             1.0, 0, before, fresh);
    // Rows are vectors; Gaussian rows are conditioned well enough for Cholesky, where they are not nearly n. Twice.
    for (int pass = 0; pass < 2; ++pass) {
      if (before > 0) {
        Array<double> along(exec_, more, before);
        gemm<double>(exec_, Trans::no, Trans::yes, 1.0, fresh, old, 0.0, along.view());
        gemm<double>(exec_, Trans::no, Trans::no, -1.0, along.view(), old, 1.0, fresh);
      }
      SymmetricMatrix<double> l(exec_, more);
      outer_gram_update(exec_, 1.0, fresh, l);
      GRAMIAN_REQUIRE(cholesky(exec_, l) == 0, internal, "the random test matrix has dependent rows");
      cholesky_solve_half<double>(exec_, Trans::no, l, fresh);
    }
    const View products = y.view().block(before, 0, more, n_);
    apply(fresh, products);
    if (before == 0) choose_scale(products);
    omega_ = std::move(omega);
    y_ = std::move(y);
  }

  void factor() {
    const std::int64_t rank = omega_.rows();
    const double size = frobenius(exec_, y_.view());
    GRAMIAN_REQUIRE(std::isfinite(size), non_finite, "the products of the matrix contain NaN or infinity");
    const double shift = options_.unit * std::sqrt(static_cast<double>(n_)) * size;
    out_.rounding = shift;
    out_.eigenvalues.clear();
    out_.exhausted = size == 0;
    out_.u = Array<double>();
    if (size == 0) return;
    Array<double> b(exec_, rank, n_), core(exec_, rank, rank);
    add(exec_, 1.0, y_.view(), 0.0, b.view());
    add(exec_, shift, omega_.view(), 1.0, b.view());
    // Omega Y' = L L', B = L^-1 Y: B'B is the approximation, and its eigenpairs are those of the small B B'.
    gemm<double>(exec_, Trans::no, Trans::yes, 1.0, omega_.view(), b.view(), 0.0, core.view());
    const std::vector<double> host = to_host(exec_, core.view());
    SymmetricMatrix<double> l = symmetric_part(exec_, host, rank);
    if (cholesky(exec_, l) != 0) {
      std::vector<double> w;
      Array<double> v;
      symmetric_eigen(exec_, symmetric_part(exec_, host, rank), w, v);
      refuse(std::min(w.front() - shift, 0.0) / alpha_);
    }
    cholesky_solve_half<double>(exec_, Trans::no, l, b.view());
    SymmetricMatrix<double> small(exec_, rank);
    outer_gram_update(exec_, 1.0, b.view(), small);
    std::vector<double> w;
    Array<double> v;
    symmetric_eigen(exec_, small, w, v);
    // Eigenvalues at the level of rounding have no direction of their own.
    const double floor = std::max(1e2 * kEps * static_cast<double>(n_) * w.back(), shift);
    std::int64_t kept = 0;
    while (kept < rank && w[at(rank - 1 - kept)] > floor) ++kept;
    out_.exhausted = kept < rank;
    std::vector<double> turn(at(kept * rank)), unit;
    const std::vector<double> vectors = to_host(exec_, v.view());
    for (std::int64_t i = 0; i < kept; ++i) {
      std::copy_n(vectors.begin() + (rank - 1 - i) * rank, rank, turn.begin() + i * rank);
      const double value = w[at(rank - 1 - i)];
      unit.push_back(1 / std::sqrt(value));
      out_.eigenvalues.push_back(value - shift);
    }
    Array<double> left(exec_, kept, rank);
    upload<double>(exec_, {turn.data(), kept, rank}, left.view());
    out_.u = Array<double>(exec_, kept, n_);
    gemm<double>(exec_, Trans::no, Trans::no, 1.0, left.view(), b.view(), 0.0, out_.u.view());
    scale_rows<double>(exec_, unit, out_.u.view());
    make_orthonormal();
  }

  // Rounding leaves eps lambda_1 / lambda of the others in an eigenvector. Out of each row goes what is along the rows
  // before it, whose eigenvalues are larger: that changes the matrix by no more than eps lambda_1.
  void make_orthonormal() {
    for (int pass = 0; pass < 2 && out_.rank() > 0; ++pass) {
      SymmetricMatrix<double> l(exec_, out_.rank());
      outer_gram_update(exec_, 1.0, out_.u.view(), l);
      GRAMIAN_REQUIRE(cholesky(exec_, l) == 0, internal, "the eigenvectors of the approximation are dependent");
      cholesky_solve_half<double>(exec_, Trans::no, l, out_.u.view());
    }
  }

  // out = E in for E = A - U diag(lambda) U'.
  void apply_rest(ConstView in, View out) {
    apply(in, out);
    if (out_.rank() == 0) return;
    Array<double> along(exec_, in.rows, out_.rank()), values(exec_, out_.rank());
    upload<double>(exec_, {out_.eigenvalues.data(), 1, out_.rank()}, values.view());
    gemm<double>(exec_, Trans::no, Trans::yes, 1.0, in, out_.u.view(), 0.0, along.view());
    scale_columns<double>(exec_, values.data(), along.view());
    gemm<double>(exec_, Trans::no, Trans::no, -1.0, along.view(), out_.u.view(), 1.0, out);
  }

  // z'(E y) = y'(E z) for the rows of z, to single precision of A: |E|^2 is not |E^2| otherwise.
  void require_symmetric(const std::vector<double>& h, const std::vector<double>& z, const std::vector<double>& ez) {
    const std::size_t k = z.size();
    const double top = out_.rank() > 0 ? out_.eigenvalues.front() : 0.0;
    for (std::size_t i = 0; i < k; ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        const double allowed =
            1e-5 * (std::sqrt(z[i] * ez[j]) + std::sqrt(z[j] * ez[i])) + 1e-6 * top + kSlack * out_.rounding;
        GRAMIAN_REQUIRE(std::abs(h[i * k + j] - h[j * k + i]) <= allowed, invalid_argument,
                        "the matrix is not symmetric: x'(K y) and y'(K x) differ for the same x and y");
      }
    }
  }

  // |E|^2 = |E^2|, and that from products with E twice. On the way the curvature of E in the span of both products.
  void certify(int check) {
    const std::int64_t r = options_.probes;
    Array<double> z(exec_, 2 * r, n_), ez(exec_, 2 * r, n_);
    const View w = z.view().block(0, 0, r, n_), ew = z.view().block(r, 0, r, n_);
    fill_random_tile<double>(exec_, Distribution::gaussian, RngStream(options_.seed, RngFamily::gaussian, kProbes), 1.0,
                             0, 0, w);
    apply_rest(w, ez.view().block(0, 0, r, n_));
    add(exec_, 1.0, ez.view().block(0, 0, r, n_), 0.0, ew);
    // Rows of length one, so that powers of small errors do not vanish.
    std::vector<double> logs, scale;
    for (const double square : row_squares<double>(exec_, ew)) {
      const double length = std::sqrt(square);
      logs.push_back(std::log(length));
      scale.push_back(length > 0 ? 1 / length : 0.0);
    }
    scale_rows<double>(exec_, scale, ew);
    apply_rest(ew, ez.view().block(r, 0, r, n_));
    const std::vector<double> squares = row_squares<double>(exec_, ez.view().block(r, 0, r, n_));
    for (std::int64_t j = 0; j < r; ++j) logs[at(j)] += 0.5 * std::log(squares[at(j)]);
    const double largest = *std::max_element(logs.begin(), logs.end());
    GRAMIAN_REQUIRE(!std::isnan(largest) && largest < std::numeric_limits<double>::infinity(), non_finite,
                    "the products of the matrix contain NaN or infinity");
    out_.error = bound_of_norm_power(largest, 2, static_cast<int>(r), check) + out_.rounding;
    // The probes' rows to length one as well, for the small problem.
    std::vector<double> all = row_squares<double>(exec_, w), each(at(2 * r), 1.0);
    for (std::int64_t j = 0; j < r; ++j) each[at(j)] = 1 / std::sqrt(all[at(j)]);
    scale_rows<double>(exec_, each, z.view());
    scale_rows<double>(exec_, each, ez.view());
    Array<double> gram(exec_, 2 * r, 2 * r), h(exec_, 2 * r, 2 * r);
    gemm<double>(exec_, Trans::no, Trans::yes, 1.0, z.view(), z.view(), 0.0, gram.view());
    gemm<double>(exec_, Trans::no, Trans::yes, 1.0, z.view(), ez.view(), 0.0, h.view());
    const std::vector<double> curvature = to_host(exec_, h.view());
    require_symmetric(curvature, row_squares<double>(exec_, z.view()), row_squares<double>(exec_, ez.view()));
    const linalg::Ritz ritz = linalg::ritz_of(exec_, to_host(exec_, gram.view()), curvature, 2 * r, kDependent);
    const double least = ritz.values.empty() ? 0.0 : ritz.values.front();
    const double of_products = out_.rounding * kEps / options_.unit;
    if (least < -kSlack * (out_.rounding + of_products / kDependent)) refuse(least / alpha_);
  }

  // Why it is enough, or nothing.
  std::string reached() {
    const double least = options_.least * alpha_;
    if (options_.least > 0 && (out_.exhausted || out_.eigenvalues.back() <= least)) return "eigenvalue";
    if (options_.tol <= 0 && options_.rtol <= 0) return "";
    const double top = out_.rank() > 0 ? out_.eigenvalues.front() : 0.0;
    const double tol = std::max(options_.tol * alpha_, options_.rtol * top);
    if (!(out_.error <= tol)) return "";
    // Whatever the tolerance still lets go.
    std::int64_t kept = out_.rank();
    while (kept > 1 && out_.error + out_.eigenvalues[at(kept - 1)] <= tol) --kept;
    if (kept < out_.rank()) {
      out_.error += out_.eigenvalues[at(kept)];
      out_.exhausted = false;
      out_.eigenvalues.resize(at(kept));
      Array<double> u(exec_, kept, n_);
      add(exec_, 1.0, out_.u.view().block(0, 0, kept, n_), 0.0, u.view());
      out_.u = std::move(u);
    }
    return "tolerance";
  }

  const Exec& exec_;
  const BlockMap& a_;
  const std::int64_t n_;
  const NystromOptions& options_;
  Array<double> omega_, y_;
  double alpha_ = 1;
  std::int64_t products_ = 0;
  NystromFactor out_;
};

NystromFactor uncertified(const Exec& exec, const BlockMap& a, std::int64_t n, std::int64_t rank, std::uint64_t seed) {
  GRAMIAN_REQUIRE(rank >= 1, invalid_argument, "the rank must lie in 1 .. n");
  NystromOptions options;
  options.rank = rank;
  options.certify = false;
  options.seed = seed;
  return nystrom(exec, a, n, options);
}

}  // namespace

NystromFactor nystrom(const Exec& exec, const BlockMap& a, std::int64_t n, const NystromOptions& options) {
  GRAMIAN_REQUIRE(n >= 1 && options.rank >= 0 && options.rank <= n && options.max_rank >= 0, invalid_argument,
                  "the rank must lie in 1 .. n");
  GRAMIAN_REQUIRE(options.probes >= 1 && options.unit > 0 && options.tol >= 0 && options.rtol >= 0 &&
                      options.least >= 0 && std::isfinite(options.tol),
                  invalid_argument, "an option of nystrom is out of range");
  const bool certain = options.certify || options.least > 0;
  GRAMIAN_REQUIRE(options.rank > 0 || (certain && (options.tol > 0 || options.rtol > 0 || options.least > 0)),
                  invalid_argument, "a rank or a tolerance is needed");
  return Builder(exec, a, n, options).run();
}

NystromPreconditioner::NystromPreconditioner(const Exec& exec, const BlockMap& a, std::int64_t n, std::int64_t rank,
                                             double mu, std::uint64_t seed)
    : NystromPreconditioner(exec, uncertified(exec, a, n, rank, seed), mu) {}

NystromPreconditioner::NystromPreconditioner(const Exec& exec, NystromFactor factor, double mu)
    : exec_(exec), mu_(mu), factor_(std::move(factor)) {
  GRAMIAN_REQUIRE(std::isfinite(mu) && mu >= 0, invalid_argument, "mu must be finite and not negative");
  if (factor_.rank() == 0) return;
  const double least = factor_.eigenvalues.back() + mu;
  std::vector<double> gains;
  for (const double value : factor_.eigenvalues) gains.push_back(least / (value + mu) - 1);
  gains_ = Array<double>(exec, factor_.rank());
  upload<double>(exec, {gains.data(), 1, factor_.rank()}, gains_.view());
}

void NystromPreconditioner::apply(MatrixView<const double> in, MatrixView<double> out) const {
  add(exec_, 1.0, in, 0.0, out);
  if (factor_.rank() == 0) return;
  Array<double> t(exec_, in.rows, factor_.rank());
  gemm<double>(exec_, Trans::no, Trans::yes, 1.0, in, factor_.u.view(), 0.0, t.view());
  scale_columns<double>(exec_, gains_.data(), t.view());
  gemm<double>(exec_, Trans::no, Trans::no, 1.0, t.view(), factor_.u.view(), 1.0, out);
}

bool NystromPreconditioner::worthwhile() const {
  if (factor_.rank() == 0) return false;
  return factor_.exhausted || factor_.eigenvalues.back() + mu_ <= 0.1 * (factor_.eigenvalues.front() + mu_);
}

}  // namespace gramian
