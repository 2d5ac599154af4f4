// Rows of the orthonormal DCT-II: drawn without replacement after random signs, or chosen.
#include <cmath>

#include "gramian/core/rng.hpp"
#include "sketch/family.h"

namespace gramian::sketch {

namespace {

constexpr std::uint32_t kSignTag = 1, kSampleTag = 5;

// Entry (i, j) = sign_j c_k cos(pi (2 j + 1) k / (2 n)), k the i-th frequency, c_0 = sqrt(1/2) and 1 else. One quarter
// of the cosine's turn is kept.
class Cosines {
 public:
  explicit Cosines(const SketchDist& dist) : n_(dist.n_in), frequencies_(dist.columns) {
    const auto n = static_cast<std::uint64_t>(n_);
    quarter_.reserve(static_cast<std::size_t>(n_) + 1);
    for (std::uint64_t a = 0; a <= n; ++a) quarter_.push_back(cosine_of_quarters(a, n));
    if (!frequencies_.empty()) return;
    const RngStream sample(dist.seed, RngFamily::dct, kSampleTag, 0, dist.generation);
    const RngStream signs(dist.seed, RngFamily::dct, kSignTag, 0, dist.generation);
    for (std::uint64_t q = 0; q < static_cast<std::uint64_t>(dist.n_out); ++q)
      frequencies_.push_back(static_cast<std::int64_t>(sample.permute(n, q)));
    for (std::uint64_t j = 0; j < n; ++j) signs_.push_back(signs.row_sign(j));
  }

  double at(std::int64_t i, std::int64_t j) const {
    const std::int64_t k = frequencies_[static_cast<std::size_t>(i)];
    std::int64_t a = (2 * j + 1) * k % (4 * n_);
    if (a > 2 * n_) a = 4 * n_ - a;
    const double cosine =
        a > n_ ? -quarter_[static_cast<std::size_t>(2 * n_ - a)] : quarter_[static_cast<std::size_t>(a)];
    const double value = k == 0 ? 0.70710678118654757 * cosine : cosine;
    return signs_.empty() ? value : signs_[static_cast<std::size_t>(j)] * value;
  }

 private:
  std::int64_t n_;
  std::vector<std::int64_t> frequencies_;
  std::vector<double> quarter_, signs_;
};

template <class T>
class CosineFamily final : public TileFamily<T> {
 public:
  explicit CosineFamily(std::shared_ptr<const Cosines> cosines) : cosines_(std::move(cosines)) {}
  void tile(const Exec& exec, std::int64_t first, std::int64_t start, double factor, MatrixView<T> out) const override {
    fill_on_host<T>(exec, out,
                    [&](std::int64_t i, std::int64_t j) { return factor * cosines_->at(first + i, start + j); });
  }

 private:
  std::shared_ptr<const Cosines> cosines_;
};

}  // namespace

FamilyPair make_cosine_family(const SketchDist& dist) {
  const auto cosines = std::make_shared<const Cosines>(dist);
  // sqrt(2 / n) makes the rows orthonormal; drawn ones are scaled by sqrt(n / m) besides.
  const std::int64_t count = dist.columns.empty() ? dist.n_out : dist.n_in;
  return {std::make_unique<CosineFamily<float>>(cosines), std::make_unique<CosineFamily<double>>(cosines),
          std::sqrt(2.0 / static_cast<double>(count))};
}

}  // namespace gramian::sketch
