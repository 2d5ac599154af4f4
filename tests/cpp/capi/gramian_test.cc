// What the C interface does with sizes: of its structures and of rows. tests/cpp/install/stream.c is the whole tour in
// C.
#include "gramian/capi/gramian.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/helpers.h"

namespace {

using testkit::has_text;

// As programs of the first interface were compiled.
constexpr std::size_t kFirstRows = 48;

class CInterface : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(gramian_classifier_create(2, nullptr, &model_), GRAMIAN_OK) << gramian_last_error();
    rows_.struct_size = sizeof rows_;
    rows_.element = GRAMIAN_FLOAT64;
    rows_.data = values_;
    rows_.n_rows = 4;
    rows_.n_cols = 2;
    ASSERT_EQ(gramian_classifier_partial_fit(model_, &rows_, labels_, nullptr), GRAMIAN_OK) << gramian_last_error();
  }
  void TearDown() override { gramian_classifier_free(model_); }

  int predict(const gramian_rows& rows) { return gramian_classifier_predict(model_, &rows, predicted_); }

  const double values_[8] = {0, 0, 0, 1, 5, 5, 6, 5};
  const std::int64_t labels_[4] = {3, 3, 7, 7};
  std::int64_t predicted_[4] = {-1, -1, -1, -1};
  gramian_rows rows_ = {};
  gramian_classifier* model_ = nullptr;
};

TEST_F(CInterface, RowsOfTheFirstInterfaceAreReadNoFurtherThanTheyReach) {
  std::vector<unsigned char> exact(kFirstRows);  // a sanitizer sees a byte too many
  rows_.struct_size = kFirstRows;
  std::memcpy(exact.data(), &rows_, kFirstRows);
  const auto* rows = reinterpret_cast<const gramian_rows*>(exact.data());
  ASSERT_EQ(gramian_classifier_predict(model_, rows, predicted_), GRAMIAN_OK) << gramian_last_error();
  EXPECT_EQ(std::memcmp(predicted_, labels_, sizeof labels_), 0);
}

TEST_F(CInterface, ARefusedRowLeavesTheScoresAlone) {
  const std::int64_t n = 20000;
  std::vector<double> values(static_cast<std::size_t>(2 * n), 1.0), scores(static_cast<std::size_t>(2 * n), -7.0);
  values.back() = std::numeric_limits<double>::quiet_NaN();
  rows_.data = values.data();
  rows_.n_rows = n;
  EXPECT_EQ(gramian_classifier_decision_function(model_, &rows_, scores.data(), 2 * n), GRAMIAN_ERROR_INVALID);
  EXPECT_TRUE(has_text(gramian_last_error(), "row 19999")) << gramian_last_error();
  EXPECT_TRUE(std::all_of(scores.begin(), scores.end(), [](double score) { return score == -7; }));
  values.back() = 1;
  EXPECT_EQ(gramian_classifier_decision_function(model_, &rows_, scores.data(), 2 * n), GRAMIAN_OK);
  EXPECT_TRUE(std::none_of(scores.begin(), scores.end(), [](double score) { return score == -7; }));
}

TEST_F(CInterface, ReservedFieldsAreZero) {
  rows_.reserved = 4;
  EXPECT_EQ(predict(rows_), GRAMIAN_ERROR_INVALID);
  EXPECT_TRUE(has_text(gramian_last_error(), "rows.reserved")) << gramian_last_error();
  gramian_classifier_options options;
  gramian_classifier_options_init(&options, sizeof options);
  options.reserved = 5;
  gramian_classifier* made = nullptr;
  EXPECT_EQ(gramian_classifier_create(2, &options, &made), GRAMIAN_ERROR_INVALID);
  EXPECT_TRUE(has_text(gramian_last_error(), "options.reserved")) << gramian_last_error();
}

TEST_F(CInterface, EverySizeFromTheFirstInterfaceToThisOneIsRead) {
  for (std::size_t size = kFirstRows; size <= sizeof(gramian_rows); ++size) {
    rows_.struct_size = size;
    EXPECT_EQ(predict(rows_), GRAMIAN_OK) << size << gramian_last_error();
  }
}

TEST_F(CInterface, OtherSizesOfRowsAreRefused) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, kFirstRows - 1}) {
    rows_.struct_size = size;
    EXPECT_EQ(predict(rows_), GRAMIAN_ERROR_INVALID);
    EXPECT_TRUE(has_text(gramian_last_error(), "rows.struct_size is " + std::to_string(size))) << gramian_last_error();
  }
  for (const std::size_t size : {sizeof(gramian_rows) + 1, std::size_t{4096}, SIZE_MAX}) {
    rows_.struct_size = size;
    EXPECT_EQ(predict(rows_), GRAMIAN_ERROR_UNSUPPORTED);
    EXPECT_TRUE(has_text(gramian_last_error(), "newer interface")) << gramian_last_error();
  }
  EXPECT_EQ(predicted_[0], -1);
}

