/* Elementwise updates, maps and reductions. */
#include <cmath>
#include <limits>

#include "case.h"

namespace conformance {

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();
const double kScalars[] = {1.0, 0.0, -1.0, 0.7};
const int kDtypes[] = {GRAMIAN_F32, GRAMIAN_F64};

/* Every edge size once as a row count and once as a column count, with a short other side. */
std::vector<std::pair<int64_t, int64_t>> shapes() {
  std::vector<std::pair<int64_t, int64_t>> out;
  const std::vector<int64_t> sizes = edge_sizes(257);
  for (size_t t = 0; t < sizes.size(); ++t) {
    out.emplace_back(sizes[t], sizes[(5 * t + 3) % sizes.size()]);
    out.emplace_back(3, sizes[t]);
  }
  return out;
}

std::vector<double> random_doubles(Random& random, int64_t count, double low, double high) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = random.uniform(low, high);
  return values;
}

/* --- axpby --------------------------------------------------------------------------------------------------- */

void axpby_case(Harness& harness, int src, int dst, int64_t rows, int64_t cols, double alpha, double beta,
                bool in_place, bool null_src, double special = 0.0) {
  const std::string what =
      text("%s to %s %lld x %lld alpha %g beta %g special %g%s%s", dtype_name(src), dtype_name(dst), ll(rows), ll(cols),
           alpha, beta, special, in_place ? " in place" : "", null_src ? " null" : "");
  harness.run(what, [&](Case& c) {
    Matrix x = random_matrix(harness.random(), src, rows, cols);
    if (special != 0.0) c.poison(x, rows - 1, cols / 2, special);
    Matrix y = in_place ? x : random_matrix(harness.random(), dst, rows, cols);
    if (special != 0.0 && !in_place) c.poison(y, 0, cols - 1, special);
    if (beta == 0.0 && !in_place) y.v.assign(y.v.size(), kNan);
    Buffer& dy = c.output(y);
    Buffer* dx = in_place || null_src ? nullptr : &c.input(x);
    const void* source = in_place ? dy.data() : (dx != nullptr ? dx->data() : nullptr);
    const int64_t pitch = dx != nullptr ? dx->ld : dy.ld;
    c.expect_status(c.table().axpby(c.ctx(), src, rows, cols, alpha, source, pitch, beta, dst, dy.data(), dy.ld));
    c.close(c.fetch(dy), combination(alpha, null_src ? nullptr : &x, beta, y));
  });
}

}  // namespace

void cases_axpby(Harness& harness) {
  size_t turn = 0;
  for (int src : kDtypes) {
    for (int dst : kDtypes) {
      for (double special : {kNan, kInf}) {
        axpby_case(harness, src, dst, 3, 33, 0.7, -1.0, false, false, special);
        axpby_case(harness, src, dst, 3, 9, 1.0, 0.0, false, false, special);
        if (src == dst) axpby_case(harness, src, dst, 3, 33, 0.7, 1.0, true, false, special);
      }
      for (double alpha : kScalars) {
        for (double beta : kScalars) {
          axpby_case(harness, src, dst, 7, 17, alpha, beta, false, false);
          if (src == dst) axpby_case(harness, src, dst, 9, 33, alpha, beta, true, false);
        }
      }
      for (const auto& shape : shapes()) {
        axpby_case(harness, src, dst, shape.first, shape.second, kScalars[turn % 4], kScalars[turn / 4 % 4], false,
                   false);
        axpby_case(harness, src, dst, shape.first, shape.second, 1.0, 0.0, false, false);
        ++turn;
      }
      axpby_case(harness, src, dst, 17, 31, 0.0, 0.0, false, true);
    }
  }
  harness.run("f64 to f32 rounds once, overflows to infinity and keeps NaN", [&](Case& c) {
    Matrix x(GRAMIAN_F64, 1, 6);
    x.v = {kNan, kInf, 1e300, -1e300, 1.0 + 0x1p-24 + 0x1p-50, -0.0};
    Matrix want(GRAMIAN_F32, 1, 6);
    for (size_t t = 0; t < 6; ++t) want.v[t] = static_cast<double>(static_cast<float>(x.v[t]));
    Buffer& dx = c.input(x);
    Buffer& dy = c.output(Matrix(GRAMIAN_F32, 1, 6));
    c.expect_status(
        c.table().axpby(c.ctx(), GRAMIAN_F64, 1, 6, 1.0, dx.data(), dx.ld, 0.0, GRAMIAN_F32, dy.data(), dy.ld));
    Matrix got = c.fetch(dy);
    got.v[5] = std::fabs(got.v[5]);  // 1 * -0 + nothing may come out as either zero
    want.v[5] = 0.0;
    c.same(got, want);
  });
}

