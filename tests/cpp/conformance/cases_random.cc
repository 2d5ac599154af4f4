/* The random fills, bit for bit, and the Walsh-Hadamard transform. */
#include <cmath>
#include <limits>

#include "case.h"

namespace conformance {

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();
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
void fwht_case(Harness& harness, int dtype, int64_t rows, int64_t n, double scale, bool integers,
               double special = 0.0) {
  const std::string what = text("%s rows %lld n %lld scale %g special %g %s", dtype_name(dtype), ll(rows), ll(n), scale,
                                special, integers ? "integers" : "reals");
  harness.run(what, [&](Case& c) {
    Matrix x = random_matrix(harness.random(), dtype, rows, n);
    for (double& value : x.v) value = integers ? std::nearbyint(value * 100.0) : value;
    if (special != 0.0) c.poison(x, rows / 2, n / 3, special);
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
    c.expect_status(c.table().fwht(c.ctx(), dtype, rows, n, scale, dx.data(), dx.ld, dx.data(), dx.ld));
    const Matrix got = c.fetch(dx);
    c.close(got, want);
    Buffer &from = c.input(x), &out = c.output(Matrix(dtype, rows, n, kNan));
    c.expect_status(c.table().fwht(c.ctx(), dtype, rows, n, scale, from.data(), from.ld, out.data(), out.ld));
    c.same(c.fetch(out), got);
  });
}

}  // namespace

