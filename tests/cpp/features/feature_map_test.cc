#include "gramian/features/feature_map.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "support/activation.h"
#include "support/data.h"
#include "support/helpers.h"
#include "support/saved.h"

namespace {

using gramian::Activation;
using gramian::DType;
using gramian::ErrorCode;
using gramian::FeatureMapPtr;
using gramian::Json;
using gramian::MatrixView;
using gramian::ModelReader;
using gramian::RandomFeaturesConfig;
using gramian::RandomKind;
using gramian::RngFamily;
using gramian::RngStream;
using gramian::RowsView;
using testkit::activation;
using testkit::cpu;
using testkit::expect_error;
using testkit::File;
using testkit::file_of;
using testkit::normals;
using testkit::rows_of;
using testkit::same_bits;

constexpr RandomKind kKinds[] = {RandomKind::gaussian, RandomKind::rademacher, RandomKind::hadamard};
constexpr RandomKind kAllKinds[] = {RandomKind::gaussian, RandomKind::rademacher, RandomKind::hadamard,
                                    RandomKind::orthogonal, RandomKind::sparse};
constexpr Activation kActivations[] = {Activation::identity, Activation::relu, Activation::tanh,
                                       Activation::sigmoid,  Activation::cos,  Activation::sign};

template <class T>
std::vector<T> transformed(const gramian::FeatureMap& map, const RowsView& x, int threads = 2) {
  std::vector<T> out(static_cast<std::size_t>(x.rows * map.n_features()), std::numeric_limits<T>::quiet_NaN());
  map.transform(cpu(threads), x, MatrixView<T>(out.data(), x.rows, map.n_features()));
  return out;
}

RandomFeaturesConfig config_of(std::int64_t inputs, std::int64_t features, RandomKind kind, Activation activation) {
  RandomFeaturesConfig config;
  config.n_inputs = inputs;
  config.n_features = features;
  config.kind = kind;
  config.activation = activation;
  config.seed = 0xfedcba9876543210ull;
  return config;
}

// scale B'x by the law of the header, word by word, and the size of what is added up.
struct Projection {
  long double value, size;
};

Projection projection(const RandomFeaturesConfig& config, const long double* x, std::int64_t feature) {
  const long double scale = config.scale > 0 ? config.scale : 1 / std::sqrt(static_cast<long double>(config.n_inputs));
  const auto n = static_cast<std::size_t>(config.n_inputs), i = static_cast<std::size_t>(feature);
  if (config.kind != RandomKind::hadamard) {
    const bool normal = config.kind == RandomKind::gaussian;
    const RngStream stream(config.seed, normal ? RngFamily::gaussian : RngFamily::rademacher);
    Projection out{0, 0};
    for (std::size_t j = 0; j < n; ++j) {
      const long double term =
          scale * x[j] * static_cast<long double>(normal ? stream.gaussian(i, j) : stream.sign(i, j));
      out.value += term;
      out.size += std::abs(term);
    }
    return out;
  }
  std::size_t p = 1;
  while (p < n) p *= 2;
  std::vector<long double> z(p, 0.0L);
  std::copy(x, x + n, z.begin());
  long double norm = 0;
  for (const long double v : z) norm += v * v;
  for (std::uint32_t stage = 0; stage < 3; ++stage) {
    const RngStream signs(config.seed, RngFamily::features, 1, stage, static_cast<std::uint32_t>(i / p));
    std::vector<long double> next(p, 0.0L);
    for (std::size_t a = 0; a < p; ++a)
      for (std::size_t b = 0; b < p; ++b)
        next[a] += (__builtin_popcountll(a & b) % 2 == 0 ? 1 : -1) * static_cast<long double>(signs.row_sign(b)) * z[b];
    for (long double& v : next) v /= std::sqrt(static_cast<long double>(p));
    z = std::move(next);
  }
  const long double factor = scale * std::sqrt(static_cast<long double>(p));
  return {factor * z[i % p], 4 * factor * std::sqrt(norm)};
}

template <class T>
void check_law(const RandomFeaturesConfig& config, std::int64_t rows) {
  const FeatureMapPtr map = gramian::make_random_features(config);
  const std::vector<T> x = normals<T>(rows, config.n_inputs, 3);
  const std::vector<long double> wide(x.begin(), x.end());
  const std::vector<T> out = transformed<T>(*map, rows_of(x, config.n_inputs));
  const RngStream phases(config.seed, RngFamily::features, 8), biases(config.seed, RngFamily::features, 9);
  const bool cosine = config.activation == Activation::cos;
  const long double output_scale = cosine ? std::sqrt(2.0L / static_cast<long double>(config.n_features)) : 1.0L;
  std::int64_t skipped = 0;
  for (std::int64_t i = 0; i < config.n_features; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    const long double shift =
        cosine ? 2 * 3.14159265358979323846264L * static_cast<long double>(phases.uniform(at))
               : static_cast<long double>(config.bias) * static_cast<long double>(biases.gaussian(at, 0));
    for (std::int64_t r = 0; r < rows; ++r) {
      const Projection pre = projection(config, wide.data() + r * config.n_inputs, i);
      const long double bound = static_cast<long double>(config.n_inputs + 12) * std::numeric_limits<T>::epsilon() *
                                (pre.size + std::abs(shift) + 1);
      const long double argument = pre.value + shift;
      if (config.activation == Activation::sign && std::abs(argument) <= bound) {
        ++skipped;
        continue;
      }
      ASSERT_LE(std::abs(out[static_cast<std::size_t>(r * config.n_features + i)] -
                         output_scale * activation(config.activation, argument)),
                bound)
          << gramian::name_of(config.kind) << ' ' << gramian::name_of(config.activation) << ' ' << r << ' ' << i;
    }
  }
  EXPECT_LT(skipped, rows);
}

template <class T>
class Features : public testing::Test {};
using Real = testing::Types<float, double>;
TYPED_TEST_SUITE(Features, Real);

TYPED_TEST(Features, EveryKindAndActivationFollowsTheLaw) {
  for (const RandomKind kind : kKinds) {
    for (const Activation activation : kActivations) {
      for (const bool biased : {false, true}) {
        RandomFeaturesConfig config = config_of(13, 70, kind, activation);
        config.bias = biased ? 0.7 : 0.0;
        config.scale = biased ? 0.3 : 0.0;
        check_law<TypeParam>(config, 40);
      }
    }
    for (const std::int64_t inputs : {1, 2, 32, 33})
      check_law<TypeParam>(config_of(inputs, 37, kind, Activation::relu), 5);
    check_law<TypeParam>(config_of(5, 1, kind, Activation::relu), 3);
  }
  check_law<TypeParam>(config_of(40, 700, RandomKind::gaussian, Activation::cos), 140);
  check_law<TypeParam>(config_of(30, 70, RandomKind::hadamard, Activation::tanh), 66);
}

// The unit vectors read the weights off: nothing is rounded on the way.
TYPED_TEST(Features, WeightsAreTheRoundedDrawsAndDoNotDependOnTheNumberOfFeatures) {
  using T = TypeParam;
  const std::int64_t p = 16;
  std::vector<T> units(static_cast<std::size_t>(p * p), T(0));
  for (std::int64_t k = 0; k < p; ++k) units[static_cast<std::size_t>(k * p + k)] = T(1);
  for (const RandomKind kind : kAllKinds) {
    const std::vector<T> few =
        transformed<T>(*gramian::make_random_features(config_of(p, 77, kind, Activation::identity)), rows_of(units, p));
    const std::vector<T> many = transformed<T>(
        *gramian::make_random_features(config_of(p, 300, kind, Activation::identity)), rows_of(units, p));
    for (std::int64_t r = 0; r < p; ++r)
      for (std::int64_t i = 0; i < 77; ++i)
        ASSERT_EQ(few[static_cast<std::size_t>(r * 77 + i)], many[static_cast<std::size_t>(r * 300 + i)]);
    if (kind != RandomKind::gaussian) continue;
    const RngStream stream(config_of(p, 77, kind, Activation::identity).seed, RngFamily::gaussian);
    for (std::int64_t r = 0; r < p; ++r)
      for (std::int64_t i = 0; i < 77; ++i)
        ASSERT_EQ(few[static_cast<std::size_t>(r * 77 + i)],
                  static_cast<T>(0.25 * stream.gaussian(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(r))));
  }
}

TYPED_TEST(Features, SeedsAndKindsDiffer) {
  using T = TypeParam;
  const std::vector<T> x = normals<T>(3, 16, 1);
  RandomFeaturesConfig config = config_of(16, 40, RandomKind::gaussian, Activation::identity);
  const std::vector<T> first = transformed<T>(*gramian::make_random_features(config), rows_of<T>(x, 16));
  config.seed += 1;
  EXPECT_FALSE(same_bits(first, transformed<T>(*gramian::make_random_features(config), rows_of<T>(x, 16))));
  config.seed -= 1;
  config.kind = RandomKind::hadamard;
  EXPECT_FALSE(same_bits(first, transformed<T>(*gramian::make_random_features(config), rows_of<T>(x, 16))));
}

// Blocks of hadamard are orthogonal up to the scale: |z| = scale sqrt(P) |x|.
TEST(Hadamard, ABlockKeepsLengths) {
  RandomFeaturesConfig config = config_of(64, 64, RandomKind::hadamard, Activation::identity);
  config.scale = 1;
  const std::vector<double> x = normals<double>(4, 64, 1);
  const std::vector<double> z = transformed<double>(*gramian::make_random_features(config), rows_of(x, 64));
  for (std::size_t r = 0; r < 4; ++r) {
    double in = 0, out = 0;
    for (std::size_t k = 0; k < 64; ++k) {
      in += x[r * 64 + k] * x[r * 64 + k];
      out += z[r * 64 + k] * z[r * 64 + k];
    }
    EXPECT_NEAR(out, 64 * in, 1e-11 * out);
  }
}

std::vector<FeatureMapPtr> some_maps(std::int64_t inputs) {
  std::vector<FeatureMapPtr> maps;
  for (const RandomKind kind : kKinds) {
    RandomFeaturesConfig config = config_of(inputs, 150, kind, Activation::relu);
    config.bias = 0.5;
    maps.push_back(gramian::make_random_features(config));
  }
  maps.push_back(gramian::make_random_features(config_of(inputs, 150, RandomKind::gaussian, Activation::cos)));
  const std::vector<double> centers = normals<double>(33, inputs, 8);
  maps.push_back(gramian::make_rbf_features({centers.data(), 33, inputs}, 0.05));
  maps.push_back(gramian::make_random_features(config_of(inputs, 150, RandomKind::orthogonal, Activation::relu)));
  maps.push_back(gramian::make_random_features(config_of(inputs, 150, RandomKind::sparse, Activation::relu)));
  const FeatureMapPtr part =
      gramian::make_random_features(config_of(inputs - 1, 9, RandomKind::gaussian, Activation::tanh));
  maps.push_back(gramian::make_fusion({inputs - 1, 1}, {part, nullptr}, false));
  std::swap(maps[maps.size() - 4], maps.back());  // the radial features come last
  RandomFeaturesConfig wide = config_of(33, 20, RandomKind::hadamard, Activation::tanh);
  maps.push_back(gramian::make_composition({maps.back(), gramian::make_random_features(wide)}));
  return maps;
}

TYPED_TEST(Features, TheBitsDoNotDependOnThreadsCopiesOrReleasedWorkSpace) {
  using T = TypeParam;
  const std::vector<T> x = normals<T>(300, 21, 4);
  for (const FeatureMapPtr& map : some_maps(21)) {
    const std::vector<T> first = transformed<T>(*map, rows_of(x, 21), 1);
    for (int threads = 2; threads <= 4; ++threads)
      EXPECT_TRUE(same_bits(first, transformed<T>(*map, rows_of(x, 21), threads)));
    map->release_workspace();
    EXPECT_TRUE(same_bits(first, transformed<T>(*map, rows_of(x, 21))));
    // The same rows read from another layout.
    std::vector<T> columns(x.size());
    for (std::size_t r = 0; r < 300; ++r)
      for (std::size_t c = 0; c < 21; ++c) columns[c * 300 + r] = x[r * 21 + c];
    RowsView view = rows_of(x, 21);
    view.data = columns.data();
    view.row_stride = sizeof(T);
    view.col_stride = 300 * sizeof(T);
    EXPECT_TRUE(same_bits(first, transformed<T>(*map, view)));
    // A part of the rows needs the same weights.
    const std::vector<T> part = transformed<T>(*map, rows_of(x, 21).slice(100, 50));
    for (std::size_t k = 0; k < part.size(); ++k)
      ASSERT_NEAR(part[k], first[static_cast<std::size_t>(100 * map->n_features()) + k],
                  200 * std::numeric_limits<T>::epsilon());
    EXPECT_GT(map->flops_per_row(), 0);
    transformed<T>(*map, rows_of(x, 21).slice(0, 0));
  }
}

TEST(FeatureMaps, ReleasingTheWorkSpaceReturnsTheMemory) {
  const FeatureMapPtr map = gramian::make_random_features(config_of(100, 1000, RandomKind::gaussian, Activation::relu));
  const std::vector<double> x = normals<double>(2, 100, 1);
  const std::size_t before = gramian::memory_stats().live;
  transformed<double>(*map, rows_of(x, 100));
  EXPECT_GE(gramian::memory_stats().live, before + 100 * 1000 * sizeof(double));
  map->release_workspace();
  EXPECT_EQ(gramian::memory_stats().live, before);
}

TEST(FeatureMaps, FloatAndDoubleAgree) {
  const std::vector<float> x = normals<float>(50, 21, 4);
  for (const FeatureMapPtr& map : some_maps(21)) {
    const std::vector<float> narrow = transformed<float>(*map, rows_of(x, 21));
    const std::vector<double> wide = transformed<double>(*map, rows_of(x, 21));
    double worst = 0;
    for (std::size_t k = 0; k < wide.size(); ++k)
      worst = std::max(worst, std::abs(wide[k] - static_cast<double>(narrow[k])));
    EXPECT_LE(worst, 3e-5);
    EXPECT_GT(worst, 0);
  }
}

struct Csr {
  std::vector<std::int32_t> indptr{0}, indices;
  std::vector<double> values;
  std::vector<double> dense;
  RowsView view;
};

Csr sparse_rows(std::int64_t rows, std::int64_t cols) {
  Csr csr;
  csr.dense.assign(static_cast<std::size_t>(rows * cols), 0.0);
  const std::vector<double> draws = normals<double>(rows, cols, 6);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = cols - 1; c >= 0; --c) {
      const auto at = static_cast<std::size_t>(r * cols + c);
      if (std::abs(draws[at]) < 1.2) continue;
      csr.indices.push_back(static_cast<std::int32_t>(c));
      csr.values.push_back(draws[at]);
      csr.dense[at] = draws[at];
    }
    csr.indptr.push_back(static_cast<std::int32_t>(csr.indices.size()));
  }
  csr.view = RowsView::csr(rows, cols, csr.indptr.data(), csr.indices.data(), csr.values.data());
  return csr;
}

