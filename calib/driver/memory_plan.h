// Where a calibrated run keeps its activations so that it stays within the memory it may take, and how much
// that will be at most. Pure arithmetic over the graph: nothing is loaded or allocated.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calib/driver/driver.h"
#include "lib/activations/memory_budget.h"

namespace lathe {

struct MemoryRequest {
  const CalibrationJob* job = nullptr;  // graph, tasks, transforms, propagate, device, compute; no ids needed
  int64_t samples = 0, length = 0;
  MemoryLimits limits;    // what the user said
  MachineMemory machine;  // what there is, where the user said nothing
  /// RAM of the process that is not the driver's: program, libraries, token ids, an output's buffers.
  uint64_t base_ram = 0;
  /// The process's peak before and after the blocks: while it read the data, while it checks the output.
  uint64_t other_ram = 0;
  /// Of the disk, beside what is placed there: what the run keeps to go on from.
  uint64_t journal = 0;
  /// What others keep while blocks are worked on: variants of the model that run beside it.
  MemoryBytes beside = {};
};

struct MemoryPlan {
  StreamStorage storage;  // its work folder is the caller's to fill in
  MemoryBytes peak;       // at most this much, base_ram included
  /// What the peak consists of, in words, largest first: ("hidden states, on disk", bytes).
  std::vector<std::pair<std::string, uint64_t>> parts;
  /// The limits made the micro-batch smaller, and the last bits of the result may follow
  /// (micro_batch_rounds).
  bool rounds_anew = false;
};

/// The first of the ways to run, fastest first, that keeps the limits. UserError naming the smallest limit
/// that would do where none does.
///
/// Where no RAM limit is given, a CPU run keeps to lean_ram(), not to all that is free: values inside a block
/// are kept in memory only while they cost little beside the rest. (A file costs little as long as the system
/// has room to cache it.)
MemoryPlan plan_memory(const MemoryRequest& request);

/// Two blocks in FP32, the Gram matrices of one block's inputs, the hidden states of all samples, and 300 MB.
uint64_t lean_ram(const MemoryRequest& request);

/// The plan for people, a line each: the peak of `what` with its parts, then what the limits cost.
std::string describe_memory(const MemoryPlan& plan, std::string_view what = "memory");

}  // namespace lathe