namespace {

/* The same bounds down the columns. On a CPU a column has the bits of a row. */
void fwht_columns_case(Harness& harness, int dtype, int64_t n, int64_t cols, double scale, bool integers,
                       double special = 0.0) {
  const std::string what = text("%s n %lld cols %lld scale %g special %g %s", dtype_name(dtype), ll(n), ll(cols), scale,
                                special, integers ? "integers" : "reals");
  harness.run(what, [&](Case& c) {
    Matrix x = random_matrix(harness.random(), dtype, n, cols);
    for (double& value : x.v) value = integers ? std::nearbyint(value * 100.0) : value;
    if (special != 0.0) c.poison(x, n / 3, cols / 2, special);
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
    c.expect_status(c.table().fwht(c.ctx(), dtype, cols, n, scale, rows.data(), rows.ld, rows.data(), rows.ld));
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
    for (double special : {kNan, kInf}) {
      for (int64_t n : {1, 8, 32, 64, 2048}) {
        for (int64_t cols : {2, 7, 16, 19}) fwht_columns_case(harness, dtype, n, cols, 0.7, false, special);
      }
      for (int64_t cols : {1040, 1121}) fwht_columns_case(harness, dtype, 64, cols, 0.7, false, special);
    }
    for (int64_t n = 1; n <= 4096; n *= 2) {
      for (int64_t cols : {0, 1, 2, 7, 8, 16, 17, 35, 64}) {
        if (cols * n > 40000) continue;
        fwht_columns_case(harness, dtype, n, cols, 1.0, true);
        fwht_columns_case(harness, dtype, n, cols, 1.0 / std::sqrt(static_cast<double>(n)), false);
      }
    }
    for (int64_t cols : {1, 3}) fwht_columns_case(harness, dtype, 65536, cols, 1.0, true);
    /* Wide rows of whole lines, by turns with and without gaps and at all places of a line. */
    for (int64_t cols : {600, 1008, 1024, 1040, 1056, 1072, 1104, 1120, 1121}) {
      fwht_columns_case(harness, dtype, 64, cols, 1.0, true);
      fwht_columns_case(harness, dtype, 64, cols, 0.125, false);
    }
  }
}

namespace {

struct SignedShape {
  int64_t rows, cols, n, m, rounds;
  bool placed, scaled; /* an index and a choice; a scale */
  int times;
  double special = 0.0; /* in x, in what scales and in what is multiplied */
};

std::vector<double> signs_of(Random& random, int64_t count) {
  std::vector<double> signs;
  for (int64_t k = 0; k < count; ++k) signs.push_back(random.index(2) == 0 ? 1.0 : -1.0);
  return signs;
}

/* Each round multiplies the bound by n and adds that of one transform; two or three roundings follow. Small whole
 * numbers with factors of 1 come out exactly. On a CPU the last row has the bits that it
 * has alone, also where it was transformed together with others. */
void hadamard_rows_case(Harness& harness, int dtype, const SignedShape& s, bool integers) {
  const std::string what = text("%s rows %lld cols %lld n %lld m %lld rounds %lld%s%s%s%s", dtype_name(dtype),
                                ll(s.rows), ll(s.cols), ll(s.n), ll(s.m), ll(s.rounds), s.placed ? " placed" : "",
                                s.scaled ? " scaled" : "", s.times != 0 ? " times" : "",
                                s.special == 0.0 ? integers ? " integers" : " reals" : text(" %g", s.special).c_str());
  harness.run(what, [&](Case& c) {
    Random& random = harness.random();
    Matrix x = random_matrix(random, dtype, s.rows, s.cols);
    for (double& value : x.v) value = integers ? std::nearbyint(value * 3.0) : value;
    Matrix sign(dtype, 1, s.n), further(dtype, s.rounds - 1, s.n), scale = random_matrix(random, dtype, 1, s.m);
    const bool special = s.special != 0.0;
    sign.v = signs_of(random, s.n);
    further.v = signs_of(random, (s.rounds - 1) * s.n);
    std::vector<int64_t> index, choice;
    for (int64_t k = 0; k < s.n; ++k) index.push_back(random.index(s.cols + 1) - 1);
    for (int64_t q = 0; q < s.m; ++q) choice.push_back(random.index(s.n));
    const double factor = integers ? 1.0 : 0.7;
    Matrix before = random_matrix(random, dtype, s.rows, s.m);
    if (special) {
      if (s.placed) index[static_cast<size_t>(s.n / 2)] = s.cols / 2;  // so that it is read
      c.poison(x, s.rows / 2, s.cols / 2, s.special);
      if (s.scaled) c.poison(scale, 0, s.m - 1, s.special);
      if (s.times != 0) c.poison(before, s.rows - 1, 0, s.special);
    }
    Estimate want(s.rows, s.m);
    for (int64_t r = 0; r < s.rows; ++r) {
      std::vector<long double> z;
      long double magnitude = 0;
      for (int64_t k = 0; k < s.n; ++k) {
        const int64_t from = s.placed ? index[static_cast<size_t>(k)] : k < s.cols ? k : -1;
        z.push_back(from < 0 ? 0.0L : static_cast<long double>(sign(0, k)) * x(r, from));
        magnitude += std::fabs(z.back());
      }
      for (int64_t round = 0; round < s.rounds; ++round) {
        for (int64_t k = 0; round > 0 && k < s.n; ++k) z[static_cast<size_t>(k)] *= further(round - 1, k);
        if (round > 0) magnitude *= static_cast<long double>(s.n);
        z = hadamard(z);
      }
      const double steps = static_cast<double>(s.rounds) * std::log2(static_cast<double>(s.n)) + 5.0;
      for (int64_t q = 0; q < s.m; ++q) {
        const double scaling = s.scaled ? scale(0, q) : 1.0, held = s.times != 0 ? before(r, q) : 1.0;
        const long double all = static_cast<long double>(factor) * scaling * held;
        const int64_t at = s.placed ? choice[static_cast<size_t>(q)] : q;
        want.value[want.at(r, q)] = all * z[static_cast<size_t>(at)];
        const bool exact = integers && !s.scaled && s.times == 0;
        want.bound[want.at(r, q)] = exact ? 0.0 : steps * eps(dtype) * static_cast<double>(std::fabs(all) * magnitude);
      }
    }
    Buffer &dx = c.input(x), &dsign = c.input(sign), &dscale = c.input(scale);
    Matrix packed = further; /* one row of all rounds: there are no gaps between them */
    packed.rows = 1;
    packed.cols = further.rows * further.cols;
    Buffer &dfurther = c.input(packed), &dindex = c.array(index), &dchoice = c.array(choice);
    const std::vector<unsigned char> nothing(
        static_cast<size_t>(GRAMIAN_HADAMARD_WORK(s.rows, s.n)) * (dtype == GRAMIAN_F32 ? 4 : 8), 0xff);
    Buffer& work = c.raw(false, nothing.data(), nothing.size(), 0);
    const auto run = [&](int64_t first, int64_t rows, Buffer& out) {
      const int64_t skipped = first * dx.ld * (dtype == GRAMIAN_F32 ? 4 : 8);
      c.expect_status(c.table().hadamard_rows(
          c.ctx(), dtype, rows, s.cols, s.n, s.m, static_cast<const char*>(dx.data()) + skipped, dx.ld,
          s.placed ? static_cast<const int64_t*>(dindex.data()) : nullptr, dsign.data(), s.rounds, dfurther.data(),
          factor, s.placed ? static_cast<const int64_t*>(dchoice.data()) : nullptr, s.scaled ? dscale.data() : nullptr,
          s.times, work.data(), out.data(), out.ld));
    };
    Buffer& out = c.output(s.times != 0 ? before : Matrix(dtype, s.rows, s.m, kNan));
    run(0, s.rows, out);
    const Matrix got = c.fetch(out);
    c.close(got, want);
    if (harness.on_device() || s.rows == 0) return;
    Matrix last(dtype, 1, s.m, kNan), last_got(dtype, 1, s.m);
    for (int64_t q = 0; q < s.m; ++q) {
      if (s.times != 0) last(0, q) = before(s.rows - 1, q);
      last_got(0, q) = got(s.rows - 1, q);
    }
    Buffer& alone = c.output(last);
    run(s.rows - 1, 1, alone);
    c.same(c.fetch(alone), last_got);
  });
}

}  // namespace

void cases_hadamard_rows(Harness& harness) {
  for (int dtype : kDtypes) {
    for (double special : {kNan, kInf}) {
      for (int64_t n : {4, 16, 64, 8192}) {
        for (int64_t rows : {3, 37}) {
          if (rows * n > 70000) continue;
          // Two rounds and an infinity: differences of infinities.
          const int64_t rounds = std::isnan(special) ? 2 : 1;
          hadamard_rows_case(harness, dtype, {rows, n - 1, n, n, 1, false, false, 0, special}, false);
          hadamard_rows_case(harness, dtype, {rows, n - 1, n, n - 1, rounds, true, true, 0, special}, false);
          hadamard_rows_case(harness, dtype, {rows, n, n, n - 1, rounds, false, true, 1, special}, false);
        }
      }
    }
    for (int64_t n = 1; n <= 8192; n *= 2) {
      for (int64_t rows : {0, 1, 3, 16, 32, 37}) {
        if (rows * n > 70000) continue;
        const int64_t some = n - n / 3;
        for (bool placed : {false, true}) {
          hadamard_rows_case(harness, dtype, {rows, some, n, n, 1, placed, false, 0}, true);
          hadamard_rows_case(harness, dtype, {rows, n, n, some, 2, placed, true, 0}, false);
          hadamard_rows_case(harness, dtype, {rows, some, n, some, 3, placed, false, 1}, false);
        }
        hadamard_rows_case(harness, dtype, {rows, some, n, n + 5, 1, true, true, 1}, false);
      }
    }
  }
}

void cases_fwht(Harness& harness) {
  for (int dtype : kDtypes) {
    for (double special : {kNan, kInf}) {
      for (int64_t n : {1, 2, 4, 8, 64, 512, 8192}) fwht_case(harness, dtype, 3, n, 0.7, false, special);
    }
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
