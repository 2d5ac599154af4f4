/* Moving and widening rows: load_rows and load_csr. Both compute in double and round once, so results are exact. */
#include <cmath>
#include <limits>

#include "case.h"

namespace conformance {

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();

bool can_load(int src, int dst) {
  return dst == GRAMIAN_F64 || (src != GRAMIAN_I32 && src != GRAMIAN_I64);
}

template <class T>
void put(unsigned char* bytes, T value) {
  std::memcpy(bytes, &value, sizeof value);
}

/* A finite stored element: all bit patterns of the small types, subnormal halves and huge integers included. */
void put_random(Random& random, int dtype, unsigned char* bytes) {
  const uint64_t bits = random.bits() >> 5;
  switch (dtype) {
    case GRAMIAN_F32:
      return put(bytes, static_cast<float>(random.uniform(-100.0, 100.0)));
    case GRAMIAN_F64:
      return put(bytes, random.uniform(-100.0, 100.0));
    case GRAMIAN_F16:
      return put(bytes, static_cast<uint16_t>((bits & 0x7C00) == 0x7C00 ? bits & 0x83FF : bits));
    case GRAMIAN_BOOL:
      return put(bytes, static_cast<uint8_t>(bits % 3 == 0 ? 0 : bits));
    case GRAMIAN_U8:
      return put(bytes, static_cast<uint8_t>(bits));
    case GRAMIAN_I16:
      return put(bytes, static_cast<int16_t>(bits));
    case GRAMIAN_I32:
      return put(bytes, static_cast<int32_t>(bits));
    default:
      return put(bytes, static_cast<int64_t>(random.bits()) >> (bits % 48));
  }
}

void put_bad(int dtype, int turn, unsigned char* bytes) {
  const double inf = std::numeric_limits<double>::infinity();
  const double bad = turn % 3 == 0 ? kNan : (turn % 3 == 1 ? inf : -inf);
  const uint16_t half = turn % 3 == 0 ? 0x7E01 : (turn % 3 == 1 ? 0x7C00 : 0xFC00);
  if (dtype == GRAMIAN_F16) put(bytes, half);
  if (dtype == GRAMIAN_F32) put(bytes, static_cast<float>(bad));
  if (dtype == GRAMIAN_F64) put(bytes, bad);
}

bool floating(int dtype) {
  return dtype == GRAMIAN_F16 || dtype == GRAMIAN_F32 || dtype == GRAMIAN_F64;
}

/* (value - shift) * scale as the contract says it: double operations, one final rounding. */
double loaded(double value, const std::vector<double>* shift, const std::vector<double>* scale, int64_t r, int64_t c,
              int dst) {
  double x = value;
  if (shift != nullptr) x = x - (*shift)[static_cast<size_t>(c)];
  if (scale != nullptr) x = x * (*scale)[static_cast<size_t>(r)];
  return round_to(dst, x);
}

/* The optional operands of both entries. */
struct Options {
  bool indexed = false;
  bool shifted = false;
  bool scaled = false;
};

struct Operands {
  std::vector<int64_t> index;
  std::vector<double> shift, scale;
  const int64_t* device_index = nullptr;
  const double* device_shift = nullptr;
  const double* device_scale = nullptr;