TYPED_TEST(Features, SparseRowsHaveTheFeaturesOfTheDenseOnes) {
  using T = TypeParam;
  Csr csr = sparse_rows(90, 21);
  for (const FeatureMapPtr& map : some_maps(21)) {
    const std::vector<T> dense = transformed<T>(*map, rows_of(csr.dense, 21));
    const std::vector<T> sparse = transformed<T>(*map, csr.view);
    for (std::size_t k = 0; k < dense.size(); ++k)
      ASSERT_NEAR(dense[k], sparse[k], 200 * std::numeric_limits<T>::epsilon());
    const std::vector<std::int64_t> index{89, 3, 3, 40};
    RowsView picked = csr.view;
    picked.rows = 4;
    picked.row_index = index.data();
    const std::vector<T> chosen = transformed<T>(*map, picked);
    for (std::size_t r = 0; r < 4; ++r) {
      for (std::int64_t i = 0; i < map->n_features(); ++i) {
        ASSERT_NEAR(chosen[r * static_cast<std::size_t>(map->n_features()) + static_cast<std::size_t>(i)],
                    dense[static_cast<std::size_t>(index[r] * map->n_features() + i)],
                    200 * std::numeric_limits<T>::epsilon());
      }
    }
    const std::vector<T> tail = transformed<T>(*map, csr.view.slice(60, 30));
    for (std::size_t k = 0; k < tail.size(); ++k)
      ASSERT_NEAR(tail[k], dense[static_cast<std::size_t>(60 * map->n_features()) + k],
                  200 * std::numeric_limits<T>::epsilon());
  }
}

