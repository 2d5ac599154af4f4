#include "gramian/regression/mfac.hpp"

#include <algorithm>
#include <vector>

#include "support/data.h"
#include "support/helpers.h"

namespace {

using gramian::ErrorCode;
using gramian::Mfac;
using gramian::MfacOptions;
using testkit::cpu;
using testkit::expect_error;

MfacOptions options(double ridge, bool dynamic = true) {
  MfacOptions out;
  out.ridge = ridge;
  out.dynamic = dynamic;
  return out;
}

std::vector<double> solved(const Mfac& model, std::vector<double> v) {
  const auto d = model.n_params();
  model.solve({v.data(), static_cast<std::int64_t>(v.size()) / d, d});
  return v;
}

// A window that moved holds what a new one of its last gradients holds, and so do both static ones.
TEST(Mfac, AWindowThatMovedIsTheOneOfItsLastGradients) {
  const std::int64_t d = 70, m = 20, n = 133;
  const std::vector<double> g = testkit::normals<double>(n, d, 1), v = testkit::normals<double>(3, d, 2);
  Mfac moving(cpu(), m, d, options(0.1));
  for (std::int64_t r = 0; r < n;) {
    const std::int64_t count = std::min<std::int64_t>(r % 5 + 1, n - r);
    moving.push(gramian::RowsView::dense<double>({g.data() + r * d, count, d}));
    r += count;
  }
  const std::vector<double> last(g.end() - m * d, g.end());
  Mfac fresh(cpu(), m, d, options(0.1)), fixed(cpu(), m, d, options(0.1, false));
  fresh.push(testkit::rows_of(last, d));
  fixed.push(testkit::rows_of(last, d));
  EXPECT_LE(testkit::difference(solved(moving, v), solved(fresh, v)), 1e-12);
  EXPECT_LE(testkit::difference(solved(fixed, v), solved(fresh, v)), 1e-12);
  std::vector<double> a(static_cast<std::size_t>(d)), b(a), c(a);
  moving.diagonal(a.data());
  fresh.diagonal(b.data());
  fixed.diagonal(c.data());
  EXPECT_LE(testkit::difference(a, b), 1e-12);
  EXPECT_LE(testkit::difference(c, b), 1e-12);
  EXPECT_NEAR(moving.effective_dimension(), fresh.effective_dimension(), 1e-9);
}

TEST(Mfac, SameBitsForAnyNumberOfThreads) {
  std::vector<std::vector<double>> found;
  for (const int threads : {1, 3}) {
    Mfac model(cpu(threads), 30, 2000, options(1e-3));
    const std::vector<double> g = testkit::normals<double>(45, 2000, 3), v = testkit::normals<double>(1, 2000, 4);
    for (std::int64_t r = 0; r < 45; ++r) model.push(gramian::RowsView::dense<double>({g.data() + r * 2000, 1, 2000}));
    found.push_back(solved(model, v));
  }
  EXPECT_EQ(found[0], found[1]);
}

TEST(Mfac, AnErrorChangesNothing) {
  const std::int64_t d = 12;
  Mfac model(cpu(), 4, d, options(1e-3));
  const std::vector<double> g = testkit::normals<double>(6, d, 5), v = testkit::normals<double>(1, d, 6);
  model.push(testkit::rows_of(g, d));
  const std::vector<double> before = solved(model, v);
  std::vector<double> bad(g.begin(), g.begin() + 2 * d);
  bad[static_cast<std::size_t>(d + 3)] = NAN;
  expect_error(ErrorCode::non_finite, "row 1", [&] { model.push(testkit::rows_of(bad, d)); });
  std::fill(bad.begin(), bad.end(), 1e160);
  EXPECT_THROW(model.push(testkit::rows_of(bad, d)), gramian::Error);
  EXPECT_TRUE(testkit::same_bits(solved(model, v), before));
  expect_error(ErrorCode::invalid_argument, "age", [&] { model.replace(4, testkit::rows_of(g, d).slice(0, 1)); });
  expect_error(ErrorCode::shape_mismatch, "parameters", [&] { model.push(testkit::rows_of(g, d - 1).slice(0, 1)); });
}

}  // namespace
