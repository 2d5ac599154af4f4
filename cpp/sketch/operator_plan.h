// What a SketchOp holds: its generations, each with its rows and its factor.
#pragma once

#include <utility>
#include <vector>

#include "sketch/family.h"

namespace gramian {

struct SketchOp::Plan {
  struct Part {
    std::int64_t first = 0;  // row of S
    std::int64_t rows = 0;
    double factor = 1.0;  // scale of the generation and its share of all rows
    sketch::FamilyPair family;
    sketch::FamilyPair by_factors;  // where the family itself does not take them: tensor_srht of two

    template <class T>
    const sketch::Family<T>& of() const {
      return pick<T>(family);
    }
    template <class T>
    const sketch::Family<T>& factors_of() const {
      return by_factors.twice != nullptr ? pick<T>(by_factors) : pick<T>(family);
    }

   private:
    template <class T>
    static const sketch::Family<T>& pick(const sketch::FamilyPair& pair) {
      if constexpr (sizeof(T) == sizeof(float)) {
        return *pair.single;
      } else {
        return *pair.twice;
      }
    }
  };

  SketchDist dist;
  std::vector<Part> parts;
};

}  // namespace gramian
