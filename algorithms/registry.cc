// Every algorithm Lathe has, one row each. An unknown name is refused by the recipe reader, which lists
// these.
#include "algorithms/algorithm.h"
#include "algorithms/awq.h"
#include "algorithms/floating.h"
#include "algorithms/gptq.h"
#include "algorithms/hadamard.h"
#include "algorithms/hqq.h"
#include "algorithms/rtn.h"
#include "algorithms/smoothquant.h"
#include "algorithms/spqr.h"

namespace lathe {

std::optional<std::string> plain_grid(const Scheme& scheme) {
  if (scheme.floating()) return kNoGrid;
  if (scheme.float_grid() != nullptr) return kIntegersOnly;
  if (scheme.bits == 1) return "1 bit: its grid has two values, which only hqq fits; use hqq, or more bits";
  if (scheme.real_zero) return "its zero points are integers; use `zero_point: integer`, or solver hqq";
  if (scheme.scale_grid) return "its scales are plain numbers; leave out `scale_bits`, or use solver spqr";
  if (scheme.axis != 1) return "its groups run along rows; use `axis: 1`, or solver hqq";
  return std::nullopt;
}

std::optional<std::string> plain_or_float_grid(const Scheme& scheme) {
  return scheme.float_grid() != nullptr ? std::nullopt : plain_grid(scheme);
}

const std::vector<TransformEntry>& transforms() {
  static const std::vector<TransformEntry> rows = {
      {"awq", "activation-aware scales folded into the producer, and weight clipping (arXiv 2306.00978)",
       awq_options(), make_awq},
      {"smoothquant",
       "activation outliers moved into the weights, for quantised activations (arXiv 2211.10438)",
       smoothquant_options(), make_smoothquant},
      {"hadamard", "inputs and weights rotated in blocks, for 4-bit floating-point grids (arXiv 2509.23202)",
       hadamard_options(), make_hadamard, /*rotates=*/true},
  };
  return rows;
}

const std::vector<SolverEntry>& solvers() {
  static const std::vector<SolverEntry> rows = {
      {"rtn", "round to nearest", rtn_options(), make_rtn, plain_or_float_grid},
      {"gptq", "rounding with error feedback through the inverse Hessian (arXiv 2210.17323)", gptq_options(),
       make_gptq, plain_or_float_grid},
      {"hqq", "half-quadratic fit of zero points, without calibration data (mobiusml.github.io/hqq_blog)",
       hqq_options(), make_hqq, hqq_refuses},
      {"spqr", "sparse outliers and error feedback on grids with quantised scales (arXiv 2306.03078)",
       spqr_options(), make_spqr, spqr_refuses},
      {"float", "rounds nothing: for formats that round weights by themselves (gguf:...)", floating_options(),
       make_floating, floating_refuses},
  };
  return rows;
}

}  // namespace lathe
