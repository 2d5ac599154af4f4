#include "gramian/linalg/solve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "support/data.h"
#include "support/helpers.h"

namespace {

using gramian::Array;
using gramian::Error;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::MatrixView;
using gramian::Precision;
using gramian::SolveReport;
using gramian::SymmetricMatrix;
using testkit::cpu;
using testkit::normals;

// Q diag(spectrum) Q', Q a product of reflections, in long double.
class Known {
 public:
  Known(std::vector<long double> spectrum, std::uint64_t seed)
      : n_(static_cast<std::int64_t>(spectrum.size())), spectrum_(std::move(spectrum)) {
    for (std::uint64_t k = 0; k < 3; ++k) {
      std::vector<long double> v = normals<long double>(n_, 1, seed + k);
      long double size = 0;
      for (const long double x : v) size += x * x;
      for (long double& x : v) x /= std::sqrt(size);
      mirrors_.push_back(std::move(v));
    }
    a_.assign(static_cast<std::size_t>(n_ * n_), 0.0L);
    for (std::int64_t i = 0; i < n_; ++i)
      a_[static_cast<std::size_t>(i * n_ + i)] = spectrum_[static_cast<std::size_t>(i)];
    for (const auto& v : mirrors_) {
      for (int side = 0; side < 2; ++side) {
        reflect(v, a_, n_);
        for (std::int64_t i = 0; i < n_; ++i)
          for (std::int64_t j = 0; j < i; ++j)
            std::swap(a_[static_cast<std::size_t>(i * n_ + j)], a_[static_cast<std::size_t>(j * n_ + i)]);
      }
    }
  }

  std::int64_t size() const { return n_; }
  long double entry(std::int64_t i, std::int64_t j) const { return a_[static_cast<std::size_t>(i * n_ + j)]; }
  // Q f(spectrum) Q' b for n x c values.
  template <class F>
  std::vector<long double> apply(const F& f, std::vector<long double> b, std::int64_t c) const {
    for (auto v = mirrors_.rbegin(); v != mirrors_.rend(); ++v) reflect(*v, b, c);
    for (std::int64_t i = 0; i < n_; ++i)
      for (std::int64_t k = 0; k < c; ++k)
        b[static_cast<std::size_t>(i * c + k)] *= f(spectrum_[static_cast<std::size_t>(i)]);
    for (const auto& v : mirrors_) reflect(v, b, c);
    return b;
  }

 private:
  // b -= 2 v (v'b)
  void reflect(const std::vector<long double>& v, std::vector<long double>& b, std::int64_t c) const {
    std::vector<long double> dots(static_cast<std::size_t>(c), 0.0L);
    for (std::int64_t i = 0; i < n_; ++i)
      for (std::int64_t k = 0; k < c; ++k)
        dots[static_cast<std::size_t>(k)] += v[static_cast<std::size_t>(i)] * b[static_cast<std::size_t>(i * c + k)];
    for (std::int64_t i = 0; i < n_; ++i)
      for (std::int64_t k = 0; k < c; ++k)
        b[static_cast<std::size_t>(i * c + k)] -=
            2 * v[static_cast<std::size_t>(i)] * dots[static_cast<std::size_t>(k)];
  }
  std::int64_t n_;
  std::vector<long double> spectrum_;
  std::vector<std::vector<long double>> mirrors_;
  std::vector<long double> a_;
};

// n eigenvalues from 1 down to 1 / condition, equally spaced in the exponent.
std::vector<long double> spread(std::int64_t n, long double condition) {
  std::vector<long double> out(static_cast<std::size_t>(n), 1.0L);
  for (std::int64_t k = 1; k < n; ++k)
    out[static_cast<std::size_t>(k)] =
        std::pow(condition, -static_cast<long double>(k) / static_cast<long double>(n - 1));
  return out;
}

class Stored final : public gramian::SpdOperator {
 public:
  Stored(const Known& a, long double scale) : a_(cpu(1), a.size()) {
    std::vector<double> packed;
    for (std::int64_t i = 0; i < a.size(); ++i)
      for (std::int64_t j = 0; j <= i; ++j) packed.push_back(static_cast<double>(scale * a.entry(i, j)));
    a_.unpack(cpu(1), packed.data());
  }
  std::int64_t size() const override { return a_.size(); }
  void build(const Exec& exec, SymmetricMatrix<double>& a) const override { a.axpby(exec, 1.0, a_, 0.0); }
  void build(const Exec& exec, SymmetricMatrix<float>& a) const override { a.axpby(exec, 1.0, a_, 0.0); }
  void apply(const Exec& exec, MatrixView<const double> w, MatrixView<double> out) const override {
    gramian::symmetric_multiply(exec, 1.0, a_, w, 0.0, out);
  }

