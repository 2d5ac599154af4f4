#include "gramian/analytic/soft_targets.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "gramian/analytic/probabilities.hpp"
#include "gramian/core/error.hpp"

namespace gramian {
namespace {

constexpr std::int64_t kRowsOfTask = 1024;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

// body(r) for each row, the rows of a task one after another.
template <class Body>
void over_rows(const Exec& exec, std::int64_t rows, const Body& body) {
  const Exec host = exec.on_host();
  host.parallel_for((rows + kRowsOfTask - 1) / kRowsOfTask, [&](std::int64_t task) {
    const std::int64_t end = std::min(rows, (task + 1) * kRowsOfTask);
    for (std::int64_t r = task * kRowsOfTask; r < end; ++r) body(r);
  });
}

void check_votes(MatrixView<const std::int64_t> votes, std::int64_t classes) {
  for (std::int64_t r = 0; r < votes.rows; ++r)
    for (std::int64_t a = 0; a < votes.cols; ++a)
      GRAMIAN_REQUIRE(votes(r, a) >= -1 && votes(r, a) < classes, invalid_argument,
                      "votes has " + std::to_string(votes(r, a)) + " in row " + std::to_string(r) +
                          ", which is neither -1 nor a class below " + std::to_string(classes));
}

void share_between_neighbours(const std::vector<double>& centres, double y, double* out) {
  const std::int64_t bins = static_cast<std::int64_t>(centres.size());
  std::fill(out, out + bins, 0.0);
  const std::int64_t above = std::upper_bound(centres.begin(), centres.end(), y) - centres.begin();
  if (above == 0 || above == bins) {
    out[above == 0 ? 0 : bins - 1] = 1;
    return;
  }
  const double low = centres[at(above - 1)], high = centres[at(above)];
  const double share = (y - low) / (high - low);
  out[above - 1] = 1 - share;
  out[above] = share;
}

// P(a < N(y, width) <= b), without the cancellation of two values near one.
double normal_between(double a, double b, double y, double width) {
  const double root = width * std::sqrt(2.0);
  double low = (a - y) / root, high = (b - y) / root;
  if (low > 0) {
    std::swap(low, high);
    low = -low;
    high = -high;
  }
  return 0.5 * (std::erfc(-high) - std::erfc(-low));
}

void share_by_normal(const std::vector<double>& centres, double width, double y, double* out) {
  const std::size_t bins = centres.size();
  for (std::size_t k = 0; k < bins; ++k) {
    const double low = k == 0 ? -HUGE_VAL : centres[k - 1] + (centres[k] - centres[k - 1]) / 2;
    const double high = k + 1 == bins ? HUGE_VAL : centres[k] + (centres[k + 1] - centres[k]) / 2;
    out[k] = normal_between(low, high, y, width);
  }
}

}  // namespace

void soft_bins(const Exec& exec, const std::vector<double>& centres, double width, const double* y,
               MatrixView<double> out) {
  GRAMIAN_REQUIRE(centres.size() >= 2 && static_cast<std::int64_t>(centres.size()) == out.cols, shape_mismatch,
                  "soft bins need two centres or more, and a column for each");
  for (std::size_t k = 0; k < centres.size(); ++k)
    GRAMIAN_REQUIRE(std::isfinite(centres[k]) && (k == 0 || centres[k] > centres[k - 1]), invalid_argument,
                    "the centres of bins must be finite and ascending; number " + std::to_string(k) + " is not");
  GRAMIAN_REQUIRE(std::isfinite(width) && width >= 0, invalid_argument, "width must be finite and not negative");
  for (std::int64_t r = 0; r < out.rows; ++r)
    GRAMIAN_REQUIRE(std::isfinite(y[r]), non_finite,
                    "Input y contains NaN or infinity, first in row " + std::to_string(r) + ".");
  over_rows(exec, out.rows, [&](std::int64_t r) {
    if (width > 0) {
      share_by_normal(centres, width, y[r], out.row(r));
    } else {
      share_between_neighbours(centres, y[r], out.row(r));
    }
  });
}

void vote_shares(const Exec& exec, MatrixView<const std::int64_t> votes, const std::vector<double>& weight, bool hard,
                 MatrixView<double> out) {
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(weight.size()) == votes.cols && out.rows == votes.rows && out.cols >= 1,
                  shape_mismatch, "votes need a weight per annotator and a row of output each");
  for (const double w : weight)
    GRAMIAN_REQUIRE(std::isfinite(w) && w >= 0, invalid_argument, "weights must be finite and not negative");
  check_votes(votes, out.cols);
  over_rows(exec, out.rows, [&](std::int64_t r) {
    double* row = out.row(r);
    std::fill(row, row + out.cols, 0.0);
    double total = 0;
    for (std::int64_t a = 0; a < votes.cols; ++a) {
      if (votes(r, a) < 0) continue;
      row[votes(r, a)] += weight[at(a)];
      total += weight[at(a)];
    }
    if (total == 0) {
      std::fill(row, row + out.cols, 1 / static_cast<double>(out.cols));
      return;
    }
    if (hard) {
      const double most = *std::max_element(row, row + out.cols);
      total = 0;
      for (std::int64_t k = 0; k < out.cols; ++k) {
        row[k] = row[k] == most ? 1.0 : 0.0;
        total += row[k];
      }
    }
    for (std::int64_t k = 0; k < out.cols; ++k) row[k] /= total;
  });
}

