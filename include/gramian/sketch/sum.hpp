// S A for rows that come in pieces: a linear accumulator that keeps the tree of its sums.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/io/model_file.hpp"
#include "gramian/sketch/operator.hpp"

namespace gramian {

// The state is the distribution and the sums of the tree's nodes that cannot be put together yet: about log2(n / 4096)
// + 1 matrices of n_out x cols after n rows in order. Rows in order, however cut, give the same bits as all at once;
// so do sums of parts that were cut at multiples of 4096 rows and merged. Rows may come in any order and may be
// taken out again; the result then has rounding of its own. Not for two threads at once.
template <class T>
class GRAMIAN_EXPORT SketchSum {
 public:
  // Sums live in the memory of the device of `exec`.
  SketchSum(const Exec& exec, SketchOp op, std::int64_t cols);

  const SketchOp& op() const { return op_; }
  std::int64_t cols() const { return cols_; }
  // Rows that are in, those taken out not counted.
  std::int64_t rows() const;
  // Bytes of the sums.
  std::int64_t bytes() const;

  // The sum += weight S[:, start .. start + x.rows) x. weight -1 takes rows out. On any error nothing has changed.
  void update(const Exec& exec, const RowsView& x, std::int64_t start, double weight = 1.0);
  // The sum += that of another one, with an equal distribution and as many columns.
  void merge(const Exec& exec, const SketchSum& other);
  // out (n_out x cols) = the sum times the scale of S. Error{non_finite} where sums have left the range of T.
  void result(const Exec& exec, MatrixView<T> out) const;

  // A model file of kind "sketch_sum": the same bytes on every machine. Rows that wait for the rest of their panel are
  // summed first, so a stream that was saved in mid-panel may differ in the last bits.
  std::vector<std::uint8_t> save(const Exec& exec) const;
  // Throws Error{file_format} for bytes of another model, of another type or damaged.
  static SketchSum load(const Exec& exec, const ModelReader& reader);

 private:
  friend class SketchOp;
  void sum_up(const Exec& exec, MatrixView<T> out) const;
  // Level and number at that level: node (l, k) is the blocks k 2^l .. (k + 1) 2^l.
  using Place = std::pair<int, std::int64_t>;
  struct Node {
    Array<T> sum;
    std::int64_t rows = 0;
  };
  // Rows of an unfinished panel, as T.
  struct Pending {
    Array<T> rows;
    std::int64_t start = 0;
    std::int64_t count = 0;
  };

  Array<T> zeros(const Exec& exec) const;
  Array<T> copy_of(const Exec& exec, const Array<T>& from) const;
  void add_part(const Exec& exec, const RowsView& x, std::int64_t start, double weight);
  void wait_with(const Exec& exec, const RowsView& x, std::int64_t start);
  void add_whole_blocks(const Exec& exec, const RowsView& x, std::int64_t start, double weight,
                        std::vector<std::pair<Place, Node>>& out) const;
  void insert(const Exec& exec, const Place& place, Node node);
  void flush(const Exec& exec);
  std::map<Place, Node> complete(const Exec& exec) const;
  void check(const RowsView& x, std::int64_t start) const;

  Exec device_;
  SketchOp op_;
  std::int64_t cols_;
  std::map<Place, Node> nodes_;
  Pending pending_;
};

}  // namespace gramian