TEST_F(CInterface, OptionsHaveDefaultsBeyondTheirSize) {
  gramian_classifier_options options;
  std::memset(&options, 0xff, sizeof options);  // which no field would accept
  options.struct_size = offsetof(gramian_classifier_options, fit_intercept);
  options.ridge = 2;
  gramian_classifier* made = nullptr;
  ASSERT_EQ(gramian_classifier_create(2, &options, &made), GRAMIAN_OK) << gramian_last_error();
  gramian_classifier_free(made);
  made = nullptr;
  for (const auto& [size, wanted] : {std::pair<std::size_t, int>{0, GRAMIAN_ERROR_INVALID},
                                     {sizeof options + 1, GRAMIAN_ERROR_UNSUPPORTED},
                                     {sizeof options, GRAMIAN_ERROR_INVALID}}) {
    options.struct_size = size;
    EXPECT_EQ(gramian_classifier_create(2, &options, &made), wanted) << size << gramian_last_error();
    EXPECT_EQ(made, nullptr);
  }
}

TEST_F(CInterface, MoreRowsThanAnyMemoryHoldsAreAnErrorOfMemory) {
  for (const int shift : {59, 60, 61, 62}) {
    rows_.n_rows = std::int64_t{1} << shift;
    EXPECT_EQ(predict(rows_), GRAMIAN_ERROR_MEMORY) << shift << gramian_last_error();
    EXPECT_EQ(gramian_classifier_predict_places(model_, &rows_, predicted_), GRAMIAN_ERROR_MEMORY);
    double scores[8] = {};
    EXPECT_EQ(gramian_classifier_decision_function(model_, &rows_, scores, 8), GRAMIAN_ERROR_MEMORY) << shift;
    EXPECT_EQ(gramian_classifier_partial_fit(model_, &rows_, labels_, nullptr), GRAMIAN_ERROR_MEMORY) << shift;
  }
  EXPECT_EQ(predicted_[0], -1);
}

// Rows so narrow that their bytes can be counted, but not the places of a prediction; and scores that cannot.
TEST_F(CInterface, AnAnswerThatNoMemoryHoldsIsAnErrorOfMemory) {
  gramian_classifier* narrow = nullptr;
  ASSERT_EQ(gramian_classifier_create(1, nullptr, &narrow), GRAMIAN_OK);
  const unsigned char bytes[4] = {0, 0, 1, 1};
  gramian_rows rows = {};
  rows.struct_size = sizeof rows;
  rows.element = GRAMIAN_UINT8;
  rows.data = bytes;
  rows.n_rows = 4;
  rows.n_cols = 1;
  ASSERT_EQ(gramian_classifier_partial_fit(narrow, &rows, labels_, nullptr), GRAMIAN_OK) << gramian_last_error();
  rows.n_rows = std::int64_t{1} << 62;
  EXPECT_EQ(gramian_classifier_predict(narrow, &rows, predicted_), GRAMIAN_ERROR_MEMORY) << gramian_last_error();
  EXPECT_EQ(gramian_classifier_predict_places(narrow, &rows, predicted_), GRAMIAN_ERROR_MEMORY);
  double scores[8] = {};
  EXPECT_EQ(gramian_classifier_decision_function(narrow, &rows, scores, 8), GRAMIAN_ERROR_MEMORY)
      << gramian_last_error();
  gramian_classifier_free(narrow);
}

TEST_F(CInterface, StridesAndWidthsThatDoNotFitAreRefused) {
  gramian_rows rows = rows_;
  rows.row_stride = INT64_MIN;
  EXPECT_EQ(predict(rows), GRAMIAN_ERROR_INVALID);
  rows.row_stride = -(INT64_MAX / 2);
  EXPECT_EQ(predict(rows), GRAMIAN_ERROR_MEMORY);
  rows = rows_;
  rows.n_cols = std::int64_t{1} << 61;
  EXPECT_EQ(predict(rows), GRAMIAN_ERROR_MEMORY);
  rows = rows_;
  rows.data = values_ + 6;  // from the last row up
  rows.row_stride = -16;
  ASSERT_EQ(predict(rows), GRAMIAN_OK) << gramian_last_error();
  EXPECT_EQ(predicted_[0], 7);
  EXPECT_EQ(predicted_[3], 3);
}

}  // namespace
