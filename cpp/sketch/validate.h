// Is this a sketch?
#pragma once

#include "gramian/sketch/operator.hpp"

namespace gramian::sketch {

// Throws Error{invalid_argument} naming what is wrong.
void validate(const SketchDist& dist);

}  // namespace gramian::sketch