 private:
  SymmetricMatrix<double> a_;
};

struct Outcome {
  SolveReport report;
  std::vector<double> w;
  double error = 0;     // |W - truth| / |truth|
  double residual = 0;  // |B - A W| / (|A||W| + |B|), in long double
};

struct Case {
  std::int64_t c = 3;
  long double scale = 1;    // of A
  long double b_scale = 1;  // of B, on top of A's
  Precision precision = Precision::full;
  bool require_full_rank = false;
  int threads = 2;
  bool in_range = true;  // B = A W for a known W
};

Outcome solve(const Known& a, const Case& how) {
  const std::int64_t n = a.size(), c = how.c;
  const auto inverse = [](long double x) { return x > 0 ? 1 / x : 0.0L; };
  std::vector<long double> b = normals<long double>(n, c, 77);
  if (how.in_range) b = a.apply([](long double x) { return x; }, b, c);
  const std::vector<long double> truth = a.apply(inverse, b, c);  // of A / scale and B / (scale b_scale)
  std::vector<double> rounded;
  for (const long double v : b) rounded.push_back(static_cast<double>(v * how.scale * how.b_scale));
  Outcome out;
  out.w.assign(rounded.size(), std::nan(""));
  const Stored stored(a, how.scale);
  const std::vector<double> kept = rounded;
  out.report = gramian::solve_spd(cpu(how.threads), stored, MatrixView<const double>(rounded.data(), n, c),
                                  MatrixView<double>(out.w.data(), n, c), how.precision, how.require_full_rank);
  EXPECT_EQ(std::memcmp(kept.data(), rounded.data(), kept.size() * sizeof(double)), 0) << "B has changed";
  long double error = 0, size = 0, size_a = 0, size_b = 0, left = 0, size_w = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) size_a += a.entry(i, j) * a.entry(i, j);
    for (std::int64_t k = 0; k < c; ++k) {
      const auto at = static_cast<std::size_t>(i * c + k);
      const long double w = out.w[at] / how.b_scale;
      long double r = b[at];
      for (std::int64_t j = 0; j < n; ++j)
        r -= static_cast<long double>(static_cast<double>(a.entry(i, j))) *
             (out.w[static_cast<std::size_t>(j * c + k)] / how.b_scale);
      error += (w - truth[at]) * (w - truth[at]);
      size += truth[at] * truth[at];
      size_w += w * w;
      size_b += b[at] * b[at];
      left += r * r;
    }
  }
  out.error = static_cast<double>(std::sqrt(error / size));
  out.residual = static_cast<double>(std::sqrt(left) / (std::sqrt(size_a * size_w) + std::sqrt(size_b)));
  return out;
}

TEST(SolveSpd, WellConditionedSystemsTakeCholesky) {
  for (const std::int64_t n : {1, 7, 129, 257, 300}) {
    const Known a(spread(n, 100), 1);
    for (const Precision precision : {Precision::full, Precision::automatic}) {
      Case how;
      how.precision = precision;
      how.require_full_rank = true;
      const Outcome out = solve(a, how);
      EXPECT_EQ(out.report.method, "cholesky");
      EXPECT_EQ(out.report.fallback, "");
      EXPECT_EQ(out.report.size, n);
      EXPECT_EQ(out.report.rank, n);
      EXPECT_EQ(out.report.refinements, 0);
      EXPECT_LE(out.error, 1e-12) << n;
      EXPECT_LE(out.residual, 1e-15) << n;
      EXPECT_LE(out.report.residual, 1e-15) << n;
      EXPECT_GE(out.report.seconds, 0);
    }
  }
}

