/* Softmax, its logarithm and log sum exp: of rows, of columns, and in two passes. */
#include <algorithm>
#include <cmath>
#include <limits>

#include "case.h"

namespace conformance {

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();
const long double kLog2 = 0.693147180559945309417232121458176568L;
/* The same in two parts: a million times the first is exact in a long double. */
const long double kLog2High = 0x1.62e42feep-1L, kLog2Low = 1.9082149292705878161442656807550e-10L;
const int kDtypes[] = {GRAMIAN_F32, GRAMIAN_F64};
const int kKinds[] = {GRAMIAN_SOFTMAX, GRAMIAN_LOG_SOFTMAX, GRAMIAN_LOGSUMEXP};

/* How far exp may be off, a sum of 16 terms a lane before it becomes a double, and the last division, in eps. */
constexpr double kSteps = 24.0;

const char* kind_name(int kind) {
  return kind == GRAMIAN_SOFTMAX ? "softmax" : kind == GRAMIAN_LOG_SOFTMAX ? "log" : "sum";
}

double largest_number(int dtype) {
  return dtype == GRAMIAN_F32 ? static_cast<double>(std::numeric_limits<float>::max())
                              : std::numeric_limits<double>::max();
}

/* One row: values and bounds. The rounding of a difference from the largest is made good; where a scale multiplies it,
 * an exponent d is off by eps |d|, and so is what it makes, relatively; the sum is off by the mean of that. */
void reference_row(int dtype, int kind, bool subnormals, const std::vector<double>& x, double scale, Estimate& want,
                   int64_t r) {
  const double factor = round_to(dtype, scale), e = eps(dtype);
  double largest = -kInf;
  bool nan = false;
  for (double value : x) {
    largest = std::max(largest, value);
    nan |= std::isnan(value);
  }
  const bool lost = nan || std::isinf(largest);
  long double sum = 0, off = 0;
  for (double value : x) {
    const long double d = (static_cast<long double>(value) - largest) * factor;
    if (lost || std::isinf(d)) continue;
    sum += std::exp(d);
    off += std::exp(d) * -d;
  }
  const double rounded = scale == 1.0 ? 0.0 : 1.0;
  const double mean_off = lost ? 0.0 : rounded * static_cast<double>(off / sum);
  if (kind == GRAMIAN_LOGSUMEXP) {
    const long double value = nan ? kNan : lost ? largest : static_cast<long double>(largest) * scale + std::log(sum);
    want.value[want.at(r, 0)] = value;
    want.bound[want.at(r, 0)] = e * (kSteps + mean_off + std::fabs(static_cast<double>(value)) + std::fabs(largest));
    return;
  }
  for (size_t c = 0; c < x.size(); ++c) {
    const size_t at = want.at(r, static_cast<int64_t>(c));
    const long double d = (static_cast<long double>(x[c]) - largest) * factor;
    if (lost) {
      want.value[at] = kNan;
    } else if (kind == GRAMIAN_LOG_SOFTMAX) {
      want.value[at] = d < -largest_number(dtype) ? -kInf : d - std::log(sum);
      want.bound[at] = e * (kSteps + mean_off + 3.0 * std::fabs(static_cast<double>(d)));
    } else {
      const long double value = std::isinf(d) ? 0.0L : std::exp(d) / sum;
      const double relative = d < -2000.0L ? 0.0 : kSteps + mean_off - rounded * static_cast<double>(d);
      const double least = smallest_normal(dtype);
      want.value[at] = value;
      want.bound[at] = e * relative * static_cast<double>(value) + (subnormals ? 4.0 * e * least
                                                                    : static_cast<double>(value) < least * 1.001 ? least
                                                                                                                 : 0.0);
    }
  }
}

/* Results that must be exactly 0 are. */
void expect_flushed(Case& c, const Matrix& got, const Estimate& want, int dtype) {
  for (size_t t = 0; t < got.v.size(); ++t) {
    if (want.value[t] < 0.999L * smallest_normal(dtype)) {
      c.expect(got.v[t] == 0.0, "element %lld is %g, should be flushed", ll(static_cast<int64_t>(t)), got.v[t]);
    }
  }
}

Matrix transpose(const Matrix& x) {
  Matrix out(x.dtype, x.cols, x.rows);
  out.was_nan = x.was_nan;
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.cols; ++c) out(c, r) = x(r, c);
  }
  return out;
}

