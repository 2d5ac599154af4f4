#include "gramian/sketch/frequent_directions.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/row_count.h"
#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/sketching.hpp"
#include "gramian/linalg/symmetric.hpp"

namespace gramian {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kSmallSquares = 1e-250;
constexpr int kMostPower = 1000;
// A sum of losses up to this share of |A|_F^2 is the rounding of the squares.
constexpr double kRounding = 1e-12;
// No product of sizes below it overflows.
constexpr std::int64_t kMostSize = std::int64_t{1} << 30;

std::size_t at(std::int64_t k) {
  return static_cast<std::size_t>(k);
}

}  // namespace

struct FrequentDirections::Impl {
  Impl(const Exec& exec_, std::int64_t ell_, std::int64_t d_) : exec(exec_), ell(ell_), d(d_) {
    GRAMIAN_REQUIRE(ell >= 1 && d >= 1, invalid_argument, "frequent directions need ell >= 1 rows of d >= 1 columns");
    GRAMIAN_REQUIRE(ell < kMostSize && d < kMostSize, invalid_argument,
                    "frequent directions keep fewer than 2^30 rows and columns, not " + std::to_string(ell) + " and " +
                        std::to_string(d));
    buffer = Array<double>(exec, 2 * ell, d);
  }
  Impl(const Impl& other)
      : exec(other.exec),
        ell(other.ell),
        d(other.d),
        used(other.used),
        rows(other.rows),
        squares(other.squares),
        delta(other.delta),
        buffer(exec, 2 * ell, d) {
    axpby<double, double>(exec, 1.0, other.live(), 0.0, live());
  }

  MatrixView<double> live() const { return buffer.view().block(0, 0, used, d); }

  // The buffer to at most ell - 1 rows; fewer columns than ell lose nothing.
  void shrink() {
    const double power = factor();
    if (power != 1) scale_rows<double>(exec, std::vector<double>(at(used), power), live());
    // Eigenvalues of the smaller Gram matrix: they are the squares that the guarantee speaks of, so nothing is lost
    // by squaring.
    const bool wide = d > used;
    const std::int64_t size = std::min(d, used);
    SymmetricMatrix<double> gram(exec, size);
    if (wide) {
      outer_gram_update(exec, 1.0, live(), gram);
    } else {
      gram_update<double>(exec, 1.0, live(), gram);
    }
    std::vector<double> w;
    Array<double> v;
    symmetric_eigen(exec, gram, w, v);
    std::reverse(w.begin(), w.end());
    // However small it is: what is lost in each of many steps adds up, and delta has to say so.
    const double lost = size >= ell ? std::max(0.0, w[at(ell - 1)]) : 0.0;
    std::int64_t kept = 0;
    while (kept < size && w[at(kept)] > lost) ++kept;
    // Row i of v belongs to eigenvalue i of the ascending order.
    std::vector<double> vectors(at(size * size)), turn(at(kept * size)), scale;
    download<double>(exec, v.view(), {vectors.data(), size, size});
    for (std::int64_t i = 0; i < kept; ++i) {
      std::copy_n(vectors.begin() + (size - 1 - i) * size, size, turn.begin() + i * size);
      const double left = w[at(i)] - lost;
      scale.push_back((wide ? std::sqrt(left / w[at(i)]) : std::sqrt(left)) / power);
    }
    Array<double> next(exec, std::max<std::int64_t>(kept, 1), d), left(exec, std::max<std::int64_t>(kept, 1), size);
    if (kept > 0) {
      upload<double>(exec, {turn.data(), kept, size}, left.view());
      if (wide) {
        gemm<double>(exec, Trans::no, Trans::no, 1.0, left.view(), live(), 0.0, next.view());
      } else {
        axpby<double, double>(exec, 1.0, left.view(), 0.0, next.view());
      }
      scale_rows<double>(exec, scale, next.view());
    }
    used = kept;
    axpby<double, double>(exec, 1.0, next.view().block(0, 0, kept, d), 0.0, live());
    if (power == 1) {
      delta += lost;
    } else if (lost > 0) {
      // Squares that are subnormal or vanish were rounded.
      delta = std::nextafter(delta + lost / power / power, kLargest);
    }
  }

  // A power of two that the buffer is multiplied by so that squares do not vanish.
  double factor() const {
    if (sum_of_squares<double>(exec, live()) > kSmallSquares) return 1.0;
    std::vector<double> host(at(used * d));
    download<double>(exec, live(), {host.data(), used, d});
    double largest = 0;
    for (const double value : host) largest = std::max(largest, std::abs(value));
    return largest > 0 ? std::ldexp(1.0, std::min(-std::ilogb(largest), kMostPower)) : 1.0;
  }

  // Rows that fit come in as they are; x has been looked at.
  void take(const RowsView& x, const char* name) {
    for (std::int64_t begin = 0; begin < x.rows;) {
      exec.poll();
      if (used == 2 * ell) shrink();
      const std::int64_t count = std::min(x.rows - begin, 2 * ell - used);
      const MatrixView<double> place = buffer.view().block(used, 0, count, d);
      load_rows<double>(exec, x.slice(begin, count), nullptr, nullptr, place, name);
      const double more = sum_of_squares<double>(exec, place);
      GRAMIAN_REQUIRE(std::isfinite(squares + more), invalid_argument,
                      std::string(name) + " is too large: the sum of its squares overflows");
      squares += more;
      used += count;
      rows += count;
      begin += count;
    }
  }

  Exec exec;
  std::int64_t ell, d;
  std::int64_t used = 0, rows = 0;
  double squares = 0, delta = 0;
  Array<double> buffer;  // 2 ell x d, the first `used` rows in use
};

