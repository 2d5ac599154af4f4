#include "gramian/sketch/randomized_svd.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/probes.hpp"
#include "gramian/linalg/qr.hpp"
#include "gramian/linalg/tall.hpp"
#include "sketch/two_sided.h"

namespace gramian {
namespace {

using sketching::Storage;
using sketching::TallMatrix;

// Tags of the streams of one seed.
constexpr std::uint32_t kTestMatrix = 8, kProbes = 9, kFreshLeft = 10, kFreshRight = 11;
// The basis grows until this share of the tolerance is proven, which leaves the rest to triplets that can be dropped.
constexpr double kShare = 0.8;
// Lengths of one sum of products (linalg/tall.hpp) whose rounding does not average out.
constexpr double kSumLength = 4096;
constexpr int kNormSteps = 12;
// Roundings of one product that the triplets have behind them: their parts were projected, factored and turned.
constexpr double kTripletRounding = 10;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

template <class T>
class Engine {
 public:
  Engine(const Exec& exec, const Storage<T>& a, const SvdOptions& options)
      : exec_(exec),
        options_(options),
        a_(exec, a, options.centre),
        n_(a_.n()),
        d_(a_.d()),
        left_(exec, n_, options.seed, kFreshLeft),
        right_(exec, d_, options.seed, kFreshRight) {
    adaptive_ = options.tol > 0 || options.rtol > 0;
    plan();
    measure(a);
  }

  RandomizedSvd<T> run() {
    start();
    for (;;) {
      exec_.poll();
      const bool full = right_.size() == d_;
      if (adaptive_ ? within_tolerance() : steps_ >= power_iterations_) {
        out_.why = adaptive_ ? "tolerance" : "rank";
        break;
      }
      if (full || (adaptive_ && right_.size() >= limit_)) {
        out_.why = full ? "full" : "limit";
        break;
      }
      step();
    }
    if (!adaptive_) certify();
    finish();
    return std::move(out_);
  }

 private:
  // Sizes of the blocks.
  void plan() {
    const std::int64_t least = d_, more = std::min(options_.oversampling, least);
    rank_ = options_.rank > 0 ? std::min(options_.rank, least) : least;
    if (adaptive_) {
      block_ = std::min(options_.block, least);
      // A basis of twice the rank holds the triplets of the best approximation well.
      limit_ = options_.rank > 0 ? std::min(least, 2 * rank_ + more) : least;
      block_ = std::min(block_, limit_);
    } else {
      block_ = std::min(rank_ + more, least);
      limit_ = least;
    }
    power_iterations_ = options_.power_iterations >= 0 ? options_.power_iterations : (options_.krylov ? 2 : 4);
  }

  // The size of A, by which rounding goes, and a factor that keeps squares in range.
  void measure(const Storage<T>& a) {
    const double stored = a_.stored_squares();
    squares_ = a_.sum_of_squares();
    if (std::isnan(stored)) {
      // Of a map nothing is known yet; of rows, NaN has come in.
      a.find_bad_row();
      known_ = false;
    } else if (!std::isfinite(stored)) {
      a.find_bad_row();
      throw Error(ErrorCode::invalid_argument, "A is too large: the sum of its squares overflows. Scale it");
    } else if (!(stored > 1e-12 && stored < 1e12)) {
      const double largest = a.largest();
      if (largest == 0) return;
      a_.set_alpha(power_for(largest));
      squares_ = a_.scaled_squares();
    }
  }

  // The power of two that brings this value near 1.
  static double power_for(double largest) {
    constexpr int kMostScale = sizeof(T) == sizeof(double) ? 1000 : 100;
    return std::ldexp(1.0, std::clamp(-std::ilogb(largest), -kMostScale, kMostScale));
  }

  // For a map the first product that is not zero tells its size.
  void measure_product(MatrixView<T> y) {
    constexpr double kFar = 1e60;
    std::vector<T> host(at(y.rows * y.cols));
    download<T>(exec_, y, {host.data(), y.rows, y.cols});
    double largest = 0;
    for (const T value : host) largest = std::max(largest, static_cast<double>(std::abs(value)));
    if (largest == 0) return;
    measured_ = true;
    if (largest > 1 / kFar && largest < kFar) return;
    a_.set_alpha(power_for(largest));
    axpby<T, T>(exec_, 0.0, {}, a_.alpha(), y);
  }

