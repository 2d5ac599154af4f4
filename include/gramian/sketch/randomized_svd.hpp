// The leading singular triplets of a large matrix from a few readings, with a proven bound of what is left out.
//
// A random block of columns is carried back and forth between A' and A, made orthonormal after each product
// ("Finding structure with randomness"), and all blocks are kept as one basis ("Randomized block Krylov methods for
// stronger and faster approximate singular value decomposition"): q steps then do what more than twice as many do to
// the last block alone.
//
// The certificate: for E fixed and r Gaussian vectors w independent of it,
//   |E|_2 <= a sqrt(2 / pi) max_i |E w_i|    with probability 1 - a^-r,
// here with a^-r = 1e-10 for all checks of a run together. The same holds for E (E'E)^p, whose norm is |E|^(2p+1): the
// root takes nearly all of the slack away, at 2p readings for r columns. The products A w_i come along with the first
// reading.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/export.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/linalg/linear_map.hpp"

namespace gramian {

struct SvdOptions {
  std::int64_t rank = 0;           // triplets; with a tolerance: at most as many, 0 for any number
  double tol = 0;                  // bound of |A - U S V'|_2 to reach; 0: none
  double rtol = 0;                 // the same in units of |A|_2 (the larger of the two counts)
  int power_iterations = -1;       // steps after A' and A of the first block; < 0: 2, or 4 without `krylov`
  std::int64_t oversampling = 10;  // columns of a block beyond the rank
  std::int64_t block = 32;         // columns of a block where a tolerance decides
  bool krylov = true;              // keep all blocks
  bool centre = false;             // of A less its column means, which is never formed
  int probes = 10;                 // r above
  int certificate_powers = 1;      // p above
  std::uint64_t seed = 0;
};

template <class T>
struct RandomizedSvd {
  Array<T> u;                  // n x k, on the device
  Array<T> vt;                 // k x d; the entry of largest magnitude of each row (the first of equals) is positive
  std::vector<double> s;       // k, descending
  std::vector<double> mean;    // d where centred
  std::int64_t rank = 0;       // singular values above rounding; the vectors of the others are orthonormal all the same
  double error = 0;            // |A - U S V'|_2 is at most this, with probability 1 - 1e-10
  double frobenius_error = 0;  // |A - U S V'|_F is at most this, without chance; NaN for a linear map
  double norm = 0;             // |A|_F (of the centred A); an estimate for a linear map
  bool converged = true;       // was the tolerance reached?
  std::int64_t passes = 0;     // products with A or A'
  std::int64_t basis = 0;      // columns of the basis
  std::string why;             // what ended it: "rank", "tolerance", "limit", "full"
};

// A n x d, dense (float or double of C or Fortran order in place, others copied) or CSR with float or double values, in
// host memory. passes * 2 n d b flops, b
// columns of a block; (n + d) times the basis of memory. NaN and infinity: Error{non_finite} naming the row.
// The bits do not depend on the number of threads.
template <class T>
GRAMIAN_EXPORT RandomizedSvd<T> randomized_svd(const Exec& exec, const RowsView& a, const SvdOptions& options);
// A known by its products; device "cpu".
GRAMIAN_EXPORT RandomizedSvd<double> randomized_svd(const Exec& exec, const LinearMap& a, const SvdOptions& options);

}  // namespace gramian
