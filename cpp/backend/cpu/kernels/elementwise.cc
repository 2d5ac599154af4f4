/* Maps, the RBF map, scaling and sums of matrices. The transcendental functions are our own polynomials on native
 * vectors: about 2 ulp in either type. A row's remainder goes through the same vector code on a padded copy, so a value
 * does not depend on where it stands in a tile. */
#include <cmath>

#include "exponential.h"

namespace {

template <class T>
inline Vector<T> sign_bit_of(Vector<T> x) {
  return bit_copy<Vector<T>>(bit_copy<Integer<T>>(x) & bit_copy<Integer<T>>(splat<T>(T(-0.0))));
}

template <class T>
inline Vector<T> with_bits(Vector<T> x, Vector<T> bits) {
  return bit_copy<Vector<T>>(bit_copy<Integer<T>>(x) | bit_copy<Integer<T>>(bits));
}

template <class T>
inline Vector<T> flip_bits(Vector<T> x, Vector<T> bits) {
  return bit_copy<Vector<T>>(bit_copy<Integer<T>>(x) ^ bit_copy<Integer<T>>(bits));
}

/* tanh |x| = t / (t + 2) with t = exp(2 |x|) - 1, formed without cancellation. */
template <class T>
inline Vector<T> hyperbolic_tangent(Vector<T> x) {
  const Vector<T> sign = sign_bit_of<T>(x);
  Vector<T> magnitude = flip_bits<T>(x, sign);
  magnitude = magnitude > Exponential<T>::kTanhOne ? splat<T>(Exponential<T>::kTanhOne) : magnitude;
  const Reduced<T> reduced = reduce_exponential<T>(magnitude + magnitude);
  const Vector<T> power = power_of_two<T>(reduced.integer);
  const Vector<T> t = power * reduced.minus_one + (power - T(1));
  return with_bits<T>(t / (t + T(2)), sign);
}

template <class T>
inline Vector<T> logistic(Vector<T> x) {
  const Vector<T> decay = exponential<T>(with_bits<T>(x, splat<T>(T(-0.0))));
  return (x < T(0) ? decay : splat<T>(T(1))) / (decay + T(1));
}

/* Beyond this the multiples of the first part of pi / 2 stop being exact. */
constexpr double kCosineReach = 1e6;

/* cos x for |x| <= kCosineReach. Four parts of pi / 2 (33 + 33 + 33 + 53 bits) keep the rest accurate even next to a
 * zero of the cosine. kTerms: polynomial terms after the leading one. */
template <int kTerms>
inline Vector<double> cosine_core(Vector<double> x) {
  const double round = Exponential<double>::kRound;
  const Vector<double> shifted = x * 0.63661977236758134308 + round;
  const Integer<double> quarter = bit_copy<Integer<double>>(shifted);
  const Vector<double> multiple = shifted - round;
  Vector<double> rest = x - multiple * 0x1.921fb544p+0;
  rest -= multiple * 0x1.0b4611a6p-34;
  rest -= multiple * 0x1.3198a2ep-69;
  rest -= multiple * 0x1.b839a252049c1p-104;
  const Vector<double> square = rest * rest;
  const double sign_of_last = kTerms % 2 == 0 ? 1 : -1;
  Vector<double> sine = splat(sign_of_last * inverse_factorial<double>(2 * kTerms + 1));
  Vector<double> cosine = splat(sign_of_last * inverse_factorial<double>(2 * kTerms));
#pragma GCC unroll 16
  for (int k = kTerms - 1; k >= 1; --k) {
    const double sign = k % 2 == 0 ? 1 : -1;
    sine = sine * square + sign * inverse_factorial<double>(2 * k + 1);
    cosine = cosine * square + sign * inverse_factorial<double>(2 * k);
  }
  sine = rest + (rest * square) * sine;
  cosine = square * cosine + 1.0;
  // Quarters 0..3 give cos, -sin, -cos, sin of the rest.
  const Vector<double> value = (quarter & 1) != 0 ? sine : cosine;
  return bit_copy<Vector<double>>(bit_copy<Integer<double>>(value) ^ (((quarter + 1) & 2) << 62));
}

template <int kTerms>
inline Vector<double> cosine(Vector<double> x) {
  Vector<double> value = cosine_core<kTerms>(x);
  bool far = false;
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) far |= !(std::fabs(x[lane]) <= kCosineReach);
  if (far) {
    for (int64_t lane = 0; lane < kLanes<double>; ++lane) {
      if (!(std::fabs(x[lane]) <= kCosineReach)) value[lane] = std::cos(x[lane]);
    }
  }
  return value;
}

