// What one block costs: its matrix products by themselves, its forward pass, and each statistic of its four
// inputs.
//
// Everything is measured in turn on the same block and the same hidden states, again and again over the
// model's blocks; reported are medians of ratios of neighbours in time. So a machine that is busy elsewhere
// for a while slows both sides of a ratio.
#pragma once

#include <array>
#include <map>

#include "tests/bench/calibration/bench_model.h"
#include "tests/bench/calibration/statistics.h"
#include "tests/bench/calibration/timing.h"

namespace lathe::bench {

/// Seconds for one block and one micro-batch; one entry a round in each list.
struct BlockTimes {
  std::map<std::string, std::vector<Timing>> linears;  // the product alone, by role
  std::vector<Timing> products;                        // all linears of a round
  /// The same two by libtorch (MKL, on x86); empty where the products above are libtorch's.
  std::map<std::string, std::vector<Timing>> libtorch_linears;
  std::vector<Timing> libtorch_products;
  std::vector<Timing> attention;                    // attention alone, without its projections
  std::vector<Timing> forward;                      // the whole block
  std::vector<Timing> forward_gram, forward_every;  // the same with statistics collected on the way
  std::array<std::vector<Timing>, kStatRows.size()> statistics;  // of the four inputs together
  std::array<Timing, kStatRows.size()> finish{};                 // finish() of the four collectors, once
};

/// rounds: at least so many over all blocks, each block as often as any other.
///
/// Collectors take a chunk of StatsCollector::kChunkTokens at a time: a micro-batch of as many tokens is
/// observed without being buffered, as in a run whose micro-batches are that size. In `quick` models it is
/// smaller.
BlockTimes measure_blocks(const BenchModel& model, c10::Device device, int64_t rounds);

}  // namespace lathe::bench
