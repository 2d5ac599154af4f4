#include "gramian/gram/gram_state.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"

namespace {

using gramian::DType;
using gramian::Error;
using gramian::ErrorCode;
using gramian::Exec;
using gramian::FeatureMapPtr;
using gramian::GramOptions;
using gramian::GramState;
using gramian::Json;
using gramian::MatrixView;
using gramian::ModelReader;
using gramian::ModelWriter;
using gramian::RowsView;
using gramian::Solution;
using gramian::SolveOptions;
using gramian::Targets;
using Bytes = std::vector<std::uint8_t>;

Exec cpu(int threads = 2) {
  return Exec(gramian::Device::cpu, threads);
}

template <class Call>
void expect_error(ErrorCode code, const std::string& part, const Call& call) {
  try {
    call();
    ADD_FAILURE() << "no error; wanted one with \"" << part << '"';
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

// Rows with numbers, codes and weights, all of a fixed seed.
struct Data {
  std::int64_t n, d, c;
  std::vector<double> x, y, w;
  std::vector<std::int64_t> codes;
  RowsView xs, ys;

  Data(std::int64_t n_, std::int64_t d_, std::int64_t c_, std::uint64_t seed, double offset = 0) : n(n_), d(d_), c(c_) {
    const gramian::RngStream stream(seed, gramian::RngFamily::gaussian, 5);
    for (std::int64_t r = 0; r < n; ++r) {
      const auto row = static_cast<std::uint64_t>(r);
      double sum = 0;
      for (std::int64_t k = 0; k < d; ++k) {
        x.push_back(offset + stream.gaussian(row, static_cast<std::uint64_t>(k)));
        sum += (x.back() - offset) * std::cos(static_cast<double>(k));
      }
      for (std::int64_t k = 0; k < c; ++k)
        y.push_back(offset + sum * static_cast<double>(k + 1) +
                    stream.gaussian(row, static_cast<std::uint64_t>(d + k)));
      w.push_back(0.25 + std::abs(stream.gaussian(row, static_cast<std::uint64_t>(d + c))));
      codes.push_back(static_cast<std::int64_t>((row * 7 + row / 3) % static_cast<std::uint64_t>(c)));
    }
    xs = RowsView::dense(MatrixView<const double>(x.data(), n, d));
    ys = RowsView::dense(MatrixView<const double>(y.data(), n, c));
  }
  Data(const Data&) = delete;
};

void add(GramState& state, const Data& data, std::int64_t begin, std::int64_t count, bool codes, bool weighted = false,
         bool atomic = true) {
  const RowsView y = data.ys.slice(begin, count);
  state.add(data.xs.slice(begin, count), codes ? Targets::of_codes(data.codes.data() + begin) : Targets::of_values(y),
            weighted ? data.w.data() + begin : nullptr, nullptr, atomic);
}

void remove(GramState& state, const Data& data, std::int64_t begin, std::int64_t count, bool codes,
            bool weighted = false, bool atomic = true) {
  const RowsView y = data.ys.slice(begin, count);
  state.remove(data.xs.slice(begin, count),
               codes ? Targets::of_codes(data.codes.data() + begin) : Targets::of_values(y),
               weighted ? data.w.data() + begin : nullptr, nullptr, atomic);
}

struct File {
  Json description;
  Bytes bytes;
};

File file_of(const GramState& state) {
  ModelWriter writer("test", Json::object());
  File file;
  file.description = state.save(writer, "s.");
  file.bytes = writer.bytes();
  return file;
}

// Everything a state is, as one text of bytes.
Bytes bytes_of(const GramState& state) {
  File file = file_of(state);
  const std::string text = file.description.dump();
  file.bytes.insert(file.bytes.end(), text.begin(), text.end());
  return file.bytes;
}

GramState loaded(const File& file) {
  return GramState::load(cpu(), file.description, ModelReader::from_bytes(file.bytes.data(), file.bytes.size()), "s.");
}

struct Moments {
  std::vector<double> gram, cross;
};

Moments moments_of(const GramState& state) {
  const std::int64_t d = state.n_features(), c = state.n_outputs();
  Moments out;
  out.gram.resize(static_cast<std::size_t>(d * d));
  out.cross.resize(static_cast<std::size_t>(c * d));
  state.raw_moments({out.gram.data(), d, d}, {out.cross.data(), c, d});
  return out;
}

// The sums of the chosen rows, row by row in long double.
struct Naive {
  std::vector<long double> gram, cross, mean, target_mean;
  long double weight = 0;
  long double largest = 0;

  Naive(const Data& data, const std::vector<std::int64_t>& rows, bool codes, bool weighted) {
    const auto d = static_cast<std::size_t>(data.d), c = static_cast<std::size_t>(data.c);
    gram.assign(d * d, 0.0L);
    cross.assign(c * d, 0.0L);
    mean.assign(d, 0.0L);
    target_mean.assign(c, 0.0L);
    for (const std::int64_t row : rows) {
      const auto r = static_cast<std::size_t>(row);
      const long double w = weighted ? data.w[r] : 1.0;
      weight += w;
      for (std::size_t i = 0; i < d; ++i) {
        for (std::size_t j = 0; j < d; ++j) gram[i * d + j] += w * data.x[r * d + i] * data.x[r * d + j];
        mean[i] += w * data.x[r * d + i];
      }
      for (std::size_t k = 0; k < c; ++k) {
        const long double y = codes ? (data.codes[r] == static_cast<std::int64_t>(k) ? 1.0L : 0.0L) : data.y[r * c + k];
        for (std::size_t j = 0; j < d; ++j) cross[k * d + j] += w * y * data.x[r * d + j];
        target_mean[k] += w * y;
      }
    }
    for (long double& m : mean) m /= weight;
    for (long double& m : target_mean) m /= weight;
    for (const long double v : gram) largest = std::max(largest, std::abs(v));
    for (const long double v : cross) largest = std::max(largest, std::abs(v));
  }
};

std::vector<std::int64_t> range(std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> out;
  for (std::int64_t r = begin; r < end; ++r) out.push_back(r);
  return out;
}

void expect_sums(const GramState& state, const Data& data, const std::vector<std::int64_t>& rows, bool codes,
                 bool weighted, double tolerance) {
  const Naive naive(data, rows, codes, weighted);
  const Moments moments = moments_of(state);
  const double bound = tolerance * static_cast<double>(naive.largest);
  for (std::size_t k = 0; k < moments.gram.size(); ++k)
    ASSERT_NEAR(moments.gram[k], static_cast<double>(naive.gram[k]), bound);
  for (std::size_t k = 0; k < moments.cross.size(); ++k)
    ASSERT_NEAR(moments.cross[k], static_cast<double>(naive.cross[k]), bound);
  EXPECT_EQ(state.n_rows(), static_cast<std::int64_t>(rows.size()));
  EXPECT_NEAR(state.weight_sum(), static_cast<double>(naive.weight), 1e-12 * static_cast<double>(naive.weight));
  std::vector<double> mean, variance;
  state.feature_moments(mean, variance);
  for (std::size_t k = 0; k < mean.size(); ++k)
    EXPECT_NEAR(mean[k], static_cast<double>(naive.mean[k]), 1e-12 * (1 + std::abs(mean[k])));
}

// Weights and intercepts by Gauss in long double on centred rows.
std::vector<double> naive_ridge(const Data& data, const std::vector<std::int64_t>& rows, bool codes, bool weighted,
                                bool intercept, double ridge, bool standardize = false) {
  const auto d = static_cast<std::size_t>(data.d), c = static_cast<std::size_t>(data.c);
  const Naive sums(data, rows, codes, weighted);
  std::vector<long double> a(d * (d + c), 0.0L);
  for (const std::int64_t row : rows) {
    const auto r = static_cast<std::size_t>(row);
    const long double w = weighted ? data.w[r] : 1.0;
    std::vector<long double> z(d + c);
    for (std::size_t i = 0; i < d; ++i) z[i] = data.x[r * d + i] - (intercept ? sums.mean[i] : 0.0L);
    for (std::size_t k = 0; k < c; ++k)
      z[d + k] = (codes ? (data.codes[r] == static_cast<std::int64_t>(k) ? 1.0L : 0.0L) : data.y[r * c + k]) -
                 (intercept ? sums.target_mean[k] : 0.0L);
    for (std::size_t i = 0; i < d; ++i)
      for (std::size_t j = 0; j < d + c; ++j) a[i * (d + c) + j] += w * z[i] * z[j];
  }
  for (std::size_t i = 0; i < d; ++i) {
    // Unit variance turns |S^-1 W|^2 into a penalty of variance times |W|^2.
    const std::size_t at = i * (d + c) + i;
    const long double centre = intercept ? 0.0L : sums.mean[i];
    a[at] += ridge * (standardize ? a[at] / sums.weight - centre * centre : 1.0L);
  }
  for (std::size_t i = 0; i < d; ++i) {
    for (std::size_t below = i + 1; below < d; ++below) {
      const long double factor = a[below * (d + c) + i] / a[i * (d + c) + i];
      for (std::size_t j = i; j < d + c; ++j) a[below * (d + c) + j] -= factor * a[i * (d + c) + j];
    }
  }
  std::vector<double> out;  // c x (d + 1)
  for (std::size_t k = 0; k < c; ++k) {
    std::vector<long double> w(d);
    long double constant = intercept ? sums.target_mean[k] : 0.0L;
    for (std::size_t i = d; i-- > 0;) {
      long double rest = a[i * (d + c) + d + k];
      for (std::size_t j = i + 1; j < d; ++j) rest -= a[i * (d + c) + j] * w[j];
      w[i] = rest / a[i * (d + c) + i];
      if (intercept) constant -= w[i] * sums.mean[i];
    }
    for (const long double v : w) out.push_back(static_cast<double>(v));
    out.push_back(static_cast<double>(constant));
  }
  return out;
}

std::vector<double> weights_of(const Solution& solution) {
  std::vector<double> out;
  for (std::int64_t k = 0; k < solution.coef.rows(); ++k) {
    for (std::int64_t j = 0; j < solution.coef.cols(); ++j) out.push_back(solution.coef.view()(k, j));
    out.push_back(solution.intercept[static_cast<std::size_t>(k)]);
  }
  return out;
}

double difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double error = 0, size = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    error += (a[k] - b[k]) * (a[k] - b[k]);
    size += b[k] * b[k];
  }
  return std::sqrt(error / (size > 0 ? size : 1));
}

SolveOptions with_ridge(double ridge, bool standardize = false) {
  SolveOptions options;
  options.ridge = ridge;
  options.standardize = standardize;
  return options;
}

GramOptions with(bool intercept, DType products = DType::f64) {
  GramOptions options;
  options.intercept = intercept;
  options.products = products;
  return options;
}

TEST(GramState, SumsAndWeightsAreThoseOfTheRows) {
  const Data data(400, 13, 3, 1, 2.0);
  for (const bool codes : {true, false}) {
    for (const bool weighted : {true, false}) {
      for (const bool intercept : {true, false}) {
        GramState state(cpu(), 13, 3, with(intercept));
        for (const std::int64_t begin : {0, 1, 150})
          add(state, data, begin, begin == 0 ? 1 : begin == 1 ? 149 : 250, codes, weighted);
        expect_sums(state, data, range(0, 400), codes, weighted, 1e-14);
        for (const double ridge : {0.0, 0.1, 50.0}) {
          EXPECT_LE(difference(weights_of(state.solve(with_ridge(ridge))),
                               naive_ridge(data, range(0, 400), codes, weighted, intercept, ridge)),
                    1e-12);
          EXPECT_LE(difference(weights_of(state.solve(with_ridge(ridge, true))),
                               naive_ridge(data, range(0, 400), codes, weighted, intercept, ridge, true)),
                    1e-12);
        }
        // Another answer is told apart.
        EXPECT_GT(difference(weights_of(state.solve(with_ridge(1.0))),
                             naive_ridge(data, range(0, 399), codes, weighted, intercept, 1.0)),
                  1e-6);
        if (codes) {
          for (std::int64_t k = 0; k < 3; ++k)
            EXPECT_EQ(state.counts()[static_cast<std::size_t>(k)], std::count(data.codes.begin(), data.codes.end(), k));
        } else {
          EXPECT_EQ(state.counts(), std::vector<std::int64_t>(3, 0));
        }
      }
    }
  }
}

TEST(GramState, RemovingMergingAndUnmergingAreExactToRounding) {
  const Data data(600, 11, 4, 2, 5.0);
  for (const bool codes : {true, false}) {
    for (const bool weighted : {true, false}) {
      for (const bool intercept : {true, false}) {
        GramState state(cpu(), 11, 4, with(intercept));
        add(state, data, 0, 300, codes, weighted);
        remove(state, data, 0, 120, codes, weighted);
        expect_sums(state, data, range(120, 300), codes, weighted, 1e-13);
        EXPECT_GT(state.solve(with_ridge(1)).report.removal_bound, 0);
        GramState other(cpu(), 11, 4, with(intercept));
        add(other, data, 300, 300, codes, weighted);
        EXPECT_EQ(other.solve(with_ridge(1)).report.removal_bound, 0);
        GramState both = state.clone();
        EXPECT_EQ(bytes_of(both), bytes_of(state));
        both.merge(other);
        expect_sums(both, data, range(120, 600), codes, weighted, 1e-13);
        EXPECT_LE(difference(weights_of(both.solve(with_ridge(0.1))),
                             naive_ridge(data, range(120, 600), codes, weighted, intercept, 0.1)),
                  1e-11);
        GramState turned = other.clone();
        turned.merge(state);
        EXPECT_LE(difference(weights_of(both.solve(with_ridge(0.1))), weights_of(turned.solve(with_ridge(0.1)))),
                  1e-11);
        both.unmerge(state);
        expect_sums(both, data, range(300, 600), codes, weighted, 1e-12);
        EXPECT_LE(difference(weights_of(both.solve(with_ridge(0.1))),
                             naive_ridge(data, range(300, 600), codes, weighted, intercept, 0.1)),
                  1e-10);
        GramState twice = state.clone();
        twice.merge(twice);
        EXPECT_EQ(twice.n_rows(), 2 * state.n_rows());
        EXPECT_LE(difference(weights_of(twice.solve(with_ridge(2))), weights_of(state.solve(with_ridge(1)))), 1e-12);
        // Merging into an empty state and merging an empty state change no bit of the sums.
        GramState empty(cpu(), 11, 4, with(intercept));
        empty.merge(other);
        EXPECT_EQ(moments_of(empty).gram, moments_of(other).gram);
        const Bytes before = bytes_of(other);
        other.merge(GramState(cpu(), 11, 4, with(intercept)));
        other.unmerge(GramState(cpu(), 11, 4, with(intercept)));
        EXPECT_EQ(bytes_of(other), before);
      }
    }
  }
}

TEST(GramState, WithoutRowsItIsExactlyTheEmptyState) {
  const Data data(300, 9, 3, 3, 1e3);
  for (const bool codes : {true, false}) {
    for (const DType products : {DType::f64, DType::f32}) {
      const Bytes empty = bytes_of(GramState(cpu(), 9, 3, with(true, products)));
      GramState state(cpu(), 9, 3, with(true, products));
      add(state, data, 0, 200, codes, true);
      remove(state, data, 0, 150, codes, true);
      remove(state, data, 150, 50, codes, true);
      EXPECT_EQ(bytes_of(state), empty);
      EXPECT_EQ(state.largest_trace(), 0);
      add(state, data, 0, 200, codes);
      GramState other = state.clone();
      state.unmerge(other);
      EXPECT_EQ(bytes_of(state), empty);
      add(state, data, 0, 7, codes);
      state.unmerge(state);
      EXPECT_EQ(bytes_of(state), empty);
      add(state, data, 0, 200, !codes);  // the kind of targets is forgotten, too
      state.clear();
      EXPECT_EQ(bytes_of(state), empty);
      // And it behaves like a new one.
      GramState fresh(cpu(), 9, 3, with(true, products));
      add(state, data, 100, 200, codes, true);
      add(fresh, data, 100, 200, codes, true);
      EXPECT_EQ(bytes_of(state), bytes_of(fresh));
    }
  }
}

TEST(GramState, AClassWithoutRowsHasExactZeros) {
  const Data data(90, 6, 3, 4, 100);
  for (const bool weighted : {false, true}) {
    GramState state(cpu(), 6, 3);
    add(state, data, 0, 90, true, weighted);
    for (std::int64_t r = 0; r < 90; ++r)
      if (data.codes[static_cast<std::size_t>(r)] == 1) remove(state, data, r, 1, true, weighted);
    EXPECT_EQ(state.counts()[1], 0);
    for (const double v : weights_of(state.solve(with_ridge(0.5)))) EXPECT_TRUE(std::isfinite(v));
    const Moments moments = moments_of(state);
    for (std::size_t j = 0; j < 6; ++j) EXPECT_EQ(moments.cross[6 + j], 0.0) << j;
    const Solution solution = state.solve(with_ridge(0.5));
    EXPECT_EQ(solution.intercept[1], 0.0);
    for (std::int64_t j = 0; j < 6; ++j) EXPECT_EQ(solution.coef.view()(1, j), 0.0);
  }
}

TEST(GramState, LargeMeansCostNoDigits) {
  const Data near(500, 8, 2, 5), far(500, 8, 2, 5, 1e6);
  for (const bool weighted : {false, true}) {
    GramState a(cpu(), 8, 2), b(cpu(), 8, 2);
    add(a, near, 0, 500, false, weighted);
    for (const std::int64_t begin : {0, 100, 200, 300, 400}) add(b, far, begin, 100, false, weighted);
    remove(b, far, 0, 100, false, weighted);
    add(b, far, 0, 100, false, weighted);
    const Solution wa = a.solve(with_ridge(0.1)), wb = b.solve(with_ridge(0.1));
    for (std::int64_t k = 0; k < 2; ++k)
      for (std::int64_t j = 0; j < 8; ++j) EXPECT_NEAR(wa.coef.view()(k, j), wb.coef.view()(k, j), 1e-8);
    std::vector<double> mean, variance, near_mean, near_variance;
    a.feature_moments(near_mean, near_variance);
    b.feature_moments(mean, variance);
    for (std::size_t j = 0; j < 8; ++j) {
      EXPECT_NEAR(variance[j], near_variance[j], 1e-8);
      EXPECT_NEAR(mean[j] - 1e6, near_mean[j], 1e-8);
    }
    for (std::size_t r = 0; r < 500; r += 50) {
      for (std::int64_t k = 0; k < 2; ++k) {
        double pa = wa.intercept[static_cast<std::size_t>(k)], pb = wb.intercept[static_cast<std::size_t>(k)];
        for (std::int64_t j = 0; j < 8; ++j) {
          pa += wa.coef.view()(k, j) * near.x[r * 8 + static_cast<std::size_t>(j)];
          pb += wb.coef.view()(k, j) * far.x[r * 8 + static_cast<std::size_t>(j)];
        }
        EXPECT_NEAR(pa, pb - 1e6, 1e-6);
      }
    }
  }
}

TEST(GramState, CodesAreOneHotTargets) {
  const Data data(500, 10, 4, 6, 3);
  std::vector<double> hot(2000, 0.0);
  for (std::size_t r = 0; r < 500; ++r) hot[r * 4 + static_cast<std::size_t>(data.codes[r])] = 1;
  const RowsView y = RowsView::dense(MatrixView<const double>(hot.data(), 500, 4));
  for (const bool intercept : {true, false}) {
    for (const double* w : {static_cast<const double*>(nullptr), data.w.data()}) {
      for (const DType products : {DType::f64, DType::f32}) {
        GramState a(cpu(), 10, 4, with(intercept, products)), b(cpu(), 10, 4, with(intercept, products));
        a.add(data.xs, Targets::of_codes(data.codes.data()), w);
        b.add(data.xs, Targets::of_values(y), w);
        const double bound = products == DType::f32 ? 1e-5 : 1e-12;
        const Solution wa = a.solve(with_ridge(0.3)), wb = b.solve(with_ridge(0.3));
        EXPECT_LE(difference(weights_of(wa), weights_of(wb)), bound);
        EXPECT_LE(difference(a.residual_sums(wa), b.residual_sums(wb)), bound);
        expect_error(ErrorCode::invalid_argument, "class codes", [&] { a.add(data.xs, Targets::of_values(y), w); });
        expect_error(ErrorCode::invalid_argument, "numeric targets",
                     [&] { b.add(data.xs, Targets::of_codes(data.codes.data()), w); });
        expect_error(ErrorCode::invalid_argument, "class codes", [&] { a.merge(b); });
      }
    }
  }
}

TEST(GramState, FloatProductsAreCloseAndSaySo) {
  const Data data(5000, 16, 2, 7, 10);
  GramState narrow(cpu(), 16, 2, with(true, DType::f32)), wide(cpu(), 16, 2);
  for (const std::int64_t begin : {0, 2500}) {
    add(narrow, data, begin, 2500, false, true);
    add(wide, data, begin, 2500, false, true);
  }
  const double error = difference(weights_of(narrow.solve(with_ridge(0.1))), weights_of(wide.solve(with_ridge(0.1))));
  EXPECT_LE(error, 1e-5);
  EXPECT_GT(error, 1e-12) << "these were not float products";
  remove(narrow, data, 0, 1000, false, true);
  remove(wide, data, 0, 1000, false, true);
  const double bound = narrow.solve(with_ridge(0.1)).report.removal_bound;
  EXPECT_GT(bound, 1e3 * wide.solve(with_ridge(0.1)).report.removal_bound);
  EXPECT_LE(difference(weights_of(narrow.solve(with_ridge(0.1))),
                       naive_ridge(data, range(1000, 5000), false, true, true, 0.1)),
            bound);
  wide.merge(narrow);
  EXPECT_EQ(wide.options().products, DType::f32);
}

TEST(GramState, RowsOfWeightZeroAreNotThere) {
  Data data(200, 7, 2, 8);
  for (const bool codes : {true, false}) {
    for (const DType products : {DType::f64, DType::f32}) {
      GramState state(cpu(), 7, 2, with(true, products));
      add(state, data, 0, 100, codes);
      const Bytes before = bytes_of(state);
      const std::vector<double> none(100, 0.0);
      const RowsView y = data.ys.slice(100, 100);
      const Targets t = codes ? Targets::of_codes(data.codes.data() + 100) : Targets::of_values(y);
      state.add(data.xs.slice(100, 100), t, none.data());
      EXPECT_EQ(bytes_of(state), before);
      state.remove(data.xs.slice(100, 100), t, none.data());
      EXPECT_EQ(bytes_of(state), before);
      // Between others, with NaN in it.
      GramState with_gap(cpu(), 7, 2, with(true, products)), without(cpu(), 7, 2, with(true, products));
      std::vector<double> x(data.x.begin(), data.x.begin() + 3 * 7), y3(data.y.begin(), data.y.begin() + 6),
          w{1.5, 0, 2.5};
      x[9] = std::nan("");
      const std::vector<double> x2{x[0],  x[1],  x[2],  x[3],  x[4],  x[5],  x[6],
                                   x[14], x[15], x[16], x[17], x[18], x[19], x[20]},
          y2{y3[0], y3[1], y3[4], y3[5]}, w2{1.5, 2.5};
      const std::vector<std::int64_t> codes3{0, 1, 1}, codes2{0, 1};
      const RowsView ys3 = RowsView::dense(MatrixView<const double>(y3.data(), 3, 2)),
                     ys2 = RowsView::dense(MatrixView<const double>(y2.data(), 2, 2));
      with_gap.add(RowsView::dense(MatrixView<const double>(x.data(), 3, 7)),
                   codes ? Targets::of_codes(codes3.data()) : Targets::of_values(ys3), w.data());
      without.add(RowsView::dense(MatrixView<const double>(x2.data(), 2, 7)),
                  codes ? Targets::of_codes(codes2.data()) : Targets::of_values(ys2), w2.data());
      EXPECT_EQ(bytes_of(with_gap), bytes_of(without));
    }
  }
  // A bad row is named as the caller counts, skipped rows included.
  data.x[50 * 7] = INFINITY;
  std::vector<double> w(200, 1.0);
  w[3] = w[40] = 0;
  GramState state(cpu(), 7, 2);
  expect_error(ErrorCode::non_finite, "X contains NaN or infinity, first in row 50",
               [&] { state.add(data.xs, Targets::of_values(data.ys), w.data()); });
  data.x[50 * 7] = 0;
  data.y[70 * 2] = std::nan("");
  expect_error(ErrorCode::non_finite, "y contains NaN or infinity, first in row 70",
               [&] { state.add(data.xs, Targets::of_values(data.ys), w.data()); });
}

TEST(GramState, OutputsAreRearranged) {
  const Data data(120, 5, 4, 9, 2);
  for (const bool codes : {true, false}) {
    GramState state(cpu(), 5, 4);
    add(state, data, 0, 120, codes);
    const std::vector<double> before = weights_of(state.solve(with_ridge(1)));
    const std::vector<std::int64_t> source{-1, 2, 0, -1, 3, 1};
    state.rearrange_outputs(source);
    EXPECT_EQ(state.n_outputs(), 6);
    const std::vector<double> after = weights_of(state.solve(with_ridge(1)));
    const Moments moments = moments_of(state);
    for (std::size_t k = 0; k < source.size(); ++k) {
      for (std::size_t j = 0; j < 6; ++j) {
        if (source[k] >= 0) {
          EXPECT_NEAR(after[k * 6 + j], before[static_cast<std::size_t>(source[k]) * 6 + j], 1e-12);
        } else {
          EXPECT_EQ(after[k * 6 + j], 0.0);
          if (j < 5) {
            EXPECT_EQ(moments.cross[k * 5 + j], 0.0);
          }
        }
      }
    }
    EXPECT_EQ(state.counts()[5], codes ? std::count(data.codes.begin(), data.codes.end(), 1) : 0);
    const Bytes kept = bytes_of(state);
    expect_error(ErrorCode::invalid_argument, "twice", [&] { state.rearrange_outputs({0, 1, 1}); });
    expect_error(ErrorCode::invalid_argument, "no output 6", [&] { state.rearrange_outputs({0, 6}); });
    expect_error(ErrorCode::invalid_argument, "no output -2", [&] { state.rearrange_outputs({-2}); });
    EXPECT_EQ(bytes_of(state), kept);
    state.rearrange_outputs({2, 5, 1, 4});  // back to the old order
    EXPECT_EQ(weights_of(state.solve(with_ridge(1))), before);
    state.rearrange_outputs({});
    EXPECT_EQ(state.n_outputs(), 0);
    EXPECT_EQ(state.solve(with_ridge(1)).coef.rows(), 0);
  }
}

TEST(GramState, NewClassesJoinOldOnes) {
  const Data data(300, 6, 3, 10);
  GramState grown(cpu(), 6, 0);
  std::vector<std::int64_t> rows;
  grown.rearrange_outputs({-1, -1});
  for (std::int64_t r = 0; r < 300; ++r) {
    if (data.codes[static_cast<std::size_t>(r)] == 2) continue;
    add(grown, data, r, 1, true);
  }
  grown.rearrange_outputs({0, 1, -1});
  for (std::int64_t r = 0; r < 300; ++r)
    if (data.codes[static_cast<std::size_t>(r)] == 2) add(grown, data, r, 1, true);
  EXPECT_LE(
      difference(weights_of(grown.solve(with_ridge(0.1))), naive_ridge(data, range(0, 300), true, false, true, 0.1)),
      1e-12);
}

TEST(GramState, WhatItCannotTakeIsRefusedAndChangesNothing) {
  const Data data(60, 5, 3, 11), wide(10, 6, 3, 11), more(10, 5, 4, 11);
  GramState state(cpu(), 5, 3);
  add(state, data, 0, 30, true);
  const Bytes before = bytes_of(state);
  std::vector<std::int64_t> codes{0, 3};
  expect_error(ErrorCode::shape_mismatch, "X has 6 features, but 5 are expected",
               [&] { add(state, wide, 0, 10, true); });
  expect_error(ErrorCode::invalid_argument, "class code 3",
               [&] { state.add(data.xs.slice(0, 2), Targets::of_codes(codes.data())); });
  codes[1] = -1;
  expect_error(ErrorCode::invalid_argument, "class code -1",
               [&] { state.add(data.xs.slice(0, 2), Targets::of_codes(codes.data())); });
  for (const double bad : {-1.0, std::nan(""), static_cast<double>(INFINITY)}) {
    const std::vector<double> w{1.0, bad};
    expect_error(ErrorCode::invalid_argument, "row 1",
                 [&] { state.add(data.xs.slice(0, 2), Targets::of_codes(data.codes.data()), w.data()); });
  }
  expect_error(ErrorCode::invalid_argument, "cannot remove 60 rows: the state holds 30",
               [&] { remove(state, data, 0, 60, true); });
  codes.assign(20, 0);
  expect_error(ErrorCode::invalid_argument, "cannot remove 20 rows of output 0",
               [&] { state.remove(data.xs.slice(0, 20), Targets::of_codes(codes.data())); });
  GramState big(cpu(), 5, 3), shape(cpu(), 5, 4), flat(cpu(), 5, 3, with(false));
  add(big, data, 0, 60, true);
  add(shape, more, 0, 10, true);
  add(flat, data, 0, 10, true);
  expect_error(ErrorCode::invalid_argument, "cannot remove 60 rows", [&] { state.unmerge(big); });
  expect_error(ErrorCode::shape_mismatch, "differ in size", [&] { state.merge(shape); });
  expect_error(ErrorCode::invalid_argument, "intercept", [&] { state.merge(flat); });
  expect_error(ErrorCode::invalid_argument, "y is missing", [&] { GramState(cpu(), 5, 3).add(data.xs, Targets()); });
  GramState values(cpu(), 5, 3);
  const RowsView short_y = data.ys.slice(0, 59);
  expect_error(ErrorCode::shape_mismatch, "but y has 59", [&] { values.add(data.xs, Targets::of_values(short_y)); });
  expect_error(ErrorCode::shape_mismatch, "y has 4 columns, but 3",
               [&] { values.add(data.xs.slice(0, 10), Targets::of_values(more.ys)); });
  for (const double ridge : {-1.0, std::nan("")})
    expect_error(ErrorCode::invalid_argument, "ridge", [&] { state.solve(with_ridge(ridge)); });
  EXPECT_THROW(GramState(cpu(), 0, 1), Error);
  EXPECT_THROW(GramState(cpu(), 1, -1), Error);
  EXPECT_EQ(bytes_of(state), before);
  state.add(data.xs.slice(0, 0), Targets::of_codes(data.codes.data()));
  EXPECT_EQ(bytes_of(state), before);
}

// The call must refuse these rows and leave the state as it was.
void expect_overflow(const Data& data, DType products, const std::vector<double>& x, const std::vector<double>& y) {
  GramState state(cpu(), 4, 2, with(true, products));
  add(state, data, 0, 20, false);
  const Bytes before = bytes_of(state);
  const RowsView xs = RowsView::dense(MatrixView<const double>(x.data(), 20, 4));
  const RowsView ys = RowsView::dense(MatrixView<const double>(y.data(), 20, 2));
  expect_error(ErrorCode::non_finite, "", [&] { state.add(xs, Targets::of_values(ys)); });
  const Moments moments = moments_of(state);
  for (const double v : moments.gram) ASSERT_TRUE(std::isfinite(v));
  for (const double v : moments.cross) ASSERT_TRUE(std::isfinite(v));
  EXPECT_TRUE(bytes_of(state) == before);
}

TEST(GramState, FeaturesBeyondFloatAreRefused) {
  const Data data(20, 4, 2, 12);
  std::vector<double> x(data.x);
  x[9] = 1e300;
  expect_overflow(data, DType::f32, x, data.y);
}

TEST(GramState, TargetsBeyondFloatAreRefused) {
  const Data data(20, 4, 2, 12);
  std::vector<double> y(data.y);
  y[7] = 1e300;
  expect_overflow(data, DType::f32, data.x, y);
}

TEST(GramState, FeaturesWhoseSquaresOverflowAreRefused) {
  const Data data(20, 4, 2, 12);
  std::vector<double> x(data.x);
  x[9] = 1e200;
  expect_overflow(data, DType::f64, x, data.y);
  x[9] = 1e25;
  expect_overflow(data, DType::f32, x, data.y);
}

// --- two blocks and more

constexpr std::int64_t kLong = 8192 * 2 + 500;

TEST(GramState, ALaterBlockThatFailsLeavesNoTrace) {
  Data data(kLong, 5, 2, 13, 3);
  for (const bool codes : {true, false}) {
    for (const bool filled : {true, false}) {
      GramState state(cpu(), 5, 2);
      if (filled) add(state, data, 0, 40, codes);
      const Bytes before = bytes_of(state);
      const double kept = data.x[(kLong - 3) * 5 + 2];
      data.x[(kLong - 3) * 5 + 2] = std::nan("");
      expect_error(ErrorCode::non_finite, "row " + std::to_string(kLong - 3),
                   [&] { add(state, data, 0, kLong, codes); });
      EXPECT_EQ(bytes_of(state), before);
      // In place: the blocks before it are in.
      GramState partial = state.clone();
      EXPECT_THROW(add(partial, data, 0, kLong, codes, false, false), Error);
      GramState expected = state.clone();
      const std::int64_t in = partial.n_rows() - state.n_rows();
      EXPECT_EQ(in, 2 * 8192);
      add(expected, data, 0, in, codes, false, false);
      EXPECT_EQ(bytes_of(partial), bytes_of(expected));
      data.x[(kLong - 3) * 5 + 2] = kept;
      add(state, data, 0, kLong, codes);
      const Bytes full = bytes_of(state);
      data.x[(kLong - 3) * 5 + 2] = std::nan("");
      EXPECT_THROW(remove(state, data, 0, kLong, codes), Error);
      EXPECT_EQ(bytes_of(state), full);
      data.x[(kLong - 3) * 5 + 2] = kept;
      remove(state, data, 0, kLong, codes);
      EXPECT_EQ(state.n_rows(), filled ? 40 : 0);
      if (!filled) {
        EXPECT_EQ(bytes_of(state), before);
      }
    }
  }
}

TEST(GramState, ManyBlocksAreTheSumOfTheirRows) {
  const Data data(kLong, 5, 2, 14, 3);
  for (const bool codes : {true, false}) {
    GramState state(cpu(), 5, 2);
    add(state, data, 0, 300, codes, true);
    add(state, data, 300, kLong - 300, codes, true);
    expect_sums(state, data, range(0, kLong), codes, true, 1e-13);
    remove(state, data, 0, 9000, codes, true);
    expect_sums(state, data, range(9000, kLong), codes, true, 1e-13);
  }
}

// Fires after k polls, for every k up to the end of the call.
void check_cancellation(bool adding, bool codes, bool atomic, bool filled, int threads) {
  const std::int64_t rows = 8192 + 700;
  const Data data(rows, 4, 2, 15, 1);
  Exec exec = cpu(threads);
  GramState start(exec, 4, 2);
  if (filled || !adding) add(start, data, 0, adding ? 50 : rows, codes);
  if (!adding && filled) add(start, data, 0, 60, codes);
  const auto work = [&](GramState& state) {
    if (adding) {
      add(state, data, 0, rows, codes, false, atomic);
    } else {
      remove(state, data, 0, rows, codes, false, atomic);
    }
  };
  const Bytes before = bytes_of(start);
  GramState whole = start.clone();
  int polls = 0;
  exec.set_cancel_hook([&] {
    ++polls;
    return false;
  });
  work(whole);
  const int all = polls;
  ASSERT_GT(all, 4);
  const Bytes after = bytes_of(whole);
  const int step = std::max(1, all / 60);
  int cancelled = 0;
  for (int k = 1; k <= all; k += step) {
    exec.set_cancel_hook(nullptr);
    GramState state = start.clone();
    int left = k;
    exec.set_cancel_hook([&] { return --left <= 0; });
    bool stopped = false;
    try {
      work(state);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::cancelled);
      stopped = true;
      ++cancelled;
    }
    exec.set_cancel_hook(nullptr);
    if (!stopped) {
      ASSERT_EQ(bytes_of(state), after) << k;
    } else if (atomic) {
      ASSERT_EQ(bytes_of(state), before) << k << " of " << all;
    } else {
      const std::int64_t done = std::abs(state.n_rows() - start.n_rows());
      GramState expected = start.clone();
      if (done > 0 && adding) add(expected, data, 0, done, codes, false, false);
      if (done > 0 && !adding) remove(expected, data, 0, done, codes, false, false);
      ASSERT_EQ(bytes_of(state), bytes_of(expected)) << k << " of " << all;
    }
  }
  EXPECT_GT(cancelled, 0);
}

