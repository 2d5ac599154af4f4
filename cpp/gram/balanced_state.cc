#include "gramian/gram/balanced_state.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gram/gram_sums.h"
#include "gramian/linalg/elementwise.hpp"

namespace gramian {

namespace {

// Rows of a block that are mixed with each other.
constexpr std::int64_t kGroup = 64;
// A declared weight may be missed by this much, relatively: sums of weights are rounded.
constexpr double kSlack = 1e-12;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// Rows of a call that belong to one class and have a weight.
struct ClassRows {
  std::vector<std::int64_t> index, storage;
  std::vector<double> weight;  // empty: all ones
  double total = 0;

  std::int64_t size() const { return static_cast<std::int64_t>(index.size()); }
  const double* weights() const { return weight.empty() ? nullptr : weight.data(); }
  // Valid as long as this is.
  RowsView of(const RowsView& x) {
    storage = index;
    if (x.row_index != nullptr)
      for (std::int64_t& r : storage) r = x.row_index[r];
    RowsView rows = x;
    rows.row_index = storage.data();
    rows.rows = size();
    return rows;
  }
};

std::vector<ClassRows> rows_by_class(const RowsView& x, const std::int64_t* codes, const double* weight,
                                     std::int64_t classes) {
  std::vector<ClassRows> out(at(classes));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    GRAMIAN_REQUIRE(codes[r] >= 0 && codes[r] < classes, invalid_argument,
                    "class code " + std::to_string(codes[r]) + " lies outside 0 .. " + std::to_string(classes - 1));
    const double w = weight == nullptr ? 1.0 : weight[r];
    GRAMIAN_REQUIRE(std::isfinite(w) && w >= 0, invalid_argument,
                    "sample_weight must be finite and not negative (to take rows out, remove them); row " +
                        std::to_string(x.first_row + r) + " has " + std::to_string(w));
    if (w == 0) continue;
    ClassRows& rows = out[at(codes[r])];
    rows.index.push_back(r);
    rows.total += w;
    if (weight != nullptr) rows.weight.push_back(w);
  }
  return out;
}

// The sums of one class.
struct Part {
  double total = 0;  // N_c of a closed or declared class, 0 for an open one
  double held = 0;   // weight of the rows that are in
  std::int64_t rows = 0;
  // Of an open class with rows, one of these: block (rows x (d + 1), the last column what became of the ones) around
  // `shift`, or the sums.
  Array<double> block;
  std::vector<double> shift;
  std::unique_ptr<GramState> gram;

  bool open() const { return total == 0; }
  double weight() const { return open() ? held : total; }  // N_c
  std::size_t bytes() const {
    return (gram ? gram->bytes() : 0) + at(block.size() + static_cast<std::int64_t>(shift.size())) * sizeof(double);
  }
};

}  // namespace

const char* name_of(Balance balance) {
  return balance == Balance::none ? "none" : balance == Balance::rows ? "rows" : "classes";
}

Balance parse_balance(const std::string& name) {
  for (const Balance balance : {Balance::none, Balance::rows, Balance::classes})
    if (name == name_of(balance)) return balance;
  throw Error(ErrorCode::invalid_argument, "balance must be 'none', 'rows' or 'classes', not '" + name + "'");
}

struct BalancedState::Impl {
  Impl(const Exec& exec_, std::int64_t features, std::int64_t outputs, GramOptions options_, Balance balance_)
      : exec(exec_), d(features), options(options_), balance(balance_), folded(exec_, features, outputs, options_) {
    parts.resize(at(outputs));
  }

  std::int64_t block_limit() const { return d / 2; }

  // pi_c N_c, the same for all classes.
  double scale() const {
    double inverse = 0, classes = 0, rows = 0;
    for (const Part& part : parts) {
      if (part.rows == 0) continue;
      inverse += 1.0 / part.weight();
      rows += part.weight();
      ++classes;
    }
    return balance == Balance::rows ? rows / classes : classes / inverse;
  }

  // --- blocks

