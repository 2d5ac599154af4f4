/* The random fills, bit for bit, and the Walsh-Hadamard transform. */
#include <cmath>
#include <limits>

#include "case.h"

namespace conformance {

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const int kDtypes[] = {GRAMIAN_F32, GRAMIAN_F64};
/* Version 1 keys of seed 12345: seed xor mix(65536 * family + version). */
constexpr uint64_t kSeed = 12345;
constexpr uint64_t kGaussianKey = 0x5f4c1dac282d5556u;

uint64_t index_of(int64_t value) {
  return static_cast<uint64_t>(value);
}

gramian_stream stream_of(uint64_t key, uint32_t tag = 0, uint32_t factor = 0, uint32_t generation = 0) {
  return {key, tag, factor, generation};
}

/* The streams every fill is tried on: every counter word and both key words in use. */
std::vector<gramian_stream> streams() {
  return {stream_of(kGaussianKey), stream_of(~uint64_t{0}, 7, 3, 11), stream_of(0x0123456789abcdefu, 2, 255, 65535)};
}

/* First indices that cross the 32-bit word of the counter, and odd ones that begin inside a block. */
const int64_t kStarts[] = {0, 1, 127, (int64_t{1} << 32) - 3, (int64_t{1} << 40) + 5};

/* --- the reference itself ------------------------------------------------------------------------------------ */

std::string bit_string(const gramian_stream& stream, bool matrix_column) {
  std::string bits;
  for (uint64_t t = 0; t < 32; ++t) {
    bits += (matrix_column ? rademacher_entry(stream, t, 3) : sign_entry(stream, t)) < 0.0 ? '1' : '0';
  }
  return bits;
}

/* Published known answers, so that the law the tables are compared with is the law of the specification. */
void check_law(Case& c) {
  const uint32_t zeros[4] = {0, 0, 0, 0}, ones[4] = {~0u, ~0u, ~0u, ~0u};
  const uint32_t pi[4] = {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u};
  const auto is = [](const Block& b, uint32_t w, uint32_t x, uint32_t y, uint32_t z) {
    return b.x[0] == w && b.x[1] == x && b.x[2] == y && b.x[3] == z;
  };
  c.expect(is(philox(zeros, 0), 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u), "reference: Philox of zeros");
  c.expect(is(philox(ones, ~uint64_t{0}), 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu),
           "reference: Philox of ones");
  c.expect(is(philox(pi, 0x299f31d0a4093822u), 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u),
           "reference: Philox of pi");
  c.expect(mix(0) == 0xe220a8397b1dcdafu, "reference: mix(0)");
  c.expect((kSeed ^ mix(65536 * 1 + 1)) == kGaussianKey, "reference: Gaussian key");
  const gramian_stream gaussian = stream_of(kGaussianKey);
  c.expect(is(stream_block(gaussian, 0, 0), 0x783afe64u, 0x0b1b85a6u, 0xfb9f983cu, 0xde853724u), "reference: block");
  const double entries[] = {-0x1.b670113a6c795p+0, 0x1.1f6a1743dc6d8p+0, 0x1.3e63585c39ce9p-1, 0x1.261579963123cp+0};
  for (uint64_t i = 0; i < 4; ++i) {
    c.expect(gaussian_entry(gaussian, i, 0) == entries[i], "reference: Gaussian entry %d", static_cast<int>(i));
  }
  c.expect(gaussian_entry(gaussian, 0, uint64_t{1} << 32) == -0x1.71b8347f778b7p-2, "reference: entry (0, 2^32)");
  c.expect(bit_string(stream_of(kSeed ^ mix(65536 * 2 + 1)), true) == "10011010111101000111111111100010",
           "reference: Rademacher column");
  c.expect(bit_string(stream_of(kSeed ^ mix(65536 * 3 + 1), 1), false) == "01001001001010011001101101001110",
           "reference: signs");
}

/* --- fill_random --------------------------------------------------------------------------------------------- */

void fill_random_case(Harness& harness, int dtype, int distribution, const gramian_stream& stream, int64_t j0,
                      int64_t rows, int64_t i0, int64_t cols, double scale) {
  const std::string what = text("%s %s tag %u j0 %lld rows %lld i0 %lld cols %lld scale %g", dtype_name(dtype),
                                distribution == GRAMIAN_GAUSSIAN ? "gaussian" : "rademacher", stream.tag, ll(j0),
                                ll(rows), ll(i0), ll(cols), scale);
  harness.run(what, [&](Case& c) {
    Matrix want(dtype, rows, cols);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < cols; ++j) {
        const double entry = distribution == GRAMIAN_GAUSSIAN
                                 ? gaussian_entry(stream, index_of(i0 + j), index_of(j0 + r))
                                 : rademacher_entry(stream, index_of(i0 + j), index_of(j0 + r));
        want(r, j) = round_to(dtype, scale * entry);
      }
    }
    Buffer& out = c.output(Matrix(dtype, rows, cols, kNan));
    c.expect_status(
        c.table().fill_random(c.ctx(), dtype, distribution, stream, j0, rows, i0, cols, scale, out.data(), out.ld));
    c.same(c.fetch(out), want);
  });
}