TYPED_TEST(Features, BadRowsAreNamedAndBadShapesRefused) {
  using T = TypeParam;
  std::vector<double> x = normals<double>(30, 21, 4);
  x[17 * 21 + 5] = std::nan("");
  RowsView view = rows_of(x, 21);
  view.first_row = 1000;
  Csr csr = sparse_rows(30, 21);
  csr.values[static_cast<std::size_t>(csr.indptr[18] - 1)] = INFINITY;
  csr.view.first_row = 1000;
  for (const FeatureMapPtr& map : some_maps(21)) {
    expect_error(ErrorCode::non_finite, "row 1017", [&] { transformed<T>(*map, view); });
    expect_error(ErrorCode::non_finite, "row 1017", [&] { transformed<T>(*map, csr.view); });
    const std::vector<double> narrow = normals<double>(4, 20, 4);
    expect_error(ErrorCode::shape_mismatch, "X has 20 features, but the feature map expects 21",
                 [&] { transformed<T>(*map, rows_of(narrow, 20)); });
    std::vector<T> out(30);
    expect_error(ErrorCode::shape_mismatch, "output", [&] {
      map->transform(cpu(1), view.slice(0, 2), MatrixView<T>(out.data(), 2, map->n_features() - 1));
    });
  }
}

TYPED_TEST(Features, RbfIsTheGaussianOfTheDistance) {
  using T = TypeParam;
  for (const double offset : {0.0, 1e6}) {
    if (offset > 0 && sizeof(T) == sizeof(float)) continue;  // such rows do not fit into float input
    const std::int64_t p = 9, k = 40, rows = 60;
    std::vector<double> centers = normals<double>(k, p, 1), x = normals<double>(rows, p, 2);
    for (double& v : centers) v += offset;
    for (double& v : x) v += offset;
    for (std::size_t c = 0; c < static_cast<std::size_t>(p); ++c) x[c] = centers[c];  // row 0 is centre 0
    const FeatureMapPtr map = gramian::make_rbf_features({centers.data(), k, p}, 0.2);
    const std::vector<T> out = transformed<T>(*map, rows_of(x, p));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t j = 0; j < k; ++j) {
        long double square = 0;
        for (std::int64_t c = 0; c < p; ++c) {
          const long double difference = static_cast<long double>(x[static_cast<std::size_t>(r * p + c)]) -
                                         centers[static_cast<std::size_t>(j * p + c)];
          square += difference * difference;
        }
        const T value = out[static_cast<std::size_t>(r * k + j)];
        ASSERT_NEAR(value, static_cast<double>(std::exp(-0.2L * square)), 60 * std::numeric_limits<T>::epsilon())
            << r << ' ' << j;
        ASSERT_LE(value, T(1));
      }
    }
    EXPECT_NEAR(out[0], 1.0, 20 * std::numeric_limits<T>::epsilon());
  }
}