  // The rows of one class around `shift`, which is their mean where it is still empty.
  Array<double> load_block(const RowsView& x, const ClassRows& rows, const FeatureMap* map,
                           std::vector<double>& shift) const {
    const std::int64_t m = rows.size();
    Array<double> out(exec, m, d + 1);
    const MatrixView<double> features = out.view().block(0, 0, m, d);
    if (shift.empty()) {
      shift.assign(at(d), 0.0);
      if (options.intercept) {
        load_features(x, map, shift, features);
        std::vector<double> mean = column_sums<double>(exec, features, {});
        for (std::size_t j = 0; j < mean.size(); ++j)
          shift[j] = std::isfinite(mean[j]) ? mean[j] / static_cast<double>(m) : 0.0;
      }
    }
    load_features(x, map, shift, features);
    const std::vector<double> ones(at(m), 1.0);
    upload<double>(exec, {ones.data(), m, 1}, out.view().block(0, d, m, 1));
    if (!rows.weight.empty()) {
      std::vector<double> roots;
      for (const double w : rows.weight) roots.push_back(std::sqrt(w));
      scale_rows<double>(exec, roots, out.view());
    }
    GRAMIAN_REQUIRE(sum_of_squares<double>(exec, out.view()) < std::numeric_limits<double>::max(), non_finite,
                    "the squares of the features in rows " + std::to_string(x.first_row + x.row_index[0]) + " to " +
                        std::to_string(x.first_row + x.row_index[m - 1]) + " overflow float64");
    return out;
  }

  void load_features(const RowsView& x, const FeatureMap* map, const std::vector<double>& shift,
                     MatrixView<double> out) const {
    if (map == nullptr) {
      load_rows<double>(exec, x, shift.data(), nullptr, out, "X");
      return;
    }
    map->transform(exec, x, out);
    if (!options.intercept) return;
    std::vector<double> negative(shift);
    for (double& value : negative) value = -value;
    const Array<double> offset = to_device(exec, negative);
    activate<double>(exec, Activation::identity, offset.data(), 1.0, out);
  }

  // `tail` below `head`, groups that are not complete in `head` mixed anew.
  Array<double> stacked(const Array<double>& head, const Array<double>& tail) const {
    const std::int64_t before = head.rows(), m = before + tail.rows();
    Array<double> raw(exec, m, d + 1), out(exec, m, d + 1);
    if (before > 0) axpby<double, double>(exec, 1.0, head.view(), 0.0, raw.view().block(0, 0, before, d + 1));
    axpby<double, double>(exec, 1.0, tail.view(), 0.0, raw.view().block(before, 0, tail.rows(), d + 1));
    const std::int64_t done = before / kGroup * kGroup;
    if (done > 0)
      axpby<double, double>(exec, 1.0, raw.view().block(0, 0, done, d + 1), 0.0, out.view().block(0, 0, done, d + 1));
    for (std::int64_t begin = done; begin < m; begin += kGroup) {
      exec.poll();
      const std::int64_t count = std::min(kGroup, m - begin);
      const MatrixView<const double> group = raw.view().block(begin, 0, count, d + 1);
      SymmetricMatrix<double> products(exec, count);
      outer_gram_update(exec, 1.0, group, products);
      std::vector<double> eigenvalues;
      Array<double> mixing;  // orthogonal to rounding, whatever the products are like
      symmetric_eigen(exec, products, eigenvalues, mixing);
      gemm<double>(exec, Trans::no, Trans::no, 1.0, mixing.view(), group, 0.0,
                   out.view().block(begin, 0, count, d + 1));
    }
    return out;
  }

  // sum w (x - shift) of a class, on the host.
  std::vector<double> sum_of(const Part& part) const {
    if (part.gram) return part.gram->sums().s;
    Array<double> s(exec, 1, d);
    const std::int64_t m = part.block.rows();
    gemm<double>(exec, Trans::yes, Trans::no, 1.0, part.block.view().block(0, d, m, 1),
                 part.block.view().block(0, 0, m, d), 0.0, s.view());
    std::vector<double> host(at(d));
    download<double>(exec, s.view(), {host.data(), 1, d});
    return host;
  }