/* --- add_diagonal, symmetrize, scale_columns, scale_rows ----------------------------------------------------- */

void cases_add_diagonal(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int64_t n : edge_sizes(257)) {
      for (double value : {0.0, 0.7, -1.0, 1e-3}) {
        harness.run(text("%s n %lld value %g", dtype_name(dtype), ll(n), value), [&](Case& c) {
          Matrix a = random_matrix(harness.random(), dtype, n, n);
          if (n > 2 && value == 0.7) {
            c.poison(a, n / 2, n / 2);
            c.poison(a, n - 1, 0);
          }
          Buffer& da = c.output(a);
          c.expect_status(c.table().add_diagonal(c.ctx(), dtype, n, value, da.data(), da.ld));
          Estimate want(n, n);
          for (int64_t r = 0; r < n; ++r) {
            for (int64_t j = 0; j < n; ++j) want.value[want.at(r, j)] = a(r, j);
            // The value and the sum are rounded once each.
            want.value[want.at(r, r)] += static_cast<long double>(value);
            want.bound[want.at(r, r)] = eps(dtype) * (std::fabs(a(r, r)) + std::fabs(value));
          }
          c.close(c.fetch(da), want);
        });
      }
    }
  }
}

void cases_symmetrize(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int64_t n : edge_sizes(257)) {
      for (bool special : {false, true}) {
        harness.run(text("%s n %lld%s", dtype_name(dtype), ll(n), special ? " NaN" : ""), [&](Case& c) {
          Matrix a = random_matrix(harness.random(), dtype, n, n);
          if (special && n > 0) a(n - 1, 0) = kInf;
          if (special && n > 2) c.poison(a, n - 1, n / 2);
          Matrix want = a;
          for (int64_t r = 0; r < n; ++r) {
            for (int64_t j = r + 1; j < n; ++j) {
              want(r, j) = a(j, r);
              if (special) a(r, j) = kNan;
            }
          }
          Buffer& da = c.output(a);
          c.expect_status(c.table().symmetrize(c.ctx(), dtype, n, da.data(), da.ld));
          c.same(c.fetch(da), want);
        });
      }
    }
  }
}

namespace {

/* One IEEE product per element: the result is known to the bit. */
void scale_case(Harness& harness, bool columns, int dtype, int64_t rows, int64_t cols, bool special) {
  const std::string what = text("%s %lld x %lld%s", dtype_name(dtype), ll(rows), ll(cols), special ? " special" : "");
  harness.run(what, [&](Case& c) {
    Matrix x = random_matrix(harness.random(), dtype, rows, cols);
    Matrix v = random_matrix(harness.random(), dtype, 1, columns ? cols : rows);
    if (special) {
      v.v[0] = 0.0;
      v.v[1] = kInf;
      c.poison(v, 0, 2);
      x.v[0] = kInf;
      c.poison(x, rows - 1, cols - 1);
    }
    Matrix want = x;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < cols; ++j) want(r, j) = round_to(dtype, x(r, j) * v(0, columns ? j : r));
    }
    Buffer& dv = c.input(v);
    Buffer& dx = c.output(x);
    const auto entry = columns ? c.table().scale_columns : c.table().scale_rows;
    c.expect_status(entry(c.ctx(), dtype, rows, cols, dv.data(), dx.data(), dx.ld));
    c.same(c.fetch(dx), want);
  });
}

void scale_cases(Harness& harness, bool columns) {
  for (int dtype : kDtypes) {
    for (const auto& shape : shapes()) scale_case(harness, columns, dtype, shape.first, shape.second, false);
    scale_case(harness, columns, dtype, 5, 9, true);
  }
}

}  // namespace

void cases_scale_columns(Harness& harness) {
  scale_cases(harness, true);
}
void cases_scale_rows(Harness& harness) {
  scale_cases(harness, false);
}

/* --- map ----------------------------------------------------------------------------------------------------- */

