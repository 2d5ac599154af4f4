#include "gram/nested_rows.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

std::vector<double> pack_nested_rows(const RidgeFactor& factor) {
  const std::int64_t d = factor.n_features(), c = factor.n_outputs();
  std::vector<double> l(static_cast<std::size_t>(d * (d + 1) / 2)), z(static_cast<std::size_t>(d * c)), out;
  factor.factor().pack(factor.exec(), l.data());
  download<double>(factor.exec(), factor.z(), {z.data(), d, c});
  out.reserve(static_cast<std::size_t>(nested_rows_size(d, c)));
  for (std::int64_t j = 0; j < d; ++j) {
    const double* of_l = l.data() + j * (j + 1) / 2;
    out.insert(out.end(), of_l, of_l + j + 1);
    out.insert(out.end(), z.data() + j * c, z.data() + (j + 1) * c);
    out.push_back(factor.mean()[static_cast<std::size_t>(j)]);
    out.push_back(factor.scale()[static_cast<std::size_t>(j)]);
  }
  return out;
}

NestedModel unpack_nested_rows(const Exec& exec, const NestedRows& rows, const std::vector<double>& target_mean) {
  const std::int64_t k = rows.width, c = rows.outputs;
  const auto finite = [](double value) { return std::isfinite(value); };
  GRAMIAN_REQUIRE(std::all_of(rows.data, rows.data + nested_rows_size(k, c), finite) &&
                      std::all_of(target_mean.begin(), target_mean.end(), finite),
                  file_format, "the nested weights hold NaN or infinity");
  std::vector<double> packed, z, mean, scale;
  packed.reserve(static_cast<std::size_t>(k * (k + 1) / 2));
  const double* next = rows.data;
  for (std::int64_t j = 0; j < k; ++j) {
    GRAMIAN_REQUIRE(next[j] > 0, file_format, "the factor of the nested weights has a diagonal that is not positive");
    packed.insert(packed.end(), next, next + j + 1);
    z.insert(z.end(), next + j + 1, next + j + 1 + c);
    mean.push_back(next[j + 1 + c]);
    scale.push_back(next[j + 2 + c]);
    next += j + 3 + c;
  }
  SymmetricMatrix<double> l(exec, k);
  l.unpack(exec, packed.data());
  Array<double> device(exec, k, c);
  upload<double>(exec, {z.data(), k, c}, device.view());
  NestedModel model;
  for (const double value : z) model.explained += value * value;
  cholesky_solve_half<double>(exec, Trans::yes, l, device.view());
  download<double>(exec, device.view(), {z.data(), k, c});
  model.solution.intercept = target_mean;
  std::vector<double> coef(z.size());
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t m = 0; m < c; ++m) {
      const double value = z[static_cast<std::size_t>(j * c + m)] * scale[static_cast<std::size_t>(j)];
      coef[static_cast<std::size_t>(m * k + j)] = value;
      model.solution.intercept[static_cast<std::size_t>(m)] -= value * mean[static_cast<std::size_t>(j)];
    }
  model.solution.coef = Array<double>(exec, c, k);
  upload<double>(exec, {coef.data(), c, k}, model.solution.coef.view());
  model.solution.report.method = "cholesky";
  model.solution.report.form = "primal";
  model.solution.report.size = model.solution.report.rank = k;
  model.scale = std::move(scale);
  model.coef = std::move(coef);
  return model;
}

}  // namespace gramian
