/* Compiled without contraction (see CMakeLists.txt): the random law below is double arithmetic, one rounding per
 * operation. Dense float32 references run in double, float64 references in long double. */
#include "reference.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

namespace conformance {

size_t size_of(int dtype) {
  switch (dtype) {
    case GRAMIAN_F16:
    case GRAMIAN_I16:
      return 2;
    case GRAMIAN_U8:
    case GRAMIAN_BOOL:
      return 1;
    case GRAMIAN_F32:
    case GRAMIAN_I32:
      return 4;
    default:
      return 8;
  }
}

double eps(int dtype) {
  return dtype == GRAMIAN_F32 ? double{FLT_EPSILON} : DBL_EPSILON;
}
double smallest_normal(int dtype) {
  return dtype == GRAMIAN_F32 ? double{FLT_MIN} : DBL_MIN;
}
double round_to(int dtype, double value) {
  return dtype == GRAMIAN_F32 ? static_cast<double>(static_cast<float>(value)) : value;
}

namespace {

template <class T>
T read(const unsigned char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

double widen_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const double fraction = bits & 1023;
  double magnitude = 0.0;
  if (exponent == 31) {
    magnitude = fraction == 0.0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, -24);
  } else {
    magnitude = std::ldexp(1024.0 + fraction, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

}  // namespace

double widen(int dtype, const unsigned char* bytes) {
  switch (dtype) {
    case GRAMIAN_F32:
      return static_cast<double>(read<float>(bytes));
    case GRAMIAN_F64:
      return read<double>(bytes);
    case GRAMIAN_F16:
      return widen_half(read<uint16_t>(bytes));
    case GRAMIAN_U8:
      return *bytes;
    case GRAMIAN_I16:
      return read<int16_t>(bytes);
    case GRAMIAN_BOOL:
      return *bytes != 0 ? 1.0 : 0.0;
    case GRAMIAN_I32:
      return read<int32_t>(bytes);
    default:
      return static_cast<double>(read<int64_t>(bytes));
  }
}

namespace {

/* Rows of op(X), or of its transpose when `columns`, packed in W. */
template <class W>
std::vector<W> packed(const Matrix& x, bool trans) {
  const int64_t rows = trans ? x.cols : x.rows;
  const int64_t cols = trans ? x.rows : x.cols;
  std::vector<W> out(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) out[static_cast<size_t>(r * cols + c)] = trans ? x(c, r) : x(r, c);
  }
  return out;
}

template <class W>
Estimate product_in(const Matrix& a, bool trans_a, const Matrix& b, bool trans_b, double alpha, double beta,
                    const Matrix* c) {
  const int64_t m = trans_a ? a.cols : a.rows;
  const int64_t k = trans_a ? a.rows : a.cols;
  const int64_t n = trans_b ? b.rows : b.cols;
  const std::vector<W> left = packed<W>(a, trans_a);
  const std::vector<W> right = packed<W>(b, !trans_b);  // row j holds column j of op(B)
  Estimate out(m, n);
  const double factor = static_cast<double>(k + 4) * eps(a.dtype);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const W* x = left.data() + i * k;
      const W* y = right.data() + j * k;
      W sum = 0, magnitude = 0;
      for (int64_t p = 0; p < k; ++p) {
        const W term = x[p] * y[p];
        sum += term;
        magnitude += term < 0 ? -term : term;
      }
      W old = beta == 0.0 || c == nullptr ? W(0) : static_cast<W>((*c)(i, j)) * static_cast<W>(beta);
      if (alpha == 0.0) sum = magnitude = 0;
      out.value[out.at(i, j)] = static_cast<W>(alpha) * sum + old;
      if (old < 0) old = -old;
      out.bound[out.at(i, j)] = factor * static_cast<double>(static_cast<W>(std::fabs(alpha)) * magnitude + old);
    }
  }
  return out;
}

}  // namespace

