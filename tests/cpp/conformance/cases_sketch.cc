/* What sketches are made of: row hashes and their sums bit for bit, gathers, circular convolution. */
#include <cmath>
#include <limits>

#include "case.h"

namespace conformance {

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();
const int kDtypes[] = {GRAMIAN_F32, GRAMIAN_F64};

/* floor(word span / 2^64) with a long double for the high part would round: whole numbers, digit by digit. */
uint64_t high_product(uint64_t word, uint64_t span) {
  uint64_t rest = 0;
  for (int bit = 0; bit < 64; ++bit) {
    if ((word >> bit & 1) != 0) rest += span;
    rest >>= 1; /* span < 2^31, so no carry is lost above, and what is lost below never comes back */
  }
  return rest;
}

int32_t code_of(const gramian_stream& stream, uint64_t j, int64_t k, int64_t nnz, int64_t m) {
  const Block block = stream_block(stream, j, static_cast<uint32_t>(k / 2));
  const size_t low = static_cast<size_t>(2 * (k % 2));
  const uint64_t word = uint64_t{block.x[low]} | uint64_t{block.x[low + 1]} << 32;
  const int64_t begin = k * m / nnz, end = (k + 1) * m / nnz;
  const auto row = begin + static_cast<int64_t>(high_product(word, static_cast<uint64_t>(end - begin)));
  return static_cast<int32_t>(2 * row + static_cast<int64_t>(word & 1));
}

std::vector<int32_t> random_codes(Random& random, int64_t rows, int64_t nnz, int64_t m) {
  std::vector<int32_t> codes;
  for (int64_t t = 0; t < rows * nnz; ++t) codes.push_back(static_cast<int32_t>(random.index(2 * m)));
  return codes;
}

void row_hash_case(Harness& harness, const gramian_stream& stream, int64_t j0, int64_t rows, int64_t nnz, int64_t m) {
  harness.run(
      text("tag %u j0 %lld rows %lld nnz %lld m %lld", stream.tag, ll(j0), ll(rows), ll(nnz), ll(m)), [&](Case& c) {
        std::vector<int32_t> want;
        for (int64_t r = 0; r < rows; ++r) {
          const auto j = static_cast<uint64_t>(j0 + r);
          for (int64_t k = 0; k < nnz; ++k) want.push_back(code_of(stream, j, k, nnz, m));
        }
        Buffer& out = c.array(std::vector<int32_t>(want.size(), -7), false);
        c.expect_status(c.table().fill_row_hash(c.ctx(), stream, j0, rows, nnz, m, static_cast<int32_t*>(out.data())));
        const std::vector<int32_t> got = c.fetch_array<int32_t>(out);
        for (size_t t = 0; t < want.size(); ++t) {
          c.expect(got[t] == want[t], "code %lld is %d, not %d", ll(static_cast<int64_t>(t)), got[t], want[t]);
        }
      });
}

double signed_value(double value, int32_t code) {
  return (code & 1) != 0 ? -value : value;
}

/* `special` stands in one row of x and in one sum. */
void sparse_case(Harness& harness, int dtype, int64_t rows, int64_t cols, int64_t nnz, int64_t m, int64_t panel,
                 double special = 0.0) {
  harness.run(text("%s rows %lld cols %lld nnz %lld m %lld panel %lld special %g", dtype_name(dtype), ll(rows),
                   ll(cols), ll(nnz), ll(m), ll(panel), special),
              [&](Case& c) {
                const std::vector<int32_t> codes = random_codes(harness.random(), rows, nnz, m);
                Matrix x = random_matrix(harness.random(), dtype, rows, cols);
                const int64_t panels = (cols + panel - 1) / panel;
                Matrix want = random_matrix(harness.random(), dtype, 1, panels * m * panel);
                if (special != 0.0) {
                  c.poison(x, rows / 2, cols - 1, special);
                  c.poison(want, 0, 0, special);
                }
                Buffer& dcodes = c.array(codes);
                Buffer& dx = c.input(x);
                Buffer& out = c.output(want);
                for (int64_t r = 0; r < rows; ++r) {
                  for (int64_t k = 0; k < nnz; ++k) {
                    const int32_t code = codes[static_cast<size_t>(r * nnz + k)];
                    for (int64_t col = 0; col < cols; ++col) {
                      double& sum = want(0, col / panel * m * panel + (code >> 1) * panel + col % panel);
                      sum = round_to(dtype, sum + signed_value(x(r, col), code));
                    }
                  }
                }
                c.expect_status(c.table().sparse_sketch(c.ctx(), dtype, rows, cols, nnz,
                                                        static_cast<const int32_t*>(dcodes.data()), dx.data(), dx.ld, m,
                                                        panel, out.data()));
                c.same(c.fetch(out), want);
              });
}

template <class T>
Buffer& narrowed(Case& c, const std::vector<int64_t>& values) {
  return c.array(std::vector<T>(values.begin(), values.end()));
}

void sparse_csr_case(Harness& harness, int dtype, int value_dtype, int index_dtype, int64_t rows, int64_t cols,
                     int64_t nnz, int64_t m, double special = 0.0) {
  harness.run(text("%s values %s index %s rows %lld cols %lld nnz %lld m %lld special %g", dtype_name(dtype),
                   dtype_name(value_dtype), dtype_name(index_dtype), ll(rows), ll(cols), ll(nnz), ll(m), special),
              [&](Case& c) {
                Random& random = harness.random();
                const std::vector<int32_t> codes = random_codes(random, rows, nnz, m);
                std::vector<int64_t> indptr = {0}, indices;
                std::vector<double> values;
                Matrix want = random_matrix(random, dtype, m, cols);
                if (special != 0.0) c.poison(want, 0, 0, special);
                Buffer& out = c.output(want);
                for (int64_t r = 0; r < rows; ++r) {
                  for (int64_t t = random.index(cols + 1); t > 0; --t) {
                    indices.push_back(random.index(cols));
                    values.push_back(round_to(value_dtype, random.uniform(-1.0, 1.0)));
                  }
                  indptr.push_back(static_cast<int64_t>(indices.size()));
                }
                if (special != 0.0) {
                  values[values.size() / 2] = special;
                  if (std::isnan(special)) c.poisoned(value_dtype);
                }
                for (int64_t r = 0; r < rows; ++r) {
                  for (int64_t k = 0; k < nnz; ++k) {
                    const int32_t code = codes[static_cast<size_t>(r * nnz + k)];
                    for (int64_t e = indptr[static_cast<size_t>(r)]; e < indptr[static_cast<size_t>(r) + 1]; ++e) {
                      double& sum = want(code >> 1, indices[static_cast<size_t>(e)]);
                      sum = round_to(dtype, sum + signed_value(round_to(dtype, values[static_cast<size_t>(e)]), code));
                    }
                  }
                }
                const bool wide = index_dtype == GRAMIAN_I64;
                Buffer& starts = wide ? narrowed<int64_t>(c, indptr) : narrowed<int32_t>(c, indptr);
                Buffer& columns = wide ? narrowed<int64_t>(c, indices) : narrowed<int32_t>(c, indices);
                Buffer& stored = value_dtype == GRAMIAN_F64 ? c.array(values)
                                                            : c.array(std::vector<float>(values.begin(), values.end()));
                Buffer& dcodes = c.array(codes);
                c.expect_status(c.table().sparse_sketch_csr(c.ctx(), dtype, value_dtype, index_dtype, rows, nnz,
                                                            static_cast<const int32_t*>(dcodes.data()), starts.data(),
                                                            columns.data(), stored.data(), out.data(), out.ld));
                c.same(c.fetch(out), want);
              });
}

/* `special` stands in one element of x, of the scale and of what is multiplied. */
void gather_case(Harness& harness, int dtype, int64_t rows, int64_t cols, int64_t width, bool scaled, int times,
                 double special = 0.0) {
  harness.run(text("%s rows %lld cols %lld of %lld%s%s special %g", dtype_name(dtype), ll(rows), ll(cols), ll(width),
                   scaled ? " scaled" : "", times != 0 ? " times" : "", special),
              [&](Case& c) {
                Matrix x = random_matrix(harness.random(), dtype, rows, width);
                Matrix scale = random_matrix(harness.random(), dtype, 1, cols);
                std::vector<int64_t> index;
                for (int64_t col = 0; col < cols; ++col) index.push_back(harness.random().index(width + 1) - 1);
                Matrix want = random_matrix(harness.random(), dtype, rows, cols);
                if (special != 0.0) {
                  index[0] = width / 2;
                  index[static_cast<size_t>(cols - 1)] = 0;
                  c.poison(x, rows / 2, width / 2, special);
                  if (scaled) c.poison(scale, 0, cols - 1, special);
                  if (times != 0) c.poison(want, rows - 1, 1, special);
                }
                Buffer& dx = c.input(x);
                Buffer& dindex = c.array(index);
                Buffer& dscale = c.input(scale);
                Buffer& out = c.output(times != 0 ? want : Matrix(dtype, rows, cols, kNan));
                for (int64_t r = 0; r < rows; ++r) {
                  for (int64_t col = 0; col < cols; ++col) {
                    const int64_t from = index[static_cast<size_t>(col)];
                    double value = from < 0 ? 0.0 : x(r, from);
                    if (scaled) value = round_to(dtype, scale(0, col) * value);
                    want(r, col) = times != 0 ? round_to(dtype, want(r, col) * value) : value;
                  }
                }
                c.expect_status(c.table().gather_columns(c.ctx(), dtype, rows, cols, dx.data(), dx.ld,
                                                         static_cast<const int64_t*>(dindex.data()),
                                                         scaled ? dscale.data() : nullptr, times, out.data(), out.ld));
                c.same(c.fetch(out), want);
              });
}

/* Three transforms of length p err by at most about 4 log2(p) u each relative to the 2-norms; the sum as it is written
 * by n u of its magnitudes. Then one rounding to dtype. */
void convolve_case(Harness& harness, int dtype, int64_t rows, int64_t n, bool with_nan = false) {
  harness.run(text("%s rows %lld n %lld%s", dtype_name(dtype), ll(rows), ll(n), with_nan ? " NaN" : ""), [&](Case& c) {
    Matrix a = random_matrix(harness.random(), dtype, rows, n);
    Matrix b = random_matrix(harness.random(), dtype, rows, n);
    if (with_nan) {
      c.poison(a, 1, n / 2);
      c.poison(b, rows - 2, 0);
    }
    Estimate want(rows, n);
    int64_t padded = 2;
    while (padded < 2 * n) padded *= 2;
    const double unit = 0x1p-52;
    for (int64_t r = 0; r < rows; ++r) {
      double norm_a = 0, norm_b = 0;
      for (int64_t k = 0; k < n; ++k) {
        norm_a += a(r, k) * a(r, k);
        norm_b += b(r, k) * b(r, k);
      }
      for (int64_t k = 0; k < n; ++k) {
        long double sum = 0;
        double magnitude = 0;
        for (int64_t t = 0; t < n; ++t) {
          const double product = a(r, t) * b(r, (k - t + n) % n);
          sum += static_cast<long double>(a(r, t)) * static_cast<long double>(b(r, (k - t + n) % n));
          magnitude += std::fabs(product);
        }
        want.value[want.at(r, k)] = sum;
        want.bound[want.at(r, k)] = eps(dtype) * static_cast<double>(std::fabs(sum)) +
                                    unit * (12.0 * std::log2(static_cast<double>(padded)) * std::sqrt(norm_a * norm_b) +
                                            static_cast<double>(n) * magnitude);
      }
    }
    Buffer& da = c.input(a);
    Buffer& db = c.input(b);
    Buffer& work = c.output(Matrix(GRAMIAN_F64, 1, 5 * padded, kNan));
    Buffer& out = c.output(Matrix(dtype, rows, n, kNan));
    c.expect_status(c.table().circular_convolve(c.ctx(), dtype, rows, n, da.data(), da.ld, db.data(), db.ld,
                                                static_cast<double*>(work.data()), out.data(), out.ld));
    c.close(c.fetch(out), want);
  });
}

}  // namespace

