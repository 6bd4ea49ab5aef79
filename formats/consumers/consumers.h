// What the servers make of an artefact: which kernel they run for its schemes and shapes, and at which
// degrees of tensor parallelism. The rules stand in one table with their sources (kernel_rules.cc); `quantize
// inspect`, model cards and the plan read the verdicts.
#pragma once

#include <string>
#include <vector>

#include "formats/consumers/kernel_rules.h"
#include "formats/targets/target.h"
#include "lib/numeric/ggml_type.h"

namespace lathe {

/// Heads decide how attention is split.
struct HeadCounts {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
};

/// One line for people: "vLLM: Marlin, ok for TP 1, 2; TP 4 fails: ...".
struct ConsumerVerdict {
  std::string consumer, kernel;      // kernel empty: it does not read the artefact, or has none for it
  std::string linears;               // which ones it is about: scheme, "experts"; empty: all
  std::vector<int> tensor_parallel;  // degrees that work, of 1, 2, 4 and 8
  std::string problem;               // why not at all, or why not at the first degree that fails
  std::string source;

  std::string describe() const;
};

/// `format`: config.json's quant_method, or "awq-gemv" or "gptq-v2". Linears of different schemes are run by
/// different kernels, and a router's experts by others than the rest: where a model has several such kinds,
/// each has verdicts of its own, and a server loads the model where it has a kernel for each. `half_fused`:
/// why linears can't be stacked (half_fused()), which ends what every kernel could do that stacks them.
std::vector<ConsumerVerdict> judge_consumers(const std::string& format,
                                             const std::vector<PlannedLinear>& linears,
                                             const HeadCounts& heads, const std::string& half_fused = {});

/// A tensor of a GGUF file.
struct GgufTypeOf {
  std::string tensor;  // "blk.3.attn_v.weight"
  GgmlType type = GgmlType::F32;
};
/// The same of a GGUF file, one verdict a consumer (gguf_readers.h): it reads a file where it reads the types
/// of all its tensors. None for a file without tensors.
std::vector<ConsumerVerdict> judge_gguf(const std::vector<GgufTypeOf>& tensors);

}  // namespace lathe
