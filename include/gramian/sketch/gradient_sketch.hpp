// Gradients that travel as sketches: client and server share a seed, a client sends R_t g (s numbers in place of d) and
// the server takes R_t' of the mean for the gradient ("Sketching for First Order Method: Efficient Algorithm for
// Low-Bandwidth Channel and Vulnerability"). R_t is fresh in every round. E[R'R] = I, so the estimate has no bias; what
// it has is a second moment above |g|^2, which a step size must allow for.
//
// A sketch hides nothing: it is a linear image of the gradient under a map that the other side knows. Privacy comes
// from clipping and noise alone.
#pragma once

#include <cstdint>
#include <memory>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/sketch/operator.hpp"

namespace gramian {

// What is done to gradients on their way out.
struct GradientGuard {
  enum class Noise { none, gradient, sketch };
  double clip = 0;               // gradients longer than this are shortened to it; 0 leaves them
  Noise noise = Noise::none;     // added to g before the sketch, or to R g behind it
  double deviation = 0;          // of the noise, per entry; too small for the type of the sketch is refused
  std::uint64_t noise_seed = 0;  // never used twice; row r draws from round_seed(noise_seed, r), family 9
};

// A plain value: cheap to copy, safe to share between threads. The operator of the last round asked for is kept.
class GRAMIAN_EXPORT GradientSketch {
 public:
  // kind: gaussian, rademacher, srht, hdhd, count_sketch, sparse_sign or dct; others are biased for some d, or depend
  // on data. nnz: sparse_sign only.
  GradientSketch(SketchKind kind, std::int64_t n_params, std::int64_t n_sketch, std::uint64_t seed,
                 std::int64_t nnz = 8);

  std::int64_t n_params() const;
  std::int64_t n_sketch() const;
  // R_t.
  SketchOp at(std::uint64_t round) const;
  // E |R'R g|^2 / |g|^2, exactly, the same for every g.
  double second_moment() const;
  // A bound of |R| that holds for every draw, and what |g| <= 1 can be at most behind the sketch. Attained where the
  // columns are orthogonal; infinity for kinds that have none.
  double norm_bound() const;

  // out (k x n_sketch) = rows of R_t g for k gradients (k x n_params), clipped and noisy as `guard` says. N log N
  // additions a gradient for srht and hdhd, 2 nnz d for sparse kinds, 2 s d flops for the others.
  template <class T>
  void encode(const Exec& exec, const RowsView& gradients, std::uint64_t round, const GradientGuard& guard,
              MatrixView<T> out) const;
  // out (k x n_params) = R_t' y for the rows y (k x n_sketch).
  template <class T>
  void decode(const Exec& exec, MatrixView<const T> sketches, std::uint64_t round, MatrixView<T> out) const;

 private:
  struct Rounds;
  SketchDist dist_;
  std::shared_ptr<Rounds> rounds_;
};

}  // namespace gramian
