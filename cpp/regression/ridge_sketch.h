// A sketch of rows that grows until it is a preconditioner for one ridge or for many, and what it knows about the rows:
// their effective dimension and their leverages.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/view.hpp"
#include "gramian/linalg/symmetric.hpp"
#include "gramian/sketch/operator.hpp"
#include "regression/centred_rows.h"
#include "regression/preconditioner.h"

namespace gramian::regression {

// A symmetric positive definite matrix near (A'A + ridge)^-1. Vectors are rows of `in` and `out` (k x d, device).
class RidgeInverse {
 public:
  virtual ~RidgeInverse() = default;
  virtual void apply(MatrixView<const double> in, MatrixView<double> out) const = 0;
};

// Eigenpairs of the sketched A'S'S A: one decomposition for all ridges.
struct RidgeSpectrum {
  std::vector<double> values;  // ascending, not negative
  Array<double> vectors;       // one a row, of length d
  bool complete = false;       // are they d?
  double rows = 0;             // of the sketch; infinite where it is A itself

  // sum of v / (v + ridge)
  double raw_dimension(double ridge) const;
  // The ridge at which the sketch stands for A at `ridge`: for a sketch of m rows,
  // r (A'S'S A + r)^-1 is near ridge (A'A + ridge)^-1 with r = ridge (1 - D / m), D the effective dimension at both
  // ("Asymptotics of the Sketched Pseudoinverse").
  double matching_ridge(double ridge) const;
  double effective_dimension(double ridge) const { return raw_dimension(matching_ridge(ridge)); }
  // The relative error of a leverage, at five standard deviations: for ridge 0 a leverage of a Gaussian sketch is
  // m / chi^2 with m - d + 1 degrees of freedom.
  double leverage_error(double ridge) const;
};

class RidgeSketch {
 public:
  // dist: kind, seed and what else a kind needs; its numbers of rows and columns do not count.
  RidgeSketch(const Exec& exec, const CentredRows& a, SketchDist dist);

  std::int64_t rows() const { return rows_; }
  bool exact() const { return exact_; }
  std::int64_t readings() const { return readings_; }
  // Appends rows; the old ones stay.
  void grow(std::int64_t more);
  // All rows of A in the place of the sketch.
  void take_all();

  // tr G (G + ridge)^-1 for the sketched G, by Cholesky. Below the effective dimension of A in expectation (the
  // function is concave). p^3 / 3 + p^3 / 3 flops, p = min(rows, d).
  double raw_dimension(double ridge) const;
  // |A|_F^2 as the sketch has it.
  double energy() const;

  // 2 / 3 p^3 flops. Null where Cholesky breaks down. The sketch must not change while it is in use.
  std::unique_ptr<RidgeInverse> inverse(double ridge) const;
  // 9 p^3 flops on one thread and 2 p^2 d.
  RidgeSpectrum spectrum() const;
  // One decomposition for rows of `in` that have their own ridges.
  static std::unique_ptr<RidgeInverse> inverse(const Exec& exec, const RidgeSpectrum& spectrum,
                                               const std::vector<double>& ridges);

 private:
  bool dual() const { return rows_ < a_.cols(); }
  // G or, where there are fewer rows than columns, S A A'S'; plus ridge.
  SymmetricMatrix<double> system(double ridge) const;

  const Exec& exec_;
  const CentredRows& a_;
  SketchDist dist_;
  std::int64_t rows_ = 0, readings_ = 0;
  bool exact_ = false;
  double scale_ = 1;               // what stands below, times this, is the sketch
  Array<double> y_;                // rows x d, while dual
  SymmetricMatrix<double> small_;  // Y Y' or Y'Y
};

// out (ridges x rows, host) = leverages of rows of A for these ridges (ascending), without an intercept's. rows: their
// numbers, or null for all. 2 n d p flops and n p for each ridge.
void ridge_leverages(const Exec& exec, const CentredRows& a, const RidgeSpectrum& spectrum,
                     const std::vector<double>& ridges, const std::vector<std::int64_t>* rows, MatrixView<double> out);

}  // namespace gramian::regression
