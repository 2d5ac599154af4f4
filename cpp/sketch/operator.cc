#include "gramian/sketch/operator.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/sketch/sum.hpp"
#include "sketch/in_range.h"
#include "sketch/operator_plan.h"
#include "sketch/validate.h"

namespace gramian {

using sketch::FamilyPair;

namespace sketch {

template <class T>
void Family<T>::factors(const Exec&, const std::vector<RowsView>&, double, MatrixView<T>) const {
  throw Error(ErrorCode::invalid_argument, "only kind='tensor_sketch' and 'tensor_srht' take factors");
}
template class Family<float>;
template class Family<double>;

}  // namespace sketch

namespace {

// Columns of S that are made at a time to be written out.
constexpr std::int64_t kMaterialised = 256;
// Rows of factors that are looked at, or divided by powers of two, at a time.
constexpr std::int64_t kFactorRows = 1024;
// Of S where n_in is not known, as in SketchSum.
constexpr std::int64_t kMostColumns = std::int64_t{1} << 62;

FamilyPair make_family(const SketchDist& dist) {
  switch (dist.kind) {
    case SketchKind::gaussian:
    case SketchKind::rademacher:
      return sketch::make_random_family(dist);
    case SketchKind::srht:
    case SketchKind::hdhd:
      return sketch::make_hadamard_family(dist);
    case SketchKind::count_sketch:
    case SketchKind::sparse_sign:
    case SketchKind::tensor_sketch:
      return sketch::make_sparse_family(dist);
    case SketchKind::long_axis:
    case SketchKind::row_sampling:
      return sketch::make_sampled_family(dist);
    case SketchKind::tensor_srht:
      return dist.dims.size() == 2 ? sketch::make_hadamard_family(dist) : sketch::make_tensor_family(dist);
    case SketchKind::dct:
      break;
  }
  return sketch::make_cosine_family(dist);
}

std::string shape_text(std::int64_t rows, std::int64_t cols) {
  return "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")";
}

void require_shape(bool holds, const char* what, std::int64_t rows, std::int64_t cols, const std::string& wanted) {
  GRAMIAN_REQUIRE(holds, shape_mismatch,
                  std::string(what) + " has shape " + shape_text(rows, cols) + ", but " + wanted);
}

void require_columns(const SketchDist& dist, std::int64_t start, std::int64_t count) {
  GRAMIAN_REQUIRE(start >= 0 && count >= 0, invalid_argument,
                  "start must not be negative, got " + std::to_string(start));
  GRAMIAN_REQUIRE(dist.n_in == 0 || (start <= dist.n_in && count <= dist.n_in - start), shape_mismatch,
                  "rows [" + std::to_string(start) + ", " + std::to_string(start) + " + " + std::to_string(count) +
                      ") are not inside the n_in = " + std::to_string(dist.n_in) + " rows of the sketch");
  GRAMIAN_REQUIRE(start <= kMostColumns && count <= kMostColumns - start, invalid_argument,
                  "start must be below 2^62 less the number of rows, got " + std::to_string(start));
}

// A copy of x in which each row is divided by the power of two near its largest value; powers[r] += its exponent.
Array<double> near_one(const Exec& host, const RowsView& x, std::vector<int>& powers) {
  Array<double> out(host, x.rows, x.cols);
  load_rows<double>(host, x, nullptr, nullptr, out.view(), "factors");
  for (std::int64_t r = 0; r < x.rows; ++r) {
    double* row = out.view().row(r);
    double largest = 0;
    for (std::int64_t c = 0; c < x.cols; ++c) largest = std::max(largest, std::abs(row[c]));
    const int power = linalg::exponent_of(largest);
    for (std::int64_t c = 0; c < x.cols; ++c) row[c] = std::ldexp(row[c], -power);
    powers[static_cast<std::size_t>(r)] += power;
  }
  return out;
}

// Whether products of some of three or more factors may overflow or vanish where that of all does not.
template <class T>
bool part_products_leave(const Exec& host, const std::vector<RowsView>& factors) {
  constexpr int kSafe = sizeof(T) == sizeof(float) ? 80 : 880;
  if (factors.size() < 3) return false;
  for (std::int64_t begin = 0; begin < factors.front().rows; begin += kFactorRows) {
    const std::int64_t count = std::min(kFactorRows, factors.front().rows - begin);
    std::vector<int> up(static_cast<std::size_t>(count), 0), down(up);
    for (const RowsView& factor : factors) {
      std::vector<int> powers(up.size(), 0);
      near_one(host, factor.slice(begin, count), powers);
      for (std::size_t r = 0; r < up.size(); ++r) (powers[r] > 0 ? up : down)[r] += powers[r];
    }
    for (std::size_t r = 0; r < up.size(); ++r)
      if (up[r] > kSafe || down[r] < -kSafe) return true;
  }
  return false;
}

// Row r of x in device memory times 2^powers[r], which itself may be no double.
void shift_rows(const Exec& exec, const std::vector<int>& powers, MatrixView<double> x) {
  std::vector<double> values(static_cast<std::size_t>(x.rows * x.cols));
  const MatrixView<double> host(values.data(), x.rows, x.cols);
  download<double>(exec, x, host);
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t c = 0; c < x.cols; ++c) host(r, c) = std::ldexp(host(r, c), powers[static_cast<std::size_t>(r)]);
  upload<double>(exec, host, x);
}

}  // namespace

