// TensorSRHT of more than two factors: neighbours are sketched in pairs, then the pairs, so the work is linear in the
// number of factors and no vector is longer than the longest factor or n_out.
#include <algorithm>
#include <cmath>
#include <utility>

#include "gramian/core/rng.hpp"
#include "sketch/family.h"

namespace gramian::sketch {

namespace {

constexpr std::uint32_t kSignTag = 1, kReplacedTag = 6;
constexpr std::int64_t kFactorRows = 1024;

// One side of a pair: a signed transform and the places that the pair drew in it.
HadamardPlan side_of(const RngStream& signs, const RngStream& draws, int which, std::int64_t length, std::int64_t m) {
  HadamardPlan plan;
  const std::int64_t padded = next_power_of_two(length);
  for (std::int64_t k = 0; k < padded; ++k) {
    plan.index.push_back(k < length ? k : -1);
    plan.sign.push_back(k < length ? signs.row_sign(static_cast<std::uint64_t>(k)) : 0.0);
  }
  for (std::int64_t q = 0; q < m; ++q) {
    const std::uint64_t word = draws.word(static_cast<std::uint64_t>(q), 0, which);
    plan.choice.push_back(static_cast<std::int64_t>(scaled_word(word, static_cast<std::uint64_t>(padded))));
  }
  return plan;
}

// The pairs, level by level. Pair t draws its places from factor number t and its signs from 2 t and 2 t + 1.
class Tree {
 public:
  explicit Tree(const SketchDist& dist) : dims_(dist.dims), m_(dist.n_out) {
    std::vector<std::int64_t> lengths = dims_;
    std::uint32_t pair = 0;
    while (lengths.size() > 1) {
      std::vector<std::int64_t> next;
      for (std::size_t k = 0; k + 1 < lengths.size(); k += 2, ++pair) {
        const auto stream = [&](std::uint32_t tag, std::uint32_t factor) {
          return RngStream(dist.seed, RngFamily::tensor_srht, tag, factor, dist.generation);
        };
        const RngStream draws = stream(kReplacedTag, pair);
        sides_.push_back(side_of(stream(kSignTag, 2 * pair), draws, 0, lengths[k], m_));
        sides_.push_back(side_of(stream(kSignTag, 2 * pair + 1), draws, 1, lengths[k + 1], m_));
        next.push_back(m_);
      }
      if (lengths.size() % 2 == 1) next.push_back(lengths.back());
      lengths = std::move(next);
    }
  }

  const std::vector<std::int64_t>& dims() const { return dims_; }
  std::int64_t m() const { return m_; }

  // out = factor times the root, pairs left without their 1 / sqrt(m).
  template <class T>
  void apply(const Exec& exec, const std::vector<RowsView>& x, double factor, MatrixView<T> out) const {
    std::vector<Array<T>> values(x.size());
    for (std::size_t f = 0; f < x.size(); ++f) {
      values[f] = Array<T>(exec, x[f].rows, x[f].cols);
      load_rows<T>(exec, x[f], nullptr, nullptr, values[f].view(), "A");
    }
    std::size_t side = 0;
    while (values.size() > 1) {
      std::vector<Array<T>> next;
      for (std::size_t k = 0; k + 1 < values.size(); k += 2, side += 2) {
        const bool root = values.size() == 2;
        Array<T> made;
        if (!root) made = Array<T>(exec, out.rows, out.cols);
        const MatrixView<T> target = root ? out : made.view();
        HadamardPlan left = sides_[side], right = sides_[side + 1];
        left.choice_scale.assign(left.choice.size(), 1.0);
        // The inner pairs' factors belong where they arise: their products grow with every level.
        right.choice_scale.assign(right.choice.size(), root ? factor : 1.0 / std::sqrt(static_cast<double>(m_)));
        hadamard_rows<T>(exec, values[k].view(), left, target);
        hadamard_rows<T>(exec, values[k + 1].view(), right, target, true);
        next.push_back(std::move(made));
      }
      if (values.size() % 2 == 1) next.push_back(std::move(values.back()));
      values = std::move(next);
    }
  }

 private:
  std::vector<std::int64_t> dims_;
  std::int64_t m_;
  std::vector<HadamardPlan> sides_;
};

template <class T>
class TensorFamily final : public TileFamily<T> {
 public:
  explicit TensorFamily(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}

  void factors(const Exec& exec, const std::vector<RowsView>& x, double factor, MatrixView<T> out) const override {
    for (std::int64_t begin = 0; begin < out.rows; begin += kFactorRows) {
      exec.poll();
      const std::int64_t count = std::min(kFactorRows, out.rows - begin);
      std::vector<RowsView> part;
      for (const RowsView& rows : x) part.push_back(rows.slice(begin, count));
      tree_->apply<T>(exec, part, factor, out.block(begin, 0, count, out.cols));
    }
  }

  // Columns of S as the sketches of products of unit vectors.
  void tile(const Exec& exec, std::int64_t first, std::int64_t start, double factor, MatrixView<T> out) const override {
    const std::vector<std::int64_t>& dims = tree_->dims();
    std::vector<std::vector<T>> units;
    for (const std::int64_t dim : dims) units.emplace_back(static_cast<std::size_t>(out.rows * dim), T(0));
    for (std::int64_t j = 0; j < out.rows; ++j) {
      std::int64_t rest = start + j;
      for (std::size_t f = dims.size(); f-- > 0; rest /= dims[f])
        units[f][static_cast<std::size_t>(j * dims[f] + rest % dims[f])] = T(1);
    }
    std::vector<RowsView> x;
    for (std::size_t f = 0; f < dims.size(); ++f)
      x.push_back(RowsView::dense<T>(MatrixView<const T>(units[f].data(), out.rows, dims[f])));
    const Array<T> whole(exec, out.rows, tree_->m());
    tree_->apply<T>(exec, x, factor, whole.view());
    axpby<T, T>(exec, 1.0, whole.view().block(0, first, out.rows, out.cols), 0.0, out);
  }

 private:
  std::shared_ptr<const Tree> tree_;
};

}  // namespace

FamilyPair make_tensor_family(const SketchDist& dist) {
  const auto tree = std::make_shared<const Tree>(dist);
  return {std::make_unique<TensorFamily<float>>(tree), std::make_unique<TensorFamily<double>>(tree),
          1.0 / std::sqrt(static_cast<double>(dist.n_out))};
}

}  // namespace gramian::sketch
