// What the servers make of an artefact: which kernel they run for its schemes and shapes, and at which
// degrees of tensor parallelism. All rules stand in one table with their sources (consumers.cc); `quantize
// inspect` and the plan read it.
#pragma once

#include <string>
#include <vector>

#include "formats/targets/target.h"

namespace lathe {

/// What one kernel of a consumer takes.
struct KernelRule {
  const char *consumer, *kernel;
  std::vector<std::string> methods;  // config.json's quant_method
  std::vector<int> symmetric_bits, asymmetric_bits;
  std::vector<int64_t> group_sizes;   // -1: one group a row
  int64_t in_multiple, out_multiple;  // of what one GPU gets; 1: any size, or padded by the loader
  bool quantised_input;
  std::string source;
  std::vector<std::string> schemes =
      {};  // on floating-point grids, as with_input() describes them; none: integers
};
const std::vector<KernelRule>& kernel_rules();

/// Heads decide how attention is split.
struct HeadCounts {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
};

/// One line for people: "vLLM: Marlin, ok for TP 1, 2; TP 4 fails: ...".
struct ConsumerVerdict {
  std::string consumer, kernel;      // kernel empty: it does not read the artefact, or has none for it
  std::vector<int> tensor_parallel;  // degrees that work, of 1, 2, 4 and 8
  std::string problem;               // why not at all, or why not at the first degree that fails
  std::string source;

  std::string describe() const;
};

/// `method`: config.json's quant_method. Only linears of schemes that Lathe knows are asked about.
std::vector<ConsumerVerdict> judge_consumers(const std::string& method,
                                             const std::vector<PlannedLinear>& linears,
                                             const HeadCounts& heads);

}  // namespace lathe