  // y'(A w) = (A'y)'w for the first block and the probes, or the certificate is worth nothing.
  void require_adjoint(MatrixView<const T> y, MatrixView<const T> back) {
    const std::int64_t b = y.cols, r = probes_.cols();
    Array<T> forth(exec_, b, r), other(exec_, b, r);
    long_gemm<T>(exec_, Trans::yes, y, rest_.view(), forth.view());
    long_gemm<T>(exec_, Trans::yes, back, probes_.view(), other.view());
    std::vector<T> one(at(b * r)), two(at(b * r));
    download<T>(exec_, forth.view(), {one.data(), b, r});
    download<T>(exec_, other.view(), {two.data(), b, r});
    const std::vector<double> ys = column_sumsq<T>(exec_, y), backs = column_sumsq<T>(exec_, back),
                              images = column_sumsq<T>(exec_, rest_.view()),
                              probes = column_sumsq<T>(exec_, probes_.view());
    for (std::int64_t i = 0; i < b; ++i) {
      for (std::int64_t j = 0; j < r; ++j) {
        // Products in single precision pass.
        const double rounding =
            1e-5 * (std::sqrt(ys[at(i)] * images[at(j)]) + std::sqrt(backs[at(i)] * probes[at(j)])) +
            10 * rounding_ * std::sqrt(ys[at(i)] * probes[at(j)]);
        GRAMIAN_REQUIRE(
            std::abs(static_cast<double>(one[at(i * r + j)]) - static_cast<double>(two[at(i * r + j)])) <= rounding,
            invalid_argument,
            "A.rmatvec is not the adjoint of A.matvec: y'(A x) and (A'y)'x differ for the same x and y");
      }
    }
  }

  // The first block is A' times a random one; the probes go with it through A in one reading.
  void start() {
    const std::int64_t r = options_.probes;
    // Columns of about length one, so that what comes out is of the size of A.
    Array<T> test(exec_, n_, block_), back;
    fill_random<T>(exec_, Distribution::gaussian, RngStream(options_.seed, RngFamily::gaussian, kTestMatrix),
                   1 / std::sqrt(static_cast<double>(n_)), test.view());
    {
      Array<T> z(exec_, d_, block_);
      a_.adjoint(test.view(), z.view());
      if (known_) {
        test = Array<T>();
        set_rounding();
      } else {
        measure_product(z.view());
        back = Array<T>(exec_, d_, block_);
        axpby<T, T>(exec_, 1.0, z.view(), 0.0, back.view());
      }
      right_.extend(std::move(z), rounding_);
    }
    probes_ = Array<T>(exec_, d_, r);
    fill_random<T>(exec_, Distribution::gaussian, RngStream(options_.seed, RngFamily::gaussian, kProbes), 1.0,
                   probes_.view());
    Array<T> both(exec_, d_, block_ + r), image(exec_, n_, block_ + r);
    axpby<T, T>(exec_, 1.0, right_.block(0), 0.0, both.view().block(0, 0, d_, block_));
    axpby<T, T>(exec_, 1.0, probes_.view(), 0.0, both.view().block(0, block_, d_, r));
    a_.apply(both.view(), image.view());
    if (!known_ && !measured_) measure_product(image.view());
    rest_ = Array<T>(exec_, n_, r);
    axpby<T, T>(exec_, 1.0, image.view().block(0, block_, n_, r), 0.0, rest_.view());
    double mean = 0;
    for (const double square : column_sumsq<T>(exec_, rest_.view())) mean += square / static_cast<double>(r);
    if (!known_) squares_ = mean;
    set_rounding();
    if (!known_) require_adjoint(test.view(), back.view());
    if (!options_.krylov) {
      image_ = Array<T>(exec_, n_, r);
      axpby<T, T>(exec_, 1.0, rest_.view(), 0.0, image_.view());
    }
    Array<T> y(exec_, n_, block_);
    axpby<T, T>(exec_, 1.0, image.view().block(0, 0, n_, block_), 0.0, y.view());
    take(std::move(y));
  }

  // By the size of the stored A: what is subtracted when it is centred rounds as well.
  void set_rounding() {
    double subtracted = 0;
    for (const double value : a_.mean()) subtracted += value * a_.alpha() * (value * a_.alpha());
    const double rows = static_cast<double>(a_.turned() ? d_ : n_);
    const double size = std::sqrt(squares_ + rows * subtracted);
    const double longest = std::max(static_cast<double>(d_), std::min(static_cast<double>(n_), kSumLength));
    rounding_ = std::sqrt(longest) * static_cast<double>(std::numeric_limits<T>::epsilon()) * size;
  }

