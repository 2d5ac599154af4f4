#include "gramian/gram/ridge_factor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <utility>

#include "gram/centred_gram.h"
#include "gram/sums_rounding.h"
#include "gramian/core/error.hpp"
#include "gramian/linalg/elementwise.hpp"
#include "gramian/linalg/ops.hpp"
#include "gramian/linalg/update.hpp"

namespace gramian {

namespace {

// What a ridge must be above where the features alone do not determine the weights: the rounding of their sums.
std::string rounding_of(const SpdOperator& a, const Exec& exec) {
  SymmetricMatrix<double> g(exec, a.size());
  a.build(exec, g);
  std::vector<double> diagonal(static_cast<std::size_t>(a.size()));
  g.diagonal(exec, diagonal.data());
  const double largest = *std::max_element(diagonal.begin(), diagonal.end());
  std::ostringstream text;
  text << static_cast<double>(a.size()) * std::numeric_limits<double>::epsilon() * largest;
  return text.str();
}

}  // namespace

struct RidgeFactor::Impl {
  Impl(const GramState& state, double ridge_, bool standardize)
      : exec(state.exec()),
        d(state.n_features()),
        c(state.n_outputs()),
        ridge(ridge_),
        intercept(state.options().intercept),
        weight_sum(state.weight_sum()) {
    GRAMIAN_REQUIRE(std::isfinite(ridge) && ridge >= 0, invalid_argument,
                    "ridge must be finite and not negative, got " + std::to_string(ridge));
    GRAMIAN_REQUIRE(state.n_rows() > 0, not_fitted, "the state has no rows yet");
    const GramState::Sums& sums = state.sums();
    const CentredGram a(sums, ridge, standardize);
    if (ridge == 0) require_full_rank(sums, a);
    l = SymmetricMatrix<double>(exec, d);
    a.build(exec, l);
    const std::int64_t pivot = cholesky(exec, l);
    GRAMIAN_REQUIRE(pivot == 0, not_positive_definite,
                    "the system is numerically singular at ridge " + std::to_string(ridge) + " (pivot " +
                        std::to_string(pivot) + " of " + std::to_string(d) +
                        "); use a larger ridge: rounding of the sums of these features is about " +
                        rounding_of(a, exec));
    scaled = standardize;
    take_rest(sums, a);
  }

  // All but L.
  void take_rest(const GramState::Sums& sums, const CentredGram& a) {
    z = a.right_hand_side();
    cholesky_solve_half<double>(exec, Trans::no, l, z.view());
    scale = a.scale();
    mean.assign(static_cast<std::size_t>(d), 0.0);
    target_mean.assign(static_cast<std::size_t>(c), 0.0);
    if (!intercept) return;
    for (std::size_t j = 0; j < mean.size(); ++j) mean[j] = sums.shift[j] + sums.s[j] / sums.weight_sum;
    for (std::size_t k = 0; k < target_mean.size(); ++k)
      target_mean[k] = sums.target_shift[k] + sums.t[k] / sums.weight_sum;
  }

  void require_sibling(const GramState& state, const char* name) const {
    GRAMIAN_REQUIRE(!scaled, invalid_argument, std::string(name) + ": a factor of scaled features cannot grow");
    const bool same = state.weight_sum() == weight_sum && state.n_outputs() == c;
    GRAMIAN_REQUIRE(same && state.options().intercept == intercept, invalid_argument,
                    std::string(name) + ": the state holds other rows than the factor");
  }

