#include "gramian/linalg/csr.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"

namespace gramian {

TransposedCsr::TransposedCsr(const RowsView& a) : indptr_(static_cast<std::size_t>(a.cols) + 1, 0) {
  GRAMIAN_REQUIRE(a.sparse && (a.dtype == DType::f32 || a.dtype == DType::f64), internal,
                  "TransposedCsr wants CSR rows of float32 or float64");
  each_entry(a, [&](std::int64_t, std::size_t column, std::int64_t, double) { ++indptr_[column + 1]; });
  for (std::size_t c = 1; c < indptr_.size(); ++c) indptr_[c] += indptr_[c - 1];
  indices_.resize(static_cast<std::size_t>(indptr_.back()));
  values_.resize(indices_.size());
  std::vector<std::int64_t> next(indptr_.begin(), indptr_.end() - 1);
  each_entry(a, [&](std::int64_t r, std::size_t column, std::int64_t, double value) {
    const auto place = static_cast<std::size_t>(next[column]++);
    indices_[place] = r;
    values_[place] = value;
  });
  view_ = RowsView::csr(a.cols, a.rows, indptr_.data(), indices_.data(), values_.data());
}

double TransposedCsr::sum_of_squares(const std::vector<double>& mean, double factor) const {
  double total = 0;
  for (std::size_t c = 0; c + 1 < indptr_.size(); ++c) {
    const double shift = mean.empty() ? 0.0 : mean[c];
    const auto end = static_cast<std::size_t>(indptr_[c + 1]);
    double column = 0;
    std::int64_t others = view_.cols;  // rows of A without an entry here
    for (auto t = static_cast<std::size_t>(indptr_[c]); t < end;) {
      double value = values_[t];
      std::size_t next = t + 1;
      for (; next < end && indices_[next] == indices_[t]; ++next) value += values_[next];
      column += (value - shift) * factor * ((value - shift) * factor);
      --others;
      t = next;
    }
    total += column + static_cast<double>(others) * (shift * factor * (shift * factor));
  }
  return total;
}

double TransposedCsr::largest() const {
  double out = 0;
  for (const double value : values_) out = std::abs(value) <= out ? out : std::abs(value);
  return out;
}

namespace {

constexpr std::int64_t kPartRows = 4096;
constexpr std::int64_t kMaxParts = 64;

template <class T, class Index>
void add_transposed(const RowsView& a, std::int64_t begin, std::int64_t end, MatrixView<const double> r,
                    MatrixView<double> g) {
  const auto* indptr = static_cast<const Index*>(a.indptr);
  const auto* indices = static_cast<const Index*>(a.indices);
  const auto* values = static_cast<const T*>(a.values);
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t row = a.row_index != nullptr ? a.row_index[i] : i;
    const double* right = r.row(i);
    for (std::int64_t t = indptr[row]; t < static_cast<std::int64_t>(indptr[row + 1]); ++t) {
      const auto value = static_cast<double>(values[t]);
      double* out = g.row(static_cast<std::int64_t>(indices[t]));
      for (std::int64_t c = 0; c < r.cols; ++c) out[c] += value * right[c];
    }
  }
}

template <class T>
void add_transposed(const RowsView& a, std::int64_t begin, std::int64_t end, MatrixView<const double> r,
                    MatrixView<double> g) {
  if (a.index_dtype == DType::i32) {
    add_transposed<T, std::int32_t>(a, begin, end, r, g);
  } else {
    add_transposed<T, std::int64_t>(a, begin, end, r, g);
  }
}

}  // namespace

std::int64_t stored_entries(const RowsView& a) {
  std::int64_t total = 0;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const std::int64_t row = a.row_index != nullptr ? a.row_index[r] : r;
    if (a.index_dtype == DType::i32) {
      const auto* indptr = static_cast<const std::int32_t*>(a.indptr);
      total += indptr[row + 1] - indptr[row];
    } else {
      const auto* indptr = static_cast<const std::int64_t*>(a.indptr);
      total += indptr[row + 1] - indptr[row];
    }
  }
  return total;
}

void sparse_multiply_transposed(const Exec& exec, const RowsView& a, MatrixView<const double> r, MatrixView<double> g) {
  GRAMIAN_REQUIRE(a.sparse && (a.dtype == DType::f32 || a.dtype == DType::f64), internal,
                  "sparse_multiply_transposed wants CSR rows of float32 or float64");
  GRAMIAN_REQUIRE(r.rows == a.rows && g.rows == a.cols && g.cols == r.cols, shape_mismatch,
                  "sparse_multiply_transposed: the shapes do not fit");
  const std::int64_t n = a.rows, d = a.cols, k = r.cols;
  if (k == 0) return;
  // The rows are in host memory, and so the sums are made there.
  std::vector<double> host;
  MatrixView<const double> right = r;
  if (exec.device() != Device::cpu) {
    host.resize(static_cast<std::size_t>(n * k));
    download<double>(exec, r, {host.data(), n, k});
    right = {host.data(), n, k};
  }
  const std::int64_t most = std::min(kMaxParts, stored_entries(a) / std::max<std::int64_t>(1, d * k));
  const std::int64_t parts = std::clamp<std::int64_t>(std::min(n / kPartRows, most), 1, kMaxParts);
  const std::int64_t edge = (n + parts - 1) / parts;
  std::vector<double> sums(static_cast<std::size_t>(parts * d * k), 0.0);
  exec.parallel_for(parts, [&](std::int64_t p) {
    const std::int64_t begin = std::min(n, p * edge), end = std::min(n, begin + edge);
    const MatrixView<double> part(sums.data() + p * d * k, d, k);
    if (a.dtype == DType::f32) {
      add_transposed<float>(a, begin, end, right, part);
    } else {
      add_transposed<double>(a, begin, end, right, part);
    }
  });
  // Part after part.
  for (std::int64_t p = 1; p < parts; ++p)
    for (std::int64_t t = 0; t < d * k; ++t)
      sums[static_cast<std::size_t>(t)] += sums[static_cast<std::size_t>(p * d * k + t)];
  upload<double>(exec, {sums.data(), d, k}, g);
}

}  // namespace gramian
