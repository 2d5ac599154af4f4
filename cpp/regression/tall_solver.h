// Least squares with at least as many rows as columns, and what solvers of any shape share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/exec.hpp"
#include "gramian/core/rows_view.hpp"
#include "gramian/core/view.hpp"
#include "gramian/regression/lstsq.hpp"
#include "regression/tall_operand.h"

namespace gramian::regression {

// Thrown where the norm of A is too far from 1 for its squares.
struct OutOfRange {};

// min |A x - b|^2 + ridge |x|^2 for a tall A, by the method of the options or the one that the cost model chooses.
// a_rows: the rows of A where it has any. a_power: A has been multiplied by 2^-a_power already; unset: it is as it
// came, and OutOfRange says that its norm is too far from 1.
LstsqResult solve_tall(const Exec& exec, const TallOperand& a, const RowsView& a_rows, const RowsView& b,
                       const LstsqOptions& options, std::optional<int> a_power);

// Are these lengths of residuals of least-squares solutions? None is longer than its b, but for rounding: one that is
// comes from directions in which A is nothing but rounding, which rtol should have cut off.
bool are_residuals(const std::vector<double>& norms, const std::vector<double>& b_norms);
// The next rtol to try then, the same where there is none; and what to say of it behind the reason for a method.
double raised_rtol(double rtol);
std::string raised_in_words(double rtol);

// x was solved for A 2^-a_power and columns of b times 2^-b_powers[j]: back to A and b. Throws Error{no_convergence}
// where the solution is no double.
void shift_back(LstsqResult& result, int a_power, const std::vector<int>& b_powers);

Array<double> copied(const Exec& exec, MatrixView<const double> x);
Array<double> zeros(const Exec& exec, std::int64_t rows, std::int64_t cols);

}  // namespace gramian::regression
