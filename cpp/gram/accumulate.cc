// Rows into sums: the one pass over data that every closed-form learner makes.
//
// A block of rows is widened, mapped, centred and weighted into one work buffer, and leaves it as additions to the
// sums; no more than that block ever exists. Everything that can refuse a block (bad values, cancellation, memory) is
// done before the sums are touched.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gram/gram_sums.h"
#include "gramian/core/dtype.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

namespace {

struct Range {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};

// Rows of one block: about 64 MiB of features, and enough rows to feed the kernels.
std::int64_t block_rows(std::int64_t d, std::size_t element) {
  const auto fitting = (std::int64_t{64} << 20) / (d * static_cast<std::int64_t>(element));
  return std::clamp<std::int64_t>(fitting / 256 * 256, 512, 8192);
}

// Work that must not stop half way is kept below this many flops, a fraction of a second: it keeps a Ctrl-C waiting.
constexpr double kLongWork = 1e10;

// A call that may stop anywhere up to its last milliseconds makes sums of its own, which are then added up: that passes
// over three triangles, which so many rows pay for, and is not worth it for so few flops of one processor.
constexpr double kBriefWork = 5e8;
constexpr std::int64_t kFewRows = 128;

// What becomes of the sums when a block fails or is cancelled half way.
enum class Sink {
  disposable,  // thrown away or emptied: any piece of work may stop anywhere
  kept         // blocks are added whole
};

struct Input {
  RowsView x;
  const std::int64_t* codes;
  const RowsView* values;
  const double* weight;
  const FeatureMap* map;
};

// The rows of a call that count: those of positive weight, checked, with what belongs to them.
class Selection {
 public:
  Selection(const GramState::Sums& sums, const Input& in) : outputs_(in.values != nullptr ? sums.c : 0) {
    const std::int64_t n = in.x.rows;
    if (in.weight != nullptr) {
      for (std::int64_t r = 0; r < n; ++r) {
        GRAMIAN_REQUIRE(std::isfinite(in.weight[r]) && in.weight[r] >= 0, invalid_argument,
                        "sample_weight must be finite and not negative (to take rows out, remove them); row " +
                            std::to_string(in.x.first_row + r) + " has " + std::to_string(in.weight[r]));
        if (in.weight[r] > 0) index_.push_back(r);
      }
    }
    const bool partial = in.weight != nullptr && static_cast<std::int64_t>(index_.size()) < n;
    x = in.x;
    if (in.values != nullptr) values = *in.values;
    if (partial) pick(in);
    if (in.weight != nullptr) {
      for (const std::int64_t r : index_) {
        root_weight.push_back(std::sqrt(in.weight[r]));
        weight += in.weight[r];
      }
    } else {
      weight = static_cast<double>(n);
    }
    GRAMIAN_REQUIRE(std::isfinite(sums.weight_sum + weight), invalid_argument, "the sum of sample_weight overflows");
    // Below this numbers lose digits: means, which divide by the sum, would be none.
    GRAMIAN_REQUIRE(x.rows == 0 || sums.weight_sum + weight >= std::numeric_limits<double>::min(), invalid_argument,
                    "the sum of sample_weight underflows: it is above 0, but below 2.3e-308");
    if (in.codes != nullptr) {
      counts.assign(static_cast<std::size_t>(sums.c), 0);
      class_weight.assign(static_cast<std::size_t>(sums.c), 0.0);
      for (std::int64_t k = 0; k < x.rows; ++k) {
        const std::int64_t code = in.codes[partial ? index_[static_cast<std::size_t>(k)] : k];
        GRAMIAN_REQUIRE(code >= 0 && code < sums.c, invalid_argument,
                        "class code " + std::to_string(code) + " lies outside 0 .. " + std::to_string(sums.c - 1));
        codes.push_back(code);
        const double root = root_weight.empty() ? 1.0 : root_weight[static_cast<std::size_t>(k)];
        class_weight[static_cast<std::size_t>(code)] += root * root;
        ++counts[static_cast<std::size_t>(code)];
      }
    }
  }