TEST(SolveSpd, FloatFactorsAreRefinedToDoubleWithinSixSweeps) {
  for (const std::int64_t n : {7, 129, 300, 513}) {
    for (const long double condition : {1e1L, 1e3L, 1e5L, 1e6L}) {
      const Known a(spread(n, condition), 2);
      Case how;
      how.precision = Precision::mixed;
      const Outcome out = solve(a, how);
      EXPECT_EQ(out.report.method, "cholesky_mixed") << n << ' ' << condition << ' ' << out.report.fallback;
      EXPECT_EQ(out.report.fallback, "");
      EXPECT_LE(out.report.refinements, 6);
      EXPECT_GE(out.report.refinements, 1);
      EXPECT_LE(out.report.residual, 1e-15);
      EXPECT_LE(out.residual, 1.2e-15) << n << ' ' << condition;
      EXPECT_LE(out.error, 1e-14 * static_cast<double>(condition)) << n;
    }
  }
}

TEST(SolveSpd, WhereFloatCannotAnswerDoubleDoesAndTheReportSaysSo) {
  for (const std::int64_t n : {129, 300}) {
    for (const long double condition : {1e9L, 1e10L, 1e12L}) {
      const Known a(spread(n, condition), 3);
      Case how;
      how.precision = Precision::mixed;
      const Outcome out = solve(a, how);
      EXPECT_EQ(out.report.method, "cholesky") << n << ' ' << condition;
      EXPECT_NE(out.report.fallback.find("float"), std::string::npos) << out.report.fallback;
      EXPECT_EQ(out.report.rank, n);
      EXPECT_LE(out.residual, 1e-15);
      EXPECT_LE(out.error, 1e-14 * static_cast<double>(condition));
    }
  }
}

TEST(SolveSpd, TheConditionEstimateIsWithinAFactorOf100) {
  for (const std::int64_t n : {7, 129, 300}) {
    for (const long double condition : {1.0L, 1e2L, 1e4L, 1e8L, 1e12L}) {
      for (const std::uint64_t seed : {4u, 40u, 400u}) {
        const Known a(spread(n, condition), seed);
        const Outcome out = solve(a, {});
        EXPECT_EQ(out.report.method, "cholesky");
        const double ratio = out.report.condition / static_cast<double>(condition);
        EXPECT_GE(ratio, 0.01) << n << ' ' << condition;
        EXPECT_LE(ratio, 1.5) << n << ' ' << condition;
        const double smallest = out.report.smallest_eigenvalue * static_cast<double>(condition);
        EXPECT_GE(smallest, 0.5);
        EXPECT_LE(smallest, 100) << n << ' ' << condition;
      }
    }
  }
}

TEST(SolveSpd, SingularSystemsHaveTheMinimumNormAnswerAndTheirRank) {
  for (const std::int64_t n : {2, 60, 129}) {
    for (const std::int64_t missing : {std::int64_t{1}, n / 2}) {
      std::vector<long double> spectrum = spread(n - missing, 1000);
      spectrum.resize(static_cast<std::size_t>(n), 0.0L);
      const Known a(spectrum, 5);
      for (const Precision precision : {Precision::full, Precision::mixed}) {
        for (const bool in_range : {true, false}) {
          Case how;
          how.precision = precision;
          how.in_range = in_range;
          const Outcome out = solve(a, how);
          EXPECT_EQ(out.report.method, "eigh");
          EXPECT_EQ(out.report.rank, n - missing);
          EXPECT_NE(out.report.fallback, "");
          EXPECT_LE(out.error, 1e-10) << n << ' ' << missing;
          const double condition = n - missing > 1 ? 1000.0 : 1.0;
          EXPECT_NEAR(out.report.condition, condition, 1e-6 * condition);
          if (in_range) {
            EXPECT_LE(out.report.residual, 1e-14);
          } else {
            EXPECT_GT(out.report.residual, 1e-6);  // nothing hides that B is not in the range
          }
        }
      }
      Case strict;
      strict.require_full_rank = true;
      try {
        solve(a, strict);
        FAIL() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::not_positive_definite);
        EXPECT_NE(std::string(error.what()).find("rank is " + std::to_string(n - missing) + " of " + std::to_string(n)),
                  std::string::npos)
            << error.what();
      }
    }
  }
}