  // out += factor times the sums of a class, as output `place` (-1: `out` has no outputs). What needs memory comes
  // before what changes the sums.
  void add_part(GramState::Sums& out, const Part& part, double factor, std::int64_t place) const {
    const Exec steady = exec.uninterrupted();
    const GramState::Sums* sums = part.gram ? &part.gram->sums() : nullptr;
    const std::vector<double>& shift = sums != nullptr ? sums->shift : part.shift;
    const std::vector<double> s = sum_of(part);
    const bool adopt = out.n_rows == 0;
    std::vector<double> by(at(d), 0.0), moved = s;
    bool moves = false;
    for (std::size_t j = 0; !adopt && j < by.size(); ++j) {
      by[j] = shift[j] - out.shift[j];
      moved[j] += part.held * by[j];
      moves = moves || by[j] != 0;
    }
    const Array<double> s_device = to_device(steady, s), by_device = to_device(steady, by);
    const Array<double> moved_device = to_device(steady, moved);
    std::vector<double> adopted = shift;
    const std::int64_t m = part.block.rows();
    std::unique_ptr<GramUpdater<double>> updater;
    if (sums == nullptr) updater = std::make_unique<GramUpdater<double>>(steady, out.mutable_g(), m);

    if (adopt) {
      out.shift.swap(adopted);
      out.shift_known = true;
    }
    if (sums != nullptr) {
      out.mutable_g().axpby(steady, factor, sums->g(), 1.0);
      out.longest_sum = std::max(out.longest_sum, sums->longest_sum);
      out.operations += sums->operations;
      out.removed = out.removed || sums->removed;
      out.float_shift = out.float_shift || sums->float_shift;
      if (sums->options.products == DType::f32) out.options.products = DType::f32;
      out.mutable_largest_trace() = std::max(out.largest_trace(), factor * sums->largest_trace());
      out.largest_energy = std::max(out.largest_energy, factor * sums->largest_energy);
      for (std::size_t j = 0; j < by.size(); ++j)
        out.mutable_largest_diagonal()[j] = std::max(out.largest_diagonal()[j], factor * sums->largest_diagonal()[j]);
    } else {
      updater->update(steady, factor, part.block.view().block(0, 0, m, d), out.mutable_g());
      out.longest_sum = std::max(out.longest_sum, m);
    }
    if (moves) {
      out.mutable_g().add_outer(steady, factor, s_device.data(), by_device.data());
      out.mutable_g().add_outer(steady, factor * part.held, by_device.data(), by_device.data());
    }
    for (std::size_t j = 0; j < moved.size(); ++j) out.s[j] += factor * moved[j];
    out.n_rows += part.rows;
    out.weight_sum += factor * part.held;
    out.count_weighted(factor == 1 && sums != nullptr ? sums->weighted_rows : -1, 1.0);
    if (place >= 0) {
      // One-hot targets: the cross products of a class are the sums of its rows.
      axpby<double, double>(steady, factor, moved_device.view(), 1.0, out.q.view().block(place, 0, 1, d));
      out.kind = GramState::Sums::TargetKind::codes;
      out.t[at(place)] += factor * part.held;
      out.energy[at(place)] += factor * part.held;
      out.counts[at(place)] += part.rows;
    }
    out.note_trace();
    out.follow_mean();
  }

  GramState class_state() const { return GramState(exec, d, 0, options); }

  std::unique_ptr<GramState> sums_of(const Part& part) const {
    auto out = std::make_unique<GramState>(part.gram ? part.gram->clone() : class_state());
    if (!part.gram && part.rows > 0) add_part(*out->sums_, part, 1.0, -1);
    return out;
  }

  void add_rows(GramState& state, const RowsView& x, const ClassRows& rows, const FeatureMap* map) const {
    RowsView empty;
    empty.rows = x.rows;
    state.add(x, Targets::of_values(empty), rows.weights(), map, false);
  }

  // --- additions to open classes, made ready first and then put in place

  struct Change {
    std::int64_t place;
    Part part;  // what the class becomes, or, where `into`, what is added to its sums
    bool into = false;
  };

