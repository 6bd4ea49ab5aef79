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

/// What it takes, beyond hidden states, to make and compare the logits of `heads` (the model's, then those of
/// models beside it), with sums for so many positions.
MemoryBytes scoring_memory(const std::vector<EvalInput>& heads, uint64_t positions, c10::Device device);

/// The plan for people, one line.
std::string describe_eval_memory(const EvalMemory& memory);

}  // namespace lathe