namespace {

/* x and shift are multiples of 2^-10 below 2^12, so x + shift is exact in both types and the bound of the function
 * alone applies; a share of the elements is tiny or special where no shift is given. */
Matrix map_operand(Random& random, int dtype, int64_t rows, int64_t cols, bool shifted, int kind) {
  Matrix x(dtype, rows, cols);
  for (double& value : x.v) {
    const int64_t choice = random.index(8);
    const double range = choice < 4 ? 4.0 : (choice < 7 || kind != GRAMIAN_COS ? 100.0 : 4000.0);
    value = std::nearbyint(random.uniform(-range, range) * 1024.0) / 1024.0;
    if (!shifted && choice == 0) value = round_to(dtype, std::ldexp(random.uniform(-1.0, 1.0), -20));
  }
  if (shifted) return x;
  const double specials[] = {0.0, -0.0, kNan, kInf, -kInf, 1e4, -1e4, 88.0, -88.0, 710.0, -710.0, 1e-30, 0.625, 9999.5};
  for (double special : specials) {
    if (!x.v.empty()) x.v[static_cast<size_t>(random.index(rows * cols))] = round_to(dtype, special);
  }
  return x;
}

void map_case(Harness& harness, int dtype, int kind, int64_t rows, int64_t cols, bool shifted, double scale) {
  static const char* const names[] = {"identity", "relu", "tanh", "sigmoid", "cos", "sign"};
  const std::string what = text("%s %s %lld x %lld shift %d scale %g", dtype_name(dtype), names[kind], ll(rows),
                                ll(cols), int{shifted}, scale);
  harness.run(what, [&](Case& c) {
    const Matrix x = map_operand(harness.random(), dtype, rows, cols, shifted, kind);
    Matrix shift(dtype, 1, cols);
    for (double& value : shift.v) value = std::nearbyint(harness.random().uniform(-2.0, 2.0) * 1024.0) / 1024.0;
    if (shifted && rows > 0 && cols > 30) c.poison(shift, 0, cols / 2);
    if (holds_nan(x.v)) c.poisoned(dtype);
    Estimate want(rows, cols);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < cols; ++j) {
        const long double t = static_cast<long double>(x(r, j)) + (shifted ? shift(0, j) : 0.0);
        const long double value = activation(kind, t);
        want.value[want.at(r, j)] = static_cast<long double>(scale) * value;
        want.bound[want.at(r, j)] = activation_bound(kind, dtype, value, scale);
      }
    }
    Buffer* dshift = shifted ? &c.input(shift) : nullptr;
    Buffer& dx = c.output(x);
    c.expect_status(c.table().map(c.ctx(), dtype, kind, rows, cols, dshift != nullptr ? dshift->data() : nullptr, scale,
                                  dx.data(), dx.ld));
    c.close(c.fetch(dx), want);
  });
}

}  // namespace

void cases_map(Harness& harness) {
  const double scales[] = {1.0, 0.7, -2.0};
  size_t turn = 0;
  for (int dtype : kDtypes) {
    for (int kind : {GRAMIAN_IDENTITY, GRAMIAN_RELU, GRAMIAN_TANH, GRAMIAN_SIGMOID, GRAMIAN_COS, GRAMIAN_SIGN}) {
      for (const auto& shape : shapes()) {
        map_case(harness, dtype, kind, shape.first, shape.second, turn % 2 == 0, scales[turn / 2 % 3]);
        ++turn;
      }
      map_case(harness, dtype, kind, 33, 129, false, 1.0);
      map_case(harness, dtype, kind, 31, 127, true, 0.7);
    }
  }
}

/* --- rbf ----------------------------------------------------------------------------------------------------- */

namespace {

/* With q = row_sq + col_sq - 2 x, the argument gamma * max(0, q) carries at most three roundings of terms up to
 * row_sq + col_sq + 2 |x| (row_sq and col_sq may first be rounded to dtype) and one of gamma and of the product:
 * 4 eps gamma (row_sq + col_sq + 2 |x|), a relative error of the result; exp itself adds 8 eps. */
void rbf_case(Harness& harness, int dtype, int64_t rows, int64_t cols, double gamma, bool special) {
  const std::string what =
      text("%s %lld x %lld gamma %g%s", dtype_name(dtype), ll(rows), ll(cols), gamma, special ? " special" : "");
  harness.run(what, [&](Case& c) {
    std::vector<double> row_sq = random_doubles(harness.random(), rows, 0.0, 10.0);
    std::vector<double> col_sq = random_doubles(harness.random(), cols, 0.0, 10.0);
    Matrix x(dtype, rows, cols);
    for (double& value : x.v) value = round_to(dtype, harness.random().uniform(-10.0, 10.0));  // a third clamps at 0
    if (special) {
      c.poison(x, 0, 0);
      x.v[1] = kInf;
      x.v[2] = -kInf;
      row_sq.back() = kNan;
      col_sq[col_sq.size() / 2] = kNan;
    }
    Estimate want(rows, cols);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < cols; ++j) {
        const double sum = row_sq[static_cast<size_t>(r)] + col_sq[static_cast<size_t>(j)];
        const long double q =
            static_cast<long double>(row_sq[static_cast<size_t>(r)]) + col_sq[static_cast<size_t>(j)] - 2.0L * x(r, j);
        const long double value = std::isnan(q) ? q : std::exp(-static_cast<long double>(gamma) * (q > 0 ? q : 0.0L));
        const double condition = std::isfinite(x(r, j)) ? gamma * (sum + 2.0 * std::fabs(x(r, j))) : 0.0;
        want.value[want.at(r, j)] = value;
        want.bound[want.at(r, j)] =
            static_cast<double>(value) * eps(dtype) * (8.0 + 4.0 * condition) + smallest_normal(dtype);
      }
    }
    Buffer& drow = c.array(row_sq);
    Buffer& dcol = c.array(col_sq);
    Buffer& dx = c.output(x);
    c.expect_status(c.table().rbf(c.ctx(), dtype, rows, cols, static_cast<const double*>(drow.data()),
                                  static_cast<const double*>(dcol.data()), gamma, dx.data(), dx.ld));
    c.close(c.fetch(dx), want);
  });
}

}  // namespace

