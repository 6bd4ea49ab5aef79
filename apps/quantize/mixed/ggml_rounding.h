// ggml's block types as a solver, for trials of them.
#pragma once

#include <map>
#include <string>

#include "algorithms/algorithm.h"
#include "lib/numeric/ggml_type.h"

namespace lathe {

/// FP32 [in] by linear: how much each channel of its input counts.
using Importances = std::map<std::string, at::Tensor>;

/// What GgufArtifact makes of a linear: blocks searched with each input's mean square, or with the
/// importances that were given. Answers hold the values that the blocks stand for, under a scheme of type
/// float.
class GgmlRounding final : public Solver {
 public:
  /// `given`, where not empty, has every linear; kept by reference.
  GgmlRounding(GgmlType type, const Importances& given) : type_(type), given_(given) {}

  StatSet needs() const override { return {.mean_square = true}; }
  RangeOffers range_offers() const override { return RangeOffers::unused; }
  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override;
  Work work(const std::vector<int64_t>& rows, int64_t width, const Scheme& scheme) const override;

 private:
  GgmlType type_;
  const Importances& given_;
};

/// Rows of a matrix [n, columns] as the type's blocks have them, without importances.
at::Tensor ggml_rounded(const std::string& name, const at::Tensor& rows, GgmlType type);

}  // namespace lathe