TEST(GramState, CancellationLeavesTheStateOrItsFirstRows) {
  for (const bool adding : {true, false})
    for (const bool codes : {true, false})
      for (const bool atomic : {true, false})
        for (const bool filled : {true, false})
          for (const int threads : {1, 2}) check_cancellation(adding, codes, atomic, filled, threads);
}

TEST(GramState, HasTheSameBitsForEveryThreadCountAndLayout) {
  const Data data(900, 140, 3, 16, 2);
  std::vector<double> columns(data.x.size());
  for (std::size_t r = 0; r < 900; ++r)
    for (std::size_t c = 0; c < 140; ++c) columns[c * 900 + r] = data.x[r * 140 + c];
  RowsView turned = data.xs;
  turned.data = columns.data();
  turned.row_stride = sizeof(double);
  turned.col_stride = 900 * sizeof(double);
  for (const DType products : {DType::f64, DType::f32}) {
    Bytes first;
    std::vector<double> weights;
    for (int threads = 1; threads <= 4; ++threads) {
      for (const bool layout : {false, true}) {
        GramState state(cpu(threads), 140, 3, with(true, products));
        const RowsView& x = layout ? turned : data.xs;
        const RowsView head = data.ys.slice(0, 500), tail = data.ys.slice(500, 400);
        state.add(x.slice(0, 500), Targets::of_values(head), data.w.data());
        state.add(x.slice(500, 400), Targets::of_values(tail), data.w.data() + 500);
        state.remove(x.slice(0, 500), Targets::of_values(head), data.w.data());
        const std::vector<double> solved = weights_of(state.solve(with_ridge(0.5)));
        if (first.empty()) {
          first = bytes_of(state);
          weights = solved;
        }
        EXPECT_EQ(bytes_of(state), first) << threads << layout;
        EXPECT_EQ(solved, weights);
      }
    }
  }
}