struct Identity {
  template <class T>
  Vector<T> operator()(Vector<T> x, T) const {
    return x;
  }
};

struct Relu {
  template <class T>
  Vector<T> operator()(Vector<T> x, T zero) const {
    return x < zero ? splat(zero) : x;
  }
};

struct Tanh {
  template <class T>
  Vector<T> operator()(Vector<T> x, T) const {
    return hyperbolic_tangent<T>(x);
  }
};

struct Sigmoid {
  template <class T>
  Vector<T> operator()(Vector<T> x, T) const {
    return logistic<T>(x);
  }
};

struct Sign {
  template <class T>
  Vector<T> operator()(Vector<T> x, T zero) const {
    const Vector<T> one = splat(T(1));
    return x > zero ? one : (x < zero ? -one : (x == zero ? splat(zero) : x));
  }
};

/* x = scale * f(x + shift) over one row with kLanes<T> values a step; the vectors are of the storage type. */
template <class T, class Function>
inline void map_row(const Function& f, int64_t cols, const T* shift, T scale, T* x) {
  const auto step = [&](T* at, const T* shift_at) {
    Vector<T> value = load<Vector<T>>(at);
    if (shift_at) value += load<Vector<T>>(shift_at);
    store<Vector<T>>(at, f(value, T(0)) * scale);
  };
  int64_t c = 0;
  for (; c + kLanes<T> <= cols; c += kLanes<T>) step(x + c, shift ? shift + c : nullptr);
  if (c == cols) return;
  T padded[kLanes<T>] = {}, padded_shift[kLanes<T>] = {};
  const size_t bytes = static_cast<size_t>(cols - c) * sizeof(T);
  std::memcpy(padded, x + c, bytes);
  if (shift) std::memcpy(padded_shift, shift + c, bytes);
  step(padded, shift ? padded_shift : nullptr);
  std::memcpy(x + c, padded, bytes);
}

template <class T, class Function>
int map_rows(const Function& f, int64_t rows, int64_t cols, const void* shift, double scale, void* x, int64_t ldx) {
  for (int64_t r = 0; r < rows; ++r) {
    map_row<T>(f, cols, static_cast<const T*>(shift), static_cast<T>(scale), static_cast<T*>(x) + r * ldx);
  }
  return GRAMIAN_STATUS_OK;
}

/* Replaces a row by body(column, values as double), kLanes<double> values a step. The argument of a cosine needs more
 * bits than a float has, and so does the exponent of the RBF map: floats are computed as doubles there. */
template <class T, class Body>
inline void replace_wide(int64_t cols, T* x, const Body& body) {
  constexpr int64_t lanes = kLanes<double>;
  int64_t c = 0;
  for (; c + lanes <= cols; c += lanes) store_rounded(x + c, body(c, load_wide(x + c)));
  if (c == cols) return;
  T padded[lanes] = {};
  const size_t bytes = static_cast<size_t>(cols - c) * sizeof(T);
  std::memcpy(padded, x + c, bytes);
  store_rounded(padded, body(c, load_wide(padded)));
  std::memcpy(x + c, padded, bytes);
}

/* lanes values from `source`, the missing ones zero. */
template <class T>
inline Vector<double> load_available(const T* source, int64_t available) {
  if (available >= kLanes<double>) return load_wide(source);
  T padded[kLanes<double>] = {};
  std::memcpy(padded, source, static_cast<size_t>(available) * sizeof(T));
  return load_wide(padded);
}

template <class T>
int map_cosine(int64_t rows, int64_t cols, const void* shift, double scale, void* x, int64_t ldx) {
  constexpr int terms = sizeof(T) == 8 ? 8 : 5;
  const T* shift_of = static_cast<const T*>(shift);
  const double factor = static_cast<T>(scale);
  for (int64_t r = 0; r < rows; ++r) {
    replace_wide(cols, static_cast<T*>(x) + r * ldx, [&](int64_t c, Vector<double> value) {
      if (shift_of) value += load_available(shift_of + c, cols - c);
      return cosine<terms>(value) * factor;
    });
  }
  return GRAMIAN_STATUS_OK;
}

