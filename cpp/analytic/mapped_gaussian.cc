#include "gramian/analytic/mapped_gaussian.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {
namespace {

constexpr double kPi = 3.14159265358979323846;
// Above this correlation the angle is cut into pieces, each half as far from the right angle as the one before.
constexpr double kSmooth = 0.75;
// Pieces nearer to the right angle than pi / 2^kPieces add less than its cube.
constexpr int kPieces = 18;
// Rows of the unit matrix that go through the map together, and rows of covariances between two looks at Ctrl-C.
constexpr std::int64_t kInputsOfBlock = 512, kRowsOfBlock = 64;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

double density(double h) {
  return std::exp(-0.5 * h * h) / std::sqrt(2 * kPi);
}
double probability(double h) {
  return 0.5 * std::erfc(-h / std::sqrt(2.0));
}

// Nodes and weights of the Gauss-Legendre rule on [0, 1], from the roots of the Legendre polynomial by Newton's method.
template <std::size_t n>
struct Rule {
  std::array<double, n> node, weight;
  Rule() {
    for (std::size_t i = 0; i < n; ++i) {
      double x = std::cos(kPi * (static_cast<double>(i) + 0.75) / (static_cast<double>(n) + 0.5)), slope = 1;
      for (int step = 0; step < 8; ++step) {
        double before = 1, value = x;
        for (std::size_t k = 2; k <= n; ++k) {
          const auto degree = static_cast<double>(k);
          const double next = ((2 * degree - 1) * x * value - (degree - 1) * before) / degree;
          before = value;
          value = next;
        }
        slope = static_cast<double>(n) * (x * value - before) / (x * x - 1);
        x -= value / slope;
      }
      node[i] = (1 + x) / 2;
      weight[i] = 1 / ((1 - x * x) * slope * slope);
    }
  }
};

// int (r - sin t) exp(-(h^2 + k^2 - 2 h k sin t) / (2 cos^2 t)) dt between two angles to the right angle, far and near;
// gap = 1 - r. In terms of q = 1 - sin t nothing cancels, however near the right angle is.
template <std::size_t n>
double piece(const Rule<n>& rule, double h, double k, double gap, double near, double far) {
  const double apart = (h - k) * (h - k), twice = 2 * h * k;
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double half = std::sin((near + rule.node[i] * (far - near)) / 2), q = 2 * half * half;
    sum += rule.weight[i] * (q - gap) * std::exp(-(apart + twice * q) / (2 * q * (2 - q)));
  }
  return sum * (far - near);
}

// The covariance for unit variances and means h and k; gap = 1 - |rho|.
double unit_covariance(double h, double k, double rho, double gap) {
  static const Rule<10> kFew;
  static const Rule<20> kMany;
  const double linear = rho * probability(h) * probability(k), size = std::abs(rho);
  if (rho < 0) k = -k;
  // Angles are told by how far they are from the right one.
  const double end = 2 * std::asin(std::sqrt(gap / 2));
  double sum = 0, far = kPi / 2;
  if (size <= kSmooth) {
    sum = size <= 0.3 ? piece(kFew, h, k, gap, end, far) : piece(kMany, h, k, gap, end, far);
  } else {
    for (int i = 0; i < kPieces && far > end; ++i) {
      const double near = std::max(end, far / 2);
      sum += piece(kMany, h, k, gap, near, far);
      far = near;
    }
  }
  return linear + sum / (2 * kPi);
}

Json described(const FeatureMap& map) {
  ModelWriter unused("map", Json::object());
  return map.save(unused, "");
}

// The random features with these weights and offsets, and no activation behind them.
FeatureMapPtr without_activation(const Json& json) {
  RandomFeaturesConfig config;
  config.n_inputs = json.at("n_inputs").integer();
  config.n_features = json.at("n_features").integer();
  config.kind = parse_random_kind(json.at("kind").string());
  config.activation = Activation::identity;
  config.scale = json.at("scale").number();
  config.bias = json.at("bias").number();
  config.seed = std::stoull(json.at("seed").string());
  if (json.contains("n_nonzero")) config.n_nonzero = json.at("n_nonzero").integer();
  return make_random_features(config);
}

}  // namespace

double rectified_mean(double mean, double variance) {
  if (!(variance > 0)) return std::max(mean, 0.0);
  const double deviation = std::sqrt(variance), h = mean / deviation;
  return std::max(0.0, deviation * (h * probability(h) + density(h)));
}