struct Setting {
  int kind = GRAMIAN_SOFTMAX;
  int flags = 0;
  double scale = 1.0;
  bool columns = false;
  bool in_place = false;
};

/* x holds one softmax per row; for the column entry it is transposed on the way in and out. */
void softmax_case(Harness& harness, const char* name, const Matrix& x, const Setting& s) {
  const std::string what = text("%s %s %s %lld x %lld scale %g flags %d%s", dtype_name(x.dtype), kind_name(s.kind),
                                name, ll(x.rows), ll(x.cols), s.scale, s.flags, s.in_place ? " in place" : "");
  harness.run(what, [&](Case& c) {
    if (holds_nan(x.v)) c.poisoned(x.dtype);
    const bool subnormals = (s.flags & GRAMIAN_SOFTMAX_SUBNORMALS) != 0;
    const int64_t width = s.kind == GRAMIAN_LOGSUMEXP ? 1 : x.cols;
    Estimate want(x.rows, width);
    for (int64_t r = 0; r < x.rows; ++r) {
      const std::vector<double> row(x.v.begin() + r * x.cols, x.v.begin() + (r + 1) * x.cols);
      reference_row(x.dtype, s.kind, subnormals, row, s.scale, want, r);
    }
    const Matrix source = s.columns ? transpose(x) : x;
    const Matrix empty = s.columns ? Matrix(x.dtype, width, x.rows, kNan) : Matrix(x.dtype, x.rows, width, kNan);
    Buffer& out = c.output(s.in_place ? source : empty);
    Buffer& in = s.in_place ? out : c.input(source);
    const auto entry = s.columns ? c.table().softmax_columns : c.table().softmax;
    c.expect_status(entry(c.ctx(), x.dtype, s.kind, s.flags, source.rows, source.cols, s.scale, in.data(), in.ld,
                          out.data(), out.ld));
    const Matrix got = s.columns ? transpose(c.fetch(out)) : c.fetch(out);
    c.close(got, want);
    if (s.kind == GRAMIAN_SOFTMAX && !subnormals) expect_flushed(c, got, want, x.dtype);
  });
}

Matrix spread(Harness& harness, int dtype, int64_t rows, int64_t cols, double reach) {
  Matrix x = random_matrix(harness.random(), dtype, rows, cols);
  for (double& value : x.v) value = round_to(dtype, value * reach);
  return x;
}

/* One row with a NaN, one with an infinity, one with nothing but -inf, among rows of numbers. */
Matrix mixed_rows(Harness& harness, int dtype, int64_t cols, bool infinities) {
  Matrix x = spread(harness, dtype, 21, cols, 4.0);
  x(6, cols / 2) = kNan;
  if (!infinities) return x;
  x(2, cols - 1) = kInf;
  for (int64_t c = 0; c < cols; ++c) x(9, c) = -kInf;
  return x;
}

/* Rows that ask for the limits. */
std::vector<std::pair<const char*, Matrix>> edge_rows(int dtype) {
  const double far = largest_number(dtype), gone = dtype == GRAMIAN_F32 ? -90.0 : -712.0;
  const std::vector<std::pair<const char*, std::vector<double>>> rows = {
      {"one", {3.0}},
      {"equal", std::vector<double>(37, 2.5)},
      {"some -inf", {-kInf, 1.0, -kInf, 0.5, 2.0}},
      {"all -inf", {-kInf, -kInf, -kInf}},
      {"+inf", {1.0, kInf, 2.0}},
      {"two +inf", {kInf, 1.0, kInf, -kInf}},
      {"NaN", {1.0, kNan, 2.0}},
      {"NaN and +inf", {kInf, kNan, 2.0}},
      {"NaN and -inf", {-kInf, kNan, -kInf}},
      {"far apart", {far, -far, 0.0, far}},
      {"large", {1e30, 1e30, -1e30}},
      {"below", {0.0, gone, gone - 5.0, gone + 5.0, 10.0 * gone}},
  };
  std::vector<std::pair<const char*, Matrix>> out;
  for (const auto& row : rows) {
    Matrix x(dtype, 1, static_cast<int64_t>(row.second.size()));
    for (size_t t = 0; t < row.second.size(); ++t) x.v[t] = round_to(dtype, row.second[t]);
    out.emplace_back(row.first, x);
  }
  return out;
}

