#include "gramian/analytic/probabilities.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/linalg/softmax.hpp"

namespace gramian {
namespace {

// body(row) for each row, some thousand entries a task.
template <class Body>
void over_rows(const Exec& exec, MatrixView<double> x, const Body& body) {
  if (x.empty()) return;
  const std::int64_t edge = std::max<std::int64_t>(1, 8192 / x.cols);
  const Exec host = exec.on_host();
  host.parallel_for((x.rows + edge - 1) / edge, [&](std::int64_t task) {
    const std::int64_t end = std::min(x.rows, (task + 1) * edge);
    for (std::int64_t r = task * edge; r < end; ++r) body(x.row(r));
  });
}

}  // namespace

void softmax_rows(const Exec& exec, double temperature, MatrixView<double> scores) {
  GRAMIAN_REQUIRE(temperature > 0 && std::isfinite(temperature), invalid_argument,
                  "temperature must be a finite number > 0, got " + std::to_string(temperature));
  if (scores.empty()) return;
  SoftmaxOptions options;
  options.scale = 1 / temperature;
  options.subnormals = true;
  softmax_rows<double>(exec.on_host(), Softmax::probabilities, options, scores, scores);
}

void project_rows_to_simplex(const Exec& exec, MatrixView<double> scores) {
  over_rows(exec, scores, [&](double* row) {
    // Below the largest score by one or more nothing is left of an entry, whatever the others are.
    const double largest = *std::max_element(row, row + scores.cols);
    std::vector<double> sorted;
    for (std::int64_t k = 0; k < scores.cols; ++k) {
      row[k] -= largest;
      if (row[k] > -1) sorted.push_back(row[k]);
    }
    std::sort(sorted.begin(), sorted.end(), std::greater<double>());
    double sum = 0, cut = 0;
    for (std::size_t k = 0; k < sorted.size(); ++k) {
      sum += sorted[k];
      const double tried = (sum - 1) / static_cast<double>(k + 1);
      if (sorted[k] <= tried) break;
      cut = tried;
    }
    for (std::int64_t k = 0; k < scores.cols; ++k) row[k] = std::max(row[k] - cut, 0.0);
  });
}

void clip_rows(const Exec& exec, MatrixView<double> scores) {
  over_rows(exec, scores, [&](double* row) {
    // In units of the largest score, so that no sum overflows.
    const double largest = *std::max_element(row, row + scores.cols);
    double sum = 0;
    for (std::int64_t k = 0; k < scores.cols; ++k) {
      row[k] = largest > 0 ? std::max(row[k], 0.0) / largest : 1.0;
      sum += row[k];
    }
    for (std::int64_t k = 0; k < scores.cols; ++k) row[k] /= sum;
  });
}

}  // namespace gramian