Estimate product(const Matrix& a, bool trans_a, const Matrix& b, bool trans_b, double alpha, double beta,
                 const Matrix* c) {
  return a.dtype == GRAMIAN_F32 ? product_in<double>(a, trans_a, b, trans_b, alpha, beta, c)
                                : product_in<long double>(a, trans_a, b, trans_b, alpha, beta, c);
}

Estimate csr_product(const Csr& a, const Matrix& b, double alpha, double beta, const Matrix* c) {
  Estimate out(a.rows, b.cols);
  for (int64_t i = 0; i < a.rows; ++i) {
    const int64_t first = a.indptr[static_cast<size_t>(i)];
    const int64_t last = a.indptr[static_cast<size_t>(i + 1)];
    for (int64_t j = 0; j < b.cols; ++j) {
      long double sum = 0, magnitude = 0;
      for (int64_t p = first; p < last; ++p) {
        const long double value = a.values[static_cast<size_t>(p)];
        const long double term = value * b(a.indices[static_cast<size_t>(p)], j);
        sum += term;
        magnitude += std::fabs(term);
      }
      if (alpha == 0.0) sum = magnitude = 0;
      const long double old = beta == 0.0 || c == nullptr ? 0.0L : static_cast<long double>(beta) * (*c)(i, j);
      out.value[out.at(i, j)] = alpha * sum + old;
      out.bound[out.at(i, j)] = static_cast<double>(last - first + 5) * eps(b.dtype) *
                                static_cast<double>(std::fabs(alpha) * magnitude + std::fabs(old));
    }
  }
  return out;
}

Estimate combination(double alpha, const Matrix* x, double beta, const Matrix& y) {
  const bool wide = y.dtype == GRAMIAN_F64 || (x != nullptr && x->dtype == GRAMIAN_F64);
  const double inner = eps(wide ? GRAMIAN_F64 : GRAMIAN_F32);
  const bool exact = (alpha == 0.0 || alpha == 1.0 || alpha == -1.0) && beta == 0.0;
  Estimate out(y.rows, y.cols);
  for (size_t t = 0; t < out.value.size(); ++t) {
    const long double first = x == nullptr ? 0.0L : static_cast<long double>(alpha) * x->v[t];
    const long double second = beta == 0.0 ? 0.0L : static_cast<long double>(beta) * y.v[t];
    const long double sum = first + second;
    if (exact) {  // a copy, a conversion or a zero: the one rounding to the destination is all there is
      out.value[t] = static_cast<long double>(round_to(y.dtype, static_cast<double>(sum)));
      continue;
    }
    // Two scalars rounded to the wider type, two products, one sum: 3 u on each term. Then half an ulp of y's type.
    out.value[t] = sum;
    out.bound[t] = 2.0 * inner * static_cast<double>(std::fabs(first) + std::fabs(second)) +
                   0.5 * eps(y.dtype) * static_cast<double>(std::fabs(sum));
  }
  return out;
}

namespace {

template <class W>
Estimate lower_square_in(const Matrix& l) {
  const std::vector<W> rows = packed<W>(l, false);
  const int64_t n = l.rows;
  Estimate out(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      W sum = 0, magnitude = 0;
      for (int64_t p = 0; p <= j; ++p) {
        const W term = rows[static_cast<size_t>(i * n + p)] * rows[static_cast<size_t>(j * n + p)];
        sum += term;
        magnitude += term < 0 ? -term : term;
      }
      out.value[out.at(i, j)] = sum;
      out.bound[out.at(i, j)] = static_cast<double>(magnitude);
    }
  }
  return out;
}

