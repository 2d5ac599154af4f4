#include "regression/centred_rows.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "gramian/core/error.hpp"
#include "gramian/linalg/csr.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian::regression {
namespace {

// Does S take rows a block at a time without more work than all at once?
bool streams(SketchKind kind) {
  return kind == SketchKind::gaussian || kind == SketchKind::rademacher || kind == SketchKind::count_sketch ||
         kind == SketchKind::sparse_sign;
}

// The stored values of CSR rows, row r times scale[r]; as many as indptr reaches.
std::vector<double> scaled_values(const RowsView& a, const std::vector<double>& scale) {
  std::int64_t stored = 0;
  each_entry(a, [&](std::int64_t, std::size_t, std::int64_t t, double) { stored = std::max(stored, t + 1); });
  std::vector<double> out(static_cast<std::size_t>(stored), 0.0);
  each_entry(a, [&](std::int64_t r, std::size_t, std::int64_t t, double value) {
    out[static_cast<std::size_t>(t)] = scale[static_cast<std::size_t>(r)] * value;
  });
  return out;
}

}  // namespace

CentredRows::CentredRows(const Exec& exec, const RowsView& a, const double* weight, bool intercept, const char* name)
    : exec_(exec),
      a_(a),
      intercept_(intercept),
      name_(name),
      operand_(rows_operand(exec, a, name)),
      mean_(static_cast<std::size_t>(a.cols), 0.0),
      weight_sum_(static_cast<double>(a.rows)),
      ones_(exec, a.rows, 1),
      mean_device_(exec, a.cols, 1) {
  if (weight != nullptr) {
    weight_.assign(weight, weight + a.rows);
    weight_sum_ = 0;
    for (const double value : weight_) {
      root_.push_back(std::sqrt(value));
      weight_sum_ += value;
    }
    GRAMIAN_REQUIRE(weight_sum_ > 0, invalid_argument, "the sample weights are all zero");
  }
  const std::vector<double> ones(static_cast<std::size_t>(a.rows), 1.0);
  upload<double>(exec_, {ones.data(), a.rows, 1}, ones_.view());
  axpby<double, double>(exec_, 0.0, {}, 0.0, mean_device_.view());
  if (!intercept_) return;
  // A'w from a step at x = 0.
  Array<double> zero(exec, a.cols, 1), r(exec, a.rows, 1), sums(exec, a.cols, 1);
  axpby<double, double>(exec_, 0.0, {}, 0.0, zero.view());
  operand_->sweep(zero.view(), ones_.view(), r.view(), sums.view(), weight_);
  axpby<double, double>(exec_, 1.0 / weight_sum_, sums.view(), 0.0, mean_device_.view());
  download<double>(exec_, mean_device_.view(), {mean_.data(), a.cols, 1});
  if (std::all_of(mean_.begin(), mean_.end(), [](double value) { return std::isfinite(value); })) return;
  require_finite(exec_, a_, name_);
  throw Error(ErrorCode::non_finite, std::string("the sums of the columns of ") + name_ + " overflow");
}

void CentredRows::sweep(MatrixView<const double> x, MatrixView<const double> b, MatrixView<double> r,
                        MatrixView<double> g) const {
  if (!intercept_) return operand_->sweep(x, b, r, g, weight_);
  // b + 1 (mean'x) - A x: the centred product, in which nothing large cancels but mean'x itself.
  const std::int64_t k = x.cols;
  Array<double> along(exec_, 1, k), right(exec_, rows(), k);
  gemm<double>(exec_, Trans::yes, Trans::no, 1.0, mean_device_.view(), x, 0.0, along.view());
  if (b.data != nullptr) axpby<double, double>(exec_, 1.0, b, 0.0, right.view());
  gemm<double>(exec_, Trans::no, Trans::no, 1.0, ones_.view(), along.view(), b.data != nullptr ? 1.0 : 0.0,
               right.view());
  operand_->sweep(x, right.view(), r, g, weight_);
  const std::vector<double> sums = column_sums<double>(exec_, r, {});
  upload<double>(exec_, {sums.data(), 1, k}, along.view());
  gemm<double>(exec_, Trans::no, Trans::no, -1.0, mean_device_.view(), along.view(), 1.0, g);
}