  // y = A times the last block on the right: the residual of the probes, the basis on the left, the coefficients.
  void take(Array<T> y) {
    const MatrixView<T> v = right_.block(right_.blocks() - 1);
    Array<T> along(exec_, v.cols, probes_.cols());
    long_gemm<T>(exec_, Trans::yes, v, probes_.view(), along.view());
    gemm<T>(exec_, Trans::no, Trans::no, -1.0, y.view(), along.view(), 1.0, rest_.view());
    const std::int64_t b = y.cols();
    columns_.push_back({left_.extend(std::move(y), rounding_), b});
  }

  // Another block, by A' and A.
  void step() {
    const MatrixView<T> u = left_.block(left_.blocks() - 1);
    Array<T> z(exec_, d_, u.cols);
    a_.adjoint(u, z.view());
    if (options_.krylov) {
      const std::int64_t room = std::min(limit_, d_) - right_.size();
      if (room < z.cols()) {
        Array<T> part(exec_, d_, room);
        axpby<T, T>(exec_, 1.0, z.view().block(0, 0, d_, room), 0.0, part.view());
        z = std::move(part);
      }
    } else {
      right_.clear();
      left_.clear();
      columns_.clear();
      axpby<T, T>(exec_, 1.0, image_.view(), 0.0, rest_.view());
    }
    right_.extend(std::move(z), rounding_);
    const MatrixView<T> v = right_.block(right_.blocks() - 1);
    Array<T> y(exec_, n_, v.cols);
    a_.apply(v, y.view());
    take(std::move(y));
    ++steps_;
  }

  // B with A V = U B, by rows.
  std::vector<double> coefficients() const {
    const std::int64_t m = right_.size();
    std::vector<double> b(at(m * m), 0.0);
    std::int64_t first = 0;
    for (const Column& column : columns_) {
      const auto rows = static_cast<std::int64_t>(column.values.size()) / column.width;
      for (std::int64_t i = 0; i < rows; ++i)
        std::copy_n(column.values.begin() + i * column.width, column.width, b.begin() + i * m + first);
      first += column.width;
    }
    return b;
  }

  // Never more than |A V|: a few steps of the power method on B'B.
  double norm_from_below() const {
    const std::int64_t m = right_.size();
    const std::vector<double> b = coefficients();
    std::vector<double> v(at(m), 1 / std::sqrt(static_cast<double>(m))), w(at(m));
    double norm = 0;
    for (int step = 0; step < kNormSteps; ++step) {
      norm = 0;
      for (std::int64_t i = 0; i < m; ++i) {
        double sum = 0;
        for (std::int64_t j = 0; j < m; ++j) sum += b[at(i * m + j)] * v[at(j)];
        w[at(i)] = sum;
        norm += sum * sum;
      }
      norm = std::sqrt(norm);
      std::fill(v.begin(), v.end(), 0.0);
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < m; ++j) v[at(j)] += b[at(i * m + j)] * w[at(i)];
      double length = 0;
      for (const double value : v) length += value * value;
      if (!(length > 0)) return norm;
      for (double& value : v) value /= std::sqrt(length);
    }
    return norm;
  }

  double tolerance() const { return std::max(options_.tol * a_.alpha(), options_.rtol * norm_from_below()); }

  // |A|_F^2 - |B|_F^2 = |E|_F^2 for E = A - A V V', and what rounding may have taken from it.
  double frobenius_of_rest() const {
    if (!known_) return std::numeric_limits<double>::infinity();
    double kept = 0;
    for (const Column& column : columns_)
      for (const double value : column.values) kept += value * value;
    return frobenius_bound(kept);
  }

  // Of A less its part with |B|_F^2 = kept, whose coefficients have an error of the length of rounding_.
  double frobenius_bound(double kept) const {
    return std::sqrt(std::max(0.0, squares_ - kept) + 2 * rounding_ * std::sqrt(squares_) + rounding_ * rounding_);
  }

  // A bound of |E| from the probes with p powers of E'E.
  double probe_bound(int powers) {
    const std::int64_t r = probes_.cols();
    std::vector<double> logs(at(r), 0.0);
    Array<T> y(exec_, n_, r);
    axpby<T, T>(exec_, 1.0, rest_.view(), 0.0, y.view());
    for (int power = 0;; ++power) {
      // Columns of length one, their lengths apart: powers of small errors would vanish.
      std::vector<double> scale;
      const std::vector<double> squares = column_sumsq<T>(exec_, y.view());
      for (std::int64_t j = 0; j < r; ++j) {
        const double length = std::sqrt(squares[at(j)]);
        logs[at(j)] += std::log(length);
        scale.push_back(length > 0 ? 1 / length : 0.0);
      }
      if (power == powers) break;
      const std::vector<T> rounded(scale.begin(), scale.end());
      Array<T> device(exec_, r);
      upload<T>(exec_, {rounded.data(), 1, r}, device.view());
      scale_columns<T>(exec_, device.data(), y.view());
      Array<T> z(exec_, d_, r);
      a_.adjoint(y.view(), z.view());
      right_.project_out(z.view());
      a_.apply(z.view(), y.view());
    }
    // Each step has two checks of its own, made or not, so that which of them are made does not matter.
    const int check = adaptive_ ? 2 * steps_ + (powers > 0 ? 2 : 1) : 0;
    return bound_of_norm(*std::max_element(logs.begin(), logs.end()), powers, static_cast<int>(r), check) + rounding_;
  }

