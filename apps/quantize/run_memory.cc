#include "apps/quantize/run_memory.h"

#include "apps/quantize/journal/journal_size.h"
#include "apps/quantize/request_checks.h"

namespace lathe {

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
            plan_run_memory(recipe.limits, job, work, journal, finish, {.ram = dequantising_bytes(model)});
      },
      [&] {  // the artefact has the model's graph
        if (text.evaluation.defined())
          memory.evaluation =
              plan_eval_memory(model, &model, text.evaluation, recipe.limits, job.device, work);
      });
  return memory;
}

}  // namespace lathe
