#include "gramian/core/rows_view.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "gramian/core/error.hpp"

namespace {

using gramian::DType;
using gramian::RowsView;

double dense_at(const RowsView& x, std::int64_t r, std::int64_t c) {
  const std::int64_t row = x.row_index != nullptr ? x.row_index[r] : r;
  return *reinterpret_cast<const double*>(static_cast<const char*>(x.data) + row * x.row_stride + c * x.col_stride);
}

TEST(RowsView, SlicesDenseRows) {
  const std::vector<double> data = {0, 1, 9, 10, 11, 9, 20, 21, 9, 30, 31, 9};
  const RowsView x = RowsView::dense(gramian::MatrixView<const double>(data.data(), 4, 2, 3));
  const RowsView part = x.slice(1, 2).slice(1, 1);
  EXPECT_EQ(part.rows, 1);
  EXPECT_EQ(part.first_row, 2);
  EXPECT_EQ(dense_at(part, 0, 0), 20);
  EXPECT_EQ(dense_at(part, 0, 1), 21);

  const std::vector<std::int64_t> picks = {3, 0, 2};
  RowsView picked = x;
  picked.rows = 3;
  picked.row_index = picks.data();
  EXPECT_EQ(dense_at(picked.slice(1, 2), 0, 1), 1);
  EXPECT_EQ(dense_at(picked.slice(1, 2), 1, 1), 21);

  RowsView backwards = x;
  backwards.data = &data[9];
  backwards.row_stride = -x.row_stride;
  EXPECT_EQ(dense_at(backwards.slice(1, 3), 2, 0), 0);
}

TEST(RowsView, SlicesStayInside) {
  const std::vector<double> data(6);
  const RowsView x = RowsView::dense(gramian::MatrixView<const double>(data.data(), 3, 2));
  EXPECT_EQ(x.slice(3, 0).rows, 0);
  for (const auto& range : {std::pair<int, int>{-1, 1}, {0, 4}, {4, 0}, {2, -1}}) {
    EXPECT_THROW(x.slice(range.first, range.second), gramian::Error);
  }
  EXPECT_EQ(RowsView().slice(0, 0).rows, 0);
}

struct Csr {
  std::vector<std::int32_t> indptr = {0, 2, 2, 5};
  std::vector<std::int32_t> indices = {0, 3, 1, 1, 2};
  std::vector<float> values = {1, 2, 3, 4, 5};

  RowsView view() const { return RowsView::csr(3, 4, indptr.data(), indices.data(), values.data()); }
};

std::string complaint(const RowsView& x, std::int64_t stored) {
  try {
    gramian::check_csr(x, stored);
  } catch (const gramian::Error& error) {
    EXPECT_EQ(error.code(), gramian::ErrorCode::invalid_argument);
    return error.what();
  }
  return "";
}

TEST(RowsView, SlicesSparseRows) {
  const Csr csr;
  const RowsView part = csr.view().slice(2, 1);
  EXPECT_EQ(static_cast<const std::int32_t*>(part.indptr)[0], 2);
  EXPECT_EQ(part.indices, csr.indices.data());
  EXPECT_EQ(part.first_row, 2);
  EXPECT_EQ(complaint(part, 5), "");
}

TEST(CheckCsr, AcceptsGoodOnes) {
  const Csr csr;
  EXPECT_EQ(complaint(csr.view(), 5), "");
  RowsView empty;
  empty.sparse = true;
  EXPECT_EQ(complaint(empty, 0), "");
  const std::vector<std::int64_t> indptr = {1, 2}, indices = {9, 0};
  const RowsView wide = RowsView::csr(1, 4, indptr.data(), indices.data(), csr.values.data());
  EXPECT_EQ(wide.index_dtype, DType::i64);
  EXPECT_EQ(wide.dtype, DType::f32);
  EXPECT_EQ(complaint(wide, 2), "");  // the bad index 9 belongs to no row
}

TEST(CheckCsr, NamesWhatIsWrong) {
  Csr csr;
  csr.indices[3] = 4;
  EXPECT_EQ(complaint(csr.view(), 5), "X.indices[3] = 4 is outside [0, 4) (row 2)");
  csr.indices[3] = -1;
  EXPECT_EQ(complaint(csr.view(), 5), "X.indices[3] = -1 is outside [0, 4) (row 2)");
  EXPECT_EQ(complaint(csr.view().slice(2, 1), 5), "X.indices[3] = -1 is outside [0, 4) (row 2)");

  Csr falling;
  falling.indptr = {0, 2, 1, 5};
  EXPECT_EQ(complaint(falling.view(), 5), "X.indptr[2] = 1 is below X.indptr[1] = 2 (row 1)");
  Csr negative;
  negative.indptr[0] = -3;
  EXPECT_EQ(complaint(negative.view(), 5), "X.indptr[0] = -3 is negative (row 0)");
  EXPECT_EQ(complaint(Csr().view(), 4), "X.indptr[3] = 5 lies beyond the 4 stored entries (row 2)");

  Csr fine;
  RowsView x = fine.view();
  x.index_dtype = DType::i16;
  EXPECT_EQ(complaint(x, 5), "X: the index arrays of a CSR matrix are int32 or int64, not int16");
  x = fine.view();
  x.indptr = nullptr;
  EXPECT_EQ(complaint(x, 5), "X.indptr is missing");
  x = fine.view();
  x.values = nullptr;
  EXPECT_EQ(complaint(x, 5), "X.indices or its values are missing");
}

TEST(CheckCsr, LooksAtPickedRowsOnly) {
  Csr csr;
  csr.indices[0] = 77;
  const std::vector<std::int64_t> picks = {2, 1, 2, 2};
  RowsView x = csr.view();
  x.rows = 4;
  x.row_index = picks.data();
  EXPECT_EQ(complaint(x, 5), "");
  const std::vector<std::int64_t> negative = {1, -2};
  x.rows = 2;
  x.row_index = negative.data();
  EXPECT_EQ(complaint(x, 5), "X.row_index[1] = -2 is negative");
}

}  // namespace
