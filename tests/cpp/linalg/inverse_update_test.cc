#include "gramian/linalg/inverse_update.hpp"

#include <utility>
#include <vector>

#include "gramian/linalg/ops.hpp"
#include "support/data.h"
#include "support/helpers.h"

namespace {

using gramian::ErrorCode;
using gramian::Exec;
using gramian::MatrixView;
using gramian::RunningInverse;
using gramian::RunningInverseOptions;
using testkit::cpu;
using testkit::expect_error;

RunningInverse make(const Exec& exec, std::int64_t d, double diagonal, bool keep = true) {
  RunningInverseOptions options;
  options.keep_matrix = keep;
  return RunningInverse(exec, d, diagonal, options);
}

std::vector<double> dense(const Exec& exec, const RunningInverse& p) {
  std::vector<double> out(static_cast<std::size_t>(p.size() * p.size()));
  gramian::symmetric_to_dense(exec, p.inverse(), {out.data(), p.size(), p.size()});
  return out;
}

// Around the edges of tiles; the residual is the oracle, the reference definitions of Python are the other.
TEST(RunningInverse, FollowsItsMatrix) {
  for (const std::int64_t d : {1, 5, 64, 300, 520}) {
    for (const std::int64_t k : {1, 3, 70}) {
      const Exec exec = cpu();
      RunningInverse p = make(exec, d, 2.0);
      const std::vector<double> x = testkit::normals<double>(k, d, 1);
      p.update(0.9, 0.5, {x.data(), k, d});
      EXPECT_LE(p.residual(), 1e-12) << d << " features, " << k << " rows";
      p.update(1.0, -0.5, {x.data(), k, d});
      EXPECT_LE(p.residual(), 1e-10) << d << " features, " << k << " rows";
      // All that is left is 0.9 * 2 I.
      const std::vector<double> found = dense(exec, p);
      for (std::int64_t i = 0; i < d; ++i)
        for (std::int64_t j = 0; j < d; ++j)
          EXPECT_NEAR(found[static_cast<std::size_t>(i * d + j)], i == j ? 1 / 1.8 : 0.0, 1e-9);
      EXPECT_NEAR(p.trace(), static_cast<double>(d) / 1.8, 1e-7 * static_cast<double>(d));
    }
  }
}

TEST(RunningInverse, SameBitsForAnyNumberOfThreads) {
  std::vector<std::vector<double>> found;
  for (const int threads : {1, 2, 5}) {
    const Exec exec = cpu(threads);
    RunningInverse p = make(exec, 500, 1.0);
    const std::vector<double> x = testkit::normals<double>(3, 500, 2);
    p.update(0.99, 1.0, {x.data(), 3, 500});
    found.push_back(dense(exec, p));
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[0], found[2]);
}

TEST(RunningInverse, RefusesWhatIsNotThere) {
  const Exec exec = cpu();
  RunningInverse p = make(exec, 4, 1e-6);
  const std::vector<double> x = {1, 2, 3, 4, 0, 0, 1, 0};
  p.update(1.0, 1.0, {x.data(), 2, 4});
  const std::vector<double> before = dense(exec, p);
  expect_error(ErrorCode::not_positive_definite, "without row 0", [&] { p.update(1.0, -1.01, {x.data(), 1, 4}); });
  EXPECT_EQ(dense(exec, p), before);
  expect_error(ErrorCode::invalid_argument, "forgetting", [&] { p.update(1.5, 1.0, {x.data(), 1, 4}); });
  expect_error(ErrorCode::shape_mismatch, "features", [&] { p.update(1.0, 1.0, {x.data(), 1, 3}); });
  const RunningInverse bare = make(exec, 4, 1.0, false);
  expect_error(ErrorCode::invalid_argument, "not kept", [&] { bare.residual(); });
}

TEST(RunningInverse, ChangesInTwoPartsAreOneUpdate) {
  const Exec exec = cpu();
  const std::vector<double> x = testkit::normals<double>(3, 70, 6);
  RunningInverse one = make(exec, 70, 2.0), two = make(exec, 70, 2.0);
  one.update(0.9, 0.5, {x.data(), 3, 70});
  const std::vector<double> before = dense(exec, two);
  RunningInverse::Change change = two.prepare(0.9, 0.5, {x.data(), 3, 70});
  EXPECT_EQ(dense(exec, two), before);
  two.commit(std::move(change));
  EXPECT_EQ(dense(exec, one), dense(exec, two));
  EXPECT_EQ(two.updates(), 1);
  // A blend and the rows behind it, against the one after the other.
  RunningInverse blended = make(exec, 70, 2.0, false), apart = make(exec, 70, 2.0, false);
  blended.commit(blended.prepare(1.0, 1.0, {x.data(), 3, 70}, {0.8, 0.3}));
  apart.blend({0.8, 0.3});
  apart.update(1.0, 1.0, {x.data(), 3, 70});
  EXPECT_LE(testkit::difference(dense(exec, blended), dense(exec, apart)), 1e-13);
  EXPECT_NEAR(blended.trace(), apart.trace(), 1e-12);
  const RunningInverse kept = make(exec, 70, 2.0);
  expect_error(ErrorCode::invalid_argument, "blended", [&] { kept.prepare(1.0, 1.0, {x.data(), 3, 70}, {0.8, 0.3}); });
}

TEST(RunningInverse, LongRowsAreRefusedOrRenewIt) {
  const Exec exec = cpu();
  const std::vector<double> x = {6e7, 8e7, 0}, far = {1e160, 0, 0};
  RunningInverse bare = make(exec, 3, 1.0, false), kept = make(exec, 3, 1.0);
  const std::vector<double> before = dense(exec, bare);
  expect_error(ErrorCode::not_positive_definite, "row 0", [&] { bare.update(1.0, 1.0, {x.data(), 1, 3}); });
  expect_error(ErrorCode::non_finite, "overflow", [&] { bare.update(1.0, 1.0, {far.data(), 1, 3}); });
  EXPECT_EQ(dense(exec, bare), before);
  // Of I + x x' a factor knows no more.
  expect_error(ErrorCode::not_positive_definite, "row 0", [&] { kept.update(1.0, 1.0, {x.data(), 1, 3}); });
  EXPECT_EQ(dense(exec, kept), before);
  EXPECT_EQ(kept.updates(), 0);
  // Rows in all directions: what begins at 1e20 ends at 1, and of that a difference has no digit.
  const std::vector<double> all = {1, 0, 0, 0.6, 0.8, 0, 0, 0, 2};
  RunningInverse small = make(exec, 3, 1e-20);
  small.update(1.0, 1.0, {all.data(), 3, 3});
  EXPECT_EQ(small.refreshes(), 1);
  EXPECT_LE(small.residual(), 1e-14);
  RunningInverse lost = make(exec, 3, 1e-20, false);
  expect_error(ErrorCode::not_positive_definite, "row 0", [&] { lost.update(1.0, 1.0, {all.data(), 3, 3}); });
  RunningInverseOptions careless;
  careless.refuse_loss = false;
  RunningInverse lifted(exec, 3, 1.0, careless);
  lifted.commit(lifted.prepare(1.0, 1.0, {x.data(), 1, 3}, {0.9, 0.1}));
  lifted.blend({0.9, 0.1});
  EXPECT_NEAR(lifted.trace(), 2 * 1.0 + 0.1, 1e-12);
}

TEST(RunningInverse, HoldsItsTraceAndFindsBack) {
  const Exec exec = cpu();
  RunningInverseOptions options;
  options.keep_matrix = true;
  options.max_trace = 100;
  RunningInverse p(exec, 6, 1.0, options);
  const std::vector<double> same = {1, 0, 0, 0, 0, 0};
  for (int step = 0; step < 2000; ++step) p.update(0.9, 1.0, {same.data(), 1, 6});
  EXPECT_LE(p.trace(), 100);
  EXPECT_GT(p.held_back(), 1900);
  EXPECT_LE(p.residual(), 1e-9);
  p.refine();
  EXPECT_LE(p.residual(), 1e-13);
  p.rebuild();
  EXPECT_LE(p.residual(), 1e-13);
  EXPECT_EQ(p.refreshes(), 2);
}

}  // namespace
