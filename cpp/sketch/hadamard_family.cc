// Sketches that are rows of a signed Hadamard matrix: SRHT, HDHD and the pair of TensorSRHT. All of them put row j of
// the data, times a sign, to a place of N = 2^k rows, transform, and choose.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "gramian/core/rng.hpp"
#include "sketch/family.h"

namespace gramian::sketch {

namespace {

constexpr std::uint32_t kSignTag = 1, kSecondSignTag = 2, kPermutationTag = 4, kSampleTag = 5, kReplacedTag = 6;

int parity(std::uint64_t bits) {
#if defined(__GNUC__)
  return __builtin_parityll(bits);
#else
  for (int shift = 32; shift >= 1; shift /= 2) bits ^= bits >> shift;
  return static_cast<int>(bits & 1);
#endif
}

// Everything of length n or N, made when it is first needed.
class Layout {
 public:
  explicit Layout(const SketchDist& dist) : dist_(dist) {}

  bool two_rounds() const { return dist_.kind == SketchKind::hdhd; }
  bool is_tensor() const { return dist_.kind == SketchKind::tensor_srht; }
  std::int64_t n() const { return dist_.n_in; }
  std::int64_t padded() const {
    return is_tensor() ? next_power_of_two(dist_.dims[0]) * next_power_of_two(dist_.dims[1])
                       : next_power_of_two(dist_.n_in);
  }

  struct Vectors {
    std::vector<std::int64_t> place;   // of row j of the data
    std::vector<double> sign;          // of row j
    std::vector<double> second_sign;   // of place k; hdhd only
    std::vector<std::int64_t> choice;  // place of output row i
  };
  const Vectors& vectors(const Exec& exec) const {
    std::call_once(made_, [&] { vectors_ = dist_.kind == SketchKind::tensor_srht ? tensor() : flat(exec); });
    return vectors_;
  }

 private:
  RngStream stream(std::uint32_t tag, std::uint32_t factor = 0) const {
    return RngStream(dist_.seed, is_tensor() ? RngFamily::tensor_srht : RngFamily::srht, tag, factor, dist_.generation);
  }

  Vectors flat(const Exec& exec) const {
    Vectors out;
    const auto count = static_cast<std::size_t>(n());
    out.place.resize(count);
    out.sign.resize(count);
    const RngStream signs = stream(kSignTag), order = stream(kPermutationTag), sample = stream(kSampleTag);
    const auto size = static_cast<std::uint64_t>(padded());
    const bool permuted = dist_.kind == SketchKind::srht && dist_.permute;
    constexpr std::int64_t kPiece = 4096;
    exec.on_host().parallel_for((n() + kPiece - 1) / kPiece, [&](std::int64_t task) {
      const std::int64_t end = std::min(n(), (task + 1) * kPiece);
      for (std::int64_t j = task * kPiece; j < end; ++j) {
        const auto index = static_cast<std::uint64_t>(j);
        out.sign[static_cast<std::size_t>(j)] = signs.row_sign(index);
        out.place[static_cast<std::size_t>(j)] = permuted ? static_cast<std::int64_t>(order.permute(size, index)) : j;
      }
    });
    if (two_rounds()) {
      const RngStream second = stream(kSecondSignTag);
      out.second_sign.reserve(static_cast<std::size_t>(padded()));
      for (std::uint64_t k = 0; k < size; ++k) out.second_sign.push_back(second.row_sign(k));
    }
    for (std::uint64_t q = 0; q < static_cast<std::uint64_t>(dist_.n_out); ++q)
      out.choice.push_back(static_cast<std::int64_t>(sample.permute(size, q)));
    return out;
  }

  Vectors tensor() const {
    Vectors out;
    const std::int64_t inner = dist_.dims[1];
    const std::int64_t padded_outer = next_power_of_two(dist_.dims[0]), padded_inner = next_power_of_two(inner);
    const RngStream outer_sign = stream(kSignTag, 0), inner_sign = stream(kSignTag, 1), draws = stream(kReplacedTag);
    for (std::int64_t j = 0; j < n(); ++j) {
      out.place.push_back(j / inner * padded_inner + j % inner);
      out.sign.push_back(outer_sign.row_sign(static_cast<std::uint64_t>(j / inner)) *
                         inner_sign.row_sign(static_cast<std::uint64_t>(j % inner)));
    }
    for (std::int64_t q = 0; q < dist_.n_out; ++q) {
      const auto at = [&](int which, std::int64_t size) {
        return static_cast<std::int64_t>(
            scaled_word(draws.word(static_cast<std::uint64_t>(q), 0, which), static_cast<std::uint64_t>(size)));
      };
      out.choice.push_back(at(0, padded_outer) * padded_inner + at(1, padded_inner));
    }
    return out;
  }