TEST(GramState, WithAMapNoBlockOfAllRowsExists) {
  const Data data(20000, 10, 3, 17);
  gramian::RandomFeaturesConfig config;
  config.n_inputs = 10;
  config.n_features = 600;
  config.seed = 3;
  const FeatureMapPtr map = gramian::make_random_features(config);
  for (const DType products : {DType::f64, DType::f32}) {
    GramState state(cpu(), 600, 3, with(true, products));
    const std::size_t element = products == DType::f32 ? 4 : 8;
    gramian::reset_memory_stats();
    const std::size_t live = gramian::memory_stats().live;
    state.add(data.xs, Targets::of_codes(data.codes.data()), nullptr, map.get());
    const gramian::MemoryStats stats = gramian::memory_stats();
    EXPECT_LE(stats.largest, 8192 * 600 * element);
    EXPECT_LT(stats.largest, 20000 * 600 * element / 2);
    EXPECT_LE(stats.peak - live, (std::size_t{8192} * 600 * element * 3) / 2 + (std::size_t{16} << 20));
    // The same sums as from the features themselves, and one row at a time.
    if (products == DType::f64) {
      gramian::Array<double> z(cpu(), 2000, 600);
      map->transform(cpu(), data.xs.slice(0, 2000), z.view());
      GramState mapped(cpu(), 600, 3), direct(cpu(), 600, 3);
      mapped.add(data.xs.slice(0, 2000), Targets::of_codes(data.codes.data()), data.w.data(), map.get());
      direct.add(RowsView::dense<double>(z.view()), Targets::of_codes(data.codes.data()), data.w.data());
      EXPECT_LE(difference(weights_of(mapped.solve(with_ridge(1))), weights_of(direct.solve(with_ridge(1)))), 1e-10);
    }
    expect_error(ErrorCode::shape_mismatch, "600 features, but the state holds 599", [&] {
      GramState(cpu(), 599, 3).add(data.xs, Targets::of_codes(data.codes.data()), nullptr, map.get());
    });
  }
}