TYPED_TEST(Features, CentersWithACommonOffsetLoseNoDigitsFromFloatResults) {
  using T = TypeParam;
  const std::int64_t p = 5, k = 12;
  std::vector<double> centers = normals<double>(k, p, 1);
  const std::vector<double> near = centers;
  for (double& v : centers) v = v + 4096.0;
  for (std::size_t i = 0; i < centers.size(); ++i) ASSERT_NEAR(centers[i] - 4096, near[i], 1e-12);
  const std::vector<T> moved =
      transformed<T>(*gramian::make_rbf_features({centers.data(), k, p}, 0.2), rows_of(centers, p));
  const std::vector<T> still = transformed<T>(*gramian::make_rbf_features({near.data(), k, p}, 0.2), rows_of(near, p));
  for (std::size_t i = 0; i < moved.size(); ++i)
    ASSERT_NEAR(moved[i], still[i], 100 * std::numeric_limits<T>::epsilon() + 1e-11);
}

TYPED_TEST(Features, ACompositionIsItsMapsInTurn) {
  using T = TypeParam;
  const FeatureMapPtr a = gramian::make_random_features(config_of(7, 30, RandomKind::gaussian, Activation::tanh));
  const FeatureMapPtr b = gramian::make_random_features(config_of(30, 20, RandomKind::rademacher, Activation::relu));
  const FeatureMapPtr c = gramian::make_random_features(config_of(20, 11, RandomKind::hadamard, Activation::cos));
  const FeatureMapPtr all = gramian::make_composition({a, b, c});
  EXPECT_EQ(all->n_inputs(), 7);
  EXPECT_EQ(all->n_features(), 11);
  EXPECT_EQ(all->flops_per_row(), a->flops_per_row() + b->flops_per_row() + c->flops_per_row());
  const std::vector<T> x = normals<T>(64, 7, 5);
  std::vector<T> first = transformed<T>(*a, rows_of(x, 7)), second(64 * 20), third(64 * 11);
  b->apply(cpu(1), MatrixView<const T>(first.data(), 64, 30), MatrixView<T>(second.data(), 64, 20));
  c->apply(cpu(1), MatrixView<const T>(second.data(), 64, 20), MatrixView<T>(third.data(), 64, 11));
  EXPECT_TRUE(same_bits(third, transformed<T>(*all, rows_of(x, 7))));
  std::vector<T> applied(64 * 11);
  all->apply(cpu(2), MatrixView<const T>(x.data(), 64, 7), MatrixView<T>(applied.data(), 64, 11));
  EXPECT_TRUE(same_bits(third, applied));
  EXPECT_TRUE(same_bits(first, transformed<T>(*gramian::make_composition({a}), rows_of(x, 7))));
}

