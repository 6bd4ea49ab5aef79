// Linears of one input as one matrix: rows don't see each other, so those of one scheme share a factor, the
// loop over columns and its products.
#pragma once

#include <functional>
#include <vector>

#include "algorithms/algorithm.h"

namespace lathe {

/// At least one linear; their rows one after the other are the rows of the matrix.
using LinearStack = std::vector<const LinearProblem*>;

/// Solves the linears in stacks of one scheme and one type of scales. `solve` gives a result for each linear
/// of a stack, in its order; the results here are in the problem's.
std::vector<SolveResult> solve_stacked(
    const std::vector<LinearProblem>& linears,
    const std::function<std::vector<SolveResult>(const LinearStack&)>& solve);

/// Where a row of the matrix came from.
struct StackedRow {
  const LinearProblem* linear = nullptr;
  int64_t row = 0;
};
StackedRow row_of(const LinearStack& stack, int64_t row);

}  // namespace lathe
