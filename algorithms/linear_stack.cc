#include "algorithms/linear_stack.h"

#include <ATen/core/Tensor.h>

#include "lib/base/error.h"

namespace lathe {

std::vector<SolveResult> solve_stacked(
    const std::vector<LinearProblem>& linears,
    const std::function<std::vector<SolveResult>(const LinearStack&)>& solve) {
  std::vector<SolveResult> results(linears.size());
  std::vector<bool> done(linears.size(), false);
  for (size_t first = 0; first < linears.size(); ++first) {
    if (done[first]) continue;
    std::vector<size_t> members;
    LinearStack stack;
    for (size_t k = first; k < linears.size(); ++k) {
      const bool same =
          linears[k].scheme == linears[first].scheme && linears[k].scale_dtype == linears[first].scale_dtype;
      if (done[k] || !same) continue;
      members.push_back(k);
      stack.push_back(&linears[k]);
      done[k] = true;
    }
    std::vector<SolveResult> found = solve(stack);
    LATHE_ASSERT(found.size() == members.size(), "{} results for a stack of {} linears", found.size(),
                 members.size());
    for (size_t i = 0; i < members.size(); ++i) results[members[i]] = std::move(found[i]);
  }
  return results;
}

StackedRow row_of(const LinearStack& stack, int64_t row) {
  for (const LinearProblem* linear : stack) {
    if (row < linear->weight.size(0)) return {linear, row};
    row -= linear->weight.size(0);
  }
  internal_error("row {} beyond a stack of linears", row);
}

}  // namespace lathe