FrequentDirections::FrequentDirections(const Exec& exec, std::int64_t ell, std::int64_t d)
    : impl_(std::make_unique<Impl>(exec, ell, d)) {}
FrequentDirections::FrequentDirections(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FrequentDirections::FrequentDirections(FrequentDirections&&) noexcept = default;
FrequentDirections& FrequentDirections::operator=(FrequentDirections&&) noexcept = default;
FrequentDirections::~FrequentDirections() = default;

std::int64_t FrequentDirections::ell() const {
  return impl_->ell;
}
std::int64_t FrequentDirections::n_features() const {
  return impl_->d;
}
std::int64_t FrequentDirections::n_rows() const {
  return impl_->rows;
}
double FrequentDirections::squares() const {
  return impl_->squares;
}
std::size_t FrequentDirections::bytes() const {
  return at(impl_->buffer.size()) * sizeof(double);
}

void FrequentDirections::add(const RowsView& x, const char* name) {
  GRAMIAN_REQUIRE(x.cols == impl_->d, shape_mismatch,
                  std::string(name) + " has " + std::to_string(x.cols) + " features, but " + std::to_string(impl_->d) +
                      " are expected");
  require_countable(impl_->rows, x.rows);
  if (impl_->used + x.rows <= 2 * impl_->ell) {
    // Nothing is shrunk, and what was written behind the rows in use does not count until all is well.
    const std::int64_t used = impl_->used;
    const double squares = impl_->squares;
    const std::int64_t rows = impl_->rows;
    try {
      impl_->take(x, name);
    } catch (...) {
      impl_->used = used;
      impl_->squares = squares;
      impl_->rows = rows;
      throw;
    }
    return;
  }
  auto next = std::make_unique<Impl>(*impl_);
  next->take(x, name);
  impl_ = std::move(next);
}

void FrequentDirections::merge(const FrequentDirections& other) {
  const Impl& theirs = *other.impl_;
  GRAMIAN_REQUIRE(theirs.d == impl_->d && theirs.ell == impl_->ell, shape_mismatch,
                  "a sketch of ell = " + std::to_string(theirs.ell) + " and " + std::to_string(theirs.d) +
                      " features cannot be merged into one of " + std::to_string(impl_->ell) + " and " +
                      std::to_string(impl_->d));
  require_countable(impl_->rows, theirs.rows);
  // By way of the host: the two may live on different devices.
  std::vector<double> host(at(theirs.used * theirs.d));
  download<double>(theirs.exec, theirs.live(), {host.data(), theirs.used, theirs.d});
  auto next = std::make_unique<Impl>(*impl_);
  const std::int64_t rows = impl_->rows + theirs.rows;
  const double squares = impl_->squares + theirs.squares, delta = theirs.delta;
  next->take(RowsView::dense<double>({host.data(), theirs.used, theirs.d}), "the other sketch");
  next->rows = rows;
  next->squares = squares;
  next->delta += delta;
  impl_ = std::move(next);
}

DirectionsSketch FrequentDirections::sketch() const {
  const Impl* from = impl_.get();
  std::unique_ptr<Impl> copy;
  if (from->used > from->ell) {
    copy = std::make_unique<Impl>(*from);
    copy->shrink();
    from = copy.get();
  }
  DirectionsSketch out;
  out.count = from->used;
  out.delta = from->delta > kRounding * from->squares ? from->delta : 0.0;
  out.shed = std::max(0.0, from->squares - sum_of_squares<double>(from->exec, from->live()));
  out.rows.resize(at(from->used * from->d));
  download<double>(from->exec, from->live(), {out.rows.data(), from->used, from->d});
  return out;
}

Json FrequentDirections::save(ModelWriter& writer, const std::string& prefix) const {
  std::vector<double> host(at(impl_->used * impl_->d));
  download<double>(impl_->exec, impl_->live(), {host.data(), impl_->used, impl_->d});
  writer.add(prefix + "buffer", {impl_->used, impl_->d}, std::move(host));
  writer.add(prefix + "sums", {2}, std::vector<double>{impl_->squares, impl_->delta});
  Json json = Json::object();
  json["ell"] = impl_->ell;
  json["n_features"] = impl_->d;
  json["n_rows"] = impl_->rows;
  json["used"] = impl_->used;
  return json;
}

FrequentDirections FrequentDirections::load(const Exec& exec, const Json& config, const ModelReader& reader,
                                            const std::string& prefix) {
  const std::int64_t ell = config.at("ell").integer(), d = config.at("n_features").integer();
  const std::int64_t rows = config.at("n_rows").integer(), used = config.at("used").integer();
  GRAMIAN_REQUIRE(ell >= 1 && ell < kMostSize && d >= 1 && d < kMostSize && rows >= 0 && rows <= kMostRows &&
                      used >= 0 && used <= 2 * ell,
                  file_format, "the sketch of frequent directions has an impossible size");
  const double* values = reader.tensor(prefix + "buffer", TensorType::f64, {used, d}).f64();
  const double* sums = reader.tensor(prefix + "sums", TensorType::f64, {2}).f64();
  const bool whole = std::all_of(values, values + used * d, [](double value) { return std::isfinite(value); });
  GRAMIAN_REQUIRE(whole && std::isfinite(sums[0]) && sums[0] >= 0 && std::isfinite(sums[1]) && sums[1] >= 0,
                  file_format, "the sketch of frequent directions in the file is damaged");
  auto impl = std::make_unique<Impl>(exec, ell, d);
  impl->used = used;
  upload<double>(exec, {values, used, d}, impl->live());
  impl->rows = rows;
  impl->squares = sums[0];
  impl->delta = sums[1];
  return FrequentDirections(std::move(impl));
}

}  // namespace gramian