SketchOp::SketchOp(SketchDist dist) {
  sketch::validate(dist);
  auto plan = std::make_shared<Plan>();
  SketchDist part = dist;
  part.appended.clear();
  std::int64_t first = 0;
  for (std::size_t g = 0; g <= dist.appended.size(); ++g) {
    part.n_out = g == 0 ? dist.n_out : dist.appended[g - 1];
    if (g == 0) {
      for (const std::int64_t rows : dist.appended) part.n_out -= rows;
    }
    part.generation = dist.generation + static_cast<std::uint32_t>(g);
    Plan::Part made;
    made.first = first;
    made.rows = part.n_out;
    made.family = make_family(part);
    if (part.kind == SketchKind::tensor_srht && part.dims.size() == 2) {
      made.by_factors = sketch::make_tensor_family(part);
    }
    const double share = static_cast<double>(part.n_out) / static_cast<double>(dist.n_out);
    made.factor = dist.appended.empty() ? made.family.scale : made.family.scale * std::sqrt(share);
    first += part.n_out;
    plan->parts.push_back(std::move(made));
  }
  plan->dist = std::move(dist);
  plan_ = std::move(plan);
}

const SketchDist& SketchOp::dist() const {
  return plan_->dist;
}

template <class T>
void SketchOp::apply(const Exec& exec, const RowsView& x, MatrixView<T> out) const {
  sketch::require_in_range<T>(try_apply<T>(exec, x, out), "S A");
}

template <class T>
bool SketchOp::try_apply(const Exec& exec, const RowsView& x, MatrixView<T> out) const {
  const SketchDist& d = dist();
  require_shape(d.n_in == 0 || x.rows == d.n_in, "A", x.rows, x.cols,
                "the sketch takes n_in = " + std::to_string(d.n_in) + " rows");
  require_shape(out.rows == d.n_out && out.cols == x.cols, "the output", out.rows, out.cols,
                shape_text(d.n_out, x.cols) + " is needed");
  if (out.empty()) return true;
  sum_up<T>(exec, x, out);
  if (is_finite<T>(exec, out)) return true;
  check_finite(exec, x);
  return sketch::recomputed<T>(
      exec, x, out, [&](const RowsView& rows, MatrixView<double> sums) { sum_up<double>(exec, rows, sums); });
}

// S x, whatever its values are.
template <class T>
void SketchOp::sum_up(const Exec& exec, const RowsView& x, MatrixView<T> out) const {
  bool whole = x.rows > 0;
  for (const Plan::Part& part : plan_->parts) {
    const MatrixView<T> rows = out.block(part.first, 0, part.rows, out.cols);
    whole = whole && part.of<T>().whole(exec, x, part.factor, rows);
  }
  if (whole) return;
  SketchSum<T> sum(exec, *this, x.cols);
  sum.update(exec, x, 0);
  sum.sum_up(exec, out);
}