void cases_rbf(Harness& harness) {
  for (int dtype : kDtypes) {
    for (const auto& shape : shapes()) {
      for (double gamma : {0.01, 1.0}) rbf_case(harness, dtype, shape.first, shape.second, gamma, false);
    }
    rbf_case(harness, dtype, 9, 31, 40.0, false);  // results down to underflow
    rbf_case(harness, dtype, 7, 17, 0.0, false);
    rbf_case(harness, dtype, 5, 33, 0.5, true);
  }
}

/* --- sums ---------------------------------------------------------------------------------------------------- */

namespace {

/* A weight per row, or none; one weight in five is exactly zero. */
std::vector<double> random_weights(Random& random, int64_t rows) {
  std::vector<double> weights = random_doubles(random, rows, -2.0, 2.0);
  for (size_t t = 0; t < weights.size(); t += 5) weights[t] = 0.0;
  return weights;
}

/* out (n_codes x cols) += the weighted rows of x, each into the row its code names. */
Estimate grouped_sums(const Matrix& x, const std::vector<int64_t>* code, const std::vector<double>* weight,
                      const Matrix& old) {
  Estimate want(old.rows, old.cols);
  for (size_t t = 0; t < want.value.size(); ++t) {
    want.value[t] = old.v[t];
    want.bound[t] = std::fabs(old.v[t]);
  }
  for (int64_t r = 0; r < x.rows; ++r) {
    const auto t = static_cast<size_t>(r);
    const int64_t group = code != nullptr ? (*code)[t] : 0;
    for (int64_t j = 0; j < x.cols; ++j) {
      const long double term = static_cast<long double>(weight != nullptr ? (*weight)[t] : 1.0) * x(r, j);
      want.value[want.at(group, j)] += term;
      want.bound[want.at(group, j)] += static_cast<double>(std::fabs(term));
    }
  }
  for (double& bound : want.bound) bound *= static_cast<double>(x.rows + 2) * eps(GRAMIAN_F64);
  return want;
}

/* What a NaN is put into. The weight of row 5 is zero: a product with it is NaN all the same. */
enum Poisoned { kNothing, kRow, kWeight, kSum };
const char* name_of(Poisoned poisoned) {
  static const char* const names[] = {"", " NaN in x", " NaN in weight", " NaN in out"};
  return names[poisoned];
}
constexpr int64_t kZeroWeight = 5;

void column_sums_case(Harness& harness, int dtype, int64_t rows, int64_t cols, bool weighted,
                      Poisoned poisoned = kNothing) {
  const std::string what =
      text("%s %lld x %lld weights %d%s", dtype_name(dtype), ll(rows), ll(cols), int{weighted}, name_of(poisoned));
  harness.run(what, [&](Case& c) {
    Matrix x = random_matrix(harness.random(), dtype, rows, cols);
    Matrix old = random_matrix(harness.random(), GRAMIAN_F64, 1, cols);
    std::vector<double> weight = random_weights(harness.random(), rows);
    if (poisoned == kRow) c.poison(x, kZeroWeight, cols / 2);
    if (poisoned == kSum) c.poison(old, 0, cols - 1);
    if (poisoned == kWeight) weight[1] = kNan;
    Buffer& dx = c.input(x);
    Buffer* dweight = weighted ? &c.array(weight) : nullptr;
    Buffer& out = c.output(old);
    c.expect_status(c.table().column_sums(c.ctx(), dtype, rows, cols, dx.data(), dx.ld,
                                          dweight != nullptr ? static_cast<const double*>(dweight->data()) : nullptr,
                                          static_cast<double*>(out.data())));
    c.close(c.fetch(out), grouped_sums(x, nullptr, weighted ? &weight : nullptr, old));
  });
}

void class_sums_case(Harness& harness, int dtype, int64_t rows, int64_t cols, int64_t codes, bool weighted,
                     Poisoned poisoned = kNothing) {
  const std::string what = text("%s %lld x %lld codes %lld weights %d%s", dtype_name(dtype), ll(rows), ll(cols),
                                ll(codes), int{weighted}, name_of(poisoned));
  harness.run(what, [&](Case& c) {
    Matrix x = random_matrix(harness.random(), dtype, rows, cols);
    std::vector<int64_t> code(static_cast<size_t>(rows));
    for (int64_t& value : code) value = harness.random().index(codes);
    std::vector<double> weight = random_weights(harness.random(), rows);
    Matrix old = random_matrix(harness.random(), GRAMIAN_F64, codes, cols);
    if (poisoned == kRow) c.poison(x, kZeroWeight, cols / 2);
    if (poisoned == kSum) c.poison(old, codes - 1, cols - 1);
    if (poisoned == kWeight) weight[1] = kNan;
    Buffer& dx = c.input(x);
    Buffer& dcode = c.array(code);
    Buffer* dweight = weighted ? &c.array(weight) : nullptr;
    Buffer& out = c.output(old);
    c.expect_status(c.table().class_sums(c.ctx(), dtype, rows, cols, dx.data(), dx.ld,
                                         static_cast<const int64_t*>(dcode.data()),
                                         dweight != nullptr ? static_cast<const double*>(dweight->data()) : nullptr,
                                         codes, static_cast<double*>(out.data()), out.ld));
    c.close(c.fetch(out), grouped_sums(x, &code, weighted ? &weight : nullptr, old));
  });
}

void row_sumsq_case(Harness& harness, int dtype, int64_t rows, int64_t cols, double special = 0.0) {
  harness.run(text("%s %lld x %lld special %g", dtype_name(dtype), ll(rows), ll(cols), special), [&](Case& c) {
    Matrix x = random_matrix(harness.random(), dtype, rows, cols);
    if (special != 0.0) c.poison(x, rows / 2, cols - 1, special);
    Estimate want(1, rows);
    for (int64_t r = 0; r < rows; ++r) {
      long double sum = 0;
      for (int64_t j = 0; j < cols; ++j) sum += static_cast<long double>(x(r, j)) * x(r, j);
      want.value[static_cast<size_t>(r)] = sum;
      want.bound[static_cast<size_t>(r)] = static_cast<double>(cols + 1) * eps(GRAMIAN_F64) * static_cast<double>(sum);
    }
    Buffer& dx = c.input(x);
    Buffer& out = c.output(Matrix(GRAMIAN_F64, 1, rows, kNan));
    c.expect_status(
        c.table().row_sumsq(c.ctx(), dtype, rows, cols, dx.data(), dx.ld, static_cast<double*>(out.data())));
    c.close(c.fetch(out), want);
  });
}

}  // namespace

