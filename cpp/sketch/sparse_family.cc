// Sketches with a few +-1 in each column: CountSketch, sparse sign, TensorSketch.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "sketch/family.h"

namespace gramian::sketch {

namespace {

constexpr std::uint32_t kHashTag = 3;
// Columns of S that an adjoint writes out at a time, and rows of a product of factors.
constexpr std::int64_t kAdjointColumns = std::int64_t{1} << 16;
constexpr std::int64_t kFactorRows = 1024;

// Where the nonzeros of a column are. Without dims: drawn for each column. With dims: of TensorSketch, one nonzero at
// the sum of the factors' places mod m, the sign their product.
class Places {
 public:
  explicit Places(const SketchDist& dist) : m_(dist.n_out), nnz_(dist.kind == SketchKind::sparse_sign ? dist.nnz : 1) {
    if (dist.kind != SketchKind::tensor_sketch) {
      streams_.emplace_back(dist.seed, RngFamily::sparse_sign, kHashTag, 0, dist.generation);
      return;
    }
    dims_ = dist.dims;
    const Exec host;
    for (std::size_t f = 0; f < dims_.size(); ++f) {
      streams_.emplace_back(dist.seed, RngFamily::tensor_sketch, kHashTag, static_cast<std::uint32_t>(f),
                            dist.generation);
      tables_.emplace_back(static_cast<std::size_t>(dims_[f]));
      fill_row_hash(host, streams_[f], 0, dims_[f], 1, m_, tables_[f].data());
    }
  }

  std::int64_t m() const { return m_; }
  std::int64_t nnz() const { return nnz_; }

  RowCodes codes() const {
    return [this](const Exec& exec, std::int64_t start, std::int64_t rows, std::int32_t* out) {
      if (dims_.empty()) return fill_row_hash(exec, streams_[0], start, rows, nnz_, m_, out);
      if (exec.device() == Device::cpu) return combine(start, rows, out);
      std::vector<std::int32_t> host(static_cast<std::size_t>(rows));
      combine(start, rows, host.data());
      upload_words(exec, host, out);
    };
  }
  // The codes of one factor alone.
  RowCodes factor_codes(std::size_t factor) const {
    return [this, factor](const Exec& exec, std::int64_t start, std::int64_t rows, std::int32_t* out) {
      fill_row_hash(exec, streams_[factor], start, rows, 1, m_, out);
    };
  }

 private:
  void combine(std::int64_t start, std::int64_t rows, std::int32_t* out) const {
    for (std::int64_t r = 0; r < rows; ++r) {
      std::int64_t rest = start + r, row = 0;
      std::int32_t sign = 0;
      for (std::size_t f = dims_.size(); f-- > 0; rest /= dims_[f]) {
        const std::int32_t code = tables_[f][static_cast<std::size_t>(rest % dims_[f])];
        row += code >> 1;
        sign ^= code & 1;
      }
      out[r] = static_cast<std::int32_t>(2 * (row % m_)) | sign;
    }
  }
  // Codes travel as the bits of floats: the copies between host and device do not look at them.
  static void upload_words(const Exec& exec, const std::vector<std::int32_t>& host, std::int32_t* out) {
    static_assert(sizeof(float) == sizeof(std::int32_t), "words of one size");
    std::vector<float> bits(host.size());
    std::memcpy(bits.data(), host.data(), host.size() * sizeof(float));
    const auto count = static_cast<std::int64_t>(host.size());
    upload<float>(exec, {bits.data(), 1, count}, {reinterpret_cast<float*>(out), 1, count});
  }

  std::int64_t m_, nnz_;
  std::vector<std::int64_t> dims_;
  std::vector<RngStream> streams_;
  std::vector<std::vector<std::int32_t>> tables_;
};

// Columns start .. start + count of S as the rows of a CSR matrix.
template <class T>
struct ColumnsCsr {
  std::vector<std::int64_t> indptr;
  std::vector<std::int64_t> indices;
  std::vector<T> values;

