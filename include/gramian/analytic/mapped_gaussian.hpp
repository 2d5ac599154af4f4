// What random features of a normal row are on average, and how they vary together: sums of rows that nobody has to draw
// and map.
//
// With x ~ N(mean, diag(variance)) the inputs u = scale x B + b of the activation are normal, so the moments of
// max(u, 0) and max(v, 0) are those of the arc-cosine kernel of degree 1 ("Kernel Methods for Deep Learning"), but for
// means that are not zero: with h = E u / s_u, k = E v / s_v, rho the correlation and Phi, phi of the standard normal
// law,
//   E max(u, 0)               = s_u (h Phi(h) + phi(h)),
//   Cov(max(u, 0), max(v, 0)) = s_u s_v int_0^rho P(Z1 > -h, Z2 > -k; correlation r) dr,
// the latter since the derivative of E f(u) g(v) by the covariance is E f'(u) g'(v) ("A useful theorem for nonlinear
// devices having Gaussian inputs"). With the same rule for the probability, two integrals become one over an angle,
//   rho Phi(h) Phi(k) + 1 / (2 pi) int_0^asin(rho) (rho - sin t) exp(-(h^2 + k^2 - 2 h k sin t) / (2 cos^2 t)) dt,
// of a smooth function.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/features/feature_map.hpp"
#include "gramian/gram/gram_state.hpp"

namespace gramian {

// E max(u, 0) for u ~ N(mean, variance).
GRAMIAN_EXPORT double rectified_mean(double mean, double variance);
// Cov(max(u, 0), max(v, 0)) for jointly normal u and v; an error of about 1e-14 sqrt(variance_u variance_v). 10
// exponentials, 20 where the correlation is above 0.3, 20 for each halving of the angle to 1 or -1 above 0.75.
GRAMIAN_EXPORT double rectified_covariance(double mean_u, double mean_v, double variance_u, double variance_v,
                                           double covariance);

// Error{invalid_argument} unless mapped_gaussian knows the map: random features with the activation relu or identity.
GRAMIAN_EXPORT void require_gaussian_map(const FeatureMap& map);
// A state of weight 1, said to be of `rows` rows, without outputs: the mean and the covariance of map(x) for x with
// independent normal entries. mean, variance: n_inputs host values. For p inputs and d features, p d^2 flops on the
// device and d^2 / 2 covariances of the line above on the host. options: with an intercept.
GRAMIAN_EXPORT GramState mapped_gaussian(const Exec& exec, const FeatureMap& map, const std::vector<double>& mean,
                                         const std::vector<double>& variance, const GramOptions& options,
                                         std::int64_t rows);

}  // namespace gramian
