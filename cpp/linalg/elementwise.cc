#include "gramian/linalg/elementwise.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "gramian/linalg/ops.hpp"
#include "linalg/call.h"
#include "linalg/device_csr.h"

namespace gramian {

using namespace linalg;

namespace {

// Rows of one task: about 32768 elements, enough to pay for handing the task out. The whole matrix on a device.
std::int64_t row_edge(const Exec& exec, std::int64_t rows, std::int64_t cols) {
  if (exec.table().tile == 0) return std::max<std::int64_t>(1, rows);
  return std::max<std::int64_t>(1, (std::int64_t{1} << 15) / std::max<std::int64_t>(1, cols));
}

// Strips of columns for sums that must take the rows in order.
std::int64_t column_edge(const Exec& exec, std::int64_t cols) {
  return exec.table().tile == 0 ? std::max<std::int64_t>(1, cols) : 256;
}

template <class Body>
void over_rows(const Exec& exec, std::int64_t rows, std::int64_t cols, const Body& body) {
  const std::int64_t edge = row_edge(exec, rows, cols);
  exec.parallel_for(ceil_div(rows, edge), [&](std::int64_t task) { body(part_of(rows, edge, task)); });
}

template <class Body>
void over_columns(const Exec& exec, std::int64_t cols, const Body& body) {
  const std::int64_t edge = column_edge(exec, cols);
  exec.parallel_for(ceil_div(cols, edge), [&](std::int64_t task) { body(part_of(cols, edge, task)); });
}

template <class T>
Array<T> to_device(const Exec& exec, const std::vector<double>& host) {
  const std::vector<T> rounded(host.begin(), host.end());
  Array<T> device(exec, static_cast<std::int64_t>(host.size()));
  upload<T>(exec, {rounded.data(), 1, device.size()}, device.view());
  return device;
}

gramian_stream of(const RngStream& stream) {
  return {stream.key(), stream.tag(), stream.factor(), stream.generation()};
}

}  // namespace

template <class T>
void activate(const Exec& exec, Activation f, const T* shift, double scale, MatrixView<T> x) {
  over_rows(exec, x.rows, x.cols, [&](Range rows) {
    GRAMIAN_CALL(exec, map, code_of<T>(), static_cast<int>(f), rows.size(), x.cols, static_cast<const void*>(shift),
                 scale, static_cast<void*>(x.row(rows.begin)), x.stride);
  });
}

template <class T>
void rbf(const Exec& exec, const double* row_sq, const double* col_sq, double gamma, MatrixView<T> x) {
  over_rows(exec, x.rows, x.cols, [&](Range rows) {
    GRAMIAN_CALL(exec, rbf, code_of<T>(), rows.size(), x.cols, row_sq + rows.begin, col_sq, gamma,
                 static_cast<void*>(x.row(rows.begin)), x.stride);
  });
}

template <class T>
void scale_rows(const Exec& exec, const std::vector<double>& v, MatrixView<T> x) {
  const Array<T> factors = to_device<T>(exec, v);
  over_rows(exec, x.rows, x.cols, [&](Range rows) {
    GRAMIAN_CALL(exec, scale_rows, code_of<T>(), rows.size(), x.cols,
                 static_cast<const void*>(factors.data() + rows.begin), static_cast<void*>(x.row(rows.begin)),
                 x.stride);
  });
}

template <class T>
void scale_columns(const Exec& exec, const T* v, MatrixView<T> x) {
  over_rows(exec, x.rows, x.cols, [&](Range rows) {
    GRAMIAN_CALL(exec, scale_columns, code_of<T>(), rows.size(), x.cols, static_cast<const void*>(v),
                 static_cast<void*>(x.row(rows.begin)), x.stride);
  });
}

template <class T>
void row_sumsq(const Exec& exec, MatrixView<const T> x, double* out) {
  over_rows(exec, x.rows, x.cols, [&](Range rows) {
    GRAMIAN_CALL(exec, row_sumsq, code_of<T>(), rows.size(), x.cols, static_cast<const void*>(x.row(rows.begin)),
                 x.stride, out + rows.begin);
  });
}

template <class T>
std::vector<double> row_squares(const Exec& exec, MatrixView<const T> x) {
  std::vector<double> out(static_cast<std::size_t>(x.rows));
  if (x.empty()) return out;
  Array<double> sums(exec, x.rows);
  row_sumsq<T>(exec, x, sums.data());
  download<double>(exec, {sums.data(), 1, x.rows}, {out.data(), 1, x.rows});
  return out;
}

template <class T>
double sum_of_squares(const Exec& exec, MatrixView<const T> x) {
  double total = 0;
  for (const double value : row_squares<T>(exec, x)) total += value;
  return total;
}

template <class T>
std::vector<double> column_sums(const Exec& exec, MatrixView<const T> x, const std::vector<double>& weight) {
  Array<double> sums(exec, x.cols);
  axpby<double, double>(exec, 0.0, {}, 0.0, sums.view());
  const Array<double> weights = to_device<double>(exec, weight);
  over_columns(exec, x.cols, [&](Range cols) {
    GRAMIAN_CALL(exec, column_sums, code_of<T>(), x.rows, cols.size(), static_cast<const void*>(x.data + cols.begin),
                 x.stride, static_cast<const double*>(weights.data()), sums.data() + cols.begin);
  });
  std::vector<double> out(static_cast<std::size_t>(x.cols));
  download<double>(exec, sums.view(), {out.data(), 1, x.cols});
  return out;
}

template <class T>
void class_sums(const Exec& exec, MatrixView<const T> x, const std::int64_t* codes, const std::vector<double>& weight,
                MatrixView<double> out) {
  if (x.rows == 0) return;
  const Array<double> weights = to_device<double>(exec, weight);
  Array<std::int64_t> places(exec, x.rows);
  GRAMIAN_CALL(exec, upload, std::int64_t{1}, static_cast<std::size_t>(x.rows) * sizeof(std::int64_t),
               static_cast<const void*>(codes), std::int64_t{0}, static_cast<void*>(places.data()), std::int64_t{0});
  over_columns(exec, x.cols, [&](Range cols) {
    GRAMIAN_CALL(exec, class_sums, code_of<T>(), x.rows, cols.size(), static_cast<const void*>(x.data + cols.begin),
                 x.stride, static_cast<const std::int64_t*>(places.data()), static_cast<const double*>(weights.data()),
                 out.rows, out.data + cols.begin, out.stride);
  });
}

template <class T>
void fill_random(const Exec& exec, Distribution distribution, const RngStream& stream, double scale, MatrixView<T> out,
                 std::int64_t first) {
  over_rows(exec, out.rows, out.cols, [&](Range rows) {
    GRAMIAN_CALL(exec, fill_random, code_of<T>(), static_cast<int>(distribution), of(stream), rows.begin, rows.size(),
                 first, out.cols, scale, static_cast<void*>(out.row(rows.begin)), out.stride);
  });
}

template <class T>
void fill_signs(const Exec& exec, const RngStream& stream, std::int64_t count, T* out) {
  GRAMIAN_CALL(exec, fill_signs, code_of<T>(), of(stream), std::int64_t{0}, count, static_cast<void*>(out));
}

template <class T>
void fill_uniform(const Exec& exec, const RngStream& stream, std::int64_t count, double low, double high, T* out) {
  GRAMIAN_CALL(exec, fill_uniform, code_of<T>(), of(stream), std::int64_t{0}, count, low, high,
               static_cast<void*>(out));
}

template <class T>
void walsh_hadamard(const Exec& exec, double scale, MatrixView<T> x) {
  over_rows(exec, x.rows, x.cols, [&](Range rows) {
    T* const first = x.row(rows.begin);
    GRAMIAN_CALL(exec, fwht, code_of<T>(), rows.size(), x.cols, scale, static_cast<const void*>(first), x.stride,
                 static_cast<void*>(first), x.stride);
  });
}

template <class T>
void sparse_multiply(const Exec& exec, const RowsView& x, MatrixView<const T> b, MatrixView<T> out) {
  GRAMIAN_REQUIRE(x.sparse && (x.dtype == DType::f32 || x.dtype == DType::f64), internal,
                  "sparse_multiply wants CSR rows of float32 or float64");
  GRAMIAN_REQUIRE(x.cols == b.rows && out.rows == x.rows && out.cols == b.cols, shape_mismatch,
                  "sparse_multiply: the shapes do not fit");
  const PickedCsr picked(x);
  const DeviceCsr device = to_device(exec, picked.view);
  const std::int64_t edge = exec.table().tile == 0 ? std::max<std::int64_t>(1, x.rows) : 32;
  exec.parallel_for(ceil_div(x.rows, edge), [&](std::int64_t task) {
    const Range rows = part_of(x.rows, edge, task);
    const RowsView part = device.view.slice(rows.begin, rows.size());
    GRAMIAN_CALL(exec, csr_gemm, code_of<T>(), static_cast<int>(part.dtype), static_cast<int>(part.index_dtype),
                 rows.size(), out.cols, x.cols, 1.0, part.indptr, part.indices, part.values,
                 static_cast<const void*>(b.data), b.stride, 0.0, static_cast<void*>(out.row(rows.begin)), out.stride);
  });
}

#define GRAMIAN_INSTANTIATE(T)                                                                                    \
  template GRAMIAN_EXPORT void activate<T>(const Exec&, Activation, const T*, double, MatrixView<T>);             \
  template GRAMIAN_EXPORT void rbf<T>(const Exec&, const double*, const double*, double, MatrixView<T>);          \
  template GRAMIAN_EXPORT void scale_rows<T>(const Exec&, const std::vector<double>&, MatrixView<T>);             \
  template GRAMIAN_EXPORT void scale_columns<T>(const Exec&, const T*, MatrixView<T>);                            \
  template GRAMIAN_EXPORT void row_sumsq<T>(const Exec&, MatrixView<const T>, double*);                           \
  template GRAMIAN_EXPORT std::vector<double> row_squares<T>(const Exec&, MatrixView<const T>);                   \
  template GRAMIAN_EXPORT double sum_of_squares<T>(const Exec&, MatrixView<const T>);                             \
  template GRAMIAN_EXPORT std::vector<double> column_sums<T>(const Exec&, MatrixView<const T>,                    \
                                                             const std::vector<double>&);                         \
  template GRAMIAN_EXPORT void class_sums<T>(const Exec&, MatrixView<const T>, const std::int64_t*,               \
                                             const std::vector<double>&, MatrixView<double>);                     \
  template GRAMIAN_EXPORT void fill_random<T>(const Exec&, Distribution, const RngStream&, double, MatrixView<T>, \
                                              std::int64_t);                                                      \
  template GRAMIAN_EXPORT void fill_signs<T>(const Exec&, const RngStream&, std::int64_t, T*);                    \
  template GRAMIAN_EXPORT void fill_uniform<T>(const Exec&, const RngStream&, std::int64_t, double, double, T*);  \
  template GRAMIAN_EXPORT void walsh_hadamard<T>(const Exec&, double, MatrixView<T>);                             \
  template GRAMIAN_EXPORT void sparse_multiply<T>(const Exec&, const RowsView&, MatrixView<const T>, MatrixView<T>);
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