TEST(GramState, ItsSizeDoesNotDependOnTheRows) {
  const Data data(3000, 12, 2, 18);
  GramState few(cpu(), 12, 2), many(cpu(), 12, 2);
  add(few, data, 0, 10, true);
  add(many, data, 0, 3000, true);
  EXPECT_EQ(few.bytes(), many.bytes());
  EXPECT_EQ(file_of(few).bytes.size(), file_of(many).bytes.size());
}

// --- weights from sums

TEST(GramState, WithoutRowsTheWeightsAreZeroAndNeedARidge) {
  const GramState state(cpu(), 4, 2);
  const Solution solution = state.solve(with_ridge(1));
  for (const double v : weights_of(solution)) EXPECT_EQ(v, 0.0);
  EXPECT_EQ(solution.report.method, "zero");
  expect_error(ErrorCode::not_positive_definite, "rank is 0 of 4", [&] { state.solve(with_ridge(0)); });
  expect_error(ErrorCode::not_fitted, "no rows", [&] { state.gcv({1.0}); });
}

TEST(GramState, ARidgeOfZeroNeedsFullRank) {
  const Data data(30, 8, 2, 19);
  GramState state(cpu(), 8, 2);
  add(state, data, 0, 6, false);
  expect_error(ErrorCode::not_positive_definite, "rank is 5 of 8", [&] { state.solve(with_ridge(0)); });
  expect_error(ErrorCode::not_positive_definite, "rank is 5 of 8", [&] { state.path({1.0, 0.0}, {}); });
  SolveOptions mixed = with_ridge(0);
  mixed.precision = gramian::Precision::mixed;
  expect_error(ErrorCode::not_positive_definite, "rank is 5 of 8", [&] { state.solve(mixed); });
  add(state, data, 6, 24, false);
  EXPECT_EQ(state.solve(with_ridge(0)).report.rank, 8);
  EXPECT_EQ(state.solve(with_ridge(0)).report.ridge, 0);
  EXPECT_EQ(state.solve(with_ridge(0)).report.form, "primal");
}