TEST(SolveSpd, FullRankIsWhatTheRuleBelieves) {
  constexpr std::int64_t n = 20;
  std::vector<long double> values(n, 1.0L);
  values[0] = 1e-6L;
  const Known a(values, 9);
  const Stored stored(a, 1);
  const std::vector<double> b(n, 1.0);
  const auto solve = [&](const gramian::RankRule& rule, bool required = true) {
    std::vector<double> w(n);
    return gramian::solve_spd(cpu(2), stored, MatrixView<const double>(b.data(), n, 1),
                              MatrixView<double>(w.data(), n, 1), Precision::full, required, rule);
  };
  const auto refused = [&](const gramian::RankRule& rule) {
    try {
      solve(rule);
      ADD_FAILURE() << "was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::not_positive_definite);
      EXPECT_NE(std::string(error.what()).find("rank is 19 of 20"), std::string::npos) << error.what();
    }
  };
  gramian::RankRule rule;
  EXPECT_EQ(solve(rule).method, "cholesky");
  rule.unit = 1.2e-7;  // of float products: a condition of 1e6 is beyond it, and the eigenvalues have to tell
  EXPECT_EQ(solve(rule).method, "eigh");
  rule.noise = 1e-5;
  refused(rule);
  EXPECT_EQ(solve(rule, false).method, "cholesky");  // with a ridge nothing is asked
  rule.scale.assign(n, 1.0);
  refused(rule);  // a look at columns of one size, which these are, changes nothing
  rule = {};
  rule.floor = 1e-5;  // of sums that were once larger
  EXPECT_EQ(solve(rule).method, "eigh");
  rule.noise = 1e-5;
  refused(rule);
  rule.floor = 1e-7;
  EXPECT_EQ(solve(rule).method, "cholesky");
}

TEST(SolveSpd, AZeroMatrixHasRankZero) {
  const Known a(std::vector<long double>(20, 0.0L), 6);
  const Stored stored(a, 1);
  const std::vector<double> b(20, 1.0);
  for (const Precision precision : {Precision::full, Precision::mixed}) {
    std::vector<double> w(20, std::nan(""));
    const SolveReport report = gramian::solve_spd(cpu(2), stored, MatrixView<const double>(b.data(), 20, 1),
                                                  MatrixView<double>(w.data(), 20, 1), precision, false);
    EXPECT_EQ(report.method, "eigh");
    EXPECT_EQ(report.rank, 0);
    for (const double v : w) EXPECT_EQ(v, 0.0);
  }
}

TEST(SolveSpd, TheScaleOfTheMatrixDoesNotMatter) {
  const Known a(spread(200, 1e3L), 7);
  for (const long double scale :
       {1e-290L, 1e-150L, 1e-45L, 1e-40L, 1e-30L, 1e30L, 1e38L, 1e39L, 1e150L, 1e200L, 1e300L}) {
    for (const Precision precision : {Precision::full, Precision::mixed}) {
      Case how;
      how.scale = scale;
      how.precision = precision;
      const Outcome out = solve(a, how);
      EXPECT_EQ(out.report.rank, 200);
      EXPECT_LE(out.error, 1e-11) << scale << out.report.method;
      EXPECT_LE(out.residual, 2e-15) << scale;
      EXPECT_LE(out.report.residual, 2e-15) << scale;
      EXPECT_GE(out.report.condition, 10) << scale;
      EXPECT_LE(out.report.condition, 1500) << scale;
      if (scale == 1e-30L || scale == 1e30L) {
        EXPECT_EQ(out.report.method, precision == Precision::mixed ? "cholesky_mixed" : "cholesky") << scale;
      }
    }
  }
  std::vector<long double> spectrum = spread(60, 1e3L);
  spectrum[59] = 0;
  const Known singular(spectrum, 7);
  for (const long double scale : {1e-150L, 1e150L}) {
    Case how;
    how.scale = scale;
    const Outcome out = solve(singular, how);
    EXPECT_EQ(out.report.rank, 59) << scale;
    EXPECT_LE(out.error, 1e-10) << scale;
  }
}

TEST(SolveSpd, TheScaleOfTheRightHandSideDoesNotMatter) {
  const Known a(spread(200, 1e3L), 8);
  for (const long double scale : {1e-200L, 1e-170L, 1e-140L, 1e-100L, 1e100L, 1e140L, 1e150L, 1e250L}) {
    for (const Precision precision : {Precision::full, Precision::mixed}) {
      Case how;
      how.b_scale = scale;
      how.precision = precision;
      const Outcome out = solve(a, how);
      EXPECT_LE(out.error, 1e-11) << scale << ' ' << out.report.method;
      EXPECT_LE(out.residual, 2e-15) << scale << ' ' << out.report.method;
      EXPECT_LE(out.report.residual, 2e-15) << scale;
      EXPECT_EQ(out.report.rank, 200);
    }
  }
}