  SketchDist dist_;
  mutable std::once_flag made_;
  mutable Vectors vectors_;
};

template <class T>
class HadamardFamily final : public TileFamily<T> {
 public:
  explicit HadamardFamily(std::shared_ptr<const Layout> layout) : layout_(std::move(layout)) {}

  // A whole transform for each block is the only way to add rows to two rounds, so a block is the least.
  std::int64_t grain() const override { return layout_->two_rounds() ? kSketchBlock : kSketchPanel; }

  void add(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const override {
    if (!layout_->two_rounds()) return TileFamily<T>::add(exec, x, start, out);
    const Array<T> part(exec, out.rows, out.cols);
    hadamard_columns<T>(exec, x, plan(exec, start, x.rows, 1.0), part.view());
    axpby<T, T>(exec, 1.0, part.view(), 1.0, out);
  }

  void node(const Exec& exec, const RowsView& x, std::int64_t start, MatrixView<T> out) const override {
    if (!layout_->two_rounds()) return TileFamily<T>::node(exec, x, start, out);
    if (x.rows == kSketchBlock) {
      axpby<T, T>(exec, 0.0, {}, 0.0, out);
      return add(exec, x, start, out);
    }
    const std::int64_t half = x.rows / 2;
    const Array<T> right(exec, out.rows, out.cols);
    node(exec, x.slice(0, half), start, out);
    node(exec, x.slice(half, half), start + half, right.view());
    axpby<T, T>(exec, 1.0, right.view(), 1.0, out);
  }

  bool whole(const Exec& exec, const RowsView& x, double factor, MatrixView<T> out) const override {
    hadamard_columns<T>(exec, x, plan(exec, 0, x.rows, factor), out);
    return true;
  }

  bool project(const Exec& exec, const RowsView& x, double factor, MatrixView<T> out) const override {
    return hadamard_rows<T>(exec, x, plan(exec, 0, layout_->n(), factor), out);
  }

  void adjoint(const Exec& exec, MatrixView<const T> y, std::int64_t start, double factor,
               MatrixView<T> out) const override {
    // Draws with replacement meet at one place, where a gather would take one of them only.
    const auto padded = static_cast<double>(layout_->padded());
    const bool few = 2.0 * static_cast<double>(y.rows) * static_cast<double>(out.rows) < padded * std::log2(padded);
    if (layout_->is_tensor() || (few && !layout_->two_rounds())) {
      return TileFamily<T>::adjoint(exec, y, start, factor, out);
    }
    const HadamardPlan back = adjoint_plan(exec, start, out.rows, factor);
    if (y.cols == 1 && y.stride == 1 && out.stride == 1) {
      // One vector is a row as well, and rows pass through the cache once.
      hadamard_rows<T>(exec, MatrixView<const T>(y.data, 1, y.rows), back, MatrixView<T>(out.data, 1, out.rows));
      return;
    }
    std::vector<T> copy;
    hadamard_columns<T>(exec, on_host(exec, y, copy), back, out);
  }

  void tile(const Exec& exec, std::int64_t first, std::int64_t start, double factor, MatrixView<T> out) const override {
    if (layout_->two_rounds()) return unit_rows(exec, first, start, factor, out);
    const Layout::Vectors& v = layout_->vectors(exec);
    fill_on_host<T>(exec, out, [&](std::int64_t i, std::int64_t j) {
      const auto row = static_cast<std::size_t>(start + j);
      const int odd = parity(static_cast<std::uint64_t>(v.choice[static_cast<std::size_t>(first + i)]) &
                             static_cast<std::uint64_t>(v.place[row]));
      return odd != 0 ? -factor * v.sign[row] : factor * v.sign[row];
    });
  }

 private:
  // Rows start .. start + count of the data, the others being zero.
  HadamardPlan plan(const Exec& exec, std::int64_t start, std::int64_t count, double factor) const {
    const Layout::Vectors& v = layout_->vectors(exec);
    const auto padded = static_cast<std::size_t>(layout_->padded());
    HadamardPlan out;
    out.index.assign(padded, -1);
    out.sign.assign(padded, 0.0);
    for (std::int64_t j = start; j < start + count; ++j) {
      const auto place = static_cast<std::size_t>(v.place[static_cast<std::size_t>(j)]);
      out.index[place] = j - start;
      out.sign[place] = v.sign[static_cast<std::size_t>(j)];
    }
    out.second_sign = v.second_sign;
    out.choice = v.choice;
    out.choice_scale.assign(v.choice.size(), factor);
    return out;
  }

  // The transforms are symmetric, so the way back reads the plan from its end.
  HadamardPlan adjoint_plan(const Exec& exec, std::int64_t start, std::int64_t count, double factor) const {
    const Layout::Vectors& v = layout_->vectors(exec);
    const auto padded = static_cast<std::size_t>(layout_->padded());
    HadamardPlan out;
    out.index.assign(padded, -1);
    out.sign.assign(padded, 1.0);
    for (std::size_t i = 0; i < v.choice.size(); ++i)
      out.index[static_cast<std::size_t>(v.choice[i])] = static_cast<std::int64_t>(i);
    out.second_sign = v.second_sign;
    for (std::int64_t j = start; j < start + count; ++j) {
      out.choice.push_back(v.place[static_cast<std::size_t>(j)]);
      out.choice_scale.push_back(factor * v.sign[static_cast<std::size_t>(j)]);
    }
    return out;
  }

  // Columns of S as the transforms of unit vectors.
  void unit_rows(const Exec& exec, std::int64_t first, std::int64_t start, double factor, MatrixView<T> out) const {
    HadamardPlan transform = plan(exec, start, out.rows, factor);
    const auto begin = transform.choice.begin() + first;
    transform.choice = std::vector<std::int64_t>(begin, begin + out.cols);
    transform.choice_scale.resize(static_cast<std::size_t>(out.cols));
    std::vector<T> unit(static_cast<std::size_t>(out.rows * out.rows), T(0));
    for (std::int64_t j = 0; j < out.rows; ++j) unit[static_cast<std::size_t>(j * out.rows + j)] = T(1);
    const MatrixView<const T> rows(unit.data(), out.rows, out.rows);
    hadamard_rows<T>(exec, RowsView::dense<T>(rows), transform, out);
  }

  static RowsView on_host(const Exec& exec, MatrixView<const T> y, std::vector<T>& copy) {
    if (exec.device() == Device::cpu) return RowsView::dense<T>(y);
    copy.resize(static_cast<std::size_t>(y.rows * y.cols));
    const MatrixView<T> host(copy.data(), y.rows, y.cols);
    download<T>(exec, y, host);
    return RowsView::dense<T>(host);
  }

  std::shared_ptr<const Layout> layout_;
};

}  // namespace

std::int64_t next_power_of_two(std::int64_t n) {
  std::int64_t p = 1;
  while (p < n) p *= 2;
  return p;
}

std::uint64_t scaled_word(std::uint64_t word, std::uint64_t range) {
  // The high half of a 128-bit product, in halves that every compiler has.
  const std::uint64_t low = (word & 0xffffffffu) * (range & 0xffffffffu);
  const std::uint64_t cross = (word >> 32) * (range & 0xffffffffu) + (low >> 32);
  const std::uint64_t other = (word & 0xffffffffu) * (range >> 32) + (cross & 0xffffffffu);
  return (word >> 32) * (range >> 32) + (cross >> 32) + (other >> 32);
}

FamilyPair make_hadamard_family(const SketchDist& dist) {
  const auto layout = std::make_shared<const Layout>(dist);
  // sqrt(N / m) times 1 / sqrt(N) for each transform.
  const auto m = static_cast<double>(dist.n_out);
  const double rounds = layout->two_rounds() ? static_cast<double>(layout->padded()) : 1.0;
  return {std::make_unique<HadamardFamily<float>>(layout), std::make_unique<HadamardFamily<double>>(layout),
          1.0 / std::sqrt(m * rounds)};
}

}  // namespace gramian::sketch