TEST(GramState, ConstantFeaturesAreLeftAloneByStandardize) {
  const Data data(100, 5, 2, 20, 1e6);
  std::vector<double> x(data.x);
  for (std::size_t r = 0; r < 100; ++r) x[r * 5 + 2] = 123456.789;
  GramState state(cpu(), 5, 2);
  state.add(RowsView::dense(MatrixView<const double>(x.data(), 100, 5)), Targets::of_values(data.ys));
  const Solution solution = state.solve(with_ridge(0.1, true));
  for (std::int64_t k = 0; k < 2; ++k) EXPECT_NEAR(solution.coef.view()(k, 2), 0.0, 1e-6);
  for (const double v : weights_of(solution)) EXPECT_TRUE(std::isfinite(v));
}

TEST(GramState, ThePathIsOneSolveAfterAnother) {
  const std::vector<double> ridges{1e-3, 0.1, 1, 30, 1e4};
  std::vector<double> many;
  for (int k = 0; k < 55; ++k) many.push_back(std::pow(10.0, -3 + 0.1 * k));
  for (const std::int64_t d : {9, 300}) {
    const Data data(500, d, 2, 21, 4);
    GramState state(cpu(), d, 2);
    add(state, data, 0, 500, false, true);
    for (const bool standardize : {false, true}) {
      for (const auto& grid : {ridges, d > 100 ? std::vector<double>{2.0} : many}) {
        const std::vector<Solution> path = state.path(grid, with_ridge(99, standardize));
        ASSERT_EQ(path.size(), grid.size());
        for (std::size_t k = 0; k < grid.size(); ++k) {
          EXPECT_LE(difference(weights_of(path[k]), weights_of(state.solve(with_ridge(grid[k], standardize)))), 1e-9);
          EXPECT_EQ(path[k].report.ridge, grid[k]);
          EXPECT_EQ(path[k].report.method, d > 100 ? "cholesky" : "eigh");
        }
      }
    }
  }
  GramState empty(cpu(), 3, 1);
  EXPECT_TRUE(empty.path({}, {}).empty());
  EXPECT_EQ(empty.path({1.0, 2.0}, {}).size(), 2u);
}

