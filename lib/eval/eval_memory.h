// Where an evaluation keeps its hidden states so that it stays within the memory it may take.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/activations/activation_store.h"
#include "lib/activations/memory_budget.h"
#include "lib/eval/evaluate.h"

namespace lathe {

struct EvalMemoryRequest {
  EvalInput model;  // without weights: such as look rows of the head up
  std::optional<EvalInput> reference;
  int64_t rows = 0, ctx = 0;
  c10::Device device = c10::Device(c10::kCPU);
  MemoryLimits limits;    // what the user said
  MachineMemory machine;  // what there is, where the user said nothing
  uint64_t base_ram = 0;  // of the process, before the evaluation
};

struct EvalMemory {
  HiddenStorage storage;  // its work folder is the caller's to fill in
  MemoryBytes peak;       // at most this much, base_ram included
};

/// In memory if the limits allow, else on disk. UserError naming the smallest limit that would do.
EvalMemory plan_eval_memory(const EvalMemoryRequest& request);

/// What is done with logits, a piece of them at a time.
struct LogitWork {
  uint64_t positions = 0;  // that sums are kept of
  int64_t together = 0;    // positions that are looked at in one go, at most
  uint64_t copies = 0;     // FP32 tensors of a piece's size that are alive at a time
};
/// Copies where two models' are compared (DivergenceSums::add): both, exponentials and differences.
inline constexpr uint64_t kComparedLogits = 4;

/// What it takes, beyond hidden states, to make the logits of `heads` (the model's, then those of models
/// beside it) and work on them.
MemoryBytes scoring_memory(const std::vector<EvalInput>& heads, const LogitWork& work, c10::Device device);

/// The plan for people, one line.
std::string describe_eval_memory(const EvalMemory& memory);

}  // namespace lathe
