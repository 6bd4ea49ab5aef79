#include "apps/quantize/run_memory.h"

#include <algorithm>

#include "apps/quantize/journal/journal_size.h"
#include "apps/quantize/request_checks.h"
#include "calib/driver/cache_gradients.h"
#include "lib/activations/block_size.h"
#include "lib/base/error.h"
#include "lib/eval/drawn_labels.h"
#include "lib/eval/eval_memory.h"
#include "lib/model/block_gradient.h"

namespace lathe {
namespace {

/// With gradients that a KV cache is fitted by beside the driver, in memory or, where the limits have no room
/// for that, in a file. `reading`: what weights that are read take besides.
MemoryPlan plan_calibration(const MemoryLimits& limits, CalibrationJob& job,
                            const std::filesystem::path& work, uint64_t journal, uint64_t finish,
                            const MemoryBytes& reading) {
  if (!wants_cache_gradients(job)) return plan_run_memory(limits, job, work, journal, finish, reading);
  const CacheGradientRoom room = cache_gradient_room(job);
  const int64_t length = job.ids.size(1), hidden = job.graph->config.hidden_size;
  const MemoryBytes drawing = scoring_memory(
      {{job.graph, job.weights}}, {static_cast<uint64_t>(length), length, kDrawnLabelLogits}, job.device);
  const uint64_t pass = block_gradient_bytes(*job.graph, length) + largest_block_bytes(*job.graph);
  for (const bool in_memory : {true, false}) {
    MemoryBytes kept = reading;
    job.cache_gradients =
        place_beside(room.kept, length, room.width, job.device, work, limits, in_memory, kept);
    const MemoryBytes passing =
        kept + bytes_of_store(store_spec(job.cache_gradients, room.passing, length, hidden, job.device));
    // They are made before the driver begins: on a CPU what that takes is gone by then.
    const uint64_t made = passing.ram + std::max(drawing.ram, job.device.is_cpu() ? pass : 0);
    MemoryBytes beside = kept;
    if (job.device.is_cuda()) beside.vram = passing.vram + std::max(drawing.vram, pass);
    beside.disk = passing.disk;
    try {
      return plan_run_memory(limits, job, work, journal, std::max(finish, made), beside);
    } catch (const MemoryRefused&) {
      if (!in_memory) throw;
    }
  }
  internal_error("no way to keep the gradients was tried");
}

}  // namespace

RunMemory plan_memory_of(const RunRequest& request, const Recipe& recipe, const Plan& plan,
                         const ModelFolder& model, const RunText& text, CalibrationJob& job,
                         const std::filesystem::path& work) {
  job.ids = text.calibration.ids;
  job.lengths = text.calibration.lengths;
  job.token_weights = text.calibration.token_weights;
  const uint64_t journal = request.no_journal ? 0 : journal_bytes(job, model.checkpoint->tensors());
  const uint64_t finish = finish_bytes(plan);
  RunMemory memory;
  plan_phases(
      [&] {
        memory.calibration =
            plan_calibration(recipe.limits, job, work, journal, finish, {.ram = dequantising_bytes(model)});
      },
      [&] {  // the artefact has the model's graph
        if (text.evaluation.defined())
          memory.evaluation =
              plan_eval_memory(model, &model, text.evaluation, recipe.limits, job.device, work);
      });
  return memory;
}

}  // namespace lathe