void softmax_cases(Harness& harness, bool columns) {
  for (int dtype : kDtypes) {
    for (int kind : kKinds) {
      Setting s;
      s.kind = kind;
      s.columns = columns;
      for (int64_t cols : {1, 9, 33, 130}) {
        for (int flags : {0, static_cast<int>(GRAMIAN_SOFTMAX_STREAM)}) {
          s.flags = flags;
          softmax_case(harness, "mixed", mixed_rows(harness, dtype, cols, true), s);
        }
      }
      s.flags = 0;
      for (int64_t cols : edge_sizes(257)) {
        s.scale = 1.0;
        softmax_case(harness, "unit", spread(harness, dtype, 3, cols, 1.0), s);
        s.scale = 0.7;
        softmax_case(harness, "wide", spread(harness, dtype, cols, 19, 60.0), s);
      }
      s.scale = 1.0;
      for (const auto& row : edge_rows(dtype)) {
        for (int flags : {0, static_cast<int>(GRAMIAN_SOFTMAX_SUBNORMALS)}) {
          s.flags = flags;
          softmax_case(harness, row.first, row.second, s);
        }
      }
      s.flags = 0;
      softmax_case(harness, "long", spread(harness, dtype, 2, 9001, 20.0), s);
      if (kind == GRAMIAN_LOGSUMEXP) continue;
      s.in_place = true;
      softmax_case(harness, "unit", spread(harness, dtype, 5, 133, 4.0), s);
      softmax_case(harness, "long", spread(harness, dtype, 1, 5003, 4.0), s);
      s.in_place = false;
      s.flags = GRAMIAN_SOFTMAX_STREAM;
      for (int64_t cols : {1, 5, 16, 67, 1000, 4096, 9001}) {
        softmax_case(harness, "past the caches", spread(harness, dtype, 5, cols, 6.0), s);
      }
    }
  }
}

}  // namespace

void cases_softmax(Harness& harness) {
  softmax_cases(harness, false);
}

void cases_softmax_columns(Harness& harness) {
  softmax_cases(harness, true);
}

/* --- two passes ---------------------------------------------------------------------------------------------- */

