// ggml's block types as a solver, for trials of them.
#pragma once

#include "algorithms/algorithm.h"
#include "lib/numeric/ggml_type.h"

namespace lathe {

/// What GgufArtifact makes of a linear: blocks searched with each input's mean square. Answers hold the
/// values that the blocks stand for, under a scheme of type float.
class GgmlRounding final : public Solver {
 public:
  explicit GgmlRounding(GgmlType type) : type_(type) {}

  StatSet needs() const override { return {.mean_square = true}; }
  RangeOffers range_offers() const override { return RangeOffers::unused; }
  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override;

 private:
  GgmlType type_;
};

/// Rows of a matrix [n, columns] as the type's blocks have them, without importances.
at::Tensor ggml_rounded(const std::string& name, const at::Tensor& rows, GgmlType type);

}  // namespace lathe
