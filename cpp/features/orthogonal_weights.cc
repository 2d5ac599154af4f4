#include "features/orthogonal_weights.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {

namespace {

// Columns that are made orthonormal together. Panels are always whole, cut or not by n_features, so that a feature has
// the same bits whatever comes after it.
constexpr std::int64_t kPanel = 64;

// Lengths of the columns, host.
std::vector<double> column_lengths(const Exec& exec, MatrixView<const double> panel) {
  SymmetricMatrix<double> g(exec, panel.cols);
  gram_update<double>(exec, 1.0, panel, g);
  std::vector<double> lengths(static_cast<std::size_t>(panel.cols));
  g.diagonal(exec, lengths.data());
  for (double& value : lengths) value = std::sqrt(value);
  return lengths;
}

// Gram-Schmidt of the columns of `panel` behind the orthonormal columns of `before`. The Cholesky factor of a Gram
// has a positive diagonal, which fixes every sign; the second pass takes the loss of orthogonality of the first one
// (the squared condition of the panel) down to rounding.
void orthonormalise(const Exec& exec, MatrixView<const double> before, MatrixView<double> panel) {
  Array<double> inside(exec, before.cols, panel.cols);
  for (int pass = 0; pass < 2; ++pass) {
    if (before.cols > 0) {
      gemm<double>(exec, Trans::yes, Trans::no, 1.0, before, panel, 0.0, inside.view());
      gemm<double>(exec, Trans::no, Trans::no, -1.0, before, inside.view(), 1.0, panel);
    }
    SymmetricMatrix<double> g(exec, panel.cols);
    gram_update<double>(exec, 1.0, panel, g);
    GRAMIAN_REQUIRE(cholesky(exec, g) == 0, not_positive_definite, "a block of random weights is singular");
    cholesky_solve_rows<double>(exec, g, panel);
  }
}

}  // namespace

template <class T>
void draw_orthogonal(const Exec& exec, std::uint64_t seed, double scale, MatrixView<T> out) {
  const std::int64_t d = out.rows;
  const RngStream stream(seed, RngFamily::gaussian);
  for (std::int64_t first = 0; first < out.cols; first += d) {
    const std::int64_t width = std::min(d, out.cols - first);
    const std::int64_t padded = std::min(d, (width + kPanel - 1) / kPanel * kPanel);
    Array<double> block(exec, d, padded), factors(exec, padded);
    fill_random<double>(exec, Distribution::gaussian, stream, 1.0, block.view(), first);
    std::vector<double> lengths;
    for (std::int64_t at = 0; at < padded; at += kPanel) {
      exec.poll();
      const MatrixView<double> panel = block.view().block(0, at, d, std::min(kPanel, padded - at));
      const std::vector<double> own = column_lengths(exec, panel);
      lengths.insert(lengths.end(), own.begin(), own.end());
      orthonormalise(exec, block.view().block(0, 0, d, at), panel);
    }
    for (double& value : lengths) value *= scale;
    upload<double>(exec, {lengths.data(), 1, padded}, factors.view());
    scale_columns<double>(exec, factors.data(), block.view());
    axpby<double, T>(exec, 1.0, block.view().block(0, 0, d, width), 0.0, out.block(0, first, d, width));
  }
}

template void draw_orthogonal<float>(const Exec&, std::uint64_t, double, MatrixView<float>);
template void draw_orthogonal<double>(const Exec&, std::uint64_t, double, MatrixView<double>);

}  // namespace gramian