double rectified_covariance(double mean_u, double mean_v, double variance_u, double variance_v, double covariance) {
  if (!(variance_u > 0) || !(variance_v > 0) || covariance == 0) return 0;
  const double u = std::sqrt(variance_u), v = std::sqrt(variance_v), size = u * v;
  const double rho = std::clamp(covariance / size, -1.0, 1.0);
  return size * unit_covariance(mean_u / u, mean_v / v, rho, 1 - std::abs(rho));
}

void require_gaussian_map(const FeatureMap& map) {
  const Json json = described(map);
  const bool random = json.at("type").string() == "random";
  const std::string activation = random ? json.at("activation").string() : "none of its own";
  GRAMIAN_REQUIRE(random && (activation == "relu" || activation == "identity"), invalid_argument,
                  "the moments of Gaussian rows are known behind random features with the activation 'relu' or "
                  "'identity' alone, and this feature map has " +
                      (random ? "'" + activation + "'" : activation));
}

GramState mapped_gaussian(const Exec& exec, const FeatureMap& map, const std::vector<double>& mean,
                          const std::vector<double>& variance, const GramOptions& options, std::int64_t rows) {
  require_gaussian_map(map);
  const std::int64_t p = map.n_inputs(), d = map.n_features();
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(mean.size()) == p && mean.size() == variance.size(), shape_mismatch,
                  "mapped_gaussian needs a mean and a variance for each of " + std::to_string(p) + " inputs");
  const Json json = described(map);
  const FeatureMapPtr linear = without_activation(json);

  // Means of the inputs of the activation, and their offsets: what it is given for x = mean and for x = 0.
  std::vector<double> host(mean);
  host.resize(at(2 * p), 0.0);
  Array<double> ends(exec, 2, p), images(exec, 2, d);
  upload<double>(exec, {host.data(), 2, p}, ends.view());
  linear->apply(exec, ends.view(), images.view());
  std::vector<double> centre(at(2 * d));
  download<double>(exec, images.view(), {centre.data(), 2, d});
  std::vector<double> offset(centre.begin() + d, centre.end());
  centre.resize(at(d));
  for (double& value : offset) value = -value;
  const Array<double> shift = [&] {
    Array<double> out(exec, d);
    upload<double>(exec, {offset.data(), 1, d}, out.view());
    return out;
  }();

  // Their covariances: one deviation after the other through the map.
  SymmetricMatrix<double> sums(exec, d);
  for (std::int64_t begin = 0; begin < p; begin += kInputsOfBlock) {
    exec.poll();
    const std::int64_t some = std::min(kInputsOfBlock, p - begin);
    host.assign(at(some * p), 0.0);
    for (std::int64_t r = 0; r < some; ++r) host[at(r * p + begin + r)] = std::sqrt(variance[at(begin + r)]);
    Array<double> inputs(exec, some, p), outputs(exec, some, d);
    upload<double>(exec, {host.data(), some, p}, inputs.view());
    linear->apply(exec, inputs.view(), outputs.view());
    activate<double>(exec, Activation::identity, shift.data(), 1.0, outputs.view());
    gram_update<double>(exec, 1.0, outputs.view(), sums);
  }

  // Weight, rows, sums of features (none, around their mean) and the lower triangle.
  std::vector<double> moments(at(2 + d + d * (d + 1) / 2), 0.0);
  moments[0] = 1;
  moments[1] = static_cast<double>(rows);
  double* triangle = moments.data() + 2 + d;
  sums.pack(exec, triangle);
  std::vector<double> average(centre), diagonal(at(d));
  for (std::int64_t i = 0; i < d; ++i) diagonal[at(i)] = std::max(0.0, triangle[i * (i + 1) / 2 + i]);
  if (json.at("activation").string() == "relu") {
    for (std::int64_t i = 0; i < d; ++i) average[at(i)] = rectified_mean(centre[at(i)], diagonal[at(i)]);
    for (std::int64_t begin = 0; begin < d; begin += kRowsOfBlock) {
      exec.poll();
      exec.on_host().parallel_for(std::min(kRowsOfBlock, d - begin), [&](std::int64_t r) {
        const std::int64_t i = begin + r;
        double* row = triangle + i * (i + 1) / 2;
        for (std::int64_t j = 0; j <= i; ++j)
          row[j] = rectified_covariance(centre[at(i)], centre[at(j)], diagonal[at(i)], diagonal[at(j)], row[j]);
      });
    }
  }
  return GramState::of_moments(exec, d, 0, options, moments, average, {}, false);
}

}  // namespace gramian