void cases_fill_row_hash(Harness& harness) {
  const gramian_stream streams[] = {{12345 ^ mix(65536 * 4 + 1), 3, 0, 0}, {0x0123456789abcdefu, 3, 255, 65535}};
  for (const gramian_stream& stream : streams) {
    for (int64_t j0 : {int64_t{0}, int64_t{5}, (int64_t{1} << 32) - 3}) {
      for (int64_t rows : {0, 1, 2, 7, 8, 9, 33}) {
        row_hash_case(harness, stream, j0, rows, 1, 100);
        row_hash_case(harness, stream, j0, rows, 8, 100);
        row_hash_case(harness, stream, j0, rows, 3, 3);
      }
      row_hash_case(harness, stream, j0, 40, 7, (int64_t{1} << 30) - 1);
    }
  }
  harness.run("more nonzeros than rows", [&](Case& c) {
    Buffer& out = c.array(std::vector<int32_t>(8, -7), false);
    c.expect_status(c.table().fill_row_hash(c.ctx(), streams[0], 0, 1, 8, 7, static_cast<int32_t*>(out.data())),
                    GRAMIAN_STATUS_INVALID);
  });
}

void cases_sparse_sketch(Harness& harness) {
  for (int dtype : kDtypes) {
    for (double special : {kNan, kInf}) {
      for (int64_t cols : {1, 9, 33, 70}) {
        sparse_case(harness, dtype, 7, cols, 3, 11, cols + 3, special);
        sparse_case(harness, dtype, 130, cols, 1, 50, 16, special);
      }
    }
    for (int64_t cols : edge_sizes(129)) {
      sparse_case(harness, dtype, 37, cols, 8, 20, cols + 3);
      sparse_case(harness, dtype, 5, cols, 1, 3, 16);
    }
    for (int64_t rows : {0, 1, 9, 127, 129, 300}) {
      sparse_case(harness, dtype, rows, 24, 3, 11, 8);
      sparse_case(harness, dtype, rows, 70, 2, 50, 64);
    }
  }
}

