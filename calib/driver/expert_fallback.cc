#include "calib/driver/expert_fallback.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"

namespace lathe {

InputStats weight_only_statistics(const StatSet& wanted, int64_t width, c10::Device device) {
  InputStats stats;
  stats.tokens = stats.gram_tokens = width;  // each channel once
  const at::Tensor gram = at::eye(width, at::TensorOptions().dtype(at::kFloat).device(device)).div_(width);
  const at::Tensor channels = gram.diagonal().contiguous();
  if (wanted.gram) stats.gram = gram;
  if (wanted.cross_gram) stats.cross_gram = gram;
  if (wanted.mean_abs) stats.mean_abs = channels;
  if (wanted.mean_square) stats.mean_square = channels;
  return stats;
}

void check_expert_fallback(const CalibrationJob& job) {
  if (job.experts.fallback != ExpertFallback::weight_only) return;
  for (size_t b = 0; b < job.graph->blocks.size(); ++b) {
    const Block& block = job.graph->blocks[b];
    for (size_t i = 0; i < block.linears.size(); ++i) {
      const LinearTask& task = job.tasks[b][i];
      if (!block.linears[i].input.expert || task.solver == nullptr) continue;
      StatSet needs = task.solver->needs();
      if (task.activations) needs = needs | task.activations->needs();
      if ((needs & kWithoutActivations) == needs) continue;
      user_error(
          "calibration.experts.fallback weight_only: '{}' needs its activations' ranges or distributions, "
          "which an expert that few tokens reach would not have; set calibration.experts.fallback to "
          "all_tokens",
          block.linears[i].name);
    }
  }
}

}  // namespace lathe
