// The state of a least-squares problem that does not square its condition number: the triangle R of the QR
// factorisation of [X Y]. Rows stream into it, states merge, and the solution is as accurate as Householder's QR of all
// rows at once, where sums of products (GramState) lose twice as many digits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/io/json.hpp"
#include "gramian/io/model_file.hpp"

namespace gramian {

// A least-squares solution read off a triangle.
struct TriangularSolution {
  std::vector<double> x;               // d x k by rows
  std::vector<double> residual_norms;  // k: |y - X x|
  std::int64_t rank = 0;
  double condition = 0;  // largest over smallest singular value in use: an estimate where `estimated`
  bool estimated = true;
};

class GRAMIAN_EXPORT RFactor {
 public:
  // d >= 1 features, k >= 0 outputs, no rows.
  RFactor(const Exec& exec, std::int64_t n_features, std::int64_t n_outputs);
  RFactor(RFactor&&) noexcept;
  RFactor& operator=(RFactor&&) noexcept;
  ~RFactor();

  std::int64_t n_features() const;
  std::int64_t n_outputs() const;
  std::int64_t n_rows() const;
  // Dimensions of the targets as callers with arrays have them: 1 until one says 2. Nothing is computed from it; merges
  // and files keep it, so that solutions take the shape of the targets.
  int target_dims() const;
  void set_target_dims(int dims);
  std::size_t bytes() const;
  const Exec& exec() const;

  // Rows x (n x d) with targets y (n x k; none where k is 0) and weights >= 0 (n host values or null). 2 n (d + k)^2
  // flops and 10/3 (d + k)^3 a call: rows come in blocks of some d or more. Throws Error{shape_mismatch, non_finite},
  // and invalid_argument where columns would be longer than 1e150 or all of x shorter than 1e-140: squares are not what
  // they should be there (columns of y may be as small as they like; below 1e-100 they are factored twice). The state
  // is then as before. x_name, y_name: the arguments as the caller knows them.
  void add(const RowsView& x, const RowsView& y, const double* weight = nullptr, const char* x_name = "X",
           const char* y_name = "Y");
  // The rows of `other` too. 10/3 (d + k)^3 flops.
  void merge(const RFactor& other);

  // The whole triangle ((d + k) x (d + k), diagonal >= 0) into host memory: R of X in its first d rows and columns, Q'Y
  // beside it, and the R of the residuals below that.
  void triangle(MatrixView<double> out) const;

  // min |y - X x|^2 + ridge |x|^2. Singular values up to rtol times the largest are zero (rtol < 0: default_rtol(d));
  // where there are such and ridge is 0, x is the solution of least norm. d^2 k flops, 20 d^3 more where the rank is in
  // doubt. Throws Error{invalid_argument, not_fitted}.
  TriangularSolution solve(double rtol = -1, double ridge = 0) const;

  Json save(ModelWriter& writer, const std::string& prefix) const;
  static RFactor load(const Exec& exec, const Json& config, const ModelReader& reader, const std::string& prefix);

 private:
  struct Impl;
  explicit RFactor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The same for the upper triangle of [X Y] in device memory, (d + k) x (d + k).
GRAMIAN_EXPORT TriangularSolution solve_triangle(const Exec& exec, MatrixView<const double> r, std::int64_t d,
                                                 double rtol, double ridge);

}  // namespace gramian