TEST(FeatureMaps, MapsThatDoNotFitTogetherAreRefused) {
  const FeatureMapPtr a = gramian::make_random_features(config_of(7, 30, RandomKind::gaussian, Activation::tanh));
  expect_error(ErrorCode::shape_mismatch, "feature map 0 makes 30 features, but the next one expects 7", [&] {
    gramian::make_composition({a, a});
  });
  expect_error(ErrorCode::invalid_argument, "at least one map", [] { gramian::make_composition({}); });
}

TEST(FeatureMaps, BadConfigurationsAreRefused) {
  const auto refused = [](const std::string& part, void (*change)(RandomFeaturesConfig&)) {
    RandomFeaturesConfig config = config_of(4, 4, RandomKind::gaussian, Activation::relu);
    change(config);
    expect_error(ErrorCode::invalid_argument, part, [&] { gramian::make_random_features(config); });
  };
  refused("n_inputs", [](RandomFeaturesConfig& c) { c.n_inputs = 0; });
  refused("n_inputs", [](RandomFeaturesConfig& c) { c.n_inputs = -3; });
  refused("n_inputs", [](RandomFeaturesConfig& c) { c.n_inputs = std::numeric_limits<std::int64_t>::max(); });
  refused("n_features", [](RandomFeaturesConfig& c) { c.n_features = 0; });
  refused("n_features", [](RandomFeaturesConfig& c) { c.n_features = std::numeric_limits<std::int64_t>::max(); });
  refused("scale", [](RandomFeaturesConfig& c) { c.scale = -1; });
  refused("scale", [](RandomFeaturesConfig& c) { c.scale = std::nan(""); });
  refused("scale", [](RandomFeaturesConfig& c) { c.scale = INFINITY; });
  refused("bias", [](RandomFeaturesConfig& c) { c.bias = -0.1; });
  refused("bias", [](RandomFeaturesConfig& c) { c.bias = std::nan(""); });
  refused("65536", [](RandomFeaturesConfig& c) {
    c.kind = RandomKind::hadamard;
    c.n_inputs = 1;
    c.n_features = 65537;
  });
  const std::vector<double> centers{1, 2, std::nan(""), 4};
  expect_error(ErrorCode::non_finite, "row 1", [&] { gramian::make_rbf_features({centers.data(), 2, 2}, 1.0); });
  expect_error(ErrorCode::invalid_argument, "centers", [&] {
    gramian::make_rbf_features({centers.data(), 0, 2}, 1.0);
  });
  for (const double gamma : {0.0, -1.0, std::nan(""), static_cast<double>(INFINITY)})
    expect_error(ErrorCode::invalid_argument, "gamma", [&] {
      gramian::make_rbf_features({centers.data(), 1, 2}, gamma);
    });
}

