#include "gramian/sketch/operator.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/sketch/sum.hpp"
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
  const SketchDist& d = dist();
  require_shape(d.n_in == 0 || x.rows == d.n_in, "A", x.rows, x.cols,
                "the sketch takes n_in = " + std::to_string(d.n_in) + " rows");
  require_shape(out.rows == d.n_out && out.cols == x.cols, "the output", out.rows, out.cols,
                shape_text(d.n_out, x.cols) + " is needed");
  if (out.empty()) return;
  bool whole = x.rows > 0;
  for (const Plan::Part& part : plan_->parts) {
    const MatrixView<T> rows = out.block(part.first, 0, part.rows, out.cols);
    whole = whole && part.of<T>().whole(exec, x, part.factor, rows);
  }
  if (whole) {
    if (!is_finite<T>(exec, out)) check_finite(exec, x);
    return;
  }
  SketchSum<T> sum(exec, *this, x.cols);
  sum.update(exec, x, 0);
  sum.result(exec, out);
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
  sum.result(exec, part.view());
  axpby<T, T>(exec, 1.0, part.view(), 1.0, out);
}

template <class T>
void SketchOp::apply_adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, MatrixView<T> out) const {
  require_columns(dist(), start, out.rows);
  require_shape(y.rows == dist().n_out && y.cols == out.cols, "Y", y.rows, y.cols,
                shape_text(dist().n_out, out.cols) + " is needed");
  if (out.empty()) return;
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
  bool finite = true;
  for (const Plan::Part& part : plan_->parts) {
    finite = part.of<T>().project(exec, x, part.factor, out.block(0, part.first, out.rows, part.rows)) && finite;
  }
  if (!finite) check_finite(exec, x);
}

template <class T>
void SketchOp::apply_factors(const Exec& exec, const std::vector<RowsView>& factors, MatrixView<T> out) const {
  const SketchDist& d = dist();
  const bool tensor = d.kind == SketchKind::tensor_sketch || d.kind == SketchKind::tensor_srht;
  GRAMIAN_REQUIRE(tensor, invalid_argument, "only kind='tensor_sketch' and 'tensor_srht' take factors");
  GRAMIAN_REQUIRE(factors.size() == d.dims.size(), shape_mismatch,
                  "the sketch takes " + std::to_string(d.dims.size()) + " factors, got " +
                      std::to_string(factors.size()));
  for (std::size_t f = 0; f < factors.size(); ++f) {
    require_shape(factors[f].rows == out.rows && factors[f].cols == d.dims[f],
                  ("factor " + std::to_string(f)).c_str(), factors[f].rows, factors[f].cols,
                  shape_text(out.rows, d.dims[f]) + " is needed");
  }
  require_shape(out.cols == d.n_out, "the output", out.rows, out.cols, shape_text(out.rows, d.n_out) + " is needed");
  if (out.empty()) return;
  for (const Plan::Part& part : plan_->parts) {
    part.factors_of<T>().factors(exec, factors, part.factor, out.block(0, part.first, out.rows, part.rows));
  }
  if (is_finite<T>(exec, out)) return;
  for (const RowsView& factor : factors) check_finite(exec, factor);
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

#define GRAMIAN_INSTANTIATE(T)                                                                                         \
  template GRAMIAN_EXPORT void SketchOp::apply<T>(const Exec&, const RowsView&, MatrixView<T>) const;                  \
  template GRAMIAN_EXPORT void SketchOp::update<T>(const Exec&, const RowsView&, std::int64_t, MatrixView<T>) const;   \
  template GRAMIAN_EXPORT void SketchOp::apply_adjoint<T>(const Exec&, MatrixView<const T>, std::int64_t,              \
                                                          MatrixView<T>) const;                                        \
  template GRAMIAN_EXPORT void SketchOp::project<T>(const Exec&, const RowsView&, MatrixView<T>) const;                \
  template GRAMIAN_EXPORT void SketchOp::apply_factors<T>(const Exec&, const std::vector<RowsView>&, MatrixView<T>)    \
      const;                                                                                                           \
  template GRAMIAN_EXPORT void SketchOp::materialise<T>(const Exec&, std::int64_t, std::int64_t, MatrixView<T>) const;
GRAMIAN_INSTANTIATE(float)
GRAMIAN_INSTANTIATE(double)
#undef GRAMIAN_INSTANTIATE

}  // namespace gramian
