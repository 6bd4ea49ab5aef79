// Every algorithm Lathe has, one row each. An unknown name is refused by the recipe reader, which lists
// these.
#include "algorithms/algorithm.h"
#include "algorithms/awq.h"
#include "algorithms/gptq.h"
#include "algorithms/rtn.h"

namespace lathe {

const std::vector<TransformEntry>& transforms() {
  static const std::vector<TransformEntry> rows = {
      {"awq", "activation-aware scales folded into the producer, and weight clipping (arXiv 2306.00978)",
       awq_options(), make_awq},
  };
  return rows;
}

const std::vector<SolverEntry>& solvers() {
  static const std::vector<SolverEntry> rows = {
      {"rtn", "round to nearest", rtn_options(), make_rtn},
      {"gptq", "rounding with error feedback through the inverse Hessian (arXiv 2210.17323)", gptq_options(),
       make_gptq},
  };
  return rows;
}

}  // namespace lathe
