#include "gramian/regression/softmax_regression.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/gram/gram_state.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/sketching.hpp"
#include "gramian/linalg/softmax.hpp"
#include "regression/row_source.h"

namespace gramian {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kBlock = 4096;  // rows that a Gram update takes
constexpr int kMostTrials = 40;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
  return sum;
}

// The coordinates of the work: A around its column means, which do not enter the problem, each column times a power of
// two that makes its deviation about 1. So neither a large mean nor columns of other units cost digits, and a gradient
// has a size that can be judged. x = weight z.
struct Frame {
  std::vector<double> mean;
  std::vector<double> scale;   // of a column; 0 where it is constant to rounding
  std::vector<double> weight;  // the same, 1 where it is constant
};

// A ridge counts in weights of x, whose squares have to stay in range.
constexpr int kMostPower = 1000, kMostPowerWithRidge = 400;

// Sums of squares of the columns of what the source gives.
std::vector<double> column_squares(const Exec& exec, const RowSource& source) {
  const std::int64_t d = source.width();
  std::vector<double> sums(at(d), 0.0);
  source.for_blocks([&](std::int64_t, MatrixView<const double> block) {
    Array<double> turned(exec, d, block.rows);
    copy_transposed<double>(exec, block, turned.view());
    const std::vector<double> part = row_squares<double>(exec, turned.view());
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += part[k];
  });
  return sums;
}

// mean += the means of the columns around it.
void add_means(const Exec& exec, const RowsView& a, std::vector<double>& mean) {
  const RowSource around(exec, a, false, "A", mean);
  const double share = 1 / static_cast<double>(a.rows);
  std::vector<double> found(mean.size(), 0.0);
  around.for_blocks([&](std::int64_t, MatrixView<const double> block) {
    const std::vector<double> part = column_sums<double>(exec, block, std::vector<double>(at(block.rows), share));
    for (std::size_t k = 0; k < found.size(); ++k) found[k] += part[k];
  });
  for (std::size_t k = 0; k < mean.size(); ++k) mean[k] += found[k];
}

Frame frame_of(const Exec& exec, const RowsView& a, double ridge) {
  Frame frame;
  frame.mean.assign(at(a.cols), 0.0);
  // Twice: the first mean is off by the rounding of a sum of large numbers, the second by that of small ones.
  for (int pass = 0; pass < 2; ++pass) add_means(exec, a, frame.mean);
  std::vector<double> powers(at(a.cols), 1.0);
  std::vector<double> squares = column_squares(exec, RowSource(exec, a, false, "A", frame.mean));
  bool again = false;
  for (std::size_t k = 0; k < squares.size(); ++k) {
    // Squares that left the range of doubles are taken anew, of columns that were brought into it.
    powers[k] = squares[k] < 1e-290 ? 0x1p600 : squares[k] > 1e290 ? 0x1p-600 : 1.0;
    again = again || powers[k] != 1;
  }
  if (again) squares = column_squares(exec, RowSource(exec, a, false, "A", frame.mean, powers));
  const int most = ridge > 0 ? kMostPowerWithRidge : kMostPower;
  for (std::size_t k = 0; k < squares.size(); ++k) {
    const double deviation = std::sqrt(squares[k] / static_cast<double>(a.rows)) / powers[k];
    GRAMIAN_REQUIRE(std::isfinite(frame.mean[k]) && std::isfinite(deviation), non_finite,
                    "the differences in column " + std::to_string(k) + " of A overflow");
    const bool constant = deviation <= 2 * kEps * std::fabs(frame.mean[k]);
    frame.scale.push_back(constant ? 0.0 : std::ldexp(1.0, -std::clamp(std::ilogb(deviation), -most, most)));
    frame.weight.push_back(constant ? 1.0 : frame.scale.back());
  }
  return frame;
}

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> out(a);
  for (std::size_t k = 0; k < out.size(); ++k) out[k] *= b[k];
  return out;
}