  Change prepare(std::int64_t place, const RowsView& x, const ClassRows& rows, const FeatureMap* map) const {
    const Part& now = parts[at(place)];
    Change change;
    change.place = place;
    change.part.held = rows.total;
    change.part.rows = rows.size();
    const std::int64_t together = now.rows + rows.size();
    if (now.gram && rows.size() < std::max<std::int64_t>(1, block_limit())) {
      change.into = true;
      change.part.shift = now.gram->sums().shift;
      change.part.block = load_block(x, rows, map, change.part.shift);
    } else if (now.gram) {
      change.into = true;
      change.part.gram = std::make_unique<GramState>(class_state());
      add_rows(*change.part.gram, x, rows, map);
    } else {
      change.part.held += now.held;
      change.part.rows = together;
      if (together < block_limit()) {
        change.part.shift = now.shift;
        const Array<double> fresh = load_block(x, rows, map, change.part.shift);
        change.part.block = stacked(now.block, fresh);
      } else {
        change.part.gram = sums_of(now);
        add_rows(*change.part.gram, x, rows, map);
      }
    }
    return change;
  }

  void commit(Change& change) {
    Part& now = parts[at(change.place)];
    if (change.into) {
      add_part(*now.gram->sums_, change.part, 1.0, -1);
      now.held += change.part.held;
      now.rows += change.part.rows;
    } else {
      now = std::move(change.part);
    }
  }

  void fold(std::int64_t place) {
    Part& part = parts[at(place)];
    add_part(*folded.sums_, part, 1.0 / part.held, place);
    part.total = part.held;
    part.block = Array<double>();
    part.shift.clear();
    part.gram.reset();
  }

  Exec exec;
  std::int64_t d;
  GramOptions options;
  Balance balance;
  GramState folded;  // closed and declared classes, their rows with weight 1 / N_c
  std::vector<Part> parts;
};

BalancedState::BalancedState(const Exec& exec, std::int64_t n_features, std::int64_t n_outputs, GramOptions options,
                             Balance balance)
    : impl_(std::make_unique<Impl>(exec, n_features, n_outputs, options, balance)) {
  GRAMIAN_REQUIRE(balance != Balance::none, invalid_argument, "a balanced state needs a balance");
}
BalancedState::BalancedState(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BalancedState::BalancedState(BalancedState&&) noexcept = default;
BalancedState& BalancedState::operator=(BalancedState&&) noexcept = default;
BalancedState::~BalancedState() = default;

std::int64_t BalancedState::n_features() const {
  return impl_->d;
}
std::int64_t BalancedState::n_outputs() const {
  return static_cast<std::int64_t>(impl_->parts.size());
}
std::int64_t BalancedState::n_rows() const {
  std::int64_t total = 0;
  for (const Part& part : impl_->parts) total += part.rows;
  return total;
}
double BalancedState::weight_sum() const {
  double total = 0;
  for (const Part& part : impl_->parts) total += part.held;
  return total;
}
std::vector<std::int64_t> BalancedState::counts() const {
  std::vector<std::int64_t> out;
  for (const Part& part : impl_->parts) out.push_back(part.rows);
  return out;
}
std::size_t BalancedState::bytes() const {
  std::size_t total = impl_->folded.bytes();
  for (const Part& part : impl_->parts) total += part.bytes();
  return total;
}
const GramOptions& BalancedState::options() const {
  return impl_->options;
}
double BalancedState::room(std::int64_t place) const {
  const Part& part = impl_->parts[at(place)];
  return part.open() ? std::numeric_limits<double>::infinity() : std::max(0.0, part.total * (1 + kSlack) - part.held);
}

void BalancedState::add(const RowsView& x, const std::int64_t* codes, const double* weight, const FeatureMap* map,
                        const double* totals) {
  const std::int64_t classes = n_outputs();
  std::vector<ClassRows> by_class = rows_by_class(x, codes, weight, classes);
  std::vector<double> fixed(at(classes), 0.0);  // N_c of the classes that are closed or declared
  bool any_fixed = false;
  for (std::int64_t k = 0; k < classes; ++k) {
    const ClassRows& rows = by_class[at(k)];
    const Part& part = impl_->parts[at(k)];
    if (rows.size() == 0) continue;
    const double asked = totals == nullptr ? 0.0 : totals[k];
    GRAMIAN_REQUIRE(std::isfinite(asked) && asked >= 0, invalid_argument,
                    "a class count must be finite and not negative, got " + std::to_string(asked));
    GRAMIAN_REQUIRE(asked == 0 || part.rows == 0 || asked == part.total, invalid_argument,
                    "the count of output " + std::to_string(k) + " was " +
                        (part.open() ? std::string("open") : std::to_string(part.total)) +
                        " when its first rows came, now it is " + std::to_string(asked));
    fixed[at(k)] = part.rows > 0 ? part.total : asked;
    if (fixed[at(k)] == 0) continue;
    any_fixed = true;
    GRAMIAN_REQUIRE(part.held + rows.total <= fixed[at(k)] * (1 + kSlack), invalid_argument,
                    "output " + std::to_string(k) + " is closed at a total weight of " + std::to_string(fixed[at(k)]) +
                        ": it holds " + std::to_string(part.held) + ", and " + std::to_string(rows.total) +
                        " more have come");
  }
  // All that may fail comes first; the running sums change as a whole or not at all.
  std::vector<Impl::Change> changes;
  for (std::int64_t k = 0; k < classes; ++k) {
    if (by_class[at(k)].size() == 0 || fixed[at(k)] > 0) continue;
    impl_->exec.poll();
    changes.push_back(impl_->prepare(k, by_class[at(k)].of(x), by_class[at(k)], map));
  }
  impl_->exec.poll_now();
  if (any_fixed) {
    std::vector<double> scaled(at(x.rows), 0.0);
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const double total = fixed[at(codes[r])];
      if (total > 0) scaled[at(r)] = (weight == nullptr ? 1.0 : weight[r]) / total;
    }
    impl_->folded.add(x, Targets::of_codes(codes), scaled.data(), map, true);
  }
  for (Impl::Change& change : changes) impl_->commit(change);
  for (std::int64_t k = 0; k < classes; ++k) {
    if (fixed[at(k)] == 0) continue;
    Part& part = impl_->parts[at(k)];
    part.total = fixed[at(k)];
    part.held += by_class[at(k)].total;
    part.rows += by_class[at(k)].size();
  }
}

