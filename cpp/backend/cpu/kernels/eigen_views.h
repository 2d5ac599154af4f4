/* Eigen under this ISA's name (the build defines Eigen as Eigen_<isa>), row-major views of raw matrices, and the fence
 * that keeps its exceptions inside an entry. */
#ifndef GRAMIAN_BACKEND_CPU_KERNELS_EIGEN_VIEWS_H
#define GRAMIAN_BACKEND_CPU_KERNELS_EIGEN_VIEWS_H

#define EIGEN_DONT_PARALLELIZE
#define EIGEN_MPL2_ONLY
#define EIGEN_NO_DEBUG
#include <Eigen/Core>

#include "kernel_common.h"

namespace {

template <class T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using View = Eigen::Map<RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using ConstView = Eigen::Map<const RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class T>
View<T> view(void* data, int64_t rows, int64_t cols, int64_t ld) {
  return View<T>(static_cast<T*>(data), rows, cols, Eigen::OuterStride<>(ld));
}

template <class T>
ConstView<T> const_view(const void* data, int64_t rows, int64_t cols, int64_t ld) {
  return ConstView<T>(static_cast<const T*>(data), rows, cols, Eigen::OuterStride<>(ld));
}

template <class T>
using Column = Eigen::Matrix<T, Eigen::Dynamic, 1>;

/* A matrix as doubles: the view itself, or a copy of floats. Decompositions are for double alone and serve both, for
 * their templates are half of what a build spends on Eigen, and nobody factors floats that way for speed. */
template <class T>
class InDouble {
 public:
  explicit InDouble(View<double> matrix) : view_(matrix) {}
  View<double> view() const { return view_; }
  void write_back() const {}

 private:
  View<double> view_;
};
template <>
class InDouble<const double> {
 public:
  explicit InDouble(ConstView<double> matrix) : view_(matrix) {}
  ConstView<double> view() const { return view_; }

 private:
  ConstView<double> view_;
};
template <>
class InDouble<float> {
 public:
  explicit InDouble(View<float> matrix) : matrix_(matrix), copy_(matrix.cast<double>()) {}
  View<double> view() { return ::view<double>(copy_.data(), copy_.rows(), copy_.cols(), copy_.cols()); }
  void write_back() { matrix_ = copy_.cast<float>(); }

 private:
  View<float> matrix_;
  RowMajor<double> copy_;
};
template <>
class InDouble<const float> {
 public:
  explicit InDouble(ConstView<float> matrix) : copy_(matrix.cast<double>()) {}
  ConstView<double> view() const { return const_view<double>(copy_.data(), copy_.rows(), copy_.cols(), copy_.cols()); }

 private:
  RowMajor<double> copy_;
};

/* Runs body(T()) for the type that dtype names. */
template <class Body>
int guarded(int dtype, const Body& body) {
  try {
    if (dtype == GRAMIAN_F32) return body(float());
    if (dtype == GRAMIAN_F64) return body(double());
    return GRAMIAN_STATUS_INVALID;
  } catch (...) {
    // Eigen throws nothing but bad_alloc. Naming it here would make its type reference a symbol all ISAs share.
    return GRAMIAN_STATUS_NO_MEMORY;
  }
}

}  // namespace

#endif