namespace {

/* z - k log 2 */
long double less_powers(long double z, double k) {
  return (z - static_cast<long double>(k) * kLog2High) - static_cast<long double>(k) * kLog2Low;
}

/* The largest k of the reduction that may be asked for. */
double reach_of(int dtype) {
  return (dtype == GRAMIAN_F32 ? 32768.0 - 256.0 : 1048576.0 - 2048.0) * static_cast<double>(kLog2);
}

void exp_sums_case(Harness& harness, const char* name, const Matrix& x, double scale, int64_t first_far) {
  const std::string what = text("%s %s %lld x %lld scale %g", dtype_name(x.dtype), name, ll(x.rows), ll(x.cols), scale);
  harness.run(what, [&](Case& c) {
    if (holds_nan(x.v)) c.poisoned(x.dtype);
    Buffer& in = c.input(x);
    Buffer& out = c.output(Matrix(GRAMIAN_F64, 1, 2 * x.rows, kNan));
    c.expect_status(
        c.table().exp_sums(c.ctx(), x.dtype, x.rows, x.cols, scale, in.data(), in.ld, static_cast<double*>(out.data())),
        static_cast<int>(first_far + 1));
    if (first_far >= 0) return;
    const Matrix pairs = c.fetch(out);
    const std::vector<double>& got = pairs.v;
    std::vector<bool> lost;  // the exponent of a row with a NaN is open
    for (int64_t r = 0; r < x.rows; ++r) {
      const auto first = x.v.begin() + r * x.cols;
      const bool nan = holds_nan(std::vector<double>(first, first + x.cols));
      lost.push_back(nan);
      lost.push_back(nan && std::isnan(got[static_cast<size_t>(2 * r + 1)]));
    }
    c.pattern(pairs, lost);
    const double factor = round_to(x.dtype, scale);
    for (int64_t r = 0; r < x.rows; ++r) {
      const double sum = got[static_cast<size_t>(2 * r)], exponent = got[static_cast<size_t>(2 * r + 1)];
      double largest = -kInf;
      for (int64_t j = 0; j < x.cols; ++j) largest = std::max(largest, x(r, j) * factor);
      if (lost[static_cast<size_t>(2 * r)]) continue;
      if (std::isinf(largest)) {
        c.expect(sum == 0.0 && exponent == -kInf, "row %lld: (%g, %g), should be (0, -inf)", ll(r), sum, exponent);
        continue;
      }
      long double want = 0;
      for (int64_t j = 0; j < x.cols; ++j) {
        const long double z = static_cast<long double>(x(r, j)) * factor;
        if (!std::isinf(z)) want += std::exp(less_powers(z, exponent));
      }
      const double bound = eps(x.dtype) * (kSteps + (scale == 1.0 ? 0.0 : std::fabs(largest)));
      c.expect(exponent == std::nearbyint(exponent) && std::fabs(exponent * static_cast<double>(kLog2) - largest) < 1.0,
               "row %lld: exponent %.17g for a largest value of %g", ll(r), exponent, largest);
      c.expect(std::fabs(static_cast<double>(sum / want - 1)) <= bound, "row %lld: sum %.17g, should be %.17Lg", ll(r),
               sum, want);
    }
  });
}

void exp_write_case(Harness& harness, const char* name, const Matrix& x, int kind, int flags, double scale, double sum,
                    double exponent, bool in_place = false) {
  const std::string what = text("%s %s %s %lld x %lld scale %g flags %d%s", dtype_name(x.dtype), kind_name(kind), name,
                                ll(x.rows), ll(x.cols), scale, flags, in_place ? " in place" : "");
  harness.run(what, [&](Case& c) {
    if (holds_nan(x.v)) c.poisoned(x.dtype);
    const bool subnormals = (flags & GRAMIAN_SOFTMAX_SUBNORMALS) != 0;
    const double factor = round_to(x.dtype, scale), e = eps(x.dtype), least = smallest_normal(x.dtype);
    Estimate want(x.rows, x.cols);
    for (size_t t = 0; t < x.v.size(); ++t) {
      const long double z = static_cast<long double>(x.v[t]) * factor;
      const long double log_of = less_powers(z, exponent) - std::log(static_cast<long double>(sum));
      const double rounded = scale == 1.0 ? 0.0 : std::fabs(static_cast<double>(z));
      if (!(sum > 0) || std::isnan(x.v[t])) {
        want.value[t] = kNan;
      } else if (kind == GRAMIAN_LOG_SOFTMAX) {
        want.value[t] = std::isinf(log_of) ? -kInf : log_of;
        want.bound[t] = e * (kSteps + 3.0 * std::fabs(static_cast<double>(log_of)) + rounded);
      } else {
        want.value[t] = std::isinf(log_of) ? 0.0L : std::exp(log_of);
        const double value = static_cast<double>(want.value[t]);
        want.bound[t] = e * (kSteps + (value > 0.0 ? rounded : 0.0)) * value + (subnormals ? 4.0 * e * least
                                                                                : value < least * 1.001 ? least
                                                                                                        : 0.0);
      }
    }
    const double pair[2] = {sum, exponent};
    Buffer& sums = c.array(std::vector<double>(pair, pair + 2));
    Buffer& out = c.output(in_place ? x : Matrix(x.dtype, x.rows, x.cols, kNan));
    Buffer& in = in_place ? out : c.input(x);
    c.expect_status(c.table().exp_write(c.ctx(), x.dtype, kind, flags, x.rows, x.cols, scale, in.data(), in.ld,
                                        static_cast<const double*>(sums.data()), out.data(), out.ld));
    const Matrix got = c.fetch(out);
    c.close(got, want);
    if (kind == GRAMIAN_SOFTMAX && !subnormals && sum > 0) expect_flushed(c, got, want, x.dtype);
  });
}

}  // namespace