void BalancedState::remove(const RowsView& x, const std::int64_t* codes, const double* weight, const FeatureMap* map) {
  const std::int64_t classes = n_outputs();
  std::vector<ClassRows> by_class = rows_by_class(x, codes, weight, classes);
  std::vector<Impl::Change> changes;
  for (std::int64_t k = 0; k < classes; ++k) {
    ClassRows& rows = by_class[at(k)];
    const Part& part = impl_->parts[at(k)];
    if (rows.size() == 0) continue;
    GRAMIAN_REQUIRE(part.open(), invalid_argument,
                    "rows of output " + std::to_string(k) +
                        " cannot be forgotten: it was closed, so its rows went into the sums of all closed classes "
                        "with a weight that depends on how many they were");
    GRAMIAN_REQUIRE(rows.size() <= part.rows, invalid_argument,
                    "cannot remove " + std::to_string(rows.size()) + " rows of output " + std::to_string(k) +
                        ": the state holds " + std::to_string(part.rows));
    impl_->exec.poll();
    Impl::Change change;
    change.place = k;
    change.part.rows = part.rows - rows.size();
    // Checks the rows also where none are left.
    auto sums = impl_->sums_of(part);
    RowsView none;
    none.rows = rows.size();
    sums->remove(rows.of(x), Targets::of_values(none), rows.weights(), map, false);
    if (change.part.rows > 0) {
      change.part.held = sums->weight_sum();
      change.part.gram = std::move(sums);
    }
    changes.push_back(std::move(change));
  }
  impl_->exec.poll_now();
  for (Impl::Change& change : changes) impl_->commit(change);
}