TEST(SolveSpd, BadlyScaledFeaturesKeepTheirDigits) {
  // Rows and columns times powers of two: the weights of small features are worth as much as those of large ones.
  const std::int64_t n = 120;
  const Known a(spread(n, 100), 9);
  std::vector<double> scales(static_cast<std::size_t>(n));
  for (std::size_t k = 0; k < scales.size(); ++k) scales[k] = std::ldexp(1.0, static_cast<int>(k % 11) - 5);
  class Scaled final : public gramian::SpdOperator {
   public:
    Scaled(const Known& known, const std::vector<double>& v) : a_(cpu(1), known.size()) {
      Stored(known, 1).build(cpu(1), a_);
      a_.scale(cpu(1), v);
    }
    std::int64_t size() const override { return a_.size(); }
    void build(const Exec& exec, SymmetricMatrix<double>& a) const override { a.axpby(exec, 1.0, a_, 0.0); }
    void build(const Exec& exec, SymmetricMatrix<float>& a) const override { a.axpby(exec, 1.0, a_, 0.0); }
    void apply(const Exec& exec, MatrixView<const double> w, MatrixView<double> out) const override {
      gramian::symmetric_multiply(exec, 1.0, a_, w, 0.0, out);
    }

   private:
    SymmetricMatrix<double> a_;
  };
  const Scaled scaled(a, scales);
  const std::vector<long double> truth = normals<long double>(n, 1, 10);
  const std::vector<long double> image = a.apply([](long double x) { return x; }, truth, 1);
  std::vector<double> b(static_cast<std::size_t>(n)), w(b.size());
  for (std::size_t k = 0; k < b.size(); ++k) b[k] = static_cast<double>(image[k]) * scales[k];
  const SolveReport report = gramian::solve_spd(cpu(1), scaled, MatrixView<const double>(b.data(), n, 1),
                                                MatrixView<double>(w.data(), n, 1), Precision::mixed, false);
  EXPECT_EQ(report.method, "cholesky");
  for (std::size_t k = 0; k < w.size(); ++k) EXPECT_NEAR(w[k] * scales[k], static_cast<double>(truth[k]), 1e-11);
}

TEST(SolveSpd, AZeroRightHandSideAndNoColumns) {
  const Known a(spread(50, 100), 11);
  const Stored stored(a, 1);
  const std::vector<double> b(100, 0.0);
  for (const Precision precision : {Precision::full, Precision::mixed}) {
    std::vector<double> w(100, std::nan(""));
    const SolveReport report = gramian::solve_spd(cpu(2), stored, MatrixView<const double>(b.data(), 50, 2),
                                                  MatrixView<double>(w.data(), 50, 2), precision, true);
    for (const double v : w) EXPECT_EQ(v, 0.0);
    EXPECT_EQ(report.residual, 0.0);
    gramian::solve_spd(cpu(2), stored, MatrixView<const double>(nullptr, 50, 0), MatrixView<double>(nullptr, 50, 0),
                       precision, true);
  }
  std::vector<double> w(49);
  EXPECT_THROW(gramian::solve_spd(cpu(1), stored, MatrixView<const double>(b.data(), 49, 1),
                                  MatrixView<double>(w.data(), 49, 1), Precision::full, false),
               Error);
}

TEST(SolveSpd, HasTheSameBitsForEveryThreadCount) {
  std::vector<long double> singular = spread(129, 1000);
  singular.back() = 0;
  const Known systems[] = {Known(spread(300, 1e4L), 12), Known(singular, 13)};
  for (const Known& a : systems) {
    for (const Precision precision : {Precision::full, Precision::mixed}) {
      std::vector<double> first;
      std::string method;
      for (int threads = 1; threads <= 4; ++threads) {
        Case how;
        how.precision = precision;
        how.threads = threads;
        const Outcome out = solve(a, how);
        if (threads == 1) {
          first = out.w;
          method = out.report.method;
        }
        EXPECT_EQ(std::memcmp(first.data(), out.w.data(), first.size() * sizeof(double)), 0) << threads;
        EXPECT_EQ(method, out.report.method);
      }
    }
  }
}

