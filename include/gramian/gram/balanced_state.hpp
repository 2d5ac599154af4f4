// Sums in which every class has the same total weight, on a stream: the row weights follow the final counts although
// these change while rows come.
//
// With N_c the weight of the rows of class c (their number, where rows have no weights), a row of class c counts with
// pi_c = scale / N_c. The weighted sums are therefore scale * sum_c S_c / N_c with S_c the plain sums of one class, and
// it is enough to keep these; no row has to be seen twice. They are kept in the smallest form that is still exact:
//   * an open class with fewer than d / 2 rows: a block of as many rows B with B'B = its Gram matrix (below);
//   * an open class with more: one GramState, of which a symmetric matrix takes half a square;
//   * a class that is closed (no more rows can come) or whose N_c was declared before its rows came: one running
//     GramState for all of them together, in which its rows have the weight 1 / N_c.
//
// A block is not the rows themselves: groups of up to 64 of them, a column of ones beside them, are multiplied by an
// orthogonal matrix (the eigenvectors of their products), which leaves B'B and the sums as they were. A group says what
// its Gram matrix says and no more; a group of one row is that row up to its sign.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gramian/core/export.hpp"
#include "gramian/gram/gram_state.hpp"

namespace gramian {

// Which constant the weights of balanced classes have: it only says what a given ridge is worth beside them.
enum class Balance {
  none,
  rows,    // the weights of all rows average to one
  classes  // the pi_c average to one over the classes ("AIR: Analytic Imbalance Rectifier for Continual Learning")
};
GRAMIAN_EXPORT const char* name_of(Balance balance);
GRAMIAN_EXPORT Balance parse_balance(const std::string& name);

class GRAMIAN_EXPORT BalancedState {
 public:
  BalancedState(const Exec& exec, std::int64_t n_features, std::int64_t n_outputs, GramOptions options,
                Balance balance);
  BalancedState(BalancedState&&) noexcept;
  BalancedState& operator=(BalancedState&&) noexcept;
  ~BalancedState();

  std::int64_t n_features() const;
  std::int64_t n_outputs() const;
  std::int64_t n_rows() const;
  double weight_sum() const;                 // of the rows as they came
  std::vector<std::int64_t> counts() const;  // rows per class
  std::size_t bytes() const;
  const GramOptions& options() const;

  // Adds rows with their class codes. totals: null, or per class the N_c that it will have had when all its rows are
  // in; 0 leaves it open. A class keeps the total of its first rows: another one, or more weight than the total, is
  // Error{invalid_argument}. On any error or cancellation nothing has changed.
  // n d^2 flops for n rows (fewer for small classes), the map's, and about 600 d^2 + 64 n d for rows in blocks.
  void add(const RowsView& x, const std::int64_t* codes, const double* weight, const FeatureMap* map,
           const double* totals = nullptr);
  // Takes rows of open classes out again; those of another class cannot be (Error{invalid_argument}). The sums of the
  // classes concerned become GramStates, and are held twice while this runs.
  void remove(const RowsView& x, const std::int64_t* codes, const double* weight, const FeatureMap* map);
  // Both data sets. A class that both hold must be open in both, or have the same total in both.
  void merge(const BalancedState& other);
  // No more rows of these classes will come: their sums join those of all closed classes. Closing twice is nothing.
  void close(const std::vector<std::int64_t>& places);
  // The weight that may still come for a class: infinite where it is open.
  double room(std::int64_t place) const;
  // As GramState::rearrange_outputs.
  void rearrange_outputs(const std::vector<std::int64_t>& source);

  // What a row of weight 1 of each class counts with, pi_c as the counts are now; 0 for classes without rows.
  std::vector<double> class_weights() const;
  // The weighted sums as the counts are now: d^2 memory, and d^2 work per row that is in a block and per class that has
  // a matrix of its own.
  GramState weighted() const;

  Json save(ModelWriter& writer, const std::string& prefix) const;
  static BalancedState load(const Exec& exec, const Json& description, const ModelReader& reader,
                            const std::string& prefix);

 private:
  struct Impl;
  explicit BalancedState(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gramian
