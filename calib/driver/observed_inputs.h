// The inputs of a block's linears that a run observes, from the job alone: what its memory is planned by.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "calib/driver/driver.h"

namespace lathe {

/// One input with the linears that read it and are solved.
struct ObservedInput {
  int64_t width = 0;
  uint64_t weights = 0;       // of those linears, values
  uint64_t scratch = 0;       // bytes of their solvers, the most of them
  uint64_t rotated = 0;       // of those linears, values of the weights that are solved in a rotated copy
  SparingBytes sparing = {};  // the same where they are to be sparing
  StatSet wanted;
  bool whole_gram = false;  // Gram matrices are of all tokens (InputNeeds)
};

/// What is observed in one slot.
struct SlotInputs {
  /// Of all tokens; before experts for these, too, and with no linear of its own if need be.
  std::optional<ObservedInput> common;
  std::vector<ObservedInput> experts;  // each of the tokens that are sent to it
};
using BlockInputs = std::map<Slot, SlotInputs>;

BlockInputs observed_inputs(const CalibrationJob& job, size_t block);

}  // namespace lathe