TEST(GramState, ResidualsAreThoseOfTheRows) {
  const Data data(250, 7, 3, 22, 50);
  for (const bool codes : {false, true}) {
    for (const bool intercept : {true, false}) {
      for (const bool weighted : {true, false}) {
        GramState state(cpu(), 7, 3, with(intercept));
        add(state, data, 0, 250, codes, weighted);
        for (const double ridge : {0.5, 40.0}) {
          const Solution solution = state.solve(with_ridge(ridge));
          const std::vector<double> sums = state.residual_sums(solution),
                                    penalised = state.penalised_residual_sums(solution);
          for (std::size_t k = 0; k < 3; ++k) {
            long double expected = 0, penalty = 0, energy = 0;
            for (std::size_t r = 0; r < 250; ++r) {
              const long double y =
                  codes ? (data.codes[r] == static_cast<std::int64_t>(k) ? 1.0L : 0.0L) : data.y[r * 3 + k];
              long double left = y - solution.intercept[k];
              for (std::size_t j = 0; j < 7; ++j)
                left -= static_cast<long double>(
                            solution.coef.view()(static_cast<std::int64_t>(k), static_cast<std::int64_t>(j))) *
                        data.x[r * 7 + j];
              expected += (weighted ? data.w[r] : 1.0) * left * left;
              energy += (weighted ? data.w[r] : 1.0) * y * y;
            }
            for (std::int64_t j = 0; j < 7; ++j)
              penalty += ridge * solution.coef.view()(static_cast<std::int64_t>(k), j) *
                         solution.coef.view()(static_cast<std::int64_t>(k), j);
            const double bound = 1e-11 * static_cast<double>(intercept ? expected : energy) + 1e-9;
            EXPECT_NEAR(sums[k], static_cast<double>(expected), bound);
            EXPECT_NEAR(penalised[k], static_cast<double>(expected + penalty), bound);
          }
        }
      }
    }
  }
}

