#include "gramian/linalg/iterate.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <limits>
#include <memory>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/core/rng.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "linalg/curvature.h"

namespace gramian {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
// A unit vector of which less is left when the old directions are out has nothing new in it but rounding.
constexpr double kNothingNew = 1e-10;
// Steps between residuals made from scratch: the recursion drifts by about eps a step.
constexpr std::int64_t kAnchor = 50;
constexpr int kMostEnds = 5;
// A direction whose curvature is below minus this share of |A| is proof, whatever the rounding of the products, also of
// those that a callback makes in float32.
constexpr double kIndefinite = 1e-4;
// Right-hand sides of other lengths are solved in units of their own, so that no product of residuals leaves the range.
constexpr double kShortest = 1e-50, kLongest = 1e50;
// A preconditioner that reaches down to this multiple of mu leaves little for the iteration to do.
constexpr double kReach = 10;

using View = MatrixView<double>;
using ConstView = MatrixView<const double>;

View row(const Array<double>& x, std::int64_t r) {
  return x.view().block(r, 0, 1, x.cols());
}

void add(const Exec& exec, double alpha, ConstView x, double beta, View y) {
  axpby<double, double>(exec, alpha, x, beta, y);
}

// Sums over long vectors run in the fixed order of one product.
double dot(const Exec& exec, ConstView x, ConstView y) {
  Array<double> out(exec, 1, 1);
  gemm<double>(exec, Trans::no, Trans::yes, 1.0, x, y, 0.0, out.view());
  double value = 0;
  download<double>(exec, out.view(), {&value, 1, 1});
  return value;
}

// |x|, also where the square of it leaves the range of doubles.
double length(const Exec& exec, ConstView x) {
  const double square = dot(exec, x, x);
  if ((square > 1e-280 && square < 1e280) || std::isnan(square)) return std::sqrt(square);
  const double factor = square > 1 ? 0x1p-600 : 0x1p600;
  const Array<double> scaled(exec, 1, x.cols);
  add(exec, factor, x, 0.0, scaled.view());
  return std::sqrt(dot(exec, scaled.view(), scaled.view())) / factor;
}

// x becomes x / |x|, |x| being given; in two steps where 1 / |x| is no double.
void normalise(const Exec& exec, double size, View x) {
  if (size < 1e-280) {
    add(exec, 0x1p600, x, 0.0, x);
    size *= 0x1p600;
  }
  add(exec, 1 / size, x, 0.0, x);
}

void zero(const Exec& exec, View x) {
  axpby<double, double>(exec, 0.0, {}, 0.0, x);
}

// A direction and its product, scaled to d'A d = 1.
struct Direction {
  Array<double> d, ad;
};

// One right-hand side.
struct Column {
  std::deque<Direction> old;
  double target = 0, norm = 0;  // of the residual
  bool active = true;
  bool settled = false;  // by the size of its correction
  double gained = 0;     // in this window
  std::int64_t steps = 0;
};

class Solver {
 public:
  // units: that of each right-hand side and of its x, in which tolerances are not; empty for ones.
  Solver(const Exec& exec, const BlockMap& a, ConstView b, View x, const BlockMap& precondition,
         const FlexibleCgOptions& options, std::vector<double> units)
      : exec_(exec),
        a_(a),
        b_(b),
        x_(x),
        ask_(precondition),
        options_(options),
        units_(std::move(units)),
        r_(exec, b.rows, b.cols),
        z_(exec, b.rows, b.cols),
        q_(exec, b.rows, b.cols),
        unit_(exec, b.rows, b.cols),
        columns_(static_cast<std::size_t>(b.rows)) {}

  FlexibleCgReport run() {
    const std::int64_t most = options_.max_iterations > 0 ? options_.max_iterations : 10 * b_.cols;
    report_.decrease.resize(columns_.size());
    for (std::int64_t j = 0; j < b_.rows; ++j) {
      const double size = length(exec_, b_.block(j, 0, 1, b_.cols));
      GRAMIAN_REQUIRE(std::isfinite(size), non_finite, "b contains NaN or infinity, or its length overflows");
      column(j).target = std::max(options_.rtol * size, options_.atol / unit_of(j));
    }
    anchor();
    // Each time that the recursion ends and the true residual does not, the limit of rounding is nearer.
    int ends = 0;
    while (report_.iterations < most && any_active() && ends < kMostEnds) {
      exec_.poll();
      if (!step()) break;
      report_.iterations += 1;
      ends += any_active() ? 0 : 1;
      if (report_.iterations % kAnchor == 0 || !any_active()) anchor();
      watch();
    }
    if (report_.iterations % kAnchor != 0 && any_active()) anchor();
    report_.converged = !any_active();
    for (std::int64_t j = 0; j < b_.rows; ++j) {
      report_.residual.push_back(column(j).norm * unit_of(j));
      for (double& fell : report_.decrease[static_cast<std::size_t>(j)]) fell *= unit_of(j) * unit_of(j);
    }
    return std::move(report_);
  }

