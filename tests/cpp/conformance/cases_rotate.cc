/* Givens rotations on many rows: rotate_rows. */
#include <cmath>
#include <limits>
#include <utility>

#include "case.h"
#include "reference.h"

namespace conformance {

namespace {

/* One rotation of what stands for l and x, with the errors that it inherits and makes. */
struct Pair {
  long double l, x;
  double l_bound, x_bound;
};

void rotate(int sign, double c, double s, Pair& at) {
  const double unit = eps(GRAMIAN_F64);
  const auto size = [](long double value) { return static_cast<double>(std::fabs(value)); };
  const double ac = std::fabs(c), as = std::fabs(s);
  const long double l = at.l, x = at.x;
  const double dl = at.l_bound, dx = at.x_bound;
  if (sign > 0) {
    at.l = c * l + s * x;
    at.x = c * x - s * l;
    at.l_bound = ac * dl + as * dx + 2 * unit * (ac * size(l) + as * size(x));
    at.x_bound = ac * dx + as * dl + 2 * unit * (ac * size(x) + as * size(l));
  } else {
    at.l = (l - s * x) / c;
    at.l_bound = (dl + as * dx + 4 * unit * (size(l) + as * size(x))) / ac;
    at.x = c * x - s * at.l;
    at.x_bound = ac * dx + as * at.l_bound + 2 * unit * (ac * size(x) + as * size(at.l));
  }
}

/* `special` stands in one row of L and one of X. */
void rotate_rows_case(Harness& harness, int sign, int64_t rows, int64_t cols, int64_t b, double special = 0.0) {
  const std::string what =
      text("sign %d rows %lld cols %lld b %lld special %g", sign, ll(rows), ll(cols), ll(b), special);
  harness.run(what, [&](Case& c) {
    Matrix l = random_matrix(harness.random(), GRAMIAN_F64, rows, cols);
    Matrix x = random_matrix(harness.random(), GRAMIAN_F64, rows, b);
    if (special != 0.0) {
      c.poison(l, rows / 2, cols / 2, special);
      c.poison(x, rows - 1, b / 2, special);
    }
    std::vector<double> cosine, sine;
    // Rows that go out grow by (1 + |s|) / c at most with each rotation; their sines leave that near one.
    const double most = sign > 0 ? 1.0 : 1.0 / static_cast<double>(cols * b + 1);
    for (int64_t k = 0; k < cols * b; ++k) {
      sine.push_back(most * harness.random().uniform(-1.0, 1.0));
      cosine.push_back(std::sqrt((1 - sine.back()) * (1 + sine.back())));
    }
    Buffer& dc = c.array(cosine);
    Buffer& ds = c.array(sine);
    Buffer& dl = c.output(l);
    Buffer& dx = c.output(x);
    c.expect_status(c.table().rotate_rows(c.ctx(), sign, rows, cols, b, static_cast<const double*>(dc.data()),
                                          static_cast<const double*>(ds.data()), static_cast<double*>(dl.data()), dl.ld,
                                          static_cast<double*>(dx.data()), dx.ld));
    Estimate want_l(rows, cols), want_x(rows, b);
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<Pair> row;
      for (int64_t j = 0; j < cols; ++j) row.push_back({l(r, j), 0, 0, 0});
      for (int64_t p = 0; p < b; ++p) {
        long double left = x(r, p);
        double bound = 0;
        for (int64_t j = 0; j < cols; ++j) {
          Pair& at = row[static_cast<size_t>(j)];
          at.x = left;
          at.x_bound = bound;
          rotate(sign, cosine[static_cast<size_t>(p * cols + j)], sine[static_cast<size_t>(p * cols + j)], at);
          left = at.x;
          bound = at.x_bound;
        }
        want_x.value[static_cast<size_t>(r * b + p)] = left;
        want_x.bound[static_cast<size_t>(r * b + p)] = bound;
      }
      for (int64_t j = 0; j < cols; ++j) {
        want_l.value[static_cast<size_t>(r * cols + j)] = row[static_cast<size_t>(j)].l;
        want_l.bound[static_cast<size_t>(r * cols + j)] = row[static_cast<size_t>(j)].l_bound;
      }
    }
    const Matrix whole_l = c.fetch(dl), whole_x = c.fetch(dx);
    c.close(whole_l, want_l);
    c.close(whole_x, want_x);
    // One row of X: the columns in one call or in several, cut at multiples of 8.
    const int64_t cut = cols / 2 / 8 * 8;
    if (b != 1 || cut == 0) return;
    Buffer& cut_l = c.output(l);
    Buffer& cut_x = c.output(x);
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, cut}, {cut, cols}}) {
      c.expect_status(c.table().rotate_rows(
          c.ctx(), sign, rows, end - begin, b, static_cast<const double*>(dc.data()) + begin,
          static_cast<const double*>(ds.data()) + begin, static_cast<double*>(cut_l.data()) + begin, cut_l.ld,
          static_cast<double*>(cut_x.data()), cut_x.ld));
    }
    c.same(c.fetch(cut_l), whole_l);
    c.same(c.fetch(cut_x), whole_x);
  });
}

}  // namespace

void cases_rotate_rows(Harness& harness) {
  for (const int sign : {1, -1}) {
    for (double special : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      for (int64_t rows : {3, 16, 33}) {
        rotate_rows_case(harness, sign, rows, 8, 1, special);
        rotate_rows_case(harness, sign, rows, 19, 3, special);
      }
    }
    for (int64_t rows : edge_sizes(33)) {
      for (int64_t cols : edge_sizes(33)) rotate_rows_case(harness, sign, rows, cols, 1 + (rows + cols) % 3);
    }
    rotate_rows_case(harness, sign, 100, 32, 11);  // more rows of X than pass together
    rotate_rows_case(harness, sign, 7, 5, 0);
  }
}

}  // namespace conformance