template <class T>
void SketchOp::update(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const {
  require_columns(dist(), start, x.rows);
  require_shape(out.rows == dist().n_out && out.cols == x.cols, "the output", out.rows, out.cols,
                shape_text(dist().n_out, x.cols) + " is needed");
  if (out.empty() || x.rows == 0) return;
  SketchSum<T> sum(exec, *this, x.cols);
  sum.update(exec, x, start);
  const Array<T> part(exec, out.rows, out.cols);
  sum.sum_up(exec, part.view());
  axpby<T, T>(exec, 1.0, part.view(), 1.0, out);
}

template <class T>
void SketchOp::apply_adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, MatrixView<T> out) const {
  require_columns(dist(), start, out.rows);
  require_shape(y.rows == dist().n_out && y.cols == out.cols, "Y", y.rows, y.cols,
                shape_text(dist().n_out, out.cols) + " is needed");
  if (out.empty()) return;
  spread<T>(exec, y, start, out);
  if (is_finite<T>(exec, out)) return;
  // Once more in double, of Y divided by a power of two.
  const Array<double> rows(exec, y.rows, y.cols), wide(exec, out.rows, out.cols);
  axpby<T, double>(exec, 1.0, y, 0.0, rows.view());
  const double largest = linalg::largest_of(linalg::column_maxima(exec, rows.view()));
  GRAMIAN_REQUIRE(std::isfinite(largest), non_finite, "Y contains NaN or infinity");
  const std::vector<int> powers(static_cast<std::size_t>(y.cols), sketch::excess_of(largest));
  linalg::shift_columns(exec, powers, -1, rows.view());
  spread<double>(exec, rows.view(), start, wide.view());
  linalg::shift_columns(exec, powers, 1, wide.view());
  axpby<double, T>(exec, 1.0, wide.view(), 0.0, out);
  sketch::require_in_range<T>(is_finite<T>(exec, out), "S' Y");
}

// S' y, whatever its values are.
template <class T>
void SketchOp::spread(const Exec& exec, MatrixView<const T> y, std::int64_t start, MatrixView<T> out) const {
  Array<T> part;
  for (const Plan::Part& p : plan_->parts) {
    const MatrixView<const T> rows = y.block(p.first, 0, p.rows, y.cols);
    if (p.first == 0) {
      p.of<T>().adjoint(exec, rows, start, p.factor, out);
      continue;
    }
    if (part.rows() == 0) part = Array<T>(exec, out.rows, out.cols);
    p.of<T>().adjoint(exec, rows, start, p.factor, part.view());
    axpby<T, T>(exec, 1.0, part.view(), 1.0, out);
  }
}

template <class T>
void SketchOp::project(const Exec& exec, const RowsView& x, MatrixView<T> out) const {
  require_columns(dist(), 0, x.cols);
  require_shape(dist().n_in == 0 || x.cols == dist().n_in, "A", x.rows, x.cols,
                "the sketch takes vectors of length n_in = " + std::to_string(dist().n_in));
  require_shape(out.rows == x.rows && out.cols == dist().n_out, "the output", out.rows, out.cols,
                shape_text(x.rows, dist().n_out) + " is needed");
  if (out.empty()) return;
  if (project_parts<T>(exec, x, out)) return;
  check_finite(exec, x);
  const bool finite = sketch::recomputed<T>(
      exec, x, out, [&](const RowsView& rows, MatrixView<double> sums) { project_parts<double>(exec, rows, sums); });
  sketch::require_in_range<T>(finite, "A S'");
}

// Returns whether out is finite.
template <class T>
bool SketchOp::project_parts(const Exec& exec, const RowsView& x, MatrixView<T> out) const {
  bool finite = true;
  for (const Plan::Part& part : plan_->parts) {
    finite = part.of<T>().project(exec, x, part.factor, out.block(0, part.first, out.rows, part.rows)) && finite;
  }
  return finite;
}