 private:
  Column& column(std::int64_t j) { return columns_[static_cast<std::size_t>(j)]; }
  double unit_of(std::int64_t j) const { return units_.empty() ? 1.0 : units_[static_cast<std::size_t>(j)]; }
  bool any_active() const {
    return std::any_of(columns_.begin(), columns_.end(), [](const Column& c) { return c.active; });
  }

  void apply(ConstView in, View out) {
    a_(in, out);
    report_.products += in.rows;
  }

  // Residuals from x, and who is done.
  void anchor() {
    apply(x_, r_.view());
    add(exec_, 1.0, b_, -1.0, r_.view());
    for (std::int64_t j = 0; j < b_.rows; ++j) measure(j);
  }
  void measure(std::int64_t j) {
    Column& c = column(j);
    c.norm = length(exec_, row(r_, j));
    GRAMIAN_REQUIRE(std::isfinite(c.norm), non_finite, "a product with A contains NaN or infinity");
    c.active = !c.settled && c.norm > c.target;
  }

  // z = the unit residual, made conjugate. False where nothing new is in z.
  bool take_residual(std::int64_t j) {
    add(exec_, 1.0, row(unit_, j), 0.0, row(z_, j));
    return conjugate(j);
  }
  bool conjugate(std::int64_t j) {
    const View z = row(z_, j);
    // Twice: what the first pass leaves of the old directions is what it took away times eps.
    for (int pass = 0; pass < 2; ++pass)
      for (const Direction& old : column(j).old) add(exec_, -dot(exec_, z, old.ad.view()), old.d.view(), 1.0, z);
    return length(exec_, z) > kNothingNew;
  }

  // False where nobody needs another step.
  bool step() {
    for (std::int64_t j = 0; j < b_.rows; ++j) {
      if (column(j).active) {
        add(exec_, 1.0, row(r_, j), 0.0, row(unit_, j));
        normalise(exec_, column(j).norm, row(unit_, j));
      } else {
        zero(exec_, row(unit_, j));
      }
    }
    if (ask_) {
      ask_(unit_.view(), z_.view());
    } else {
      add(exec_, 1.0, unit_.view(), 0.0, z_.view());
    }
    for (std::int64_t j = 0; j < b_.rows; ++j) {
      const double size = column(j).active ? length(exec_, row(z_, j)) : 0.0;
      if (column(j).active && options_.correction_rtol > 0) settle(j, size);
      if (!column(j).active) {
        zero(exec_, row(z_, j));
        continue;
      }
      bool usable = std::isfinite(size) && size > 0;
      if (usable) {
        normalise(exec_, size, row(z_, j));
        usable = conjugate(j);
      }
      if (!usable) replace(j);
    }
    if (!any_active()) return false;
    apply(z_.view(), q_.view());
    for (std::int64_t j = 0; j < b_.rows; ++j)
      if (column(j).active) advance(j);
    return true;
  }

  // size: of what the callback made of the unit residual.
  void settle(std::int64_t j, double size) {
    Column& c = column(j);
    const ConstView x = x_.block(j, 0, 1, b_.cols);
    if (!(size * c.norm <= options_.correction_rtol * length(exec_, x))) return;
    c.settled = true;
    c.active = false;
  }

  // The residual in the place of a direction that is of no use.
  void replace(std::int64_t j) {
    report_.fallbacks += ask_ ? 1 : 0;
    if (take_residual(j)) return;
    column(j).old.clear();
    report_.restarts += 1;
    take_residual(j);
  }

