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
