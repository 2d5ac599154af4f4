// Few rows B that stand for many rows A: B'B <= A'A <= B'B + delta I, always and for any order of the rows
// ("Frequent directions: simple and deterministic matrix sketching").
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/io/json.hpp"
#include "gramian/io/model_file.hpp"

namespace gramian {

// B and what is known of it, on the host.
struct DirectionsSketch {
  std::vector<double> rows;  // at most ell x d
  std::int64_t count = 0;
  double delta = 0;  // |A'A - B'B|_2 is at most this, up to rounding; 0 where it is rounding itself
  double shed = 0;   // |A|_F^2 - |B|_F^2; ell delta is at most this, up to rounding
};

// A buffer of 2 ell rows. Where it is full, the singular values lose the square of the ell-th and at most ell - 1 rows
// are left, so a row costs some 6 ell d flops. delta is the sum of what was taken; for every k < ell it is at most
// |A - A_k|_F^2 / (ell - k). Rows of rank below ell lose nothing but rounding, some eps |A|_F^2. All sums are double;
// values below 1e-125 are scaled before they are squared.
class GRAMIAN_EXPORT FrequentDirections {
 public:
  // ell >= 1 rows of d >= 1 columns.
  FrequentDirections(const Exec& exec, std::int64_t ell, std::int64_t d);
  FrequentDirections(FrequentDirections&&) noexcept;
  FrequentDirections& operator=(FrequentDirections&&) noexcept;
  ~FrequentDirections();

  std::int64_t ell() const;
  std::int64_t n_features() const;
  std::int64_t n_rows() const;
  double squares() const;  // |A|_F^2
  std::size_t bytes() const;

  // More rows, dense or CSR. On any error nothing has changed. name: the rows as the caller knows them.
  void add(const RowsView& x, const char* name = "X");
  // The rows of `other` too: the buffers are stacked, the deltas add up.
  void merge(const FrequentDirections& other);
  // At most ell rows; where more wait in the buffer, a copy of it is shrunk.
  DirectionsSketch sketch() const;

  Json save(ModelWriter& writer, const std::string& prefix) const;
  static FrequentDirections load(const Exec& exec, const Json& config, const ModelReader& reader,
                                 const std::string& prefix);

 private:
  struct Impl;
  explicit FrequentDirections(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gramian