  void certify() {
    const int powers = right_.size() == d_ ? 0 : options_.certificate_powers;
    rest_bound_ = std::min(probe_bound(powers), frobenius_of_rest());
  }

  // Is |E| proven to be within the tolerance? The bound without powers costs nothing; powers cost readings, so they are
  // asked when the tolerance is in reach, and after that each time the basis has grown by an eighth.
  bool within_tolerance() {
    const double tol = kShare * tolerance();
    rest_bound_ = std::min(probe_bound(0), frobenius_of_rest());
    if (rest_bound_ + rounding_ <= tol) return true;
    if (options_.certificate_powers == 0 || right_.size() == d_ || right_.size() < next_powers_) return false;
    double mean = 0;
    for (const double square : column_sumsq<T>(exec_, rest_.view())) mean += square;
    mean /= static_cast<double>(probes_.cols());
    // |E|_F over the root of the dimensions that are left is the least that |E| can be.
    if (std::sqrt(mean / static_cast<double>(d_ - right_.size())) > tol) return false;
    next_powers_ = right_.size() + std::max<std::int64_t>(1, right_.size() / 8);
    rest_bound_ = std::min(rest_bound_, probe_bound(options_.certificate_powers));
    return rest_bound_ + rounding_ <= tol;
  }

  // |A - U_k S_k V_k'| <= sqrt(|E|^2 + s_(k+1)^2): the two parts have orthogonal rows.
  double error_at(std::int64_t k, const std::vector<double>& s) const {
    const double next = k < static_cast<std::int64_t>(s.size()) ? s[at(k)] : 0.0;
    return std::sqrt(rest_bound_ * rest_bound_ + next * next + 2 * rounding_ * next) + kTripletRounding * rounding_;
  }

  void finish() {
    const std::int64_t m = right_.size();
    const std::vector<double> b = coefficients();
    Array<double> middle(exec_, m, m), left(exec_, m, m), right(exec_, m, m);
    upload<double>(exec_, {b.data(), m, m}, middle.view());
    std::vector<double> s;
    small_svd<double>(exec_, middle.view(), left.view(), s, right.view());
    // What is at the level of rounding is not told from zero.
    std::int64_t sure = 0;
    while (sure < m && s[at(sure)] > rounding_) ++sure;
    std::int64_t k = std::min(rank_, m);
    if (adaptive_) {
      const double tol = std::max(options_.tol * a_.alpha(), options_.rtol * s[0]);
      out_.converged = error_at(k, s) <= tol;
      if (out_.converged) {
        while (k > 1 && error_at(k - 1, s) <= tol) --k;  // whatever the tolerance still lets go
      } else {
        k = std::min(k, std::max<std::int64_t>(1, sure));
        if (out_.why == "tolerance") out_.why = "limit";
      }
    }
    std::vector<double> lefts(at(m * k)), rights(at(m * k)), host(at(m * m));
    download<double>(exec_, left.view(), {host.data(), m, m});
    for (std::int64_t i = 0; i < m; ++i) std::copy_n(host.begin() + i * m, k, lefts.begin() + i * k);
    download<double>(exec_, right.view(), {host.data(), m, m});
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < k; ++j) rights[at(i * k + j)] = host[at(j * m + i)];
    if (a_.turned()) {
      out_.u = Array<T>(exec_, d_, k);
      out_.vt = Array<T>(exec_, k, n_);
      right_.combine(rights, k, out_.u.view());
      left_.combine_transposed(lefts, k, out_.vt.view());
    } else {
      out_.u = Array<T>(exec_, n_, k);
      out_.vt = Array<T>(exec_, k, d_);
      left_.combine(lefts, k, out_.u.view());
      right_.combine_transposed(rights, k, out_.vt.view());
    }
    choose_signs();
    const double unit = 1 / a_.alpha();
    double kept = 0;
    for (std::int64_t i = 0; i < k; ++i) {
      out_.s.push_back(s[at(i)] * unit);
      kept += s[at(i)] * s[at(i)];
    }
    out_.rank = std::min(sure, k);
    // A product that is subnormal was rounded.
    out_.error = error_at(k, s) * unit;
    if (unit != 1 && out_.error > 0) out_.error = std::nextafter(out_.error, std::numeric_limits<double>::infinity());
    out_.frobenius_error = known_ ? frobenius_bound(kept) * unit : std::numeric_limits<double>::quiet_NaN();
    out_.norm = std::sqrt(squares_) * unit;
    out_.mean = a_.mean();
    out_.passes = a_.passes();
    out_.basis = m;
  }