// b / a.
std::vector<double> quotient(const std::vector<double>& b, const std::vector<double>& a) {
  std::vector<double> out(b);
  for (std::size_t k = 0; k < out.size(); ++k) out[k] /= a[k];
  return out;
}

// The problem in the coordinates of its frame.
class Problem {
 public:
  Problem(const Exec& exec, const RowsView& a, const double* b, double ridge)
      : exec_(exec),
        a_(a),
        b_(checked(a, b, ridge)),
        ridge_(ridge),
        frame_(frame_of(exec, a, ridge)),
        source_(exec, a, false, "A", frame_.mean, frame_.scale) {
    source_.for_blocks([&](std::int64_t, MatrixView<const double> block) {
      const std::vector<double> squares = row_squares<double>(exec, block);
      longest_ = std::max(longest_, std::sqrt(*std::max_element(squares.begin(), squares.end())));
    });
  }

  const RowsView& rows() const { return a_; }
  const Frame& frame() const { return frame_; }
  double longest_row() const { return longest_; }
  const std::vector<double>& probabilities() const { return f_; }

  // The loss, infinite where A x overflows: then the last point stays the one that is remembered.
  double evaluate(const std::vector<double>& z, std::vector<double>& gradient) {
    std::vector<double> f = forward(z);
    if (!std::isfinite(f.front())) return std::numeric_limits<double>::infinity();
    double loss = 0, fc = 0;
    std::vector<double> inner(f.size());
    for (std::size_t r = 0; r < f.size(); ++r) {
      const double c = f[r] - b_[r];
      loss += c * c / 2;
      fc += f[r] * c;
    }
    for (std::size_t r = 0; r < f.size(); ++r) inner[r] = f[r] * (f[r] - b_[r] - fc);
    const Array<double> slopes = backward(inner, f);
    gradient.resize(z.size());
    download<double>(exec_, slopes.view().block(0, 0, 1, a_.cols), {gradient.data(), 1, a_.cols});
    for (std::size_t k = 0; k < z.size() && ridge_ > 0; ++k) {
      const double x = frame_.weight[k] * z[k];
      gradient[k] += frame_.weight[k] * (ridge_ * x);
      loss += ridge_ / 2 * x * x;
    }
    f_ = std::move(f);
    return loss;
  }

  SymmetricMatrix<double> hessian() const {
    double ff = 0, fc = 0;
    for (std::size_t r = 0; r < f_.size(); ++r) {
      ff += f_[r] * f_[r];
      fc += f_[r] * (f_[r] - b_[r]);
    }
    std::vector<double> weight(f_.size()), h(f_.size());
    for (std::size_t r = 0; r < f_.size(); ++r) {
      const double c = f_[r] - b_[r];
      h[r] = f_[r] * (f_[r] + c);
      weight[r] = f_[r] * (f_[r] + c - fc);
    }
    SymmetricMatrix<double> out(exec_, a_.cols);
    add_weighted_gram(weight, out);
    const Array<double> sides = backward(f_, h);  // p, u
    out.add_outer(exec_, -1.0, sides.view().row(0), sides.view().row(1));
    out.add_outer(exec_, ff + 2 * fc, sides.view().row(0), sides.view().row(0));
    add_ridge(out);
    return out;
  }

  SymmetricMatrix<double> gauss_newton() const {
    std::vector<double> squares(f_.size());
    double ff = 0;
    for (std::size_t r = 0; r < f_.size(); ++r) ff += squares[r] = f_[r] * f_[r];
    SymmetricMatrix<double> out(exec_, a_.cols);
    add_weighted_gram(squares, out);
    const Array<double> sides = backward(f_, squares);
    out.add_outer(exec_, -1.0, sides.view().row(0), sides.view().row(1));
    out.add_outer(exec_, ff, sides.view().row(0), sides.view().row(0));
    add_ridge(out);
    return out;
  }