  void append(const GramState& grown) {
    require_sibling(grown, "append_features");
    const GramState::Sums& sums = grown.sums();
    const std::int64_t k = sums.d - d;
    GRAMIAN_REQUIRE(k >= 1, shape_mismatch, "append_features: the state has no more features than the factor");
    // The new rows of A, on the host: g - s s'/n + ridge on the diagonal.
    std::vector<double> rows(static_cast<std::size_t>(k * sums.d), 0.0);
    const std::int64_t edge = sums.g().tile_edge();
    for (std::int64_t begin = d; begin < sums.d;) {
      const std::int64_t i = begin / edge, end = std::min(sums.d, (i + 1) * edge);
      const MatrixView<double> all = sums.g().tiles_of_row(i, 0, i + 1);
      download<double>(exec, all.block(begin - i * edge, 0, end - begin, all.cols),
                       {rows.data() + (begin - d) * sums.d, end - begin, all.cols, sums.d});
      begin = end;
    }
    for (std::int64_t r = 0; r < k; ++r) {
      double* row = rows.data() + r * sums.d;
      const double factor_of_row = intercept ? sums.s[static_cast<std::size_t>(d + r)] / sums.weight_sum : 0.0;
      for (std::int64_t j = 0; j <= d + r; ++j) row[j] -= factor_of_row * sums.s[static_cast<std::size_t>(j)];
      row[d + r] += ridge;
    }
    Array<double> device(exec, k, sums.d);
    upload<double>(exec, {rows.data(), k, sums.d}, device.view());
    const std::int64_t pivot = cholesky_append(exec, l, device.view());
    GRAMIAN_REQUIRE(pivot == 0, not_positive_definite,
                    "the system with the new features is numerically singular at ridge " + std::to_string(ridge) +
                        " (pivot " + std::to_string(pivot) + " of " + std::to_string(sums.d) + "); use a larger ridge");
    changed(grown);
  }

  void remove(const GramState& left, const std::vector<std::int64_t>& features) {
    require_sibling(left, "delete_features");
    GRAMIAN_REQUIRE(left.n_features() + static_cast<std::int64_t>(features.size()) == d, shape_mismatch,
                    "delete_features: the state does not have the features that are left");
    cholesky_delete(exec, l, features);
    changed(left);
  }

  void changed(const GramState& state) {
    d = state.n_features();
    rounded = std::make_unique<Rounded>();
    take_rest(state.sums(), CentredGram(state.sums(), ridge, false));
  }

  const SymmetricMatrix<double>& factor(double) const { return l; }
  const SymmetricMatrix<float>& factor(float) const {
    std::call_once(rounded->once, [&] {
      // Others may wait here, so no cancel hook runs, which might wait for one of them; d^2 elements are soon done.
      const Exec steady = exec.uninterrupted();
      SymmetricMatrix<float> copy(steady, d);
      copy.axpby(steady, 1.0, l, 0.0);
      rounded->l = std::move(copy);
    });
    return rounded->l;
  }

  template <class T>
  void centre(const RowsView& x, const FeatureMap* map, MatrixView<T> out, const char* name) const {
    GRAMIAN_REQUIRE(out.rows == x.rows && out.cols == d, shape_mismatch, "whiten: the output has another shape");
    if (map == nullptr) {
      GRAMIAN_REQUIRE(x.cols == d, shape_mismatch,
                      std::string(name) + " has " + std::to_string(x.cols) + " features, but " + std::to_string(d) +
                          " are expected");
      load_rows<T>(exec, x, intercept ? mean.data() : nullptr, nullptr, out, name);
    } else {
      map->transform(exec, x, out);
      if (intercept) activate<T>(exec, Activation::identity, minus_mean<T>().data(), 1.0, out);
    }
    if (scaled) {
      const std::vector<T> narrow(scale.begin(), scale.end());
      Array<T> device(exec, d);
      upload<T>(exec, {narrow.data(), 1, d}, device.view());
      scale_columns<T>(exec, device.data(), out);
    }
  }

  template <class T>
  Array<T> minus_mean() const {
    std::vector<T> host(mean.size());
    for (std::size_t j = 0; j < host.size(); ++j) host[j] = static_cast<T>(-mean[j]);
    Array<T> device(exec, d);
    upload<T>(exec, {host.data(), 1, d}, device.view());
    return device;
  }