std::vector<double> annotator_accuracies(const Exec& exec, MatrixView<const std::int64_t> votes, std::int64_t classes) {
  GRAMIAN_REQUIRE(classes >= 2, invalid_argument, "accuracies need two classes or more");
  const std::int64_t n = votes.cols;
  GRAMIAN_REQUIRE(n >= 3, invalid_argument,
                  "accuracies from agreements need three annotators, votes has " + std::to_string(n));
  check_votes(votes, classes);
  std::vector<std::int64_t> both(at(n * n), 0), equal(at(n * n), 0);
  for (std::int64_t r = 0; r < votes.rows; ++r) {
    if (r % 4096 == 0) exec.poll();
    const std::int64_t* vote = votes.row(r);
    for (std::int64_t a = 0; a < n; ++a) {
      if (vote[a] < 0) continue;
      for (std::int64_t b = 0; b < n; ++b) {
        if (vote[b] < 0) continue;
        ++both[at(a * n + b)];
        if (vote[a] == vote[b]) ++equal[at(a * n + b)];
      }
    }
  }
  const auto k = static_cast<double>(classes);
  const auto shared = [&](std::int64_t a, std::int64_t b) { return both[at(a * n + b)] > 0; };
  const auto beyond_chance = [&](std::int64_t a, std::int64_t b) {
    return (k * static_cast<double>(equal[at(a * n + b)]) / static_cast<double>(both[at(a * n + b)]) - 1) / (k - 1);
  };
  std::vector<double> accuracy;
  for (std::int64_t a = 0; a < n; ++a) {
    double above = 0, below = 0;
    bool any = false;
    for (std::int64_t b = 0; b < n; ++b) {
      if (b == a || !shared(a, b)) continue;
      for (std::int64_t c = b + 1; c < n; ++c) {
        if (c == a || !shared(a, c) || !shared(b, c)) continue;
        any = true;
        above += beyond_chance(a, b) * beyond_chance(a, c);
        below += beyond_chance(b, c);
      }
    }
    GRAMIAN_REQUIRE(any, invalid_argument,
                    "annotator " + std::to_string(a) + " shares no rows with two others who share rows");
    // Agreements at chance or below say nothing.
    const double s = above > 0 && below > 0 ? std::sqrt(above / below) : 0.0;
    const double most = 1 - 0.5 / static_cast<double>(both[at(a * n + a)]);
    accuracy.push_back(std::clamp((1 + (k - 1) * s) / k, 1 / k, std::max(most, 1 / k)));
  }
  return accuracy;
}

void vote_posteriors(const Exec& exec, MatrixView<const std::int64_t> votes, const std::vector<double>& accuracy,
                     MatrixView<double> out) {
  GRAMIAN_REQUIRE(static_cast<std::int64_t>(accuracy.size()) == votes.cols && out.rows == votes.rows && out.cols >= 2,
                  shape_mismatch, "votes need an accuracy per annotator and a row of output each");
  check_votes(votes, out.cols);
  std::vector<double> weight;
  for (const double p : accuracy) {
    GRAMIAN_REQUIRE(p > 0 && p < 1, invalid_argument, "accuracies must lie between 0 and 1");
    weight.push_back(std::log(static_cast<double>(out.cols - 1) * p / (1 - p)));
  }
  over_rows(exec, out.rows, [&](std::int64_t r) {
    double* row = out.row(r);
    std::fill(row, row + out.cols, 0.0);
    for (std::int64_t a = 0; a < votes.cols; ++a)
      if (votes(r, a) >= 0) row[votes(r, a)] += weight[at(a)];
  });
  softmax_rows(exec, 1.0, out);
}

}  // namespace gramian