 private:
  static std::vector<double> checked(const RowsView& a, const double* b, double ridge) {
    GRAMIAN_REQUIRE(a.rows >= 1 && a.cols >= 1, invalid_argument, "A has no rows or no columns");
    GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge >= 0, invalid_argument, "ridge must be finite and not negative");
    double squares = 0;
    for (std::int64_t r = 0; r < a.rows; ++r) {
      GRAMIAN_REQUIRE(std::isfinite(b[r]), non_finite, "b contains NaN or infinity, first in row " + std::to_string(r));
      squares += b[r] * b[r];
    }
    GRAMIAN_REQUIRE(std::isfinite(squares), non_finite, "the squares of b overflow");
    return {b, b + a.rows};
  }

  // softmax(A x), host; not finite where A x is not.
  std::vector<double> forward(const std::vector<double>& z) const {
    const Array<double> w(exec_, a_.cols, 1), scores(exec_, 1, a_.rows);
    upload<double>(exec_, {z.data(), a_.cols, 1}, w.view());
    source_.for_blocks([&](std::int64_t begin, MatrixView<const double> block) {
      gemm<double>(exec_, Trans::no, Trans::no, 1.0, block, w.view(), 0.0, {scores.data() + begin, block.rows, 1});
    });
    SoftmaxOptions options;
    options.subnormals = true;
    softmax_rows<double>(exec_, Softmax::probabilities, options, scores.view(), scores.view());
    std::vector<double> out(at(a_.rows));
    download<double>(exec_, scores.view(), {out.data(), 1, a_.rows});
    return out;
  }

  // A'v for two vectors at a time (n x 2, host): d x 2 on the device.
  Array<double> backward(const std::vector<double>& v, const std::vector<double>& u) const {
    std::vector<double> pairs;
    pairs.reserve(2 * v.size());
    for (std::size_t r = 0; r < v.size(); ++r) {
      pairs.push_back(v[r]);
      pairs.push_back(u[r]);
    }
    Array<double> out(exec_, 2, a_.cols);
    source_.for_blocks([&](std::int64_t begin, MatrixView<const double> block) {
      Array<double> y(exec_, block.rows, 2);
      upload<double>(exec_, {pairs.data() + 2 * begin, block.rows, 2}, y.view());
      gemm<double>(exec_, Trans::yes, Trans::no, 1.0, y.view(), block, begin == 0 ? 0.0 : 1.0, out.view());
    });
    return out;
  }

  // h += A'diag(weight) A: the rows of positive weight, then those of negative weight, each scaled by its root. Rows of
  // no weight are not read.
  void add_weighted_gram(const std::vector<double>& weight, SymmetricMatrix<double>& h) const {
    for (const double sign : {1.0, -1.0}) {
      std::vector<std::int64_t> picked;
      std::vector<double> roots;
      for (std::int64_t r = 0; r < a_.rows; ++r) {
        if (!(sign * weight[at(r)] > 0)) continue;
        picked.push_back(a_.row_index == nullptr ? r : a_.row_index[r]);
        roots.push_back(std::sqrt(sign * weight[at(r)]));
      }
      const auto count = static_cast<std::int64_t>(picked.size());
      Array<double> block(exec_, std::min(count, kBlock), a_.cols);
      for (std::int64_t begin = 0; begin < count; begin += kBlock) {
        exec_.poll();
        RowsView rows = a_;
        rows.rows = std::min(kBlock, count - begin);
        rows.row_index = picked.data() + begin;
        const MatrixView<double> target = block.view().block(0, 0, rows.rows, a_.cols);
        source_.load_picked(rows, roots.data() + begin, target);
        gram_update<double>(exec_, sign, target, h);
      }
    }
  }

  // Of x, in whose coordinates it is the same for all.
  void add_ridge(SymmetricMatrix<double>& h) const {
    if (ridge_ == 0) return;
    h.scale(exec_, quotient(std::vector<double>(frame_.weight.size(), 1.0), frame_.weight));
    h.add_diagonal(exec_, ridge_);
    h.scale(exec_, frame_.weight);
  }

  const Exec exec_;
  RowsView a_;
  std::vector<double> b_;
  double ridge_;
  Frame frame_;
  RowSource source_;
  double longest_ = 0;
  std::vector<double> f_;
};

}  // namespace