  Operands(Case& c, Random& random, const Options& options, int64_t rows, int64_t cols, int64_t source_rows) {
    index.resize(static_cast<size_t>(rows));
    for (int64_t r = 0; r < rows; ++r) {
      index[static_cast<size_t>(r)] = options.indexed ? random.index(source_rows) : r;
    }
    shift.resize(static_cast<size_t>(cols));
    for (double& value : shift) value = random.uniform(-10.0, 10.0);
    scale.resize(static_cast<size_t>(rows));
    for (double& value : scale) value = random.uniform(0.0, 2.0);
    if (options.indexed) device_index = static_cast<const int64_t*>(c.array(index).data());
    if (options.shifted) device_shift = static_cast<const double*>(c.array(shift).data());
    if (options.scaled) device_scale = static_cast<const double*>(c.array(scale).data());
  }
  const std::vector<double>* shift_or_null() const { return device_shift != nullptr ? &shift : nullptr; }
  const std::vector<double>* scale_or_null() const { return device_scale != nullptr ? &scale : nullptr; }
};

/* --- load_rows ----------------------------------------------------------------------------------------------- */

enum Layout {
  kPacked,
  kPadded,
  kColumnMajor,
  kReversedRows,
  kReversedColumns,
  kSameRow,
  kSameColumn,
  kOddSpacing,
  kLayouts
};

struct Strides {
  int64_t row, col;
};

Strides strides_of(int layout, int64_t size, int64_t rows, int64_t cols) {
  switch (layout) {
    case kPadded:
      return {cols * size + 5, size};  // odd pitch: rows are unaligned
    case kColumnMajor:
      return {size, (rows + 1) * size};
    case kReversedRows:
      return {-cols * size, size};
    case kReversedColumns:
      return {cols * size, -size};
    case kSameRow:
      return {0, size};
    case kSameColumn:
      return {size, 0};
    case kOddSpacing:
      return {cols * (2 * size + 1), 2 * size + 1};
    default:
      return {cols * size, size};
  }
}

/* bad_rows: source rows (before row_index) that get a NaN or an infinity in one column. */
void load_rows_case(Harness& harness, int src, int dst, int layout, int64_t rows, int64_t cols, const Options& options,
                    const std::vector<int64_t>& bad_rows = {}) {
  const std::string what = text("%s to %s layout %d %lld x %lld index %d shift %d scale %d bad %zu", dtype_name(src),
                                dtype_name(dst), layout, ll(rows), ll(cols), int{options.indexed}, int{options.shifted},
                                int{options.scaled}, bad_rows.size());
  harness.run(what, [&](Case& c) {
    const int64_t source_rows = options.indexed ? rows + 3 : rows;
    const auto size = static_cast<int64_t>(size_of(src));
    const Strides strides = strides_of(layout, size, source_rows, cols);
    // Where element [0, 0] lies, so that the lowest address is the beginning of the block.
    const int64_t origin =
        -(strides.row < 0 ? strides.row * (source_rows - 1) : 0) - (strides.col < 0 ? strides.col * (cols - 1) : 0);
    const int64_t span = rows == 0 || cols == 0
                             ? 0
                             : std::abs(strides.row) * (source_rows - 1) + std::abs(strides.col) * (cols - 1) + size;
    std::vector<unsigned char> bytes(static_cast<size_t>(span), 0xFF);
    const auto at = [&](int64_t r, int64_t j) { return bytes.data() + origin + strides.row * r + strides.col * j; };
    for (int64_t r = 0; r < source_rows && span > 0; ++r) {
      for (int64_t j = 0; j < cols; ++j) put_random(harness.random(), src, at(r, j));
    }
    int turn = 0;
    for (int64_t r : bad_rows) {
      put_bad(src, turn, at(r, turn % 2 == 0 ? cols - 1 : turn % cols));
      ++turn;
    }

    const Operands operands(c, harness.random(), options, rows, cols, source_rows);
    Matrix want(dst, rows, cols);
    int64_t want_bad = -1;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < cols; ++j) {
        const double value = widen(src, at(operands.index[static_cast<size_t>(r)], j));
        if (!std::isfinite(value) && want_bad < 0) want_bad = r;
        want(r, j) = loaded(value, operands.shift_or_null(), operands.scale_or_null(), r, j, dst);
      }
    }
    if (holds_nan(want.v)) c.poisoned(src);
    Buffer& block = c.raw(true, bytes.data(), bytes.size(), static_cast<size_t>(layout) % 3);
    const unsigned char* first = static_cast<const unsigned char*>(block.data()) + (span > 0 ? origin : 0);
    Buffer& out = c.output(Matrix(dst, rows, cols, kNan));
    int64_t first_bad = -7;
    c.expect_status(c.table().load_rows(c.ctx(), src, first, strides.row, strides.col, operands.device_index, rows,
                                        cols, dst, out.data(), out.ld, operands.device_shift, operands.device_scale,
                                        &first_bad));
    c.same(c.fetch(out), want);
    c.expect(first_bad == want_bad, "first_bad is %lld, should be %lld", ll(first_bad), ll(want_bad));
  });
}