  Exec exec;
  std::int64_t d, c;
  double ridge;
  bool intercept;
  double weight_sum;
  SymmetricMatrix<double> l;
  Array<double> z;
  std::vector<double> mean, target_mean, scale;
  bool scaled = false;
  struct Rounded {  // L in float, made when it is first needed
    std::once_flag once;
    SymmetricMatrix<float> l;
  };
  std::unique_ptr<Rounded> rounded = std::make_unique<Rounded>();
};

RidgeFactor::RidgeFactor(const GramState& state, double ridge, bool standardize)
    : impl_(std::make_unique<Impl>(state, ridge, standardize)) {}
RidgeFactor::RidgeFactor(RidgeFactor&&) noexcept = default;
RidgeFactor& RidgeFactor::operator=(RidgeFactor&&) noexcept = default;
RidgeFactor::~RidgeFactor() = default;

void RidgeFactor::append_features(const GramState& grown) {
  impl_->append(grown);
}
void RidgeFactor::delete_features(const GramState& left, const std::vector<std::int64_t>& features) {
  impl_->remove(left, features);
}

std::int64_t RidgeFactor::n_features() const {
  return impl_->d;
}
std::int64_t RidgeFactor::n_outputs() const {
  return impl_->c;
}
double RidgeFactor::ridge() const {
  return impl_->ridge;
}
bool RidgeFactor::intercept() const {
  return impl_->intercept;
}
double RidgeFactor::weight_sum() const {
  return impl_->weight_sum;
}
const Exec& RidgeFactor::exec() const {
  return impl_->exec;
}
const SymmetricMatrix<double>& RidgeFactor::factor() const {
  return impl_->l;
}
MatrixView<const double> RidgeFactor::z() const {
  return impl_->z.view();
}
const std::vector<double>& RidgeFactor::mean() const {
  return impl_->mean;
}
const std::vector<double>& RidgeFactor::target_mean() const {
  return impl_->target_mean;
}
const std::vector<double>& RidgeFactor::scale() const {
  return impl_->scale;
}

void RidgeFactor::whiten(const RowsView& x, const FeatureMap* map, MatrixView<double> out, const char* name) const {
  centre(x, map, out, name);
  whiten_centred(out);
}
void RidgeFactor::whiten(const RowsView& x, const FeatureMap* map, MatrixView<float> out, const char* name) const {
  centre(x, map, out, name);
  whiten_centred(out);
}
void RidgeFactor::centre(const RowsView& x, const FeatureMap* map, MatrixView<double> out, const char* name) const {
  impl_->centre<double>(x, map, out, name);
}
void RidgeFactor::centre(const RowsView& x, const FeatureMap* map, MatrixView<float> out, const char* name) const {
  impl_->centre<float>(x, map, out, name);
}
void RidgeFactor::whiten_centred(MatrixView<double> rows) const {
  cholesky_solve_rows<double>(impl_->exec, impl_->factor(double{}), rows);
}
void RidgeFactor::whiten_centred(MatrixView<float> rows) const {
  cholesky_solve_rows<float>(impl_->exec, impl_->factor(float{}), rows);
}

void RidgeFactor::weights_of(MatrixView<const double> u, MatrixView<double> coef) const {
  const std::int64_t d = impl_->d, k = u.cols, m = u.rows;
  GRAMIAN_REQUIRE(k >= 0 && k <= d && coef.rows == m && coef.cols == d, shape_mismatch,
                  "weights_of: the shapes do not fit the factor");
  // L^-T of a vector that ends in zeros ends in zeros: the leading block is solved by the whole factor.
  std::vector<double> columns(static_cast<std::size_t>(d * m), 0.0);
  for (std::int64_t r = 0; r < m; ++r)
    for (std::int64_t j = 0; j < k; ++j) columns[static_cast<std::size_t>(j * m + r)] = u(r, j);
  Array<double> w(impl_->exec, d, m);
  upload<double>(impl_->exec, {columns.data(), d, m}, w.view());
  cholesky_solve_half<double>(impl_->exec, Trans::yes, impl_->l, w.view());
  download<double>(impl_->exec, w.view(), {columns.data(), d, m});
  for (std::int64_t r = 0; r < m; ++r)
    for (std::int64_t j = 0; j < d; ++j)
      coef(r, j) = columns[static_cast<std::size_t>(j * m + r)] * impl_->scale[static_cast<std::size_t>(j)];
}

}  // namespace gramian