void cases_row_sumsq(Harness& harness) {
  for (int dtype : kDtypes) {
    for (double special : {kNan, kInf}) {
      for (int64_t cols : {1, 9, 33, 130}) row_sumsq_case(harness, dtype, 5, cols, special);
    }
    for (const auto& shape : shapes()) row_sumsq_case(harness, dtype, shape.first, shape.second);
  }
}

void cases_column_sums(Harness& harness) {
  for (int dtype : kDtypes) {
    for (Poisoned poisoned : {kRow, kWeight, kSum}) {
      for (int64_t cols : {9, 33}) {
        column_sums_case(harness, dtype, 11, cols, true, poisoned);
        if (poisoned != kWeight) column_sums_case(harness, dtype, 11, cols, false, poisoned);
      }
    }
    for (const auto& shape : shapes()) {
      for (bool weighted : {false, true}) column_sums_case(harness, dtype, shape.first, shape.second, weighted);
    }
  }
}

void cases_class_sums(Harness& harness) {
  for (int dtype : kDtypes) {
    for (Poisoned poisoned : {kRow, kWeight, kSum}) {
      for (int64_t cols : {9, 33}) {
        class_sums_case(harness, dtype, 11, cols, 4, true, poisoned);
        if (poisoned != kWeight) class_sums_case(harness, dtype, 11, cols, 4, false, poisoned);
      }
    }
    for (const auto& shape : shapes()) {
      for (bool weighted : {false, true}) {
        for (int64_t codes : {1, 7}) class_sums_case(harness, dtype, shape.first, shape.second, codes, weighted);
      }
    }
  }
}

}  // namespace conformance
