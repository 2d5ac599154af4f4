// Sketches with few nonzeros in each row: long-axis sparse and sampling by scores. They read the drawn rows only.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "sketch/family.h"

namespace gramian::sketch {

namespace {

constexpr std::uint32_t kHashTag = 3, kReplacedTag = 6;
// Elements of the work space for gathered rows, columns of S per step of an adjoint, rows per step of a projection.
constexpr std::int64_t kGathered = std::int64_t{1} << 25;
constexpr std::int64_t kAdjointColumns = std::int64_t{1} << 16;
constexpr std::int64_t kProjectRows = 256;

// CSR rows under construction.
template <class T>
class Csr {
 public:
  explicit Csr(std::int64_t cols) : cols_(cols) {}
  void entry(std::int64_t column, double value) {
    indices_.push_back(column);
    values_.push_back(static_cast<T>(value));
  }
  void end_row() { indptr_.push_back(static_cast<std::int64_t>(indices_.size())); }
  RowsView view() const {
    const auto rows = static_cast<std::int64_t>(indptr_.size()) - 1;
    return RowsView::csr(rows, cols_, indptr_.data(), indices_.data(), values_.data());
  }

 private:
  std::int64_t cols_;
  std::vector<std::int64_t> indptr_{0}, indices_;
  std::vector<T> values_;
};

struct Entry {
  std::int64_t row, column;
  double value;
};

// The nonzeros of S by rows, columns ascending, and by columns.
class Entries {
 public:
  explicit Entries(const SketchDist& dist) : m_(dist.n_out), n_(dist.n_in) {
    if (dist.kind == SketchKind::long_axis) {
      draw_long_axis(dist);
    } else {
      draw_by_scores(dist);
    }
    by_column_.resize(all_.size());
    std::iota(by_column_.begin(), by_column_.end(), std::size_t{0});
    std::stable_sort(by_column_.begin(), by_column_.end(),
                     [&](std::size_t a, std::size_t b) { return all_[a].column < all_[b].column; });
  }

  std::int64_t m() const { return m_; }
  std::int64_t n() const { return n_; }
  std::int64_t per_row() const { return static_cast<std::int64_t>(all_.size()) / m_; }
  const Entry* row(std::int64_t i) const { return all_.data() + i * per_row(); }
  // Positions of the entries of columns [begin, end), in the order of their columns.
  std::pair<const std::size_t*, const std::size_t*> columns(std::int64_t begin, std::int64_t end) const {
    const auto below = [&](std::size_t at, std::int64_t column) { return all_[at].column < column; };
    const auto first = std::lower_bound(by_column_.begin(), by_column_.end(), begin, below);
    const auto last = std::lower_bound(first, by_column_.end(), end, below);
    return {by_column_.data() + (first - by_column_.begin()), by_column_.data() + (last - by_column_.begin())};
  }
  const Entry& at(std::size_t position) const { return all_[position]; }

 private:
  void draw_long_axis(const SketchDist& dist) {
    const RngStream stream(dist.seed, RngFamily::long_axis, kHashTag, 0, dist.generation);
    for (std::int64_t i = 0; i < m_; ++i) {
      for (std::int64_t k = 0; k < dist.nnz; ++k) {
        const std::uint64_t word =
            stream.word(static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(k / 2), static_cast<int>(k % 2));
        const std::int64_t begin = k * n_ / dist.nnz, end = (k + 1) * n_ / dist.nnz;
        const auto inside = static_cast<std::int64_t>(scaled_word(word, static_cast<std::uint64_t>(end - begin)));
        all_.push_back({i, begin + inside, (word & 1) != 0 ? -1.0 : 1.0});
      }
    }
  }

  // The smallest row whose cumulated score exceeds u times the total. A row of score 0 is never that.
  void draw_by_scores(const SketchDist& dist) {
    std::vector<double> cumulated;
    cumulated.reserve(dist.scores.size());
    double total = 0;
    for (const double score : dist.scores) cumulated.push_back(total += score);
    const auto last_positive =
        static_cast<std::int64_t>(std::lower_bound(cumulated.begin(), cumulated.end(), total) - cumulated.begin());
    const RngStream stream(dist.seed, RngFamily::leverage, kReplacedTag, 0, dist.generation);
    for (std::int64_t q = 0; q < m_; ++q) {
      const std::uint64_t word = stream.word(static_cast<std::uint64_t>(q), 0, 0);
      const double u = static_cast<double>((word >> 12) * 2 + 1) * 0x1p-53;
      const auto found = std::upper_bound(cumulated.begin(), cumulated.end(), u * total) - cumulated.begin();
      // u times the total may round up to the total.
      const std::int64_t row = std::min(static_cast<std::int64_t>(found), last_positive);
      const double share = dist.scores[static_cast<std::size_t>(row)] / total;
      all_.push_back({q, row, 1.0 / std::sqrt(static_cast<double>(m_) * share)});
    }
  }