TEST(FeatureMaps, NamesAreReadBack) {
  for (const Activation f : kActivations) EXPECT_EQ(gramian::parse_activation(gramian::name_of(f)), f);
  for (const RandomKind kind : kKinds) EXPECT_EQ(gramian::parse_random_kind(gramian::name_of(kind)), kind);
  expect_error(ErrorCode::invalid_argument, "'softmax'", [] { gramian::parse_activation("softmax"); });
  expect_error(ErrorCode::invalid_argument, "'Gaussian'", [] { gramian::parse_random_kind("Gaussian"); });
}

// --- files

FeatureMapPtr loaded(const File& file) {
  return gramian::load_feature_map(file.description, ModelReader::from_bytes(file.bytes.data(), file.bytes.size()),
                                   "m.");
}

TYPED_TEST(Features, ALoadedMapHasTheSameBits) {
  using T = TypeParam;
  const std::vector<T> x = normals<T>(30, 21, 4);
  std::vector<FeatureMapPtr> maps = some_maps(21);
  RandomFeaturesConfig odd = config_of(21, 50, RandomKind::rademacher, Activation::sigmoid);
  odd.seed = std::numeric_limits<std::uint64_t>::max();
  odd.scale = 0.1;
  odd.bias = 1.0 / 3;
  maps.push_back(gramian::make_random_features(odd));
  maps.push_back(gramian::make_composition(
      {gramian::make_composition(
           {maps.back(), gramian::make_random_features(config_of(50, 21, RandomKind::gaussian, Activation::relu))}),
       maps[4]}));
  for (const FeatureMapPtr& map : maps) {
    const File file = file_of(*map);
    EXPECT_TRUE(same_bits(transformed<T>(*map, rows_of(x, 21)), transformed<T>(*loaded(file), rows_of(x, 21))));
    EXPECT_EQ(file_of(*loaded(file)).bytes, file.bytes);
    EXPECT_EQ(file_of(*loaded(file)).description.dump(), file.description.dump());
  }
}