/* The known answers asked of the table itself. */
void known_gaussian_case(Harness& harness) {
  harness.run("known answers of seed 12345", [&](Case& c) {
    check_law(c);
    Matrix want(GRAMIAN_F64, 1, 4);
    want.v = {-0x1.b670113a6c795p+0, 0x1.1f6a1743dc6d8p+0, 0x1.3e63585c39ce9p-1, 0x1.261579963123cp+0};
    Buffer& out = c.output(Matrix(GRAMIAN_F64, 1, 4, kNan));
    c.expect_status(c.table().fill_random(c.ctx(), GRAMIAN_F64, GRAMIAN_GAUSSIAN, stream_of(kGaussianKey), 0, 1, 0, 4,
                                          1.0, out.data(), out.ld));
    c.same(c.fetch(out), want);
  });
}

}  // namespace

void cases_fill_random(Harness& harness) {
  known_gaussian_case(harness);
  const std::vector<int64_t> sizes = edge_sizes(257);
  const int64_t columns[] = {0, 1, 5, 120, (int64_t{1} << 32) - 2, (int64_t{1} << 33) - 40};
  for (int dtype : kDtypes) {
    for (int distribution : {GRAMIAN_GAUSSIAN, GRAMIAN_RADEMACHER}) {
      for (const gramian_stream& stream : streams()) {
        for (int64_t j0 : kStarts) {
          for (int64_t i0 : columns) fill_random_case(harness, dtype, distribution, stream, j0, 5, i0, 37, 0.7);
        }
      }
      for (size_t t = 0; t < sizes.size(); ++t) {
        fill_random_case(harness, dtype, distribution, streams()[t % 3], 3, sizes[t], static_cast<int64_t>(t),
                         sizes[(5 * t + 3) % sizes.size()], t % 2 == 0 ? 1.0 : -0.125);
      }
      // 2^17 draws reach both tails of the quantile.
      fill_random_case(harness, dtype, distribution, streams()[1], 0, 128, 0, 1024, 1.0);
    }
  }
}

/* --- fill_signs and fill_uniform ----------------------------------------------------------------------------- */

void cases_fill_signs(Harness& harness) {
  for (int dtype : kDtypes) {
    for (const gramian_stream& stream : streams()) {
      for (int64_t j0 : kStarts) {
        for (int64_t count : edge_sizes(257)) {
          harness.run(text("%s tag %u j0 %lld count %lld", dtype_name(dtype), stream.tag, ll(j0), ll(count)),
                      [&](Case& c) {
                        check_law(c);
                        Matrix want(dtype, 1, count);
                        for (int64_t t = 0; t < count; ++t) want(0, t) = sign_entry(stream, index_of(j0 + t));
                        Buffer& out = c.output(Matrix(dtype, 1, count, kNan));
                        c.expect_status(c.table().fill_signs(c.ctx(), dtype, stream, j0, count, out.data()));
                        c.same(c.fetch(out), want);
                      });
        }
      }
    }
  }
}

void cases_fill_uniform(Harness& harness) {
  const double intervals[][2] = {{0.0, 1.0}, {-3.0, 5.0}, {0.1, 0.7}, {0.0, 6.283185307179586}};
  size_t turn = 0;
  for (int dtype : kDtypes) {
    for (const gramian_stream& stream : streams()) {
      for (int64_t i0 : kStarts) {
        for (int64_t count : edge_sizes(257)) {
          const double low = intervals[turn % 4][0], high = intervals[turn % 4][1];
          ++turn;
          harness.run(
              text("%s tag %u i0 %lld count %lld [%g, %g]", dtype_name(dtype), stream.tag, ll(i0), ll(count), low,
                   high),
              [&](Case& c) {
                check_law(c);
                Matrix want(dtype, 1, count);
                for (int64_t t = 0; t < count; ++t) {
                  want(0, t) = round_to(dtype, uniform_entry(stream, index_of(i0 + t), low, high));
                }
                Buffer& out = c.output(Matrix(dtype, 1, count, kNan));
                c.expect_status(c.table().fill_uniform(c.ctx(), dtype, stream, i0, count, low, high, out.data()));
                c.same(c.fetch(out), want);
              });
        }
      }
    }
  }
}

/* --- fwht ---------------------------------------------------------------------------------------------------- */