void BalancedState::merge(const BalancedState& other) {
  GRAMIAN_REQUIRE(other.n_features() == n_features() && other.n_outputs() == n_outputs(), shape_mismatch,
                  "the balanced states differ in size");
  GRAMIAN_REQUIRE(other.options().intercept == options().intercept, invalid_argument,
                  "one state has an intercept and the other has none");
  std::vector<Impl::Change> changes;
  for (std::int64_t k = 0; k < n_outputs(); ++k) {
    const Part& mine = impl_->parts[at(k)];
    const Part& its = other.impl_->parts[at(k)];
    if (its.rows == 0) continue;
    GRAMIAN_REQUIRE(mine.rows == 0 || mine.total == its.total, invalid_argument,
                    "output " + std::to_string(k) +
                        " cannot be merged: it must be open in both states, or have the same declared count in both");
    GRAMIAN_REQUIRE(its.open() || mine.held + its.held <= its.total * (1 + kSlack), invalid_argument,
                    "output " + std::to_string(k) + " would hold more than its declared total weight of " +
                        std::to_string(its.total));
    if (!its.open()) continue;
    GRAMIAN_REQUIRE(its.rows <= kMostRows - mine.rows, invalid_argument,
                    "output " + std::to_string(k) + " would hold more rows than are counted, 2^53");
    impl_->exec.poll();
    Impl::Change change;
    change.place = k;
    change.part.rows = its.rows + mine.rows;
    change.part.held = its.held + mine.held;
    if (!mine.gram && !its.gram && change.part.rows < impl_->block_limit()) {
      // Other's rows around this shift: the last column says how much of the difference each of them takes.
      Array<double> moved(impl_->exec, its.block.rows(), impl_->d + 1);
      axpby<double, double>(impl_->exec, 1.0, its.block.view(), 0.0, moved.view());
      change.part.shift = mine.rows > 0 ? mine.shift : its.shift;
      std::vector<double> by(at(impl_->d));
      for (std::size_t j = 0; j < by.size(); ++j) by[j] = its.shift[j] - change.part.shift[j];
      const Array<double> by_device = to_device(impl_->exec, by);
      gemm<double>(impl_->exec, Trans::no, Trans::no, 1.0, its.block.view().block(0, impl_->d, its.block.rows(), 1),
                   by_device.view(), 1.0, moved.view().block(0, 0, its.block.rows(), impl_->d));
      change.part.block = impl_->stacked(mine.block, moved);
    } else {
      change.part.gram = impl_->sums_of(its);
      if (mine.rows > 0) impl_->add_part(*change.part.gram->sums_, mine, 1.0, -1);
    }
    changes.push_back(std::move(change));
  }
  std::vector<std::pair<double, std::int64_t>> closed;  // read before a merge with itself changes them
  for (const Part& part : other.impl_->parts) closed.emplace_back(part.open() ? 0.0 : part.held, part.rows);
  impl_->folded.merge(other.impl_->folded);
  for (std::int64_t k = 0; k < n_outputs(); ++k) {
    if (closed[at(k)].first == 0) continue;
    Part& mine = impl_->parts[at(k)];
    mine.total = other.impl_->parts[at(k)].total;
    mine.held += closed[at(k)].first;
    mine.rows += closed[at(k)].second;
  }
  for (Impl::Change& change : changes) impl_->commit(change);
}

void BalancedState::close(const std::vector<std::int64_t>& places) {
  for (const std::int64_t place : places)
    GRAMIAN_REQUIRE(place >= 0 && place < n_outputs(), invalid_argument, "close: no output " + std::to_string(place));
  for (const std::int64_t place : places)
    if (impl_->parts[at(place)].open() && impl_->parts[at(place)].rows > 0) impl_->fold(place);
}

void BalancedState::rearrange_outputs(const std::vector<std::int64_t>& source) {
  impl_->folded.rearrange_outputs(source);
  std::vector<Part> parts(source.size());
  for (std::size_t k = 0; k < source.size(); ++k)
    if (source[k] >= 0) parts[k] = std::move(impl_->parts[at(source[k])]);
  impl_->parts = std::move(parts);
}

std::vector<double> BalancedState::class_weights() const {
  const double scale = impl_->scale();
  std::vector<double> out;
  for (const Part& part : impl_->parts) out.push_back(part.rows == 0 ? 0.0 : scale / part.weight());
  return out;
}

GramState BalancedState::weighted() const {
  const double scale = impl_->scale();
  GramState out(impl_->exec, impl_->d, n_outputs(), impl_->options);
  if (impl_->folded.n_rows() > 0) {
    out.sums_->combine(impl_->folded.sums(), scale);
    out.sums_->longest_sum = impl_->folded.sums().longest_sum;
  }
  for (std::int64_t k = 0; k < n_outputs(); ++k) {
    const Part& part = impl_->parts[at(k)];
    if (!part.open() || part.rows == 0) continue;
    impl_->exec.poll();
    impl_->add_part(*out.sums_, part, scale / part.held, k);
  }
  return out;
}