  RowsView x, values;
  std::vector<std::int64_t> codes, counts;
  std::vector<double> root_weight;  // empty: all ones
  double weight = 0;                // the sum of all weights, and per class where codes are given
  std::vector<double> class_weight;
  // Flops that a row costs the products with numeric targets, and all products.
  double target_flops(const GramState::Sums& sums) const {
    return 2 * static_cast<double>(sums.d) * static_cast<double>(outputs_);
  }
  double row_flops(const GramState::Sums& sums) const {
    return static_cast<double>(sums.d) * static_cast<double>(sums.d) + target_flops(sums);
  }
  // The number of row k as the caller counts.
  std::int64_t name_of_row(std::int64_t k) const { return x.first_row + (x.row_index != nullptr ? x.row_index[k] : k); }

 private:
  void pick(const Input& in) {
    const auto chosen = [&](const RowsView& rows, std::vector<std::int64_t>& storage) {
      storage = index_;
      if (rows.row_index != nullptr)
        for (std::int64_t& r : storage) r = rows.row_index[r];
      RowsView out = rows;
      out.row_index = storage.data();
      out.rows = static_cast<std::int64_t>(storage.size());
      return out;
    };
    x = chosen(in.x, x_index_);
    if (in.values != nullptr) values = chosen(*in.values, values_index_);
  }

  std::vector<std::int64_t> index_, x_index_, values_index_;
  std::int64_t outputs_;  // numeric ones
};

// One block after another into `sums`. P: the type of the products.
template <class P>
class BlockLoop {
 public:
  BlockLoop(GramState::Sums& sums, const Selection& rows, const FeatureMap* map, double sign, Sink sink)
      : sums_(sums),
        rows_(rows),
        map_(map),
        sign_(sign),
        edge_(block_rows(sums.d, sizeof(P))),
        steady_(sink == Sink::disposable ? sums.exec : sums.exec.uninterrupted()) {
    // Where nobody sees the sums the tiles of G may end the work between them. Those of products with many targets are
    // few and large, so there fewer rows come at a time in any case.
    const double flops = sink == Sink::kept ? rows.row_flops(sums) : rows.target_flops(sums);
    if (flops > 0) edge_ = std::clamp<std::int64_t>(static_cast<std::int64_t>(kLongWork / flops), 64, edge_);
    const std::int64_t largest = std::min(edge_, rows.x.rows);
    z_ = Array<P>(sums.exec, largest, sums.d);
    waits_ = sizeof(P) == sizeof(double) && sink == Sink::kept && sign > 0 && sums.may_wait(rows.x.rows);
    if (!waits_) updater_ = std::make_unique<GramUpdater<P>>(sums.exec, sums.g(), largest);
    if (rows.values.rows > 0 && sizeof(P) == sizeof(float)) product_ = Array<P>(sums.exec, sums.c, sums.d);
  }

  void run() {
    for (std::int64_t begin = 0; begin < rows_.x.rows; begin += edge_) {
      sums_.exec.poll();
      block({begin, std::min(begin + edge_, rows_.x.rows)});
    }
  }