template <class T>
int map_type(int activation, int64_t rows, int64_t cols, const void* shift, double scale, void* x, int64_t ldx) {
  switch (activation) {
    case GRAMIAN_IDENTITY:
      return map_rows<T>(Identity(), rows, cols, shift, scale, x, ldx);
    case GRAMIAN_RELU:
      return map_rows<T>(Relu(), rows, cols, shift, scale, x, ldx);
    case GRAMIAN_TANH:
      return map_rows<T>(Tanh(), rows, cols, shift, scale, x, ldx);
    case GRAMIAN_SIGMOID:
      return map_rows<T>(Sigmoid(), rows, cols, shift, scale, x, ldx);
    case GRAMIAN_COS:
      return map_cosine<T>(rows, cols, shift, scale, x, ldx);
    case GRAMIAN_SIGN:
      return map_rows<T>(Sign(), rows, cols, shift, scale, x, ldx);
    default:
      return GRAMIAN_STATUS_INVALID;
  }
}

int map(gramian_context*, int dtype, int activation, int64_t rows, int64_t cols, const void* shift, double scale,
        void* x, int64_t ldx) {
  if (dtype == GRAMIAN_F32) return map_type<float>(activation, rows, cols, shift, scale, x, ldx);
  if (dtype == GRAMIAN_F64) return map_type<double>(activation, rows, cols, shift, scale, x, ldx);
  return GRAMIAN_STATUS_INVALID;
}

template <class T>
int rbf_type(int64_t rows, int64_t cols, const double* row_sq, const double* col_sq, double gamma, void* x,
             int64_t ldx) {
  constexpr int degree = sizeof(T) == 8 ? Exponential<double>::kDegree : 8;
  for (int64_t r = 0; r < rows; ++r) {
    const double own = row_sq[r];
    replace_wide(cols, static_cast<T*>(x) + r * ldx, [&](int64_t c, Vector<double> product) {
      Vector<double> distance = (load_available(col_sq + c, cols - c) + own) - 2.0 * product;
      distance = distance < 0.0 ? splat(0.0) : distance;
      return exponential<double, degree>(-gamma * distance);
    });
  }
  return GRAMIAN_STATUS_OK;
}

int rbf(gramian_context*, int dtype, int64_t rows, int64_t cols, const double* row_sq, const double* col_sq,
        double gamma, void* x, int64_t ldx) {
  if (dtype == GRAMIAN_F32) return rbf_type<float>(rows, cols, row_sq, col_sq, gamma, x, ldx);
  if (dtype == GRAMIAN_F64) return rbf_type<double>(rows, cols, row_sq, col_sq, gamma, x, ldx);
  return GRAMIAN_STATUS_INVALID;
}

/* One row of dst = alpha * src + beta * dst in the type Wide. In place is allowed, so no __restrict. */
template <class Wide, class S, class D>
inline void axpby_row(int64_t cols, Wide alpha, const S* src, Wide beta, D* dst) {
  if (!src) {
    for (int64_t c = 0; c < cols; ++c) dst[c] = beta == 0 ? D(0) : static_cast<D>(beta * static_cast<Wide>(dst[c]));
  } else if (beta == 0) {
    for (int64_t c = 0; c < cols; ++c) dst[c] = static_cast<D>(alpha * static_cast<Wide>(src[c]));
  } else {
    for (int64_t c = 0; c < cols; ++c) {
      dst[c] = static_cast<D>(alpha * static_cast<Wide>(src[c]) + beta * static_cast<Wide>(dst[c]));
    }
  }
}

template <class S, class D>
int axpby_types(int64_t rows, int64_t cols, double alpha, const void* src, int64_t ld_src, double beta, void* dst,
                int64_t ld_dst) {
  using Wide = decltype(S() + D());
  for (int64_t r = 0; r < rows; ++r) {
    const S* from = src ? static_cast<const S*>(src) + r * ld_src : nullptr;
    axpby_row(cols, static_cast<Wide>(alpha), from, static_cast<Wide>(beta), static_cast<D*>(dst) + r * ld_dst);
  }
  return GRAMIAN_STATUS_OK;
}