struct SoftmaxObjective::Impl {
  Impl(const Exec& exec_, const RowsView& a, const double* b, double ridge)
      : exec(exec_), problem(exec_, a, b, ridge) {}

  // What the problem says of z, said of x.
  SymmetricMatrix<double> outside(SymmetricMatrix<double> h) const {
    const std::vector<double>& weight = problem.frame().weight;
    h.scale(exec, quotient(std::vector<double>(weight.size(), 1.0), weight));
    return h;
  }
  void require_point() const {
    GRAMIAN_REQUIRE(there, invalid_argument, "the Hessian is that of a point: evaluate one first");
  }

  const Exec exec;
  Problem problem;
  bool there = false;
};

SoftmaxObjective::SoftmaxObjective(const Exec& exec, const RowsView& a, const double* b, double ridge)
    : impl_(std::make_unique<Impl>(exec, a, b, ridge)) {}
SoftmaxObjective::~SoftmaxObjective() = default;

std::int64_t SoftmaxObjective::rows() const {
  return impl_->problem.rows().rows;
}
std::int64_t SoftmaxObjective::size() const {
  return impl_->problem.rows().cols;
}
const std::vector<double>& SoftmaxObjective::probabilities() const {
  return impl_->problem.probabilities();
}

double SoftmaxObjective::evaluate(const std::vector<double>& x, std::vector<double>& gradient) {
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(x.size()) == size(), shape_mismatch,
                  "x has " + std::to_string(x.size()) + " entries, A has " + std::to_string(size()) + " columns");
  const std::vector<double>& weight = impl_->problem.frame().weight;
  const double loss = impl_->problem.evaluate(quotient(x, weight), gradient);
  GRAMIAN_REQUIRE(std::isfinite(loss), non_finite, "A x contains NaN or infinity, or the loss overflows");
  gradient = quotient(gradient, weight);
  impl_->there = true;
  return loss;
}

SymmetricMatrix<double> SoftmaxObjective::hessian() const {
  impl_->require_point();
  return impl_->outside(impl_->problem.hessian());
}

SymmetricMatrix<double> SoftmaxObjective::gauss_newton() const {
  impl_->require_point();
  return impl_->outside(impl_->problem.gauss_newton());
}

std::int64_t softmax_start(const Exec& exec, const RowsView& a, const double* b, std::vector<double>& x) {
  std::vector<double> logs(at(a.rows), 0.0), weight(at(a.rows), 0.0);
  std::int64_t left_out = 0;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    GRAMIAN_REQUIRE(std::isfinite(b[r]), non_finite, "b contains NaN or infinity, first in row " + std::to_string(r));
    if (b[r] > 0) {
      logs[at(r)] = std::log(b[r]);
      weight[at(r)] = b[r];
    } else {
      left_out += 1;
    }
  }
  GRAMIAN_REQUIRE(a.rows - left_out >= 2, invalid_argument, "the start needs two entries of b above 0");
  const Frame frame = frame_of(exec, a, 0.0);
  GramState state(exec, a.cols, 1);
  const RowSource source(exec, a, false, "A", frame.mean, frame.scale);
  std::vector<double> copy;
  source.for_blocks([&](std::int64_t begin, MatrixView<const double> block) {
    const double* share = weight.data() + begin;
    if (std::none_of(share, share + block.rows, [](double value) { return value > 0; })) return;
    MatrixView<const double> rows = block;
    if (exec.device() != Device::cpu) {
      copy.resize(at(block.rows * block.cols));
      download<double>(exec, block, {copy.data(), block.rows, block.cols});
      rows = {copy.data(), block.rows, block.cols};
    }
    const RowsView targets = RowsView::dense<double>({logs.data() + begin, block.rows, 1});
    state.add(RowsView::dense<double>(rows), Targets::of_values(targets), share);
  });
  // The intercept is -mu. No more of a ridge than it takes to choose among weights that answer the same.
  std::vector<double> mean, variance;
  state.feature_moments(mean, variance);
  double trace = 0;
  for (const double value : variance) trace += value;
  SolveOptions options;
  options.ridge = kEps * state.weight_sum() * trace + std::numeric_limits<double>::min();
  options.precision = Precision::full;
  const Solution solution = state.solve(options);
  x.resize(at(a.cols));
  download<double>(exec, solution.coef.view(), {x.data(), 1, a.cols});
  x = product(frame.weight, x);
  return left_out;
}