  std::int64_t m_, n_;
  std::vector<Entry> all_;
  std::vector<std::size_t> by_column_;
};

template <class T>
class SampledFamily final : public Family<T> {
 public:
  explicit SampledFamily(std::shared_ptr<const Entries> entries) : entries_(std::move(entries)) {}

  std::int64_t grain() const override { return 1; }

  // Entry after entry of each row of S, so that the order does not depend on how the block was cut.
  void add(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const override {
    over_rows(x.cols, [&](std::int64_t first, std::int64_t last) {
      const Needed needed(*entries_, first, last, start, x.rows);
      if (needed.columns.empty()) return;
      const Array<T> rows = gathered(exec, x, start, needed);
      const Array<T> part(exec, last - first, x.cols);
      for (std::size_t rank = 0;; ++rank) {
        Csr<T> csr(rows.rows());
        bool any = false;
        for (const std::vector<Entry>& entries : needed.rows) {
          if (rank < entries.size()) {
            csr.entry(needed.index(entries[rank].column), entries[rank].value);
            any = true;
          }
          csr.end_row();
        }
        if (!any) return;
        sparse_multiply<T>(exec, csr.view(), rows.view(), part.view());
        axpby<T, T>(exec, 1.0, part.view(), 1.0, out.block(first, 0, last - first, out.cols));
      }
    });
  }

  // A row of S has few entries: the tree is walked over those, and blocks without any cost nothing.
  void node(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const override {
    over_rows(x.cols, [&](std::int64_t first, std::int64_t last) {
      const Needed needed(*entries_, first, last, start, x.rows);
      const MatrixView<T> target = out.block(first, 0, last - first, out.cols);
      if (needed.columns.empty()) return axpby<T, T>(exec, 0.0, {}, 0.0, target);
      tree(exec, needed, gathered(exec, x, start, needed), target);
    });
  }

  void adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, double factor,
               MatrixView<T> out) const override {
    for (std::int64_t begin = 0; begin < out.rows; begin += kAdjointColumns) {
      const std::int64_t count = std::min(kAdjointColumns, out.rows - begin), origin = start + begin;
      Csr<T> csr(y.rows);
      auto [at, end] = entries_->columns(origin, origin + count);
      for (std::int64_t j = origin; j < origin + count; ++j) {
        for (; at != end && entries_->at(*at).column == j; ++at) {
          csr.entry(entries_->at(*at).row, entries_->at(*at).value);
        }
        csr.end_row();
      }
      const MatrixView<T> part = out.block(begin, 0, count, out.cols);
      sparse_multiply<T>(exec, csr.view(), y, part);
      if (factor != 1.0) axpby<T, T>(exec, factor, part, 0.0, part);
    }
  }

  bool project(const Exec& exec, const RowsView& x, double factor, MatrixView<T> out) const override {
    Csr<T> csr(entries_->n());
    for (std::int64_t i = 0; i < entries_->m(); ++i) {
      const Entry* row = entries_->row(i);
      for (std::int64_t k = 0; k < entries_->per_row(); ++k) csr.entry(row[k].column, row[k].value);
      csr.end_row();
    }
    const std::int64_t edge = std::min(kProjectRows, std::max<std::int64_t>(1, x.rows));
    const Array<T> rows(exec, edge, x.cols), turned(exec, x.cols, edge), sums(exec, out.cols, edge);
    for (std::int64_t begin = 0; begin < x.rows; begin += edge) {
      const std::int64_t count = std::min(edge, x.rows - begin);
      const MatrixView<T> part = rows.view().block(0, 0, count, x.cols);
      load_rows<T>(exec, x.slice(begin, count), nullptr, nullptr, part, "A");
      copy_transposed<T>(exec, part, turned.view().block(0, 0, x.cols, count));
      sparse_multiply<T>(exec, csr.view(), turned.view().block(0, 0, x.cols, count),
                         sums.view().block(0, 0, out.cols, count));
      const MatrixView<T> target = out.block(begin, 0, count, out.cols);
      copy_transposed<T>(exec, sums.view().block(0, 0, out.cols, count), target);
      if (factor != 1.0) axpby<T, T>(exec, factor, target, 0.0, target);
    }
    return is_finite<T>(exec, out);
  }

  void tile(const Exec& exec, std::int64_t first, std::int64_t start, double factor, MatrixView<T> out) const override {
    fill_on_host<T>(exec, out, [&](std::int64_t i, std::int64_t j) {
      for (std::int64_t k = 0; k < entries_->per_row(); ++k) {
        const Entry& entry = entries_->row(first + i)[k];
        if (entry.column == start + j) return factor * entry.value;
      }
      return 0.0;
    });
  }

 private:
  // The entries of rows [first, last) of S in columns [start, start + count), and the columns that have any.
  struct Needed {
    std::vector<std::vector<Entry>> rows;
    std::vector<std::int64_t> columns;

    Needed(const Entries& entries, std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t count)
        : rows(static_cast<std::size_t>(last - first)) {
      for (std::int64_t i = first; i < last; ++i) {
        for (std::int64_t k = 0; k < entries.per_row(); ++k) {
          const Entry& entry = entries.row(i)[k];
          if (entry.column < start || entry.column >= start + count) continue;
          rows[static_cast<std::size_t>(i - first)].push_back(entry);
          columns.push_back(entry.column);
        }
      }
      std::sort(columns.begin(), columns.end());
      columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
    }
    std::int64_t index(std::int64_t column) const {
      return std::lower_bound(columns.begin(), columns.end(), column) - columns.begin();
    }
  };

  // Calls body(first, last) for pieces of the rows of S whose gathered rows of x fit the work space.
  template <class Body>
  void over_rows(std::int64_t cols, const Body& body) const {
    const std::int64_t row_elements = std::max<std::int64_t>(1, cols * entries_->per_row());
    const std::int64_t edge = std::max<std::int64_t>(1, kGathered / row_elements);
    for (std::int64_t first = 0; first < entries_->m(); first += edge)
      body(first, std::min(first + edge, entries_->m()));
  }

  static Array<T> gathered(const Exec& exec, const RowsView& x, std::int64_t start, const Needed& needed) {
    std::vector<std::int64_t> rows;
    for (const std::int64_t column : needed.columns) rows.push_back(column - start);
    Array<T> out(exec, static_cast<std::int64_t>(rows.size()), x.cols);
    gather_rows<T>(exec, x, rows, out.view());
    return out;
  }

  // The pieces that the rows of S have been summed into: for each row, their numbers at the present level of the tree.
  using Pieces = std::vector<std::vector<std::int64_t>>;

  static std::int64_t count_of(const Pieces& pieces) {
    std::int64_t count = 0;
    for (const auto& of_row : pieces) count += static_cast<std::int64_t>(of_row.size());
    return count;
  }

  static void tree(const Exec& exec, const Needed& needed, Array<T> rows, MatrixView<T> out) {
    // Blocks first: one sum for each row of S and block that has entries.
    Pieces pieces(needed.rows.size());
    Csr<T> blocks(rows.rows());
    for (std::size_t i = 0; i < needed.rows.size(); ++i) {
      for (const Entry& entry : needed.rows[i]) {
        const std::int64_t block = entry.column / kSketchBlock;
        if (!pieces[i].empty() && pieces[i].back() != block) blocks.end_row();
        if (pieces[i].empty() || pieces[i].back() != block) pieces[i].push_back(block);
        blocks.entry(needed.index(entry.column), entry.value);
      }
      if (!pieces[i].empty()) blocks.end_row();
    }
    Array<T> sums(exec, count_of(pieces), rows.cols());
    sparse_multiply<T>(exec, blocks.view(), rows.view(), sums.view());
    while (std::any_of(pieces.begin(), pieces.end(), [](const auto& of_row) { return of_row.size() > 1; }))
      sums = next_level(exec, pieces, sums);
    // Rows without entries are zero.
    Csr<T> last(sums.rows());
    std::int64_t at = 0;
    for (const auto& of_row : pieces) {
      if (!of_row.empty()) last.entry(at++, 1.0);
      last.end_row();
    }
    sparse_multiply<T>(exec, last.view(), sums.view(), out);
  }

  static Array<T> next_level(const Exec& exec, Pieces& pieces, const Array<T>& sums) {
    Csr<T> csr(sums.rows());
    std::int64_t at = 0;
    for (auto& of_row : pieces) {
      std::vector<std::int64_t> parents;
      for (const std::int64_t piece : of_row) {
        if (!parents.empty() && parents.back() != piece / 2) csr.end_row();
        if (parents.empty() || parents.back() != piece / 2) parents.push_back(piece / 2);
        csr.entry(at++, 1.0);
      }
      if (!parents.empty()) csr.end_row();
      of_row = std::move(parents);
    }
    Array<T> out(exec, count_of(pieces), sums.cols());
    sparse_multiply<T>(exec, csr.view(), sums.view(), out.view());
    return out;
  }

  std::shared_ptr<const Entries> entries_;
};

}  // namespace

FamilyPair make_sampled_family(const SketchDist& dist) {
  const auto entries = std::make_shared<const Entries>(dist);
  const double scale = dist.kind == SketchKind::row_sampling
                           ? 1.0
                           : std::sqrt(static_cast<double>(dist.n_in) /
                                       (static_cast<double>(dist.nnz) * static_cast<double>(dist.n_out)));
  return {std::make_unique<SampledFamily<float>>(entries), std::make_unique<SampledFamily<double>>(entries), scale};
}

}  // namespace gramian::sketch