  void choose_signs() {
    const MatrixView<T> vt = out_.vt.view();
    std::vector<T> host(at(vt.rows * vt.cols)), flips;
    download<T>(exec_, vt, {host.data(), vt.rows, vt.cols});
    for (std::int64_t i = 0; i < vt.rows; ++i) {
      const auto row = host.begin() + i * vt.cols;
      const T top = *std::max_element(row, row + vt.cols, [](T x, T y) { return std::abs(x) < std::abs(y); });
      flips.push_back(top < T(0) ? T(-1) : T(1));
    }
    scale_rows<T>(exec_, std::vector<double>(flips.begin(), flips.end()), vt);
    Array<T> device(exec_, vt.rows);
    upload<T>(exec_, {flips.data(), 1, vt.rows}, device.view());
    scale_columns<T>(exec_, device.data(), out_.u.view());
  }

  struct Column {
    std::vector<double> values;  // rows of B so far x width
    std::int64_t width;
  };

  const Exec& exec_;
  const SvdOptions& options_;
  TallMatrix<T> a_;
  const std::int64_t n_, d_;
  OrthonormalColumns<T> left_, right_;
  bool adaptive_ = false;
  bool known_ = true;      // |A|_F; of a map it is an estimate
  bool measured_ = false;  // whether a product has told the size of a map
  std::int64_t rank_ = 0, block_ = 0, limit_ = 0;
  int power_iterations_ = 0, steps_ = 0;
  std::int64_t next_powers_ = 0;
  double squares_ = 0;              // |A|_F^2
  double rounding_ = 0;             // of one product, over the length of what is multiplied
  double rest_bound_ = 0;           // of |E|
  Array<T> probes_, rest_, image_;  // w, E w, A w
  std::vector<Column> columns_;
  RandomizedSvd<T> out_;
};

void check(std::int64_t n, std::int64_t d, const SvdOptions& options) {
  GRAMIAN_REQUIRE(n >= 1 && d >= 1, shape_mismatch, "A has no rows or no columns");
  const bool adaptive = options.tol > 0 || options.rtol > 0;
  GRAMIAN_REQUIRE(options.tol >= 0 && options.rtol >= 0 && std::isfinite(options.tol) && options.rtol < 1,
                  invalid_argument, "tol must be finite and >= 0, rtol in [0, 1)");
  GRAMIAN_REQUIRE(adaptive || options.rank >= 1, invalid_argument, "a rank or a tolerance is needed");
  GRAMIAN_REQUIRE(options.rank <= std::min(n, d), invalid_argument,
                  "rank must be at most " + std::to_string(std::min(n, d)) + ", the smaller side of A, got " +
                      std::to_string(options.rank));
  GRAMIAN_REQUIRE(
      options.oversampling >= 0 && options.block >= 1 && options.probes >= 1 && options.certificate_powers >= 0,
      invalid_argument, "an option of randomized_svd is out of range");
  GRAMIAN_REQUIRE(!adaptive || options.krylov, invalid_argument, "a tolerance needs the method \"krylov\"");
}

}  // namespace

template <class T>
RandomizedSvd<T> randomized_svd(const Exec& exec, const RowsView& a, const SvdOptions& options) {
  check(a.rows, a.cols, options);
  const auto storage = sketching::store_rows<T>(exec, a);
  return Engine<T>(exec, *storage, options).run();
}

RandomizedSvd<double> randomized_svd(const Exec& exec, const LinearMap& a, const SvdOptions& options) {
  check(a.n, a.d, options);
  const auto storage = sketching::store_map(exec, a);
  return Engine<double>(exec, *storage, options).run();
}

template GRAMIAN_EXPORT RandomizedSvd<float> randomized_svd<float>(const Exec&, const RowsView&, const SvdOptions&);
template GRAMIAN_EXPORT RandomizedSvd<double> randomized_svd<double>(const Exec&, const RowsView&, const SvdOptions&);

}  // namespace gramian
