#include "calib/driver/observed_inputs.h"

#include <algorithm>

#include "lib/activations/block_size.h"

namespace lathe {
namespace {

/// Adds a linear to what is known of its input. Each solver gets its linears in one problem: `rows` counts
/// them.
void add_linear(const Linear& linear, const LinearTask& task, ObservedInput& input,
                std::map<const Solver*, int64_t>& rows) {
  input.width = linear.in;
  input.weights += weights_in(linear);
  input.wanted = input.wanted | task.solver->needs();
  if (task.activations) input.wanted = input.wanted | task.activations->needs();
  rows[task.solver] += linear.out;
}

}  // namespace

BlockInputs observed_inputs(const CalibrationJob& job, size_t block) {
  struct Found {
    ObservedInput input;
    std::map<const Solver*, int64_t> rows;
  };
  std::map<Input, Found> inputs;
  for (size_t i = 0; i < job.graph->blocks[block].linears.size(); ++i) {
    const Linear& linear = job.graph->blocks[block].linears[i];
    const LinearTask& task = job.tasks[block][i];
    if (task.solver == nullptr) continue;
    Found& found = inputs[linear.input];
    add_linear(linear, task, found.input, found.rows);
  }
  BlockInputs slots;
  for (auto& [key, found] : inputs) {
    ObservedInput& input = found.input;
    const InputNeeds needs = with_report(job, input.wanted);
    input.wanted = needs.wanted;
    input.whole_gram = needs.whole_gram;
    for (const auto& [solver, count] : found.rows)
      input.scratch = std::max(input.scratch, solver->scratch_bytes(count, input.width));
    SlotInputs& slot = slots[key.slot];
    if (key.expert) {
      slot.experts.push_back(input);
    } else {
      slot.common = input;
    }
  }
  // What follows a norm is observed of all tokens before it is of each expert's.
  SlotInputs& before = slots[Slot::mlp_in];
  for (const ObservedInput& expert : before.experts) {
    if (!before.common) before.common = ObservedInput{.width = expert.width, .wanted = {}};
    before.common->wanted = before.common->wanted | expert.wanted;
    before.common->whole_gram = before.common->whole_gram || expert.whole_gram;
  }
  return slots;
}

}  // namespace lathe