Options options_of(size_t turn) {
  return {(turn & 1) != 0, (turn & 2) != 0, (turn & 4) != 0};
}

}  // namespace

void cases_load_rows(Harness& harness) {
  const std::vector<int64_t> sizes = edge_sizes(257);
  size_t turn = 0;
  for (int src = GRAMIAN_F32; src <= GRAMIAN_I64; ++src) {
    for (int dst : {GRAMIAN_F32, GRAMIAN_F64}) {
      if (!can_load(src, dst)) continue;
      for (int layout = 0; layout < kLayouts; ++layout) {
        for (size_t flags = 0; flags < 8; ++flags) {
          load_rows_case(harness, src, dst, layout, 7, 9 + static_cast<int64_t>(flags), options_of(flags));
        }
      }
      for (size_t t = 0; t < sizes.size(); ++t) {
        load_rows_case(harness, src, dst, kPacked, sizes[t], sizes[(5 * t + 3) % sizes.size()], options_of(turn));
        load_rows_case(harness, src, dst, static_cast<int>(turn) % kLayouts, 3, sizes[t], options_of(turn + 3));
        ++turn;
      }
      if (!floating(src)) continue;
      for (int layout : {kPacked, kColumnMajor, kReversedRows, kReversedColumns, kOddSpacing}) {
        for (size_t flags = 0; flags < 8; ++flags) {
          load_rows_case(harness, src, dst, layout, 33, 17, options_of(flags), {32});
          load_rows_case(harness, src, dst, layout, 33, 17, options_of(flags), {20, 5, 6});
          load_rows_case(harness, src, dst, layout, 9, 3, options_of(flags), {0, 1, 2, 3, 4, 5, 6, 7, 8});
        }
      }
      load_rows_case(harness, src, dst, kSameRow, 5, 9, options_of(0), {0});
    }
  }
}

/* --- load_csr ------------------------------------------------------------------------------------------------ */