  void advance(std::int64_t j) {
    Column& c = column(j);
    const View z = row(z_, j), q = row(q_, j), r = row(r_, j);
    double curvature = curvature_of(z, q);
    if (!(curvature > 0)) {
      // A is singular to rounding, or the direction is of no use: the residual tells.
      c.old.clear();
      replace(j);
      apply(z, q);
      curvature = curvature_of(z, q);
      GRAMIAN_REQUIRE(curvature > 0, not_positive_definite,
                      "A is not positive definite: a residual has no positive curvature");
    }
    const double slope = dot(exec_, r, z), alpha = slope / curvature;
    add(exec_, alpha, z, 1.0, x_.block(j, 0, 1, b_.cols));
    add(exec_, -alpha, q, 1.0, r);
    report_.decrease[static_cast<std::size_t>(j)].push_back(alpha * slope);
    c.gained += alpha * slope;
    c.steps += 1;
    keep(c, z, q, 1 / std::sqrt(curvature));
    measure(j);
  }
  // z'A z, q being A z; 0 where it is rounding. Along a direction of negative curvature there is no minimum, wherever
  // the direction came from.
  double curvature_of(ConstView z, ConstView q) {
    const double curvature = dot(exec_, z, q), size = length(exec_, z), image = length(exec_, q);
    GRAMIAN_REQUIRE(std::isfinite(image), non_finite, "a product with A contains NaN or infinity");
    largest_ = std::max(largest_, image / size);
    const double ratio = curvature / size / size;
    if (ratio < -kIndefinite * largest_) {
      char text[100];
      std::snprintf(text, sizeof text, "A is not positive definite: v'A v / v'v = %.6g for a direction v", ratio);
      throw Error(ErrorCode::not_positive_definite, text);
    }
    return curvature > kEps * size * image ? curvature : 0.0;
  }

  void keep(Column& c, ConstView z, ConstView q, double scale) {
    const bool all = options_.directions == 0;
    if (all && static_cast<std::int64_t>(c.old.size()) >= options_.restart) {
      c.old.clear();
      report_.restarts += 1;
    }
    Direction next;
    if (!all && static_cast<std::int64_t>(c.old.size()) >= options_.directions) {
      next = std::move(c.old.front());
      c.old.pop_front();
    } else {
      next = {Array<double>(exec_, 1, z.cols), Array<double>(exec_, 1, z.cols)};
    }
    add(exec_, scale, z, 0.0, next.d.view());
    add(exec_, scale, q, 0.0, next.ad.view());
    c.old.push_back(std::move(next));
  }

  // A callback whose steps gain less, on average over a window, than a plain gradient step would gain now does not earn
  // its place. One product with A a window tells.
  void watch() {
    if (!ask_ || switched_ || options_.stall_window == 0 || report_.iterations % options_.stall_window != 0) return;
    apply(r_.view(), q_.view());
    double gained = 0, plain = 0;
    for (std::int64_t j = 0; j < b_.rows; ++j) {
      Column& c = column(j);
      if (c.active && c.steps > 0) {
        gained += c.gained / static_cast<double>(c.steps);
        plain += c.norm * c.norm * (c.norm * c.norm / dot(exec_, row(r_, j), row(q_, j)));
      }
      c.gained = 0;
      c.steps = 0;
    }
    // Beyond the range of double nothing is told.
    if (gained >= plain || !std::isfinite(gained) || !std::isfinite(plain)) return;
    switched_ = true;
    report_.switched_at = report_.iterations;
    report_.then = "residual";
    ask_ = nullptr;
    const std::int64_t rank =
        options_.fallback_rank >= 0 ? options_.fallback_rank : std::min<std::int64_t>(b_.cols / 4, 50);
    if (rank < 1) return;
    const BlockMap counted = [this](ConstView in, View out) { apply(in, out); };
    nystrom_ = std::make_unique<NystromPreconditioner>(exec_, counted, b_.cols, rank, 0.0, options_.seed);
    if (!nystrom_->worthwhile()) return;
    report_.then = "nystrom";
    ask_ = [this](ConstView in, View out) { nystrom_->apply(in, out); };
    for (Column& c : columns_) c.old.clear();
  }

  const Exec& exec_;
  const BlockMap& a_;
  ConstView b_;
  View x_;
  BlockMap ask_;
  const FlexibleCgOptions& options_;
  const std::vector<double> units_;
  double largest_ = 0;  // |A z| / |z| so far
  Array<double> r_, z_, q_, unit_;
  std::vector<Column> columns_;
  std::unique_ptr<NystromPreconditioner> nystrom_;
  bool switched_ = false;
  FlexibleCgReport report_;
};

}  // namespace

BlockMap dense_map(const Exec& exec, MatrixView<const double> a) {
  GRAMIAN_REQUIRE(a.rows == a.cols, shape_mismatch, "A must be square");
  // A = A', so rows times A are the products.
  return [&exec, a](ConstView in, View out) {
    if (in.rows == 1) {
      gemm<double>(exec, Trans::no, Trans::no, 1.0, a, ConstView(in.data, in.cols, 1), 0.0, {out.data, out.cols, 1});
    } else {
      gemm<double>(exec, Trans::no, Trans::no, 1.0, in, a, 0.0, out);
    }
  };
}

