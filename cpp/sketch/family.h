// One generation of a sketch, without its scale: what the operator and the sums are made of.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gramian/core/rows_view.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/sketching.hpp"
#include "gramian/sketch/operator.hpp"

namespace gramian::sketch {

// S is m x n; all results are of scale_free S = S / scale() but for those that take a factor.
template <class T>
class Family {
 public:
  virtual ~Family() = default;
  // Rows that must be added together, counted from row 0, for the bits not to depend on how a stream was cut.
  virtual std::int64_t grain() const = 0;
  // out += S[:, start .. start + x.rows) x; the rows lie in one block of kSketchBlock.
  virtual void add(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const = 0;
  // out = the same for a node: an aligned power-of-two number of blocks.
  virtual void node(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const = 0;
  // out = factor S x for all rows at once, where there is a way that is faster than the tree; else false.
  virtual bool whole(const Exec&, const RowsView&, double /*factor*/, MatrixView<T>) const { return false; }
  // out = factor S[:, start .. start + out.rows)' y.
  virtual void adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, double factor,
                       MatrixView<T> out) const = 0;
  // out = factor x S'. Returns whether out is finite.
  virtual bool project(const Exec& exec, const RowsView& x, double factor, MatrixView<T> out) const = 0;
  // out[j, i] = factor S[first + i, start + j].
  virtual void tile(const Exec& exec, std::int64_t first, std::int64_t start, double factor,
                    MatrixView<T> out) const = 0;
  // out[r, :] = factor S (factors[0][r, :] (x) ...); tensor kinds only.
  virtual void factors(const Exec& exec, const std::vector<RowsView>& x, double factor, MatrixView<T> out) const;
};

// A family in both precisions; what is large is shared.
struct FamilyPair {
  std::unique_ptr<Family<float>> single;
  std::unique_ptr<Family<double>> twice;
  double scale = 1.0;
};

// `dist` has one generation: n_out of its own, nothing appended.
FamilyPair make_random_family(const SketchDist& dist);    // gaussian, rademacher
FamilyPair make_sparse_family(const SketchDist& dist);    // count_sketch, sparse_sign, tensor_sketch
FamilyPair make_hadamard_family(const SketchDist& dist);  // srht, hdhd, tensor_srht of two factors
FamilyPair make_tensor_family(const SketchDist& dist);    // tensor_srht of more
FamilyPair make_sampled_family(const SketchDist& dist);   // long_axis, row_sampling
FamilyPair make_cosine_family(const SketchDist& dist);    // dct

std::int64_t next_power_of_two(std::int64_t n);
// floor(word range / 2^64): a uniform number of [0, range).
std::uint64_t scaled_word(std::uint64_t word, std::uint64_t range);

// out[j, i] = value(i, j) made on the host, in the memory of exec.
template <class T, class Value>
void fill_on_host(const Exec& exec, MatrixView<T> out, const Value& value) {
  const auto fill = [&](MatrixView<T> host) {
    for (std::int64_t j = 0; j < host.rows; ++j) {
      for (std::int64_t i = 0; i < host.cols; ++i) host(j, i) = static_cast<T>(value(i, j));
    }
  };
  if (exec.device() == Device::cpu) return fill(out);
  std::vector<T> host(static_cast<std::size_t>(out.rows * out.cols));
  fill({host.data(), out.rows, out.cols});
  upload<T>(exec, {host.data(), out.rows, out.cols}, out);
}

// Families whose S is made tile by tile and multiplied as a dense matrix.
template <class T>
class TileFamily : public Family<T> {
 public:
  std::int64_t grain() const override { return kSketchPanel; }
  void add(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const override {
    dense_sketch_add<T>(exec, x, start, tiles(), out);
  }
  void node(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const override {
    dense_sketch_node<T>(exec, x, start, tiles(), out);
  }
  void adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, double factor,
               MatrixView<T> out) const override {
    dense_sketch_adjoint<T>(exec, y, start, factor, tiles(), out);
  }
  bool project(const Exec& exec, const RowsView& x, double factor, MatrixView<T> out) const override {
    dense_sketch_project<T>(exec, x, factor, tiles(), out);
    return is_finite<T>(exec, out);
  }

 protected:
  SketchTile<T> tiles() const {
    return [this](const Exec& exec, std::int64_t first, std::int64_t start, MatrixView<T> out) {
      this->tile(exec, first, start, 1.0, out);
    };
  }
};

}  // namespace gramian::sketch