TEST(GramState, GcvIsTheLeaveOneOutRuleOfTheHatMatrix) {
  const Data data(80, 6, 2, 23, 7);
  const std::vector<double> ridges{1e-3, 0.1, 1, 10, 1000};
  for (const bool intercept : {true, false}) {
    for (const bool weighted : {true, false}) {
      GramState state(cpu(), 6, 2, with(intercept));
      add(state, data, 0, 80, false, weighted);
      const gramian::GcvCurve by_modes = state.gcv(ridges);
      EXPECT_EQ(by_modes.method, "eigh");
      std::size_t best = 0;
      for (std::size_t k = 0; k < ridges.size(); ++k) {
        const gramian::GcvCurve alone = state.gcv({ridges[k]});
        EXPECT_EQ(alone.method, "cholesky");
        EXPECT_FALSE(alone.at_edge);
        // The trace of the hat matrix: how much each fitted value follows its own target.
        const auto fit = [&](std::size_t r) {
          Data moved(80, 6, 2, 23, 7);
          moved.y[r * 2] += 1;
          GramState other(cpu(1), 6, 2, with(intercept));
          add(other, moved, 0, 80, false, weighted);
          const Solution solution = other.solve(with_ridge(ridges[k]));
          double value = solution.intercept[0];
          for (std::int64_t j = 0; j < 6; ++j)
            value += solution.coef.view()(0, j) * moved.x[r * 6 + static_cast<std::size_t>(j)];
          return value;
        };
        const Solution base = state.solve(with_ridge(ridges[k]));
        double freedom = 0, residual = 0;
        for (std::size_t r = 0; r < 80; ++r) {
          double value = base.intercept[0];
          for (std::int64_t j = 0; j < 6; ++j)
            value += base.coef.view()(0, j) * data.x[r * 6 + static_cast<std::size_t>(j)];
          freedom += fit(r) - value;
        }
        for (const double v : state.residual_sums(base)) residual += v;
        EXPECT_NEAR(by_modes.degrees_of_freedom[k], freedom, 1e-6);
        EXPECT_NEAR(alone.degrees_of_freedom[0], freedom, 1e-6);
        const double n = state.weight_sum(), expected = residual * n / ((n - freedom) * (n - freedom));
        EXPECT_NEAR(by_modes.scores[k], expected, 1e-6 * expected);
        EXPECT_NEAR(alone.scores[0], expected, 1e-6 * expected);
        if (by_modes.scores[k] < by_modes.scores[best]) best = k;
      }
      EXPECT_EQ(by_modes.best, best);
      EXPECT_EQ(by_modes.at_edge, best == 0 || best + 1 == ridges.size());
    }
  }
  GramState state(cpu(), 6, 2);
  add(state, data, 0, 80, false);
  expect_error(ErrorCode::invalid_argument, "above 0", [&] { state.gcv({1.0, 0.0}); });
  expect_error(ErrorCode::invalid_argument, "empty", [&] { state.gcv({}); });
}