BlockMap sparse_map(const Exec& exec, const RowsView& a) {
  GRAMIAN_REQUIRE(a.rows == a.cols, shape_mismatch, "A must be square");
  return [&exec, a](ConstView in, View out) {
    for (std::int64_t r = 0; r < in.rows; ++r)
      sparse_multiply<double>(exec, a, ConstView(in.row(r), in.cols, 1), {out.row(r), out.cols, 1});
  };
}

FlexibleCgReport flexible_cg(const Exec& exec, const BlockMap& a, MatrixView<const double> b, MatrixView<double> x,
                             const BlockMap& precondition, const FlexibleCgOptions& options) {
  GRAMIAN_REQUIRE(x.rows == b.rows && x.cols == b.cols, shape_mismatch, "x and b differ in shape");
  GRAMIAN_REQUIRE(options.directions >= 0 && options.restart >= 1, invalid_argument,
                  "directions must not be negative, restart at least 1");
  GRAMIAN_REQUIRE(options.rtol >= 0 && options.atol >= 0 && options.correction_rtol >= 0, invalid_argument,
                  "tolerances must not be negative");
  GRAMIAN_REQUIRE(options.fallback_rank <= b.cols, invalid_argument, "the rank of the fallback must not exceed n");
  bool ordinary = true;
  std::vector<double> units(static_cast<std::size_t>(b.rows), 1.0);
  for (std::int64_t j = 0; j < b.rows; ++j) {
    const double size = length(exec, b.block(j, 0, 1, b.cols));
    if (size == 0 || !std::isfinite(size) || (size > kShortest && size < kLongest)) continue;
    // A power of two, so that nothing is rounded but at the ends of the range.
    units[static_cast<std::size_t>(j)] = std::ldexp(1.0, std::clamp(std::ilogb(size), -1020, 1020));
    ordinary = false;
  }
  if (ordinary) return Solver(exec, a, b, x, precondition, options, {}).run();
  std::vector<double> inverse;
  for (const double unit : units) inverse.push_back(1 / unit);
  const Array<double> scaled(exec, b.rows, b.cols);
  add(exec, 1.0, b, 0.0, scaled.view());
  scale_rows<double>(exec, inverse, scaled.view());
  scale_rows<double>(exec, inverse, x);
  FlexibleCgReport report = Solver(exec, a, scaled.view(), x, precondition, options, units).run();
  scale_rows<double>(exec, units, x);
  return report;
}

NystromPcgReport nystrom_pcg(const Exec& exec, const BlockMap& a, MatrixView<const double> b, MatrixView<double> x,
                             double mu, const NystromOptions& nystrom_options, const FlexibleCgOptions& options) {
  GRAMIAN_REQUIRE(std::isfinite(mu) && mu > 0, invalid_argument, "mu must be finite and above 0");
  NystromOptions wanted = nystrom_options;
  if (wanted.rank == 0) wanted.least = kReach * mu;
  NystromFactor factor = nystrom(exec, a, b.cols, wanted);
  NystromPcgReport out;
  out.products = factor.products;
  const bool empty = factor.rank() == 0;
  const double top = empty ? 0.0 : factor.eigenvalues.front();
  out.smallest = empty || factor.exhausted ? 0.0 : factor.eigenvalues.back();
  const double error = factor.error;
  const NystromPreconditioner by(exec, std::move(factor), mu);
  out.preconditioned = !empty && by.worthwhile();
  out.rank = out.preconditioned ? static_cast<std::int64_t>(by.eigenvalues().size()) : 0;
  const double reach = out.preconditioned ? by.eigenvalues().back() : top;
  out.condition = (reach + mu + error) / mu;
  linalg::CurvatureWatch watch(exec, b.cols, std::isfinite(error) ? std::max(top, error) : top, wanted.unit);
  const BlockMap shifted = [&](ConstView in, View y) {
    a(in, y);
    watch.see(in, y);
    add(exec, mu, in, 1.0, y);
  };
  const BlockMap precondition =
      out.preconditioned ? BlockMap([&](ConstView in, View y) { by.apply(in, y); }) : BlockMap();
  // The preconditioner is fixed and positive definite: there is nothing to watch.
  FlexibleCgOptions steady = options;
  steady.stall_window = 0;
  out.cg = flexible_cg(exec, shifted, b, x, precondition, steady);
  out.products += out.cg.products + watch.finish(a);
  return out;
}

}  // namespace gramian