Json BalancedState::save(ModelWriter& writer, const std::string& prefix) const {
  Json json = Json::object();
  json["balance"] = name_of(impl_->balance);
  json["folded"] = impl_->folded.save(writer, prefix + "folded.");
  Json classes = Json::array();
  for (std::int64_t k = 0; k < n_outputs(); ++k) {
    const Part& part = impl_->parts[at(k)];
    const std::string name = prefix + "class" + std::to_string(k) + ".";
    Json item = Json::object();
    item["total"] = part.total;
    item["held"] = part.held;
    item["rows"] = part.rows;
    if (part.gram) {
      item["sums"] = part.gram->save(writer, name);
    } else if (part.open() && part.rows > 0) {
      std::vector<double> block(at(part.block.size()));
      download<double>(impl_->exec, part.block.view(), {block.data(), part.block.rows(), impl_->d + 1});
      writer.add(name + "block", {part.block.rows(), impl_->d + 1}, std::move(block));
      writer.add(name + "shift", {impl_->d}, part.shift);
    }
    classes.push_back(std::move(item));
  }
  json["classes"] = std::move(classes);
  return json;
}

BalancedState BalancedState::load(const Exec& exec, const Json& json, const ModelReader& reader,
                                  const std::string& prefix) {
  const std::string& name = json.at("balance").string();
  GRAMIAN_REQUIRE(name == "rows" || name == "classes", file_format, "unknown balance '" + name + "'");
  GramState folded = GramState::load(exec, json.at("folded"), reader, prefix + "folded.");
  const std::int64_t d = folded.n_features(), outputs = folded.n_outputs();
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(json.at("classes").items().size()) == outputs, file_format,
                  "the balanced state has sums of another number of classes");
  auto impl = std::make_unique<Impl>(exec, 1, 0, folded.options(), parse_balance(name));
  impl->d = d;
  impl->folded = std::move(folded);
  impl->parts.resize(at(outputs));
  for (std::int64_t k = 0; k < outputs; ++k) {
    const Json& item = json.at("classes").items()[at(k)];
    const std::string tensor = prefix + "class" + std::to_string(k) + ".";
    Part& part = impl->parts[at(k)];
    part.total = item.at("total").number();
    part.held = item.at("held").number();
    part.rows = item.at("rows").integer();
    const bool open = part.total == 0 && part.rows > 0;
    GRAMIAN_REQUIRE(std::isfinite(part.total) && part.total >= 0 && std::isfinite(part.held) && part.held >= 0 &&
                        part.rows >= 0 && (part.held > 0) == (part.rows > 0) &&
                        impl->folded.counts()[at(k)] == (open ? 0 : part.rows),
                    file_format, "the balanced state has impossible counts");
    if (!open) continue;
    if (item.contains("sums")) {
      part.gram = std::make_unique<GramState>(GramState::load(exec, item.at("sums"), reader, tensor));
      GRAMIAN_REQUIRE(part.gram->n_features() == d && part.gram->n_outputs() == 0 && part.gram->n_rows() == part.rows &&
                          part.gram->options().intercept == impl->options.intercept,
                      file_format, "the sums of a class do not fit the balanced state");
      continue;
    }
    const double* block = reader.tensor(tensor + "block", TensorType::f64, {part.rows, d + 1}).f64();
    const double* shift = reader.tensor(tensor + "shift", TensorType::f64, {d}).f64();
    const auto finite = [](double value) { return std::isfinite(value); };
    GRAMIAN_REQUIRE(std::all_of(block, block + part.rows * (d + 1), finite) && std::all_of(shift, shift + d, finite),
                    file_format, "the rows of a class hold NaN or infinity");
    part.block = Array<double>(exec, part.rows, d + 1);
    upload<double>(exec, {block, part.rows, d + 1}, part.block.view());
    part.shift.assign(shift, shift + d);
  }
  return BalancedState(std::move(impl));
}

}  // namespace gramian