template <class T>
void SketchOp::apply_factors(const Exec& exec, const std::vector<RowsView>& factors, MatrixView<T> out) const {
  const SketchDist& d = dist();
  const bool tensor = d.kind == SketchKind::tensor_sketch || d.kind == SketchKind::tensor_srht;
  GRAMIAN_REQUIRE(tensor, invalid_argument, "only kind='tensor_sketch' and 'tensor_srht' take factors");
  GRAMIAN_REQUIRE(
      factors.size() == d.dims.size(), shape_mismatch,
      "the sketch takes " + std::to_string(d.dims.size()) + " factors, got " + std::to_string(factors.size()));
  for (std::size_t f = 0; f < factors.size(); ++f) {
    require_shape(factors[f].rows == out.rows && factors[f].cols == d.dims[f], ("factor " + std::to_string(f)).c_str(),
                  factors[f].rows, factors[f].cols, shape_text(out.rows, d.dims[f]) + " is needed");
  }
  require_shape(out.cols == d.n_out, "the output", out.rows, out.cols, shape_text(out.rows, d.n_out) + " is needed");
  if (out.empty()) return;
  if (!part_products_leave<T>(exec.on_host(), factors)) {
    multiply<T>(exec, factors, out);
    if (is_finite<T>(exec, out)) return;
  }
  for (const RowsView& factor : factors) check_finite(exec, factor);
  // In double, each row of each factor divided by a power of two: a large factor may meet a small one.
  for (std::int64_t begin = 0; begin < out.rows; begin += kFactorRows) {
    exec.poll();
    const std::int64_t count = std::min(kFactorRows, out.rows - begin);
    std::vector<Array<double>> near;
    std::vector<RowsView> rows;
    std::vector<int> powers(static_cast<std::size_t>(count), 0);
    for (const RowsView& factor : factors) {
      near.push_back(near_one(exec.on_host(), factor.slice(begin, count), powers));
      rows.push_back(RowsView::dense<double>(near.back().view()));
    }
    const Array<double> wide(exec, count, out.cols);
    multiply<double>(exec, rows, wide.view());
    shift_rows(exec, powers, wide.view());
    axpby<double, T>(exec, 1.0, wide.view(), 0.0, out.block(begin, 0, count, out.cols));
  }
  sketch::require_in_range<T>(is_finite<T>(exec, out), "the sketch of the product of the factors");
}

// The sketches of the products, whatever their values are.
template <class T>
void SketchOp::multiply(const Exec& exec, const std::vector<RowsView>& factors, MatrixView<T> out) const {
  for (const Plan::Part& part : plan_->parts) {
    part.factors_of<T>().factors(exec, factors, part.factor, out.block(0, part.first, out.rows, part.rows));
  }
}

template <class T>
void SketchOp::materialise(const Exec& exec, std::int64_t i0, std::int64_t j0, MatrixView<T> out) const {
  require_columns(dist(), j0, out.cols);
  GRAMIAN_REQUIRE(i0 >= 0 && i0 <= dist().n_out && out.rows <= dist().n_out - i0, shape_mismatch,
                  "rows [" + std::to_string(i0) + ", " + std::to_string(i0) + " + " + std::to_string(out.rows) +
                      ") are not inside the n_out = " + std::to_string(dist().n_out) + " rows of S");
  for (const Plan::Part& part : plan_->parts) {
    const std::int64_t begin = std::max(i0, part.first);
    const std::int64_t end = std::min(i0 + out.rows, part.first + part.rows);
    if (begin >= end) continue;
    for (std::int64_t j = 0; j < out.cols; j += kMaterialised) {
      exec.poll();
      const Array<T> columns(exec, std::min(kMaterialised, out.cols - j), end - begin);
      part.of<T>().tile(exec, begin - part.first, j0 + j, part.factor, columns.view());
      copy_transposed<T>(exec, columns.view(), out.block(begin - i0, j, end - begin, columns.rows()));
    }
  }
}

#define GRAMIAN_INSTANTIATE(T)                                                                                       \
  template GRAMIAN_EXPORT void SketchOp::apply<T>(const Exec&, const RowsView&, MatrixView<T>) const;                \
  template GRAMIAN_EXPORT bool SketchOp::try_apply<T>(const Exec&, const RowsView&, MatrixView<T>) const;            \
  template GRAMIAN_EXPORT void SketchOp::update<T>(const Exec&, const RowsView&, std::int64_t, MatrixView<T>) const; \
  template GRAMIAN_EXPORT void SketchOp::apply_adjoint<T>(const Exec&, MatrixView<const T>, std::int64_t,            \
                                                          MatrixView<T>) const;                                      \
  template GRAMIAN_EXPORT void SketchOp::project<T>(const Exec&, const RowsView&, MatrixView<T>) const;              \
  template GRAMIAN_EXPORT void SketchOp::apply_factors<T>(const Exec&, const std::vector<RowsView>&, MatrixView<T>)  \
      const;                                                                                                         \
  template GRAMIAN_EXPORT void SketchOp::materialise<T>(const Exec&, std::int64_t, std::int64_t, MatrixView<T>) const;
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