 private:
  void block(Range range) {
    const Exec& exec = sums_.exec;
    std::vector<double> roots;  // square roots of the weights; empty: all ones
    if (!rows_.root_weight.empty())
      roots.assign(rows_.root_weight.begin() + range.begin, rows_.root_weight.begin() + range.end);
    const double* root = roots.empty() ? nullptr : roots.data();
    const MatrixView<P> z = z_.view().block(0, 0, range.size(), sums_.d);

    // --- may fail: nothing of the state has changed yet
    if (!sums_.shift_known) choose_shift(range, z);
    const std::vector<double> targets = rows_.values.rows > 0 ? host_targets(range) : std::vector<double>();
    load_features(range, z, roots);
    const std::vector<double> s = column_sums<P>(exec, z, roots);
    double energy = sum_of_squares<P>(sums_.exec, z);
    Array<P> y;
    if (rows_.values.rows > 0) {
      y = load_targets(range, root);
      energy = std::max(energy, sum_of_squares<P>(sums_.exec, y.view()));
    }
    // No entry of the products below can be larger than the larger of the two sums of squares.
    GRAMIAN_REQUIRE(energy < static_cast<double>(std::numeric_limits<P>::max()), non_finite,
                    std::string("the squares of the features or targets in rows ") +
                        std::to_string(rows_.name_of_row(range.begin)) + " to " +
                        std::to_string(rows_.name_of_row(range.end - 1)) + " overflow " +
                        name_of(sums_.options.products));
    if (waits_) sums_.make_room(range.size());
    // The first block of a call that works in place: up to here Ctrl-C leaves the sums as they were.
    range.begin == 0 ? exec.poll_now() : exec.poll();

    // --- must not stop half way, unless nobody will see it; only the first step takes memory, and before it writes
    if (!rows_.codes.empty()) add_codes(range, z, root);
    if (rows_.values.rows > 0) add_values(range, z, y, targets, root);
    if (!waits_) updater_->update(steady_, sign_, z, sums_.mutable_g());
    for (std::size_t k = 0; k < s.size(); ++k) sums_.s[k] += sign_ * s[k];
    sums_.float_shift = sums_.float_shift || (map_ != nullptr && sizeof(P) == sizeof(float) && sums_.options.intercept);
    double weight = 0;
    for (std::int64_t r = 0; r < range.size(); ++r) weight += root == nullptr ? 1.0 : root[r] * root[r];
    sums_.weight_sum += sign_ * weight;
    sums_.count_weighted(std::count_if(roots.begin(), roots.end(), [](double value) { return value != 1; }), sign_);
    sums_.n_rows += (sign_ > 0 ? 1 : -1) * range.size();
    sums_.longest_sum = std::max(sums_.longest_sum, range.size());
    if constexpr (sizeof(P) == sizeof(double)) {
      if (waits_) sums_.let_wait(z);
    }
    if (!waits_) sums_.note_trace();
    if (sign_ > 0) sums_.follow_mean();
  }

  // The mean of the first block becomes the shift of features and numeric targets.
  void choose_shift(Range range, MatrixView<P> z) {
    if (sums_.options.intercept) {
      load_features(range, z, {});
      std::vector<double> mean = column_sums<P>(sums_.exec, z, {});
      for (double& value : mean) {
        value /= static_cast<double>(range.size());
        // Mapped features are centred in the type of the products, so the shift must be a number of that type.
        if (map_ != nullptr && sizeof(P) == sizeof(float)) value = static_cast<double>(static_cast<float>(value));
        if (!std::isfinite(value)) value = 0;
      }
      if (rows_.values.rows > 0) {
        const std::vector<double> y = host_targets(range);
        for (std::int64_t k = 0; k < sums_.c; ++k) {
          double total = 0;
          for (std::int64_t r = 0; r < range.size(); ++r) total += y[static_cast<std::size_t>(r * sums_.c + k)];
          const double target_mean = total / static_cast<double>(range.size());
          sums_.target_shift[static_cast<std::size_t>(k)] = std::isfinite(target_mean) ? target_mean : 0.0;
        }
      }
      sums_.shift = std::move(mean);
    }
    sums_.shift_known = true;
  }

  // z = root * (features - shift)
  void load_features(Range range, MatrixView<P> z, const std::vector<double>& roots) {
    const Exec& exec = sums_.exec;
    const bool shifted = sums_.shift_known && sums_.options.intercept;
    const RowsView x = rows_.x.slice(range.begin, range.size());
    if (map_ == nullptr) {
      load_rows<P>(exec, x, shifted ? sums_.shift.data() : nullptr, roots.empty() ? nullptr : roots.data(), z, "X");
      return;
    }
    map_->transform(exec, x, z);
    if (shifted) {
      std::vector<P> negative(sums_.shift.size());
      for (std::size_t k = 0; k < negative.size(); ++k) negative[k] = static_cast<P>(-sums_.shift[k]);
      Array<P> offset(exec, sums_.d);
      upload<P>(exec, {negative.data(), 1, sums_.d}, offset.view());
      activate<P>(exec, Activation::identity, offset.data(), 1.0, z);
    }
    if (!roots.empty()) scale_rows<P>(exec, roots, z);
  }