void cases_exp_sums(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int64_t cols : {1, 9, 33, 130}) {
      exp_sums_case(harness, "mixed", mixed_rows(harness, dtype, cols, false), 1.0, -1);
    }
    for (int64_t cols : edge_sizes(257)) {
      exp_sums_case(harness, "unit", spread(harness, dtype, 3, cols, 1.0), 1.0, -1);
      exp_sums_case(harness, "wide", spread(harness, dtype, 2, cols, 100.0), 0.7, -1);
    }
    for (double reach : {1.0, 50.0, 0.99 * reach_of(dtype)}) {
      exp_sums_case(harness, "long", spread(harness, dtype, 2, 9001, reach), 1.0, -1);
    }
    for (const auto& row : edge_rows(dtype)) {
      double largest = -kInf;
      for (double value : row.second.v) largest = value > largest ? value : largest;
      exp_sums_case(harness, row.first, row.second, 1.0, largest > reach_of(dtype) ? 0 : -1);
    }
    // A low row is out of reach as well, but not low values beside one within reach.
    Matrix low(dtype, 3, 40, round_to(dtype, -1.1 * reach_of(dtype)));
    low(0, 7) = 3.0;
    exp_sums_case(harness, "low", low, 1.0, 1);
  }
}

void cases_exp_write(Harness& harness) {
  for (int dtype : kDtypes) {
    const int subnormals = GRAMIAN_SOFTMAX_SUBNORMALS;
    for (int kind : {GRAMIAN_SOFTMAX, GRAMIAN_LOG_SOFTMAX}) {
      for (int64_t cols : {9, 33, 130}) {
        exp_write_case(harness, "mixed", mixed_rows(harness, dtype, cols, false), kind, 0, 1.0, 1.5, 4.0);
      }
      for (int64_t cols : edge_sizes(257)) {
        exp_write_case(harness, "unit", spread(harness, dtype, 3, cols, 1.0), kind, 0, 1.0, 1.75 * 3, 3.0);
        exp_write_case(harness, "wide", spread(harness, dtype, 2, cols, 50.0), kind, 0, 0.7, 1.25, 51.0);
      }
      const double top = std::floor(0.99 * reach_of(dtype) / static_cast<double>(kLog2));
      Matrix far = spread(harness, dtype, 2, 1001, 200.0);
      for (double& value : far.v) {
        value = round_to(dtype, value + top * static_cast<double>(kLog2) - 200.0);
      }
      exp_write_case(harness, "far", far, kind, 0, 1.0, 700.5, top);
      exp_write_case(harness, "far", far, kind, subnormals, 1.0, 700.5, top);
      exp_write_case(harness, "in place", far, kind, 0, 1.0, 700.5, top, true);
      for (int64_t cols : {1, 16, 67, 4096}) {
        exp_write_case(harness, "past the caches", spread(harness, dtype, 3, cols, 5.0), kind, GRAMIAN_SOFTMAX_STREAM,
                       1.0, 3.0, 7.0);
      }
      const Matrix some = spread(harness, dtype, 1, 20, 1.0);
      exp_write_case(harness, "no sum", some, kind, 0, 1.0, 0.0, -kInf);
      exp_write_case(harness, "NaN sum", some, kind, 0, 1.0, kNan, 0.0);
      const double gone = dtype == GRAMIAN_F32 ? -90.0 : -712.0;
      Matrix edges(dtype, 1, 6);
      edges.v = {-kInf, 0.0, gone, gone - 5.0, round_to(dtype, -1e30), kNan};
      exp_write_case(harness, "edges", edges, kind, 0, 1.0, 1.0, 0.0);
      exp_write_case(harness, "edges", edges, kind, subnormals, 1.0, 1.0, 0.0);
    }
  }
}

}  // namespace conformance