  ColumnsCsr(const Exec& exec, const Places& places, std::int64_t start, std::int64_t count) {
    const auto entries = static_cast<std::size_t>(count * places.nnz());
    std::vector<std::int32_t> codes(entries);
    places.codes()(exec.on_host(), start, count, codes.data());
    indptr.reserve(static_cast<std::size_t>(count) + 1);
    for (std::int64_t j = 0; j <= count; ++j) indptr.push_back(j * places.nnz());
    indices.reserve(entries);
    values.reserve(entries);
    for (const std::int32_t code : codes) {
      indices.push_back(code >> 1);
      values.push_back((code & 1) != 0 ? T(-1) : T(1));
    }
  }
  RowsView view(std::int64_t m) const {
    const auto rows = static_cast<std::int64_t>(indptr.size()) - 1;
    return RowsView::csr(rows, m, indptr.data(), indices.data(), values.data());
  }
};

template <class T>
class SparseFamily final : public Family<T> {
 public:
  explicit SparseFamily(std::shared_ptr<const Places> places) : places_(std::move(places)) {}

  std::int64_t grain() const override { return 1; }
  void add(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const override {
    sparse_sketch_add<T>(exec, x, start, places_->nnz(), places_->codes(), out);
  }
  void node(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const override {
    sparse_sketch_node<T>(exec, x, start, places_->nnz(), places_->codes(), out);
  }
  void adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, double factor,
               MatrixView<T> out) const override {
    for (std::int64_t begin = 0; begin < out.rows; begin += kAdjointColumns) {
      const std::int64_t count = std::min(kAdjointColumns, out.rows - begin);
      const ColumnsCsr<T> columns(exec, *places_, start + begin, count);
      const MatrixView<T> part = out.block(begin, 0, count, out.cols);
      sparse_multiply<T>(exec, columns.view(places_->m()), y, part);
      if (factor != 1.0) axpby<T, T>(exec, factor, part, 0.0, part);
    }
  }
  bool project(const Exec& exec, const RowsView& x, double factor, MatrixView<T> out) const override {
    sparse_sketch_project<T>(exec, x, factor, places_->nnz(), places_->codes(), out);
    return is_finite<T>(exec, out);
  }
  void tile(const Exec& exec, std::int64_t first, std::int64_t start, double factor, MatrixView<T> out) const override {
    const std::int64_t nnz = places_->nnz();
    std::vector<std::int32_t> codes(static_cast<std::size_t>(out.rows * nnz));
    places_->codes()(exec.on_host(), start, out.rows, codes.data());
    fill_on_host<T>(exec, out, [&](std::int64_t i, std::int64_t j) {
      for (std::int64_t k = 0; k < nnz; ++k) {
        const std::int32_t code = codes[static_cast<std::size_t>(j * nnz + k)];
        if ((code >> 1) == first + i) return (code & 1) != 0 ? -factor : factor;
      }
      return 0.0;
    });
  }
  // The sketch of a product is the circular convolution of the factors' sketches.
  void factors(const Exec& exec, const std::vector<RowsView>& x, double factor, MatrixView<T> out) const override {
    const std::int64_t edge = std::min(kFactorRows, out.rows);
    const Array<T> first(exec, edge, out.cols), second(exec, edge, out.cols);
    for (std::int64_t begin = 0; begin < out.rows; begin += edge) {
      exec.poll();
      const std::int64_t count = std::min(edge, out.rows - begin);
      const MatrixView<T> product = first.view().block(0, 0, count, out.cols);
      const MatrixView<T> next = second.view().block(0, 0, count, out.cols);
      const MatrixView<T> target = out.block(begin, 0, count, out.cols);
      sparse_sketch_project<T>(exec, x[0].slice(begin, count), factor, 1, places_->factor_codes(0), product);
      for (std::size_t f = 1; f < x.size(); ++f) {
        sparse_sketch_project<T>(exec, x[f].slice(begin, count), 1.0, 1, places_->factor_codes(f), next);
        circular_convolve<T>(exec, product, next, target);
        if (f + 1 < x.size()) axpby<T, T>(exec, 1.0, target, 0.0, product);
      }
    }
  }

 private:
  std::shared_ptr<const Places> places_;
};

}  // namespace

FamilyPair make_sparse_family(const SketchDist& dist) {
  const auto places = std::make_shared<const Places>(dist);
  return {std::make_unique<SparseFamily<float>>(places), std::make_unique<SparseFamily<double>>(places),
          1.0 / std::sqrt(static_cast<double>(places->nnz()))};
}

}  // namespace gramian::sketch