TEST(FeatureFiles, HoldNoWeights) {
  const File small = file_of(*gramian::make_random_features(config_of(10, 10, RandomKind::gaussian, Activation::relu)));
  const File large =
      file_of(*gramian::make_random_features(config_of(1000, 1000, RandomKind::gaussian, Activation::relu)));
  EXPECT_EQ(small.bytes.size(), large.bytes.size());
  EXPECT_LE(large.description.dump().size(), 400u);
}

TEST(FeatureFiles, ImpossibleDescriptionsAreFileErrors) {
  const FeatureMapPtr random = gramian::make_random_features(config_of(4, 6, RandomKind::gaussian, Activation::relu));
  const auto refused = [](const File& file, const std::string& key, const Json& value) {
    File changed = file;
    if (!key.empty()) changed.description[key] = value;
    expect_error(ErrorCode::file_format, "", [&] { loaded(changed); });
  };
  const File file = file_of(*random);
  refused(file, "type", "perceptron");
  refused(file, "type", 3);
  refused(file, "kind", "cauchy");
  refused(file, "activation", "swish");
  refused(file, "n_inputs", 0);
  refused(file, "n_inputs", std::numeric_limits<std::int64_t>::max());
  refused(file, "n_features", -1);
  refused(file, "n_features", 2.5);
  refused(file, "scale", -1.0);
  refused(file, "bias", "none");
  for (const char* seed : {"", "-1", "12x", " 1", "18446744073709551616"}) refused(file, "seed", seed);
  Json missing = Json::object();
  missing["type"] = "random";
  File bare = file;
  bare.description = missing;
  refused(bare, "", Json());

  const std::vector<double> centers = normals<double>(6, 4, 1);
  const FeatureMapPtr rbf = gramian::make_rbf_features({centers.data(), 6, 4}, 1.0);
  const File rbf_file = file_of(*rbf);
  refused(rbf_file, "n_features", 5);
  refused(rbf_file, "n_features", -1);
  refused(rbf_file, "n_inputs", -1);
  refused(rbf_file, "gamma", 0.0);
  File elsewhere = rbf_file;
  elsewhere.bytes = file.bytes;
  refused(elsewhere, "", Json());

  const FeatureMapPtr next = gramian::make_random_features(config_of(6, 3, RandomKind::gaussian, Activation::relu));
  const File chain = file_of(*gramian::make_composition({random, next}));
  refused(chain, "maps", Json::array());
  refused(chain, "maps", Json(3));
  Json turned = Json::array();
  turned.push_back(chain.description.at("maps").items()[1]);
  turned.push_back(chain.description.at("maps").items()[0]);
  refused(chain, "maps", turned);
}

}  // namespace