namespace {

/* Integer rows with |sum| < 2^24 transform exactly; real rows have log2(n) additions and one scaling per element, so
 * at most (log2(n) + 2) eps times scale * sum |x|. */
void fwht_case(Harness& harness, int dtype, int64_t rows, int64_t n, double scale, bool integers) {
  const std::string what = text("%s rows %lld n %lld scale %g %s", dtype_name(dtype), ll(rows), ll(n), scale,
                                integers ? "integers" : "reals");
  harness.run(what, [&](Case& c) {
    Matrix x = random_matrix(harness.random(), dtype, rows, n);
    for (double& value : x.v) value = integers ? std::nearbyint(value * 100.0) : value;
    Estimate want(rows, n);
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<long double> row(x.v.begin() + r * n, x.v.begin() + (r + 1) * n);
      long double magnitude = 0;
      for (long double value : row) magnitude += std::fabs(value);
      row = hadamard(row);
      const double steps = std::log2(static_cast<double>(n)) + 2.0;
      for (int64_t j = 0; j < n; ++j) {
        want.value[want.at(r, j)] = row[static_cast<size_t>(j)] * scale;
        want.bound[want.at(r, j)] =
            integers && scale == 1.0 ? 0.0 : steps * eps(dtype) * std::fabs(scale) * static_cast<double>(magnitude);
      }
    }
    Buffer& dx = c.output(x);
    c.expect_status(c.table().fwht(c.ctx(), dtype, rows, n, scale, dx.data(), dx.ld));
    c.close(c.fetch(dx), want);
  });
}

}  // namespace

namespace {

/* The same bounds down the columns. On a CPU a column has the bits of a row. */
void fwht_columns_case(Harness& harness, int dtype, int64_t n, int64_t cols, double scale, bool integers) {
  const std::string what = text("%s n %lld cols %lld scale %g %s", dtype_name(dtype), ll(n), ll(cols), scale,
                                integers ? "integers" : "reals");
  harness.run(what, [&](Case& c) {
    Matrix x = random_matrix(harness.random(), dtype, n, cols);
    for (double& value : x.v) value = integers ? std::nearbyint(value * 100.0) : value;
    Estimate want(n, cols);
    Matrix transposed(dtype, cols, n);
    for (int64_t j = 0; j < cols; ++j) {
      std::vector<long double> column;
      long double magnitude = 0;
      for (int64_t r = 0; r < n; ++r) {
        transposed(j, r) = x(r, j);
        column.push_back(x(r, j));
        magnitude += std::fabs(column.back());
      }
      column = hadamard(column);
      const double steps = std::log2(static_cast<double>(n)) + 2.0;
      for (int64_t r = 0; r < n; ++r) {
        want.value[want.at(r, j)] = column[static_cast<size_t>(r)] * scale;
        want.bound[want.at(r, j)] =
            integers && scale == 1.0 ? 0.0 : steps * eps(dtype) * std::fabs(scale) * static_cast<double>(magnitude);
      }
    }
    const std::vector<unsigned char> nothing(GRAMIAN_FWHT_SCRATCH, 0x55);
    Buffer& scratch = c.raw(false, nothing.data(), nothing.size(), 0);
    Buffer& dx = c.output(x);
    c.expect_status(c.table().fwht_columns(c.ctx(), dtype, n, cols, scale, dx.data(), dx.ld, scratch.data()));
    const Matrix got = c.fetch(dx);
    c.close(got, want);
    if (harness.on_device()) return;
    Buffer& rows = c.output(transposed);
    c.expect_status(c.table().fwht(c.ctx(), dtype, cols, n, scale, rows.data(), rows.ld));
    const Matrix other = c.fetch(rows);
    Matrix back(dtype, n, cols);
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t j = 0; j < cols; ++j) back(r, j) = other(j, r);
    }
    c.same(got, back);
  });
}

}  // namespace

void cases_fwht_columns(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int64_t n = 1; n <= 4096; n *= 2) {
      for (int64_t cols : {0, 1, 2, 7, 8, 16, 17, 35, 64}) {
        if (cols * n > 40000) continue;
        fwht_columns_case(harness, dtype, n, cols, 1.0, true);
        fwht_columns_case(harness, dtype, n, cols, 1.0 / std::sqrt(static_cast<double>(n)), false);
      }
    }
    for (int64_t cols : {1, 3}) fwht_columns_case(harness, dtype, 65536, cols, 1.0, true);
  }
}

void cases_fwht(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int64_t n = 1; n <= 8192; n *= 2) {
      for (int64_t rows : {0, 1, 2, 3, 9, 17}) {
        if (rows * n > 70000) continue;
        fwht_case(harness, dtype, rows, n, 1.0, true);
        fwht_case(harness, dtype, rows, n, 1.0 / std::sqrt(static_cast<double>(n)), false);
      }
    }
    fwht_case(harness, dtype, 65, 64, 0.7, false);
    fwht_case(harness, dtype, 1, 65536, 1.0, true);
  }
}

}  // namespace conformance