SoftmaxFit fit_softmax(const Exec& exec, const RowsView& a, const double* b, std::vector<double> x,
                       const SoftmaxFitOptions& options) {
  GRAMIAN_REQUIRE(options.max_iterations >= 1 && options.tol >= 0, invalid_argument,
                  "max_iter must be at least 1, tol not negative");
  Problem problem(exec, a, b, options.ridge);
  const std::int64_t d = a.cols;
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(x.size()) == d, shape_mismatch,
                  "x has " + std::to_string(x.size()) + " entries, A has " + std::to_string(d) + " columns");
  std::vector<double> z = quotient(x, problem.frame().weight), g;
  SoftmaxFit fit;
  fit.loss = fit.start_loss = problem.evaluate(z, g);
  GRAMIAN_REQUIRE(std::isfinite(fit.loss), non_finite, "A x contains NaN or infinity, or the loss overflows");
  const double goal = options.tol * problem.longest_row();
  double mu = -1;
  for (; fit.iterations < options.max_iterations && !(std::sqrt(dot(g, g)) <= goal); ++fit.iterations) {
    exec.poll();
    SymmetricMatrix<double> h = problem.hessian(), safe;
    std::vector<double> diagonal(at(d));
    h.diagonal(exec, diagonal.data());
    double top = std::numeric_limits<double>::min();
    for (const double value : diagonal) top = std::max(top, std::fabs(value));
    // Damping never falls below the rounding of H, which has directions without curvature where A has constant columns.
    const double floor = 16 * kEps * top * static_cast<double>(d);
    mu = std::max(mu < 0 ? 1e-3 * top : mu, floor);
    bool moved = false, indefinite = false;
    for (int trial = 0; trial < kMostTrials && !moved; ++trial) {
      SymmetricMatrix<double> l(exec, d);
      l.axpby(exec, 1.0, indefinite ? safe : h, 0.0);
      l.add_diagonal(exec, mu);
      if (cholesky(exec, l) != 0) {
        if (indefinite) {
          mu *= 10;
        } else {
          indefinite = true;
          safe = problem.gauss_newton();
        }
        continue;
      }
      Array<double> s(exec, d, 1);
      upload<double>(exec, {g.data(), d, 1}, s.view());
      cholesky_solve_half<double>(exec, Trans::no, l, s.view());
      cholesky_solve_half<double>(exec, Trans::yes, l, s.view());
      std::vector<double> step(at(d)), next(z), next_g;
      download<double>(exec, s.view(), {step.data(), d, 1});
      for (std::size_t k = 0; k < step.size(); ++k) next[k] -= step[k];
      const double promised = (dot(g, step) + mu * dot(step, step)) / 2;
      const double loss = problem.evaluate(next, next_g);
      const double share = (fit.loss - loss) / promised;
      // Where the loss is all rounding, a smaller gradient is the progress there is.
      moved = share > 1e-4 || (loss <= fit.loss * (1 + 8 * kEps) && dot(next_g, next_g) <= 0.25 * dot(g, g));
      if (!moved) {
        mu *= 4;
        continue;
      }
      z = std::move(next);
      g = std::move(next_g);
      fit.loss = loss;
      fit.gauss_newton_steps += indefinite ? 1 : 0;
      mu = share > 0.75 ? mu / 10 : share < 0.25 ? mu * 2 : mu;
    }
    if (!moved) break;
  }
  fit.gradient = std::sqrt(dot(g, g));
  fit.converged = fit.gradient <= goal;
  fit.x = product(problem.frame().weight, z);
  return fit;
}

}  // namespace gramian