  void add_codes(Range range, MatrixView<const P> z, const double* root) {
    sums_.kind = GramState::Sums::TargetKind::codes;
    const std::int64_t* codes = rows_.codes.data() + range.begin;
    // The weight of a row is the square of its root, one factor of which is in z already; the sign goes with the other.
    std::vector<double> factor;
    if (root != nullptr || sign_ < 0) {
      factor.assign(static_cast<std::size_t>(range.size()), sign_);
      for (std::size_t r = 0; root != nullptr && r < factor.size(); ++r) factor[r] *= root[r];
    }
    class_sums<P>(steady_, z, codes, factor, sums_.q.view());
    for (std::int64_t r = 0; r < range.size(); ++r) {
      const auto k = static_cast<std::size_t>(codes[r]);
      const double w = sign_ * (root == nullptr ? 1.0 : root[r] * root[r]);
      sums_.t[k] += w;
      sums_.energy[k] += w;
      sums_.counts[k] += sign_ > 0 ? 1 : -1;
    }
  }

  // Targets of a block as doubles on the host, not shifted.
  std::vector<double> host_targets(Range range) const {
    std::vector<double> y(static_cast<std::size_t>(range.size() * sums_.c));
    load_rows<double>(sums_.exec.on_host(), rows_.values.slice(range.begin, range.size()), nullptr, nullptr,
                      {y.data(), range.size(), sums_.c}, "y");
    return y;
  }

  Array<P> load_targets(Range range, const double* root) {
    Array<P> y(sums_.exec, range.size(), sums_.c);
    load_rows<P>(sums_.exec, rows_.values.slice(range.begin, range.size()), sums_.target_shift.data(), root, y.view(),
                 "y");
    return y;
  }

  // host: the targets of the block, not shifted, as doubles.
  void add_values(Range range, MatrixView<const P> z, const Array<P>& y, const std::vector<double>& host,
                  const double* root) {
    sums_.kind = GramState::Sums::TargetKind::values;
    if constexpr (sizeof(P) == sizeof(double)) {
      gemm<double>(steady_, Trans::yes, Trans::no, sign_, y.view(), z, 1.0, sums_.q.view());
    } else {
      constexpr std::int64_t kFloatRows = 2048;
      for (std::int64_t begin = 0; begin < range.size(); begin += kFloatRows) {
        const Range part{begin, std::min(begin + kFloatRows, range.size())};
        gemm<P>(steady_, Trans::yes, Trans::no, sign_, y.view().block(part.begin, 0, part.size(), sums_.c),
                z.block(part.begin, 0, part.size(), z.cols), 0.0, product_.view());
        axpby<P, double>(steady_, 1.0, product_.view(), 1.0, sums_.q.view());
      }
    }
    for (std::int64_t r = 0; r < range.size(); ++r) {
      const double w = sign_ * (root == nullptr ? 1.0 : root[r] * root[r]);
      for (std::int64_t k = 0; k < sums_.c; ++k) {
        const auto at = static_cast<std::size_t>(k);
        const double value = host[static_cast<std::size_t>(r * sums_.c + k)] - sums_.target_shift[at];
        sums_.t[at] += w * value;
        sums_.energy[at] += w * value * value;
      }
    }
  }

