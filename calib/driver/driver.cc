#include "calib/driver/driver.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "calib/driver/block_pass.h"
#include "calib/driver/cache_gradients.h"
#include "calib/driver/counted_tokens.h"
#include "calib/driver/expert_fallback.h"
#include "lib/activations/embed_samples.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/model/block_loader.h"

namespace lathe {
namespace {

void check_job(const CalibrationJob& job) {
  const size_t blocks = job.graph->blocks.size();
  LATHE_ASSERT(job.tasks.size() == blocks || job.tasks.size() == blocks + 1,
               "{} task lists for {} blocks and a head", job.tasks.size(), blocks);
  LATHE_ASSERT(job.ids.dim() == 2 && job.ids.scalar_type() == at::kLong && job.ids.numel() > 0,
               "ids must be Long [samples, length]");
  const auto samples = static_cast<size_t>(job.ids.size(0));
  LATHE_ASSERT(job.lengths.empty() || job.lengths.size() == samples, "{} lengths for {} samples",
               job.lengths.size(), samples);
  LATHE_ASSERT(!job.token_weights.defined() || (job.token_weights.sizes() == job.ids.sizes() &&
                                                job.token_weights.scalar_type() == at::kFloat),
               "tokens' weights must be Float, as ids");
  for (const int64_t length : job.lengths) {
    LATHE_ASSERT(length >= 1 && length <= job.ids.size(1), "{} valid tokens in a sample of {}", length,
                 job.ids.size(1));
  }
  if (number_of_counted_tokens(job) == 0)
    user_error("calibration: no token counts: all {} samples' tokens have weight 0; take more samples",
               samples);
}

void embed(const CalibrationJob& job, Streams& streams) {
  embed_samples(*job.graph, *job.weights, job.ids, job.device, streams.observed.hidden);
  if (streams.reference)
    embed_samples(*job.graph, *job.weights, job.ids, job.device, streams.reference->hidden);
}

/// The head is not read ahead: its weights are those of several blocks.
BlockWeights weights_of_part(const CalibrationJob& job, size_t index, BlockLoader& blocks) {
  if (index < job.graph->blocks.size()) return blocks.next();
  return {job.graph->head, *job.weights, job.device, job.compute};
}

}  // namespace

bool micro_batch_rounds(const CalibrationJob& job) {
  const std::vector<Block>& blocks = job.graph->blocks;
  return !job.device.is_cpu() ||
         std::any_of(blocks.begin(), blocks.end(), [](const Block& b) { return b.experts.has_value(); });
}

InputNeeds with_report(const CalibrationJob& job, const StatSet& asked) {
  InputNeeds needs{asked | StatSet{.gram = true, .sample = true}, asked.gram};
  for (const Transform* transform : job.transforms) {
    needs.wanted = needs.wanted | transform->needs();
    needs.whole_gram = needs.whole_gram || transform->needs().gram;
  }
  // Formats that round by E[x^2] get that of all tokens; a whole Gram matrix has it on its diagonal.
  if (job.hand_over_weights && !needs.whole_gram) needs.wanted.mean_square = true;
  if (job.describe_inputs) needs.wanted = needs.wanted | kDescription;
  return needs;
}

bool carries_two_streams(const CalibrationJob& job) {
  if (job.propagate == Propagate::reference) return false;  // one stream is its own reference
  const auto wants = [](const auto* algorithm) {
    return algorithm != nullptr && algorithm->needs().cross_gram;
  };
  const bool solves = std::any_of(job.tasks.begin(), job.tasks.end(), [&](const auto& block) {
    return std::any_of(block.begin(), block.end(),
                       [&](const LinearTask& task) { return wants(task.solver); });
  });
  return solves || std::any_of(job.transforms.begin(), job.transforms.end(), wants);
}

void calibrate(const CalibrationJob& job, const DriverEvents& events, const StartAt& start) {
  const c10::NoGradGuard no_grad;
  check_job(job);
  check_expert_fallback(job);
  const size_t count = job.tasks.size();
  if (start.block == count) return;
  const RopeTables rope = rope_tables(job.graph->config, job.ids.size(1), job.device);
  std::optional<CacheGradients> gradients;
  if (wants_cache_gradients(job)) {
    if (events.progress) events.progress(static_cast<int64_t>(start.block), "gradients for the KV cache");
    gradients.emplace(job);
    release_free_memory();
  }
  BlockLoader blocks(*job.graph, *job.weights, job.device, job.compute, job.storage.read_ahead, start.block);
  Streams streams(job);
  if (start.block > 0) {
    streams.restore(start.states);
  } else {
    embed(job, streams);
  }
  const at::Tensor counted = counted_tokens(job);
  for (size_t b = start.block; b < count; ++b) {
    const auto progress = [&](std::string_view stage) {
      const std::string place =
          b < job.graph->blocks.size() ? fmt::format("block {}", b) : job.graph->head.prefix;
      if (events.progress) events.progress(static_cast<int64_t>(b), fmt::format("{}: {}", place, stage));
    };
    // The block's weights are gone before its results are packed and written.
    BlockOutcome outcome = BlockPass(job, b, weights_of_part(job, b, blocks), rope, counted,
                                     gradients ? &*gradients : nullptr, streams)
                               .run(progress);
    events.block_done(std::move(outcome));
    release_free_memory();  // what a block left behind must not add up
    if (events.boundary && b + 1 < count)
      events.boundary(b + 1, [&](const TakeStates& take) { streams.hand_over(take); });
  }
  if (events.progress) events.progress(static_cast<int64_t>(count), "done");
}

}  // namespace lathe