int axpby(gramian_context*, int src_dtype, int64_t rows, int64_t cols, double alpha, const void* src, int64_t ld_src,
          double beta, int dst_dtype, void* dst, int64_t ld_dst) {
  if (!is_compute_type(src_dtype) || !is_compute_type(dst_dtype)) return GRAMIAN_STATUS_INVALID;
  if (!src && alpha != 0) return GRAMIAN_STATUS_INVALID;
  if (src_dtype == GRAMIAN_F32) {
    return dst_dtype == GRAMIAN_F32 ? axpby_types<float, float>(rows, cols, alpha, src, ld_src, beta, dst, ld_dst)
                                    : axpby_types<float, double>(rows, cols, alpha, src, ld_src, beta, dst, ld_dst);
  }
  return dst_dtype == GRAMIAN_F32 ? axpby_types<double, float>(rows, cols, alpha, src, ld_src, beta, dst, ld_dst)
                                  : axpby_types<double, double>(rows, cols, alpha, src, ld_src, beta, dst, ld_dst);
}

int add_diagonal(gramian_context*, int dtype, int64_t n, double value, void* a, int64_t lda) {
  if (!is_compute_type(dtype)) return GRAMIAN_STATUS_INVALID;
  for (int64_t i = 0; i < n; ++i) {
    if (dtype == GRAMIAN_F32) {
      static_cast<float*>(a)[i * lda + i] += static_cast<float>(value);
    } else {
      static_cast<double*>(a)[i * lda + i] += value;
    }
  }
  return GRAMIAN_STATUS_OK;
}

/* Square tiles, so that the column-wise half of the traffic reuses its cache lines. */
template <class T>
int symmetrize_type(int64_t n, T* a, int64_t lda) {
  constexpr int64_t edge = 32;
  for (int64_t r0 = 0; r0 < n; r0 += edge) {
    for (int64_t c0 = r0; c0 < n; c0 += edge) {
      for (int64_t r = r0; r < n && r < r0 + edge; ++r) {
        for (int64_t c = c0 > r ? c0 : r + 1; c < n && c < c0 + edge; ++c) a[r * lda + c] = a[c * lda + r];
      }
    }
  }
  return GRAMIAN_STATUS_OK;
}

int symmetrize(gramian_context*, int dtype, int64_t n, void* a, int64_t lda) {
  if (dtype == GRAMIAN_F32) return symmetrize_type(n, static_cast<float*>(a), lda);
  if (dtype == GRAMIAN_F64) return symmetrize_type(n, static_cast<double*>(a), lda);
  return GRAMIAN_STATUS_INVALID;
}

template <class T>
int scale_columns_type(int64_t rows, int64_t cols, const T* __restrict v, T* __restrict x, int64_t ldx) {
  for (int64_t r = 0; r < rows; ++r, x += ldx) {
    for (int64_t c = 0; c < cols; ++c) x[c] *= v[c];
  }
  return GRAMIAN_STATUS_OK;
}

int scale_columns(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* v, void* x, int64_t ldx) {
  if (dtype == GRAMIAN_F32) {
    return scale_columns_type(rows, cols, static_cast<const float*>(v), static_cast<float*>(x), ldx);
  }
  if (dtype == GRAMIAN_F64) {
    return scale_columns_type(rows, cols, static_cast<const double*>(v), static_cast<double*>(x), ldx);
  }
  return GRAMIAN_STATUS_INVALID;
}

template <class T>
int scale_rows_type(int64_t rows, int64_t cols, const T* v, T* x, int64_t ldx) {
  for (int64_t r = 0; r < rows; ++r, x += ldx) {
    const T factor = v[r];
    for (int64_t c = 0; c < cols; ++c) x[c] *= factor;
  }
  return GRAMIAN_STATUS_OK;
}

int scale_rows(gramian_context*, int dtype, int64_t rows, int64_t cols, const void* v, void* x, int64_t ldx) {
  if (dtype == GRAMIAN_F32) {
    return scale_rows_type(rows, cols, static_cast<const float*>(v), static_cast<float*>(x), ldx);
  }
  if (dtype == GRAMIAN_F64) {
    return scale_rows_type(rows, cols, static_cast<const double*>(v), static_cast<double*>(x), ldx);
  }
  return GRAMIAN_STATUS_INVALID;
}

}  // namespace

GRAMIAN_FILL_FUNCTION(elementwise) {
  table->map = map;
  table->rbf = rbf;
  table->axpby = axpby;
  table->add_diagonal = add_diagonal;
  table->symmetrize = symmetrize;
  table->scale_columns = scale_columns;
  table->scale_rows = scale_rows;
}
