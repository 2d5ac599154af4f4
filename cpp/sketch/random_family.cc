// Gaussian and Rademacher sketches: every entry its own draw.
#include <cmath>

#include "gramian/core/rng.hpp"
#include "sketch/family.h"

namespace gramian::sketch {

namespace {

template <class T>
class RandomFamily final : public TileFamily<T> {
 public:
  RandomFamily(Distribution distribution, const RngStream& stream) : distribution_(distribution), stream_(stream) {}
  void tile(const Exec& exec, std::int64_t first, std::int64_t start, double factor, MatrixView<T> out) const override {
    fill_random_tile<T>(exec, distribution_, stream_, factor, first, start, out);
  }

 private:
  Distribution distribution_;
  RngStream stream_;
};

}  // namespace

FamilyPair make_random_family(const SketchDist& dist) {
  const bool gaussian = dist.kind == SketchKind::gaussian;
  const Distribution distribution = gaussian ? Distribution::gaussian : Distribution::rademacher;
  const RngStream stream(dist.seed, gaussian ? RngFamily::gaussian : RngFamily::rademacher, 0, 0, dist.generation);
  const double scale = 1.0 / std::sqrt(static_cast<double>(dist.n_out));
  return {std::make_unique<RandomFamily<float>>(distribution, stream),
          std::make_unique<RandomFamily<double>>(distribution, stream), scale};
}

}  // namespace gramian::sketch