template <class W>
Estimate triangular_product_in(const Matrix& l, bool right, bool trans, const Matrix& x) {
  // Everything is brought to "rows of `outer` against rows of `inner`": T X = (rows of T) . (columns of X).
  const int64_t order = l.rows;
  Matrix t(l.dtype, order, order);
  for (int64_t i = 0; i < order; ++i) {
    for (int64_t j = 0; j <= i; ++j) (trans ? t(j, i) : t(i, j)) = l(i, j);
  }
  const std::vector<W> outer = right ? packed<W>(x, false) : packed<W>(t, false);
  const std::vector<W> inner = right ? packed<W>(t, true) : packed<W>(x, true);
  Estimate out(x.rows, x.cols);
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t j = 0; j < x.cols; ++j) {
      W sum = 0, magnitude = 0;
      for (int64_t p = 0; p < order; ++p) {
        const W term = outer[static_cast<size_t>(i * order + p)] * inner[static_cast<size_t>(j * order + p)];
        sum += term;
        magnitude += term < 0 ? -term : term;
      }
      out.value[out.at(i, j)] = sum;
      out.bound[out.at(i, j)] = static_cast<double>(magnitude);
    }
  }
  return out;
}

}  // namespace

Estimate lower_square(const Matrix& l) {
  return l.dtype == GRAMIAN_F32 ? lower_square_in<double>(l) : lower_square_in<long double>(l);
}

Estimate triangular_product(const Matrix& l, bool right, bool trans, const Matrix& x) {
  return l.dtype == GRAMIAN_F32 ? triangular_product_in<double>(l, right, trans, x)
                                : triangular_product_in<long double>(l, right, trans, x);
}

long double activation(int kind, long double t) {
  if (std::isnan(t)) return t;
  switch (kind) {
    case GRAMIAN_RELU:
      return t > 0 ? t : 0.0L;
    case GRAMIAN_TANH:
      return std::tanh(t);
    case GRAMIAN_SIGMOID:
      return 1.0L / (1.0L + std::exp(-t));
    case GRAMIAN_COS:
      return std::isinf(t) ? std::numeric_limits<long double>::quiet_NaN() : std::cos(t);
    case GRAMIAN_SIGN:
      return t > 0 ? 1.0L : (t < 0 ? -1.0L : 0.0L);
    default:
      return t;
  }
}

double activation_bound(int kind, int dtype, long double value, double scale) {
  const double magnitude = kind == GRAMIAN_COS ? 1.0 : static_cast<double>(std::fabs(value));
  const bool exact = kind == GRAMIAN_IDENTITY || kind == GRAMIAN_RELU || kind == GRAMIAN_SIGN;
  // Exact functions leave the rounding of scale to dtype and of the product: 2 u = eps.
  const double ulps = exact ? (scale == 1.0 ? 0.0 : 1.0) : 8.0;
  return std::fabs(scale) * (ulps * eps(dtype) * magnitude + (exact ? 0.0 : smallest_normal(dtype)));
}

/* --- the frozen bit law, version 1 --------------------------------------------------------------------------- */