TEST(GramState, SystemsBeyondDoublePrecisionSaySo) {
  const Data data(40, 6, 2, 24);
  std::vector<double> x(data.x);
  for (std::size_t r = 0; r < 40; ++r) x[r * 6 + 5] = x[r * 6 + 4];
  GramState state(cpu(), 6, 2);
  state.add(RowsView::dense(MatrixView<const double>(x.data(), 40, 6)), Targets::of_values(data.ys));
  const Solution solution = state.solve(with_ridge(1e-15));
  EXPECT_EQ(solution.report.method, "eigh");
  EXPECT_EQ(solution.report.rank, 5);
  EXPECT_NE(solution.report.fallback, "");
  EXPECT_NEAR(solution.coef.view()(0, 4), solution.coef.view()(0, 5), 1e-9);
}

// --- files

TEST(GramState, ALoadedStateIsTheSameState) {
  const Data data(400, 131, 3, 25, 4);
  for (const bool codes : {true, false}) {
    for (const DType products : {DType::f64, DType::f32}) {
      for (const bool intercept : {true, false}) {
        GramState state(cpu(), 131, 3, with(intercept, products));
        EXPECT_EQ(bytes_of(loaded(file_of(state))), bytes_of(state));
        add(state, data, 0, 300, codes, true);
        remove(state, data, 0, 10, codes, true);
        GramState copy = loaded(file_of(state));
        EXPECT_EQ(bytes_of(copy), bytes_of(state));
        EXPECT_EQ(weights_of(copy.solve(with_ridge(0.1))), weights_of(state.solve(with_ridge(0.1))));
        EXPECT_EQ(copy.solve(with_ridge(0.1)).report.removal_bound, state.solve(with_ridge(0.1)).report.removal_bound);
        add(copy, data, 300, 100, codes, true);
        add(state, data, 300, 100, codes, true);
        EXPECT_EQ(bytes_of(copy), bytes_of(state));
      }
    }
  }
}

TEST(GramFiles, InconsistentDescriptionsAreFileErrors) {
  const Data data(20, 4, 2, 26);
  GramState state(cpu(), 4, 2);
  add(state, data, 0, 20, true);
  const File file = file_of(state);
  const auto refused = [&](const std::string& key, const Json& value) {
    File changed = file;
    changed.description[key] = value;
    SCOPED_TRACE(key + " = " + value.dump());
    expect_error(ErrorCode::file_format, "", [&] { loaded(changed); });
  };
  refused("n_features", 5);
  refused("n_features", 0);
  refused("n_features", -4);
  refused("n_features", std::int64_t{1} << 40);
  refused("n_features", "four");
  refused("n_outputs", 3);
  refused("n_outputs", -1);
  refused("products", "float16");
  refused("intercept", 1);
  refused("n_rows", -1);
  refused("n_rows", 5);  // fewer than the classes hold together
  refused("n_rows", 19);
  refused("n_rows", 0);
  refused("weight_sum", -1.0);
  refused("weight_sum", 0.0);  // twenty rows of weight above zero
  refused("weight_sum", "many");
  refused("targets", "labels");
  refused("targets", "none");
  refused("largest_trace", -1.0);
  refused("longest_sum", -5);
  refused("operations", -5);
  refused("shift_known", "yes");
  for (const auto& [key, value] : file.description.members()) {
    File changed = file;
    Json bare = Json::object();
    for (const auto& [other, kept] : file.description.members())
      if (other != key) bare[other] = kept;
    changed.description = bare;
    expect_error(ErrorCode::file_format, key, [&] { loaded(changed); });
  }
}

TEST(GramFiles, TensorsThatAreNotNumbersAreFileErrors) {
  const Data data(20, 4, 2, 27);
  GramState state(cpu(), 4, 2);
  add(state, data, 0, 20, true);
  const File file = file_of(state);
  const ModelReader reader = ModelReader::from_bytes(file.bytes.data(), file.bytes.size());
  for (const std::string& name : reader.names()) {
    const gramian::TensorView tensor = reader.tensor(name);
    if (tensor.type != gramian::TensorType::f64) continue;
    const auto* begin = reinterpret_cast<const std::uint8_t*>(tensor.data);
    for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
      File changed = file;
      std::memcpy(changed.bytes.data() + (begin - file.bytes.data()), &bad, sizeof bad);
      SCOPED_TRACE(name);
      expect_error(ErrorCode::file_format, "", [&] { loaded(changed); });
    }
  }
}

}  // namespace
