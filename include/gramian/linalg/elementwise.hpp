// Maps, reductions and random fills on views, split over the threads of an Exec. Pointers are in device memory unless a
// parameter is a std::vector, which is on the host.
#pragma once

#include <cstdint>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"

namespace gramian {

enum class Activation { identity = 0, relu = 1, tanh = 2, sigmoid = 3, cos = 4, sign = 5 };
enum class Distribution { gaussian = 0, rademacher = 1 };

// x[r, c] = scale f(x[r, c] + shift[c]); shift may be null. In place.
template <class T>
GRAMIAN_EXPORT void activate(const Exec& exec, Activation f, const T* shift, double scale, MatrixView<T> x);
// x[r, c] = exp(-gamma max(0, row_sq[r] + col_sq[c] - 2 x[r, c])). In place.
template <class T>
GRAMIAN_EXPORT void rbf(const Exec& exec, const double* row_sq, const double* col_sq, double gamma, MatrixView<T> x);
// x[r, :] *= v[r]; v on the host, rounded to T. In place.
template <class T>
GRAMIAN_EXPORT void scale_rows(const Exec& exec, const std::vector<double>& v, MatrixView<T> x);
// x[:, c] *= v[c]. In place.
template <class T>
GRAMIAN_EXPORT void scale_columns(const Exec& exec, const T* v, MatrixView<T> x);

// out[r] = |x[r, :]|^2 in double.
template <class T>
GRAMIAN_EXPORT void row_sumsq(const Exec& exec, MatrixView<const T> x, double* out);
// The same in host memory, and their sum, rows in order.
template <class T>
GRAMIAN_EXPORT std::vector<double> row_squares(const Exec& exec, MatrixView<const T> x);
template <class T>
GRAMIAN_EXPORT double sum_of_squares(const Exec& exec, MatrixView<const T> x);
// sum_r weight[r] x[r, :], rows in order, in double; an empty weight means ones.
template <class T>
GRAMIAN_EXPORT std::vector<double> column_sums(const Exec& exec, MatrixView<const T> x,
                                               const std::vector<double>& weight);
// out[code[r], :] += weight[r] x[r, :], rows in order, in double; an empty weight means ones. Codes (host) are rows of
// out.
template <class T>
GRAMIAN_EXPORT void class_sums(const Exec& exec, MatrixView<const T> x, const std::int64_t* codes,
                               const std::vector<double>& weight, MatrixView<double> out);

// out[j, i] = scale S(first + i, j), S the random matrix of the stream: the same bits everywhere.
template <class T>
GRAMIAN_EXPORT void fill_random(const Exec& exec, Distribution distribution, const RngStream& stream, double scale,
                                MatrixView<T> out, std::int64_t first = 0);
// out[t] = sign of index t, t < count.
template <class T>
GRAMIAN_EXPORT void fill_signs(const Exec& exec, const RngStream& stream, std::int64_t count, T* out);
// out[t] = uniform in (low, high) of index t.
template <class T>
GRAMIAN_EXPORT void fill_uniform(const Exec& exec, const RngStream& stream, std::int64_t count, double low, double high,
                                 T* out);
// Rows of x times scale times the Walsh-Hadamard matrix; x.cols is a power of two. In place.
template <class T>
GRAMIAN_EXPORT void walsh_hadamard(const Exec& exec, double scale, MatrixView<T> x);

// out = x B for CSR rows x (host), B on the device. Stored values must be float32 or float64.
template <class T>
GRAMIAN_EXPORT void sparse_multiply(const Exec& exec, const RowsView& x, MatrixView<const T> b, MatrixView<T> out);

}  // namespace gramian