Block philox(const uint32_t counter[4], uint64_t key) {
  uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
  uint32_t k0 = static_cast<uint32_t>(key);
  uint32_t k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t left = uint64_t{0xD2511F53u} * c[0];
    const uint64_t right = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(right >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(right),
                              static_cast<uint32_t>(left >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(left)};
    std::memcpy(c, next, sizeof c);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  Block block;
  std::memcpy(block.x, c, sizeof c);
  return block;
}

uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

Block stream_block(const gramian_stream& stream, uint64_t j, uint32_t b) {
  const uint32_t counter[4] = {static_cast<uint32_t>(j), static_cast<uint32_t>(j >> 32),
                               stream.tag | stream.factor << 8 | stream.generation << 16, b};
  return philox(counter, stream.key);
}

namespace {

double horner(const double* coefficients, int count, double x) {
  double sum = coefficients[count - 1];
  for (int k = count - 2; k >= 0; --k) {
    const double scaled = sum * x;
    sum = scaled + coefficients[k];
  }
  return sum;
}

/* The law's own logarithm: exponent split at sqrt(1/2), then the series of 2 artanh(s). */
double law_log(double p) {
  int exponent = 0;
  double m = std::frexp(p, &exponent);  // m in [1/2, 1)
  if (m < 0x1.6a09e667f3bcdp-1) {
    m *= 2.0;
    exponent -= 1;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double z2 = s * s;
  double series = 1.0 / 21.0;
  for (int k = 19; k >= 1; k -= 2) {
    const double scaled = series * z2;
    series = scaled + 1.0 / static_cast<double>(k);
  }
  const double e = static_cast<double>(exponent);
  const double high = e * 0x1.62e42fee00000p-1;
  const double low = e * 0x1.a39ef35793c76p-33;
  const double tail = (2.0 * s) * series;
  return high + (low + tail);
}

const double kCentreNum[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                              1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                              3.3430575583588128105e+4, 2.5090809287301226727e+3};
const double kCentreDen[8] = {1.0,
                              4.2313330701600911252e+1,
                              6.8718700749205790830e+2,
                              5.3941960214247511077e+3,
                              2.1213794301586595867e+4,
                              3.9307895800092710610e+4,
                              2.8729085735721942674e+4,
                              5.2264952788528545610e+3};
const double kMiddleNum[8] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                              3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                              2.27238449892691845833e-2, 7.74545014278341407640e-4};
const double kMiddleDen[8] = {1.0,
                              2.05319162663775882187e0,
                              1.67638483018380384940e0,
                              6.89767334985100004550e-1,
                              1.48103976427480074590e-1,
                              1.51986665636164571966e-2,
                              5.47593808499534494600e-4,
                              1.05075007164441684324e-9};
const double kTailNum[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                            2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                            2.71155556874348757815e-5, 2.01033439929228813265e-7};
const double kTailDen[8] = {1.0,
                            5.99832206555887937690e-1,
                            1.36929880922735805310e-1,
                            1.48753612908506148525e-2,
                            7.86869131145613259100e-4,
                            1.84631831751005468180e-5,
                            1.42151175831644588870e-7,
                            2.04426310338993978564e-15};

uint64_t word_pair(const Block& block, uint64_t index) {
  const size_t first = (index & 1) != 0 ? 2 : 0;
  return uint64_t{block.x[first]} | uint64_t{block.x[first + 1]} << 32;
}

double unit_interval(uint64_t word) {
  return (static_cast<double>(word >> 12) + 0.5) * 0x1p-52;
}

double bit_sign(const Block& block, uint64_t t) {
  return (block.x[t / 32] >> (t % 32) & 1u) != 0 ? -1.0 : 1.0;
}

}  // namespace

double normal_quantile(double u) {
  const double q = u - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double square = q * q;
    const double r = 0.180625 - square;
    return (q * horner(kCentreNum, 8, r)) / horner(kCentreDen, 8, r);
  }
  const double p = u < 1.0 - u ? u : 1.0 - u;
  const double t = std::sqrt(-law_log(p));
  const double z = t <= 5.0 ? horner(kMiddleNum, 8, t - 1.6) / horner(kMiddleDen, 8, t - 1.6)
                            : horner(kTailNum, 8, t - 5.0) / horner(kTailDen, 8, t - 5.0);
  return q < 0.0 ? -z : z;
}

double gaussian_entry(const gramian_stream& stream, uint64_t i, uint64_t j) {
  return normal_quantile(unit_interval(word_pair(stream_block(stream, j, static_cast<uint32_t>(i / 2)), i)));
}

double rademacher_entry(const gramian_stream& stream, uint64_t i, uint64_t j) {
  return bit_sign(stream_block(stream, j, static_cast<uint32_t>(i / 128)), i % 128);
}

double sign_entry(const gramian_stream& stream, uint64_t j) {
  return bit_sign(stream_block(stream, j / 128, 0), j % 128);
}

double uniform_entry(const gramian_stream& stream, uint64_t i, double low, double high) {
  const double u = unit_interval(word_pair(stream_block(stream, i / 2, 0), i));
  const double offset = (high - low) * u;
  return low + offset;
}

std::vector<long double> hadamard(const std::vector<long double>& x) {
  std::vector<long double> out = x;
  for (size_t half = 1; half < out.size(); half *= 2) {
    for (size_t i = 0; i < out.size(); ++i) {
      if ((i & half) != 0) continue;
      const long double a = out[i], b = out[i + half];
      out[i] = a + b;
      out[i + half] = a - b;
    }
  }
  return out;
}

}  // namespace conformance