namespace {

/* Rows of 0 to 1.5 cols entries in any order. Where a column repeats, the terms of every duplicate are multiples of
 * 2^-30 below 2^11 and the shift is zero there, so the sum is exact in double in any order (and wrong in float). */
void load_csr_case(Harness& harness, int src, int index_dtype, int dst, int64_t rows, int64_t cols,
                   const Options& options, bool duplicates, const std::vector<int64_t>& bad_rows = {}) {
  const std::string what =
      text("%s index %s to %s %lld x %lld index %d shift %d scale %d duplicates %d bad %zu", dtype_name(src),
           dtype_name(index_dtype), dtype_name(dst), ll(rows), ll(cols), int{options.indexed}, int{options.shifted},
           int{options.scaled}, int{duplicates}, bad_rows.size());
  harness.run(what, [&](Case& c) {
    Random& random = harness.random();
    const int64_t source_rows = options.indexed ? rows + 3 : rows;
    const size_t size = size_of(src);
    std::vector<int64_t> indptr = {0}, indices;
    std::vector<unsigned char> values;
    const auto append = [&](int64_t column) -> unsigned char* {
      indices.push_back(column);
      values.resize(values.size() + size);
      return values.data() + values.size() - size;
    };
    for (int64_t r = 0; r < source_rows; ++r) {
      // A walk with a step coprime to cols visits distinct columns in no sorted order.
      const int64_t count = cols == 0 || r % 4 == 2 ? 0 : random.index(cols + 1);
      int64_t column = cols == 0 ? 0 : random.index(cols);
      const int64_t step = cols > 2 && cols % 2 == 1 ? cols / 2 : 1;
      for (int64_t t = 0; t < count; ++t) {
        put_random(random, src, append(column));
        column = (column + step) % cols;
      }
      if (duplicates && cols > 0) {
        const double terms[] = {1.0, 0x1p-30, -1.0};
        for (double term : terms) {
          if (src == GRAMIAN_F32) put(append(cols - 1), static_cast<float>(term));
          if (src == GRAMIAN_F64) put(append(cols - 1), term);
          if (!floating(src)) put_random(random, src, append(cols - 1));
        }
      }
      for (size_t t = 0; t < bad_rows.size(); ++t) {
        if (bad_rows[t] == r) put_bad(src, static_cast<int>(t), append(random.index(cols)));
      }
      indptr.push_back(static_cast<int64_t>(indices.size()));
    }
    if (duplicates && floating(src)) {  // drop random values off the last column: its sums must be exact
      for (size_t t = 0; t < indices.size(); ++t) {
        const double value = widen(src, values.data() + t * size);
        if (indices[t] != cols - 1 || std::fabs(value) == 1.0 || value == 0x1p-30) continue;
        if (src == GRAMIAN_F32) put(values.data() + t * size, 2.0f);
        if (src == GRAMIAN_F64) put(values.data() + t * size, 2.0);
      }
    }
    Options chosen = options;
    chosen.shifted = options.shifted && !duplicates;
    const Operands operands(c, random, chosen, rows, cols, source_rows);
    Matrix want(dst, rows, cols);
    int64_t want_bad = -1;
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<double> dense(static_cast<size_t>(cols), 0.0);
      const auto source = static_cast<size_t>(operands.index[static_cast<size_t>(r)]);
      for (auto t = static_cast<size_t>(indptr[source]); t < static_cast<size_t>(indptr[source + 1]); ++t) {
        const double value = widen(src, values.data() + t * size);
        if (!std::isfinite(value) && want_bad < 0) want_bad = r;
        dense[static_cast<size_t>(indices[t])] += value;
      }
      for (int64_t j = 0; j < cols; ++j) {
        want(r, j) = loaded(dense[static_cast<size_t>(j)], operands.shift_or_null(), operands.scale_or_null(), r, j,
                            dst) +
                     0.0;  // the sign of a zero sum is open
      }
    }
    if (holds_nan(want.v)) c.poisoned(src);
    std::vector<int32_t> narrow_indptr(indptr.begin(), indptr.end()), narrow_indices(indices.begin(), indices.end());
    const bool wide = index_dtype == GRAMIAN_I64;
    Buffer& dindptr = wide ? c.array(indptr) : c.array(narrow_indptr);
    Buffer& dindices = wide ? c.array(indices) : c.array(narrow_indices);
    Buffer& dvalues = c.raw(true, values.data(), values.size(), 0);
    Buffer& out = c.output(Matrix(dst, rows, cols, kNan));
    int64_t first_bad = -7;
    c.expect_status(c.table().load_csr(c.ctx(), src, index_dtype, dindptr.data(), dindices.data(), dvalues.data(),
                                       operands.device_index, rows, cols, dst, out.data(), out.ld,
                                       operands.device_shift, operands.device_scale, &first_bad));
    Matrix got = c.fetch(out);
    for (double& value : got.v) value += 0.0;
    c.same(got, want);
    c.expect(first_bad == want_bad, "first_bad is %lld, should be %lld", ll(first_bad), ll(want_bad));
  });
}

}  // namespace

void cases_load_csr(Harness& harness) {
  const std::vector<int64_t> sizes = edge_sizes(129);
  size_t turn = 0;
  for (int src = GRAMIAN_F32; src <= GRAMIAN_I64; ++src) {
    for (int dst : {GRAMIAN_F32, GRAMIAN_F64}) {
      if (!can_load(src, dst)) continue;
      for (int index_dtype : {GRAMIAN_I32, GRAMIAN_I64}) {
        for (size_t flags = 0; flags < 8; ++flags) {
          load_csr_case(harness, src, index_dtype, dst, 9, 17, options_of(flags), false);
          // Sums of 64-bit integers and of halves are not exact in every order; the other types cover duplicates.
          if (src != GRAMIAN_I64 && src != GRAMIAN_F16) {
            load_csr_case(harness, src, index_dtype, dst, 9, 7, options_of(flags), true);
          }
          if (floating(src)) {
            load_csr_case(harness, src, index_dtype, dst, 17, 9, options_of(flags), false, {11, 4, 5});
            load_csr_case(harness, src, index_dtype, dst, 17, 1, options_of(flags), false, {16});
          }
        }
        for (size_t t = 0; t < sizes.size(); ++t) {
          load_csr_case(harness, src, index_dtype, dst, sizes[t], sizes[(5 * t + 3) % sizes.size()], options_of(turn++),
                        false);
        }
      }
    }
  }
}

}  // namespace conformance
