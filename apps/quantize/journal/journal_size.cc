#include "apps/quantize/journal/journal_size.h"

#include <ATen/core/Tensor.h>

#include "lib/activations/block_size.h"

namespace lathe {
namespace {

/// Names, sizes, events, numbers for the report.
constexpr uint64_t kPerLinear = 4096;
constexpr uint64_t kPerRun = uint64_t{1} << 20;
/// Of weights, that are kept beside a grid: SpQR's 5 % of a linear's bytes are half as many.
constexpr uint64_t kOutlierShare = 20;
constexpr uint64_t kUnchanged =
    2;  // bytes of a weight as it stands in a file; 4 where a transform changes it

}  // namespace

uint64_t linear_journal_bytes(const Linear& linear, const Scheme& scheme, bool given, uint64_t weight_bytes) {
  const uint64_t weights = weights_in(linear), in = static_cast<uint64_t>(linear.in);
  const uint64_t given_bytes = given ? weight_bytes * weights + 4 * in : 0;
  if (scheme.has_values()) {
    // What came of a weight that nothing changed is what was given, and stands there once.
    const bool once = given && weight_bytes == kUnchanged;
    return kPerLinear + given_bytes + (once ? 0 : weight_bytes * weights);
  }
  const auto [rows, columns] = scheme.parameter_shape(linear.out, linear.in);
  const auto parameters = static_cast<uint64_t>(rows * columns);
  // Scales and zero points FP32, a second level's codes, and g_idx; whole words at the end of each row.
  uint64_t bytes = weights * static_cast<uint64_t>(scheme.bits) / 8 + 4 * static_cast<uint64_t>(linear.out) +
                   10 * parameters + 4 * in;
  // A column and a value each, and the rows' offsets.
  if (scheme.scale_grid) bytes += 8 * weights / kOutlierShare + 4 * static_cast<uint64_t>(linear.out);
  return kPerLinear + bytes + given_bytes;
}

uint64_t kept_weight_bytes(const std::map<std::string, TensorInfo>& tensors, const ModelGraph& graph) {
  for (const Block& block : graph.blocks) {
    for (const Linear& linear : block.linears) {
      const auto found = tensors.find(linear.name + ".weight");
      const bool two =
          found != tensors.end() && (found->second.dtype == DType::BF16 || found->second.dtype == DType::F16);
      if (!two) return 4;
    }
  }
  return kUnchanged;
}

uint64_t journal_bytes(const CalibrationJob& job, const std::map<std::string, TensorInfo>& tensors) {
  const uint64_t weight_bytes = job.transforms.empty() ? kept_weight_bytes(tensors, *job.graph) : 4;
  const auto states = static_cast<uint64_t>(job.ids.numel() * job.graph->config.hidden_size) * 4;
  uint64_t bytes = kPerRun + 2 * states * (carries_two_streams(job) ? 2 : 1);
  for (size_t b = 0; b < job.tasks.size(); ++b) {
    const Block& block = job.graph->part(b);
    // What stays in floating point, but is changed by folds.
    uint64_t floating = block_bytes(block);
    for (size_t i = 0; i < block.linears.size(); ++i) {
      if (job.tasks[b][i].solver == nullptr) continue;
      floating -= 4 * weights_in(block.linears[i]);
      bytes +=
          linear_journal_bytes(block.linears[i], job.tasks[b][i].scheme, job.hand_over_weights, weight_bytes);
    }
    if (!job.transforms.empty()) bytes += floating;
  }
  return bytes;
}

}  // namespace lathe
