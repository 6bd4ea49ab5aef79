#include "calib/driver/observed_inputs.h"

#include <algorithm>

#include "lib/activations/block_size.h"

namespace lathe {
namespace {

/// What one solver gets of an input.
struct SolvedRows {
  int64_t count = 0;
  std::vector<Scheme> schemes;
};

/// Adds a linear to what is known of its input. Each solver gets its linears in one problem: `rows` counts
/// them.
void add_linear(const Linear& linear, const LinearTask& task, ObservedInput& input,
                std::map<const Solver*, SolvedRows>& rows) {
  input.width = linear.in;
  input.weights += weights_in(linear);
  if (task.scheme.hadamard > 0) input.rotated += weights_in(linear);
  input.wanted = input.wanted | task.solver->needs();
  if (task.activations) input.wanted = input.wanted | task.activations->needs();
  SolvedRows& solved = rows[task.solver];
  solved.count += linear.out;
  if (std::ranges::find(solved.schemes, task.scheme) == solved.schemes.end())
    solved.schemes.push_back(task.scheme);
}

}  // namespace

BlockInputs observed_inputs(const CalibrationJob& job, size_t block) {
  struct Found {
    ObservedInput input;
    std::map<const Solver*, SolvedRows> rows;
  };
  std::map<Input, Found> inputs;
  const std::vector<Linear>& linears = job.graph->part(block).linears;
  for (size_t i = 0; i < linears.size(); ++i) {
    const Linear& linear = linears[i];
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
    for (const auto& [solver, rows] : found.rows) {
      input.scratch = std::max(input.scratch, solver->scratch_bytes(rows.count, input.width));
      for (const Scheme& scheme : rows.schemes) {
        const SparingBytes bytes = solver->sparing_bytes(rows.count, input.width, scheme);
        input.sparing = {std::max(input.sparing.scratch, bytes.scratch),
                         std::max(input.sparing.files, bytes.files)};
      }
    }
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