  GramState::Sums& sums_;
  const Selection& rows_;
  const FeatureMap* map_;
  double sign_;
  std::int64_t edge_;
  Exec steady_;  // for the work that changes the sums
  Array<P> z_, product_;
  bool waits_ = false;  // the rows join G later
  std::unique_ptr<GramUpdater<P>> updater_;
};

void run_blocks(GramState::Sums& sums, const Selection& rows, const FeatureMap* map, double sign, Sink sink) {
  if (sums.options.products == DType::f32) {
    BlockLoop<float>(sums, rows, map, sign, sink).run();
  } else {
    BlockLoop<double>(sums, rows, map, sign, sink).run();
  }
}

void check_input(const GramState::Sums& sums, const Input& in) {
  const std::int64_t width = in.map != nullptr ? in.map->n_inputs() : sums.d;
  GRAMIAN_REQUIRE(in.x.cols == width, shape_mismatch,
                  "X has " + std::to_string(in.x.cols) + " features, but " + std::to_string(width) + " are expected");
  GRAMIAN_REQUIRE(in.map == nullptr || in.map->n_features() == sums.d, shape_mismatch,
                  "the feature map makes " + std::to_string(in.map == nullptr ? 0 : in.map->n_features()) +
                      " features, but the state holds " + std::to_string(sums.d));
  using Kind = GramState::Sums::TargetKind;
  if (in.codes != nullptr) {
    GRAMIAN_REQUIRE(sums.kind != Kind::values, invalid_argument, "this state holds numeric targets, not class codes");
  } else if (sums.c > 0) {
    if (in.values == nullptr && in.x.rows == 0) return;  // codes of no rows
    GRAMIAN_REQUIRE(in.values != nullptr, invalid_argument, "y is missing");
    GRAMIAN_REQUIRE(sums.kind != Kind::codes, invalid_argument, "this state holds class codes, not numeric targets");
    GRAMIAN_REQUIRE(in.values->rows == in.x.rows, shape_mismatch,
                    "X has " + std::to_string(in.x.rows) + " rows, but y has " + std::to_string(in.values->rows));
    GRAMIAN_REQUIRE(
        in.values->cols == sums.c, shape_mismatch,
        "y has " + std::to_string(in.values->cols) + " columns, but " + std::to_string(sums.c) + " are expected");
  }
}

// A second state with the same shift, so that adding it up later only adds.
std::unique_ptr<GramState::Sums> staging_for(const GramState::Sums& sums) {
  auto staged = std::make_unique<GramState::Sums>(sums.exec, sums.d, sums.c, sums.options);
  staged->shift = sums.shift;
  staged->target_shift = sums.target_shift;
  staged->shift_known = sums.shift_known;
  staged->float_shift = sums.float_shift;
  return staged;
}

// Whether a call is to leave the sums alone until its own are complete. A device makes short work of what is brief.
bool is_long(const GramState::Sums& sums, const Selection& rows) {
  const std::size_t element = sums.options.products == DType::f32 ? sizeof(float) : sizeof(double);
  const double flops = static_cast<double>(rows.x.rows) * rows.row_flops(sums);
  if (rows.x.rows > block_rows(sums.d, element) || flops > kLongWork) return true;
  return sums.exec.device() == Device::cpu && flops > kBriefWork && rows.x.rows > kFewRows;
}

Input input_of(const RowsView& x, const Targets& y, const double* weight, const FeatureMap* map, std::int64_t c) {
  return {x, y.codes, c > 0 ? y.values : nullptr, weight, map};
}

}  // namespace

void GramState::add(const RowsView& x, const Targets& y, const double* weight, const FeatureMap* map, bool atomic) {
  const Input in = input_of(x, y, weight, map, sums_->c);
  check_input(*sums_, in);
  const Selection rows(*sums_, in);
  if (rows.x.rows == 0) return;
  require_countable(sums_->n_rows, rows.x.rows);
  if (sums_->n_rows == 0) {
    // An empty state needs no stage: it goes back to empty.
    try {
      run_blocks(*sums_, rows, map, 1.0, atomic ? Sink::disposable : Sink::kept);
      if (atomic) sums_->exec.poll_now();
    } catch (...) {
      if (atomic || sums_->n_rows == 0) sums_->reset();
      throw;
    }
  } else if (atomic && is_long(*sums_, rows)) {
    const auto staged = staging_for(*sums_);
    run_blocks(*staged, rows, map, 1.0, Sink::disposable);
    sums_->exec.poll_now();
    sums_->combine(*staged, 1.0);
  } else {
    run_blocks(*sums_, rows, map, 1.0, Sink::kept);
  }
}

void GramState::remove(const RowsView& x, const Targets& y, const double* weight, const FeatureMap* map, bool atomic) {
  const Input in = input_of(x, y, weight, map, sums_->c);
  check_input(*sums_, in);
  const Selection rows(*sums_, in);
  if (rows.x.rows == 0) return;
  sums_->require_removable(rows.x.rows, rows.weight, rows.counts, rows.class_weight);
  if (atomic && is_long(*sums_, rows)) {
    const auto staged = staging_for(*sums_);
    run_blocks(*staged, rows, map, 1.0, Sink::disposable);
    sums_->exec.poll_now();
    sums_->combine(*staged, -1.0);
  } else {
    const std::int64_t before = sums_->n_rows;
    try {
      run_blocks(*sums_, rows, map, -1.0, Sink::kept);
    } catch (...) {
      if (sums_->n_rows != before) sums_->settle_after_removal();
      throw;
    }
  }
  sums_->settle_after_removal();
}

}  // namespace gramian