TEST(SolveSpd, OverflownSumsAreAnError) {
  const Known a(spread(20, 10), 14);
  class Overflown final : public gramian::SpdOperator {
   public:
    std::int64_t size() const override { return 20; }
    void build(const Exec& exec, SymmetricMatrix<double>& a) const override { a.add_diagonal(exec, INFINITY); }
    void build(const Exec& exec, SymmetricMatrix<float>& a) const override { a.add_diagonal(exec, INFINITY); }
    void apply(const Exec& exec, MatrixView<const double> w, MatrixView<double> out) const override {
      gramian::axpby<double, double>(exec, INFINITY, w, 0.0, out);
    }
  };
  const std::vector<double> b(20, 1.0);
  for (const Precision precision : {Precision::full, Precision::mixed}) {
    std::vector<double> w(20);
    try {
      gramian::solve_spd(cpu(1), Overflown(), MatrixView<const double>(b.data(), 20, 1),
                         MatrixView<double>(w.data(), 20, 1), precision, false);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::non_finite) << error.what();
    }
  }
}

TEST(PowerNorm, IsLowByLessThanAFactorOfTwo) {
  for (const std::int64_t n : {1, 7, 129}) {
    for (const long double condition : {1.0L, 1e4L, 1e12L}) {
      const Stored stored(Known(spread(n, condition), 9), 1);
      const auto apply = [&](MatrixView<const double> x, MatrixView<double> y) { stored.apply(cpu(1), x, y); };
      const double norm = gramian::power_norm(cpu(1), n, 4, apply);
      EXPECT_LE(norm, 1 + 1e-12);
      EXPECT_GE(norm, 0.5) << n << ' ' << condition;
      SymmetricMatrix<double> l(cpu(1), n);
      stored.build(cpu(1), l);
      ASSERT_EQ(gramian::cholesky(cpu(1), l), 0);
      const double root = n > 1 ? std::sqrt(static_cast<double>(condition)) : 1.0;
      const double inverse = gramian::inverse_norm(cpu(1), l, 4);
      EXPECT_LE(inverse, 1.01 * root);
      EXPECT_GE(inverse, 0.5 * root) << n << ' ' << condition;
    }
  }
  const auto nothing = [](MatrixView<const double>, MatrixView<double> y) { y(0, 0) = y(1, 0) = 0; };
  EXPECT_EQ(gramian::power_norm(cpu(1), 2, 4, nothing), 0);
  const auto infinite = [](MatrixView<const double>, MatrixView<double> y) { y(0, 0) = y(1, 0) = INFINITY; };
  EXPECT_EQ(gramian::power_norm(cpu(1), 2, 4, infinite), INFINITY);
}

TEST(RidgedMatrix, IsTheMatrixWithTheRidgeOnItsDiagonal) {
  const std::int64_t n = 130;
  const Stored stored(Known(spread(n, 100), 3), 1);
  SymmetricMatrix<double> k(cpu(1), n), built(cpu(1), n), expected(cpu(1), n);
  SymmetricMatrix<float> narrow(cpu(1), n);
  stored.build(cpu(1), k);
  stored.build(cpu(1), expected);
  expected.add_diagonal(cpu(1), 0.25);
  const gramian::RidgedMatrix ridged(std::move(k), 0.25);
  ASSERT_EQ(ridged.size(), n);
  ridged.build(cpu(1), built);
  ridged.build(cpu(1), narrow);
  const auto length = static_cast<std::size_t>(n * (n + 1) / 2);
  std::vector<double> found(length), wanted(length);
  built.pack(cpu(1), found.data());
  expected.pack(cpu(1), wanted.data());
  EXPECT_EQ(found, wanted);
  std::vector<float> diagonal(static_cast<std::size_t>(n));
  narrow.diagonal(cpu(1), diagonal.data());
  for (std::int64_t i = 0, at = 0; i < n; at += ++i + 1)
    EXPECT_NEAR(diagonal[static_cast<std::size_t>(i)], wanted[static_cast<std::size_t>(at)], 1e-6);
  const std::vector<double> w = normals<double>(n, 2, 5);
  std::vector<double> out(w.size()), plain(w.size());
  ridged.apply(cpu(1), {w.data(), n, 2}, {out.data(), n, 2});
  stored.apply(cpu(1), {w.data(), n, 2}, {plain.data(), n, 2});
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(out[i], plain[i] + 0.25 * w[i], 1e-14);
}

}  // namespace
