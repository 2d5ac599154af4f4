// A matrix as randomized decompositions see it: products from both sides, scaled, centred and turned so that it is
// tall.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/linear_map.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian::sketching {

// The matrix as it is stored.
template <class T>
class Storage {
 public:
  virtual ~Storage() = default;
  virtual std::int64_t rows() const = 0;
  virtual std::int64_t cols() const = 0;
  // out = op(A) x.
  virtual void multiply(Trans trans, MatrixView<const T> x, MatrixView<T> out) const = 0;
  // |A|_F^2; NaN where it is not known.
  virtual double sum_of_squares() const = 0;
  // |factor (A - 1 mean')|_F^2, in which nothing cancels; mean may be empty, for zeros. One more reading of A.
  virtual double sum_of_squares(const std::vector<double>& mean, double factor) const = 0;
  // The largest |entry|. NaN where it is not known.
  virtual double largest() const = 0;
  // Throws the Error{non_finite} that says where, if A is to blame for products that are not finite.
  virtual void find_bad_row() const = 0;
};

template <class T>
std::unique_ptr<Storage<T>> store_rows(const Exec& exec, const RowsView& a);
std::unique_ptr<Storage<double>> store_map(const Exec& exec, const LinearMap& map);

// alpha (A - 1 mean') or its transpose, whichever is tall: n >= d.
template <class T>
class TallMatrix {
 public:
  TallMatrix(const Exec& exec, const Storage<T>& a, bool centre);

  std::int64_t n() const { return turned_ ? a_.cols() : a_.rows(); }
  std::int64_t d() const { return turned_ ? a_.rows() : a_.cols(); }
  bool turned() const { return turned_; }
  const std::vector<double>& mean() const { return mean_; }
  std::int64_t passes() const { return passes_; }
  // |A - 1 mean'|_F^2 and |A|_F^2, by which rounding goes; NaN: not known. Without alpha.
  double sum_of_squares() const { return sum_of_squares_; }
  double stored_squares() const { return stored_squares_; }
  // The same for alpha A, where squares of A itself leave the range of double.
  double scaled_squares() const { return a_.sum_of_squares(mean_, alpha_); }
  double alpha() const { return alpha_; }
  void set_alpha(double alpha) { alpha_ = alpha; }

  // y (n x k) = M x and z (d x k) = M' y.
  void apply(MatrixView<const T> x, MatrixView<T> y) const { product(false, x, y); }
  void adjoint(MatrixView<const T> y, MatrixView<T> z) const { product(true, y, z); }

 private:
  void product(bool transposed, MatrixView<const T> x, MatrixView<T> out) const;
  void subtract_mean(bool transposed, MatrixView<const T> x, MatrixView<T> out) const;

  const Exec& exec_;
  const Storage<T>& a_;
  bool turned_;
  double alpha_ = 1;
  std::vector<double> mean_;
  Array<T> mean_device_, ones_;  // columns
  double stored_squares_ = 0, sum_of_squares_ = 0;
  mutable std::int64_t passes_ = 0;
};

}  // namespace gramian::sketching
