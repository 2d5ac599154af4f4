// How far a sketch is from an isometry.
#pragma once

#include <cstdint>

namespace gramian::sketching {

// How far the squares of the singular values of a dense m x d sketch of an orthonormal basis lie from 1, but for a
// chance of less than 1e-3: those of a Gaussian one follow, at their upper end, the law of Tracy and Widom about this
// middle with this width (the form of "Accuracy of the Tracy-Widom limits for the extreme eigenvalues in white Wishart
// matrices", which serves for all m and d); 4.5 widths are enough for the heavier tail of a single column as well. The
// lower end is nearer to 1.
double distortion_of(std::int64_t m, std::int64_t d);

}  // namespace gramian::sketching
