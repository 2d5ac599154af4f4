#include "gramian/regression/mfac.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/sketching.hpp"
#include "gramian/linalg/update.hpp"

namespace gramian {
namespace {

std::vector<double> to_host(const Exec& exec, MatrixView<const double> x) {
  std::vector<double> out(static_cast<std::size_t>(x.rows * x.cols));
  download<double>(exec, x, {out.data(), x.rows, x.cols});
  return out;
}

Array<double> to_device(const Exec& exec, const std::vector<double>& x, std::int64_t rows, std::int64_t cols) {
  Array<double> out(exec, rows, cols);
  upload<double>(exec, {x.data(), rows, cols}, out.view());
  return out;
}

// A pivot this small beside its diagonal entry is what rounding left of it.
bool is_rounding(double root, double diagonal, std::int64_t m) {
  return !(root * root > 16 * std::numeric_limits<double>::epsilon() * static_cast<double>(m) * diagonal);
}

SymmetricMatrix<double> copy_of(const Exec& exec, const SymmetricMatrix<double>& a) {
  SymmetricMatrix<double> out(exec, a.size());
  if (a.size() > 0) out.axpby(exec, 1.0, a, 0.0);
  return out;
}

// Squares of gradients that overflow would pass for a factor's pivots.
void check_finite(const std::vector<double>& products) {
  for (const double value : products)
    GRAMIAN_REQUIRE(std::isfinite(value), non_finite, "products of the gradients overflow");
}

}  // namespace

Mfac::Mfac(const Exec& exec, std::int64_t capacity, std::int64_t n_params, MfacOptions options)
    : exec_(exec), options_(options), capacity_(capacity), n_params_(n_params) {
  GRAMIAN_REQUIRE(capacity >= 1 && n_params >= 1, invalid_argument, "n_gradients and n_params must be at least 1");
  GRAMIAN_REQUIRE(std::isfinite(options.ridge) && options.ridge > 0, invalid_argument,
                  "ridge must be finite and above 0, got " + std::to_string(options.ridge));
  GRAMIAN_REQUIRE(options.storage == DType::f64 || options.storage == DType::f32, invalid_argument,
                  "gradients are stored as float64 or float32");
  if (options.storage == DType::f64) {
    wide_ = Array<double>(exec, capacity, n_params);
  } else {
    narrow_ = Array<float>(exec, capacity, n_params);
  }
  gram_.assign(static_cast<std::size_t>(capacity * capacity), 0.0);
}

// Columns of the gradients that are widened at a time: about two megabytes of them.
std::int64_t Mfac::block_width() const {
  if (options_.storage == DType::f64 && exec_.device() != Device::cpu) return n_params_;
  return std::min(n_params_, std::max<std::int64_t>(256, (std::int64_t{1} << 18) / capacity_));
}

// Columns [begin, begin + width) of the gradients that are there, as doubles.
MatrixView<const double> Mfac::columns(std::int64_t begin, std::int64_t width, Array<double>& scratch) const {
  if (options_.storage == DType::f64) return wide_.view().block(0, begin, count_, width);
  if (scratch.size() < count_ * width) scratch = Array<double>(exec_, count_, width);
  const MatrixView<double> out(scratch.data(), count_, width);
  axpby<float, double>(exec_, 1.0, narrow_.view().block(0, begin, count_, width), 0.0, out);
  return out;
}

Array<double> Mfac::load(const RowsView& rows) const {
  GRAMIAN_REQUIRE(rows.cols == n_params_, shape_mismatch,
                  "gradients have " + std::to_string(rows.cols) + " parameters, expected " + std::to_string(n_params_));
  const std::int64_t used = std::min(rows.rows, capacity_), passed = rows.rows - used;
  Array<double> out(exec_, used, n_params_);
  // Rows that would leave the window at once are looked at all the same.
  for (std::int64_t begin = 0; begin < passed; begin += used) {
    const std::int64_t count = std::min(used, passed - begin);
    load_rows<double>(exec_, rows.slice(begin, count), nullptr, nullptr, out.view().block(0, 0, count, n_params_),
                      "gradients");
  }
  load_rows<double>(exec_, rows.slice(passed, used), nullptr, nullptr, out.view(), "gradients");
  if (options_.storage == DType::f32) {
    // K is that of the gradients as they are stored.
    Array<float> rounded(exec_, used, n_params_);
    axpby<double, float>(exec_, 1.0, out.view(), 0.0, rounded.view());
    axpby<float, double>(exec_, 1.0, rounded.view(), 0.0, out.view());
  }
  return out;
}

// rows G' for the slots in use, host.
std::vector<double> Mfac::products_with(const Array<double>& rows) const {
  if (count_ == 0) return {};
  Array<double> out(exec_, rows.rows(), count_), scratch;
  const std::int64_t width = options_.storage == DType::f64 ? n_params_ : block_width();
  for (std::int64_t begin = 0; begin < n_params_; begin += width) {
    exec_.poll();
    const std::int64_t size = std::min(width, n_params_ - begin);
    gemm<double>(exec_, Trans::no, Trans::yes, 1.0, rows.view().block(0, begin, rows.rows(), size),
                 columns(begin, size, scratch), begin == 0 ? 0.0 : 1.0, out.view());
  }
  return to_host(exec_, out.view());
}

SymmetricMatrix<double> Mfac::factor_of(const std::vector<double>& gram, std::int64_t head, std::int64_t count) const {
  std::vector<double> lower, entries;
  lower.reserve(static_cast<std::size_t>(count * (count + 1) / 2));
  for (std::int64_t a = 0; a < count; ++a) {
    const std::int64_t row = (head + a) % capacity_;
    for (std::int64_t b = 0; b <= a; ++b)
      lower.push_back(gram[static_cast<std::size_t>(row * capacity_ + (head + b) % capacity_)]);
    lower.back() += static_cast<double>(capacity_) * options_.ridge;
    entries.push_back(lower.back());
  }
  SymmetricMatrix<double> l(exec_, count);
  if (count > 0) l.unpack(exec_, lower.data());
  std::vector<double> roots(static_cast<std::size_t>(count));
  std::int64_t pivot = cholesky(exec_, l);
  if (pivot == 0) l.diagonal(exec_, roots.data());
  for (std::int64_t a = 0; a < count && pivot == 0; ++a)
    if (is_rounding(roots[static_cast<std::size_t>(a)], entries[static_cast<std::size_t>(a)], capacity_)) pivot = a + 1;
  GRAMIAN_REQUIRE(pivot == 0, not_positive_definite,
                  "the gradients are numerically dependent at ridge " + std::to_string(options_.ridge) +
                      " (gradient of age " + std::to_string(pivot - 1) + "); use a larger ridge");
  return l;
}

void Mfac::store(const Array<double>& rows, std::int64_t row, std::int64_t slot) {
  const Exec exec = exec_.uninterrupted();
  const auto from = rows.view().block(row, 0, 1, n_params_);
  if (options_.storage == DType::f64) {
    axpby<double, double>(exec, 1.0, from, 0.0, wide_.view().block(slot, 0, 1, n_params_));
  } else {
    axpby<double, float>(exec, 1.0, from, 0.0, narrow_.view().block(slot, 0, 1, n_params_));
  }
}

void Mfac::push(const RowsView& gradients) {
  GRAMIAN_REQUIRE(options_.dynamic || count_ == 0, invalid_argument, "a static window takes its gradients once");
  if (gradients.rows == 0) return;
  push_loaded(load(gradients));
  if (!options_.dynamic) make_static();
}

void Mfac::push_loaded(const Array<double>& rows) {
  const std::int64_t k = rows.rows();
  const std::vector<double> cross = products_with(rows);
  Array<double> own(exec_, k, k);
  gemm<double>(exec_, Trans::no, Trans::yes, 1.0, rows.view(), rows.view(), 0.0, own.view());
  const std::vector<double> inner = to_host(exec_, own.view());
  check_finite(cross);
  check_finite(inner);
  const bool anew = 8 * k > capacity_ || since_refresh_ + k >= capacity_;
  SymmetricMatrix<double> l = anew ? SymmetricMatrix<double>() : copy_of(exec_, l_);
  std::vector<double> gram = gram_;
  std::vector<std::int64_t> slots, newcomer(static_cast<std::size_t>(capacity_), -1);  // row that is in the slot
  std::int64_t head = head_, count = count_;
  bool broken = anew;
  for (std::int64_t r = 0; r < k; ++r) {
    const bool full = count == capacity_;
    const std::int64_t slot = full ? head : (head + count) % capacity_;
    if (full) head = (head + 1) % capacity_;
    count += full ? 0 : 1;
    slots.push_back(slot);
    newcomer[static_cast<std::size_t>(slot)] = r;
    for (std::int64_t t = 0; t < std::max(count, count_); ++t) {
      const std::int64_t other = newcomer[static_cast<std::size_t>(t)];
      const double value =
          other >= 0 ? inner[static_cast<std::size_t>(r * k + other)] : cross[static_cast<std::size_t>(r * count_ + t)];
      gram[static_cast<std::size_t>(slot * capacity_ + t)] = gram[static_cast<std::size_t>(t * capacity_ + slot)] =
          value;
    }
    if (broken) continue;
    exec_.poll();
    if (full) cholesky_delete(exec_, l, {0});
    std::vector<double> border;
    for (std::int64_t age = 0; age < count; ++age)
      border.push_back(gram[static_cast<std::size_t>(slot * capacity_ + (head + age) % capacity_)]);
    border.back() += static_cast<double>(capacity_) * options_.ridge;
    broken = cholesky_append(exec_, l, to_device(exec_, border, 1, count).view()) != 0;
    if (broken) continue;
    std::vector<double> roots(static_cast<std::size_t>(count));
    l.diagonal(exec_, roots.data());
    broken = is_rounding(roots.back(), border.back(), capacity_);
  }
  if (broken) l = factor_of(gram, head, count);
  for (std::int64_t r = 0; r < k; ++r) store(rows, r, slots[static_cast<std::size_t>(r)]);
  gram_ = std::move(gram);
  l_ = std::move(l);
  head_ = head;
  count_ = count;
  since_refresh_ = broken ? 0 : since_refresh_ + k;
  refreshes_ += broken ? 1 : 0;
}

void Mfac::replace(std::int64_t age, const RowsView& gradient) {
  GRAMIAN_REQUIRE(options_.dynamic, invalid_argument, "a static window does not change");
  GRAMIAN_REQUIRE(age >= 0 && age < count_, invalid_argument,
                  "there is no gradient of age " + std::to_string(age) + " among " + std::to_string(count_));
  GRAMIAN_REQUIRE(gradient.rows == 1, shape_mismatch, "one gradient is replaced at a time");
  const Array<double> row = load(gradient);
  const std::int64_t slot = slot_of(age);
  std::vector<double> values = products_with(row);
  Array<double> own(exec_, 1, 1);
  gemm<double>(exec_, Trans::no, Trans::yes, 1.0, row.view(), row.view(), 0.0, own.view());
  values[static_cast<std::size_t>(slot)] = to_host(exec_, own.view())[0];
  check_finite(values);
  std::vector<double> gram = gram_, border;
  for (std::int64_t t = 0; t < count_; ++t)
    gram[static_cast<std::size_t>(slot * capacity_ + t)] = gram[static_cast<std::size_t>(t * capacity_ + slot)] =
        values[static_cast<std::size_t>(t)];
  for (std::int64_t a = 0; a < count_; ++a) border.push_back(values[static_cast<std::size_t>(slot_of(a))]);
  border[static_cast<std::size_t>(age)] += static_cast<double>(capacity_) * options_.ridge;
  SymmetricMatrix<double> l = copy_of(exec_, l_);
  bool anew = since_refresh_ + 1 >= capacity_;
  // Rows taken out of a factor leave rounding behind where little is left, so there it is made from K.
  if (!anew) anew = !cholesky_replace(exec_, l, age, to_device(exec_, border, 1, count_).view(), kLeastLeft);
  if (anew) l = factor_of(gram, head_, count_);
  store(row, 0, slot);
  gram_ = std::move(gram);
  l_ = std::move(l);
  since_refresh_ = anew ? 0 : since_refresh_ + 1;
  refreshes_ += anew ? 1 : 0;
}

void Mfac::refresh() {
  GRAMIAN_REQUIRE(options_.dynamic, invalid_argument, "a static window does not change");
  l_ = factor_of(gram_, head_, count_);
  since_refresh_ = 0;
  refreshes_ += 1;
}

// W = L^-1 G in the place of G, block by block. The slots of a window that was filled once are in the order of age.
void Mfac::make_static() {
  const Exec exec = exec_.uninterrupted();
  Array<double> scratch;
  for (std::int64_t begin = 0; begin < n_params_; begin += block_width()) {
    const std::int64_t size = std::min(block_width(), n_params_ - begin);
    if (options_.storage == DType::f64) {
      cholesky_solve_half<double>(exec, Trans::no, l_, wide_.view().block(0, begin, count_, size));
      continue;
    }
    columns(begin, size, scratch);
    const MatrixView<double> part(scratch.data(), count_, size);
    cholesky_solve_half<double>(exec, Trans::no, l_, part);
    axpby<double, float>(exec, 1.0, part, 0.0, narrow_.view().block(0, begin, count_, size));
  }
}

double Mfac::effective_dimension() const {
  if (count_ == 0) return 0;
  const double shift = static_cast<double>(capacity_) * options_.ridge;
  return static_cast<double>(count_) - shift * inverse_trace(exec_, l_);
}

void Mfac::solve(MatrixView<double> v) const {
  GRAMIAN_REQUIRE(v.cols == n_params_, shape_mismatch,
                  "v has " + std::to_string(v.cols) + " entries, expected " + std::to_string(n_params_));
  if (v.rows == 0) return;
  const std::int64_t k = v.rows, m = count_;
  Array<double> rows(exec_, k, n_params_);
  upload<double>(exec_, v, rows.view());
  Array<double> u;
  if (m > 0) {
    const std::vector<double> products = products_with(rows);
    std::vector<double> by_age(products.size());  // m x k
    for (std::int64_t r = 0; r < k; ++r)
      for (std::int64_t a = 0; a < m; ++a)
        by_age[static_cast<std::size_t>(a * k + r)] = products[static_cast<std::size_t>(r * m + slot_of(a))];
    if (options_.dynamic) {
      const Array<double> solved = to_device(exec_, by_age, m, k);
      cholesky_solve_half<double>(exec_, Trans::no, l_, solved.view());
      cholesky_solve_half<double>(exec_, Trans::yes, l_, solved.view());
      by_age = to_host(exec_, solved.view());
    }
    std::vector<double> back(products.size());
    for (std::int64_t r = 0; r < k; ++r)
      for (std::int64_t a = 0; a < m; ++a)
        back[static_cast<std::size_t>(r * m + slot_of(a))] = by_age[static_cast<std::size_t>(a * k + r)];
    u = to_device(exec_, back, k, m);
  }
  Array<double> scratch;
  const std::int64_t width = options_.storage == DType::f64 ? n_params_ : block_width();
  for (std::int64_t begin = 0; begin < n_params_; begin += width) {
    exec_.poll();
    const std::int64_t size = std::min(width, n_params_ - begin);
    const MatrixView<double> part = rows.view().block(0, begin, k, size);
    if (m == 0) {
      axpby<double, double>(exec_, 1 / options_.ridge, part, 0.0, part);
    } else {
      gemm<double>(exec_, Trans::no, Trans::no, -1 / options_.ridge, u.view(), columns(begin, size, scratch),
                   1 / options_.ridge, part);
    }
  }
  GRAMIAN_REQUIRE(is_finite<double>(exec_, rows.view()), non_finite, "the products with the inverse overflow");
  download<double>(exec_, rows.view(), v);
}

// These columns (m x q) of what is stored as rows, sorted by age: q x m.
Array<double> Mfac::turned(MatrixView<const double> columns) const {
  const std::int64_t m = count_;
  // A product with the permutation that sorts slots by age also turns columns into rows.
  std::vector<double> order(static_cast<std::size_t>(m * m), 0.0);
  for (std::int64_t a = 0; a < m; ++a) order[static_cast<std::size_t>(slot_of(a) * m + a)] = 1;
  const Array<double> sort = to_device(exec_, order, m, m);
  Array<double> out(exec_, columns.cols, m);
  gemm<double>(exec_, Trans::yes, Trans::no, 1.0, columns, sort.view(), 0.0, out.view());
  return out;
}

// Rows w_i = L^-1 g_i of these columns.
Array<double> Mfac::whitened(MatrixView<const double> columns) const {
  Array<double> out = turned(columns);
  if (options_.dynamic) cholesky_solve_rows<double>(exec_, l_, out.view());
  return out;
}

void Mfac::diagonal(double* out) const {
  std::fill(out, out + n_params_, 1 / options_.ridge);
  if (count_ == 0) return;
  double trace = static_cast<double>(count_ * capacity_) * options_.ridge;  // of K
  for (std::int64_t slot = 0; slot < count_; ++slot) trace += gram_[static_cast<std::size_t>(slot * (capacity_ + 1))];
  Array<double> scratch;
  const std::int64_t width = std::min(n_params_, std::max<std::int64_t>(256, (std::int64_t{1} << 18) / capacity_));
  Array<double> sums(exec_, width);
  for (std::int64_t begin = 0; begin < n_params_; begin += width) {
    exec_.poll();
    const std::int64_t size = std::min(width, n_params_ - begin);
    Array<double> w = turned(columns(begin, size, scratch));
    row_sumsq<double>(exec_, w.view(), sums.data());
    std::vector<double> shares = to_host(exec_, {sums.data(), 1, size}), squares = shares;
    if (options_.dynamic) {
      cholesky_solve_rows<double>(exec_, l_, w.view());
      row_sumsq<double>(exec_, w.view(), sums.data());
      shares = to_host(exec_, {sums.data(), 1, size});
    }
    for (std::int64_t i = 0; i < size; ++i) {
      const double square = squares[static_cast<std::size_t>(i)] * (options_.dynamic ? 1.0 : trace);
      // An entry of an inverse is at least the inverse of the entry: what rounding takes below it, to 0 and to negative
      // numbers, would make of the stiffest parameters the cheapest ones. |g_i|^2 = |L w_i|^2 <= trace K |w_i|^2.
      out[begin + i] = std::max((1 - shares[static_cast<std::size_t>(i)]) / options_.ridge,
                                1 / (options_.ridge + square / static_cast<double>(capacity_)));
    }
  }
}

void Mfac::block(const std::vector<std::int64_t>& indices, MatrixView<double> out) const {
  const auto q = static_cast<std::int64_t>(indices.size());
  GRAMIAN_REQUIRE(out.rows == q && out.cols == q, shape_mismatch, "the block must have a row and a column per index");
  for (const std::int64_t i : indices)
    GRAMIAN_REQUIRE(i >= 0 && i < n_params_, invalid_argument,
                    "index " + std::to_string(i) + " lies outside 0 .. " + std::to_string(n_params_ - 1));
  for (std::int64_t r = 0; r < q; ++r)
    for (std::int64_t c = 0; c < q; ++c)
      out(r, c) = indices[static_cast<std::size_t>(r)] == indices[static_cast<std::size_t>(c)] ? 1 / options_.ridge : 0;
  if (count_ == 0 || q == 0) return;
  Array<double> picked(exec_, count_, q), scratch;
  for (std::int64_t c = 0; c < q; ++c)
    axpby<double, double>(exec_, 1.0, columns(indices[static_cast<std::size_t>(c)], 1, scratch), 0.0,
                          picked.view().block(0, c, count_, 1));
  const Array<double> w = whitened(picked.view());
  Array<double> share(exec_, q, q);
  gemm<double>(exec_, Trans::no, Trans::yes, 1.0, w.view(), w.view(), 0.0, share.view());
  const std::vector<double> host = to_host(exec_, share.view());
  for (std::int64_t r = 0; r < q; ++r)
    for (std::int64_t c = 0; c < q; ++c) out(r, c) -= host[static_cast<std::size_t>(r * q + c)] / options_.ridge;
}

MfacState Mfac::state() const {
  MfacState out;
  out.head = head_;
  out.size = count_;
  out.since_refresh = since_refresh_;
  out.refreshes = refreshes_;
  out.products = gram_;
  out.factor.resize(static_cast<std::size_t>(count_ * (count_ + 1) / 2));
  if (count_ == 0) return out;
  l_.pack(exec_, out.factor.data());
  const auto values = static_cast<std::size_t>(count_ * n_params_);
  if (options_.storage == DType::f64) {
    out.wide.resize(values);
    download<double>(exec_, wide_.view().block(0, 0, count_, n_params_), {out.wide.data(), count_, n_params_});
  } else {
    out.narrow.resize(values);
    download<float>(exec_, narrow_.view().block(0, 0, count_, n_params_), {out.narrow.data(), count_, n_params_});
  }
  return out;
}

void Mfac::restore(const MfacState& state) {
  const bool wide = options_.storage == DType::f64;
  const auto holds = [](const auto& values, std::int64_t count) {
    return static_cast<std::int64_t>(values.size()) == count &&
           std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
  };
  bool good = state.size >= 0 && state.size <= capacity_ && state.head >= 0 && state.head < capacity_ &&
              (state.head == 0 || state.size == capacity_) && state.since_refresh >= 0 && state.refreshes >= 0;
  good = good && holds(state.wide, wide ? state.size * n_params_ : 0) &&
         holds(state.narrow, wide ? 0 : state.size * n_params_) && holds(state.products, capacity_ * capacity_) &&
         holds(state.factor, state.size * (state.size + 1) / 2);
  for (std::int64_t a = 0; a < state.size && good; ++a)
    good = state.factor[static_cast<std::size_t>(a * (a + 1) / 2 + a)] > 0;
  GRAMIAN_REQUIRE(good, invalid_argument,
                  "the state is that of no window of " + std::to_string(capacity_) + " gradients of " +
                      std::to_string(n_params_) + " parameters");
  SymmetricMatrix<double> l(exec_, state.size);
  std::vector<double> products = state.products;
  if (state.size > 0) {
    l.unpack(exec_, state.factor.data());
    const Exec exec = exec_.uninterrupted();
    if (wide) {
      upload<double>(exec, {state.wide.data(), state.size, n_params_}, wide_.view().block(0, 0, state.size, n_params_));
    } else {
      upload<float>(exec, {state.narrow.data(), state.size, n_params_},
                    narrow_.view().block(0, 0, state.size, n_params_));
    }
  }
  l_ = std::move(l);
  gram_ = std::move(products);
  head_ = state.head;
  count_ = state.size;
  since_refresh_ = state.since_refresh;
  refreshes_ = state.refreshes;
}

}  // namespace gramian