void cases_sparse_sketch_csr(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int value_dtype : kDtypes) {
      for (int index_dtype : {GRAMIAN_I32, GRAMIAN_I64}) {
        for (double special : {kNan, kInf}) {
          sparse_csr_case(harness, dtype, value_dtype, index_dtype, 17, 9, 2, 5, special);
        }
        for (int64_t rows : {0, 1, 17, 100}) {
          sparse_csr_case(harness, dtype, value_dtype, index_dtype, rows, 9, 1, 5);
          sparse_csr_case(harness, dtype, value_dtype, index_dtype, rows, 40, 8, 30);
        }
      }
    }
  }
}

void cases_gather_columns(Harness& harness) {
  for (int dtype : kDtypes) {
    for (double special : {kNan, kInf}) {
      for (int times : {0, 1}) {
        for (bool scaled : {false, true}) gather_case(harness, dtype, 7, 19, 12, scaled, times, special);
      }
    }
    for (int64_t cols : edge_sizes(129)) {
      for (int times : {0, 1}) {
        gather_case(harness, dtype, 3, cols, 40, true, times);
        gather_case(harness, dtype, 2, cols, 7, false, times);
      }
    }
    gather_case(harness, dtype, 0, 5, 4, true, 0);
    gather_case(harness, dtype, 70, 33, 20, true, 0);
  }
}

void cases_circular_convolve(Harness& harness) {
  for (int dtype : kDtypes) {
    for (int64_t n : {1, 8, 33}) convolve_case(harness, dtype, 5, n, true);
    for (int64_t n : edge_sizes(257)) {
      for (int64_t rows : {0, 1, 5}) convolve_case(harness, dtype, rows, n);
    }
  }
}

}  // namespace conformance
