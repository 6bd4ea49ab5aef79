// Every algorithm Lathe has, one row each. An unknown name is refused by the recipe reader, which lists
// these.
#include "algorithms/algorithm.h"
#include "algorithms/awq.h"
#include "algorithms/rtn.h"
#include "algorithms/smoothquant.h"

namespace lathe {

const std::vector<TransformEntry>& transforms() {
  static const std::vector<TransformEntry> rows = {
      {"awq", "activation-aware scales folded into the producer, and weight clipping (arXiv 2306.00978)",
       awq_options(), make_awq},
      {"smoothquant",
       "activation outliers moved into the weights, for quantised activations (arXiv 2211.10438)",
       smoothquant_options(), make_smoothquant},
  };
  return rows;
}

const std::vector<SolverEntry>& solvers() {
  static const std::vector<SolverEntry> rows = {
      {"rtn", "round to nearest", rtn_options(), make_rtn},
  };
  return rows;
}

}  // namespace lathe