std::int64_t CentredRows::block_rows() const {
  return std::clamp<std::int64_t>((std::int64_t{1} << 21) / std::max<std::int64_t>(1, cols()) / 32 * 32, 32, 4096);
}

double CentredRows::energy() const {
  const std::int64_t edge = std::min(block_rows(), rows());
  Array<double> block(exec_, edge, cols()), sums(exec_, edge);
  std::vector<double> host(static_cast<std::size_t>(edge));
  double total = 0;
  for (std::int64_t begin = 0; begin < rows(); begin += edge) {
    exec_.poll();
    const std::int64_t size = std::min(edge, rows() - begin);
    const MatrixView<double> part = block.view().block(0, 0, size, cols());
    load(begin, part);
    row_sumsq<double>(exec_, part, sums.data());
    download<double>(exec_, sums.view().block(0, 0, 1, size), {host.data(), 1, size});
    for (std::int64_t i = 0; i < size; ++i) total += host[static_cast<std::size_t>(i)];
  }
  return total;
}

void CentredRows::load(std::int64_t begin, MatrixView<double> out) const {
  load_rows<double>(exec_, a_.slice(begin, out.rows), shift(), root_.empty() ? nullptr : root_.data() + begin, out,
                    name_);
}

void CentredRows::load(const std::vector<std::int64_t>& numbers, MatrixView<double> out) const {
  std::vector<std::int64_t> places(numbers);
  std::vector<double> scale;
  for (std::int64_t& place : places) {
    if (!root_.empty()) scale.push_back(root_[static_cast<std::size_t>(place)]);
    if (a_.row_index != nullptr) place = a_.row_index[place];
  }
  RowsView picked = a_;
  picked.rows = out.rows;
  picked.row_index = places.data();
  load_rows<double>(exec_, picked, shift(), scale.empty() ? nullptr : scale.data(), out, name_);
}

void CentredRows::sketch(const SketchOp& op, MatrixView<double> out) const {
  // A sketch reads host memory, where a block is that the CPU has loaded.
  const bool plain = !intercept_ && weight_.empty();
  const bool by_blocks = exec_.device() == Device::cpu && !a_.sparse && streams(op.dist().kind);
  if (plain || !by_blocks) return sketch_whole(op, out);
  axpby<double, double>(exec_, 0.0, {}, 0.0, out);
  const std::int64_t edge = block_rows();
  Array<double> block(exec_, std::min(edge, rows()), cols());
  for (std::int64_t begin = 0; begin < rows(); begin += edge) {
    exec_.poll();
    const MatrixView<double> part = block.view().block(0, 0, std::min(edge, rows() - begin), cols());
    load(begin, part);
    op.update<double>(exec_, RowsView::dense<double>(part), begin, out);
  }
}

// S diag(sqrt w) A - (S sqrt w) mean'.
void CentredRows::sketch_whole(const SketchOp& op, MatrixView<double> out) const {
  RowsView source = a_;
  std::vector<double> values;
  if (!weight_.empty() && a_.sparse) {
    values = scaled_values(a_, root_);
    source.dtype = DType::f64;
    source.values = values.data();
  } else if (!weight_.empty()) {
    const Array<double> copy(exec_, rows(), cols());
    load_rows<double>(exec_, a_, nullptr, root_.data(), copy.view(), name_);
    values.resize(static_cast<std::size_t>(copy.size()));
    download<double>(exec_, copy.view(), {values.data(), rows(), cols()});
    source = RowsView::dense<double>({values.data(), rows(), cols()});
  }
  op.try_apply<double>(exec_, source, out);  // sizes are looked at afterwards
  if (!intercept_) return;
  std::vector<double> root(root_);
  if (root.empty()) root.assign(static_cast<std::size_t>(rows()), 1.0);
  Array<double> sums(exec_, out.rows, 1);
  op.apply<double>(exec_, RowsView::dense<double>({root.data(), rows(), 1}), sums.view());
  gemm<double>(exec_, Trans::no, Trans::yes, -1.0, sums.view(), mean_device_.view(), 1.0, out);
}

}  // namespace gramian::regression
