#include "calib/driver/driver.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "calib/driver/block_pass.h"
#include "lib/activations/embed_samples.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/model/block_loader.h"

namespace lathe {
namespace {

void check_job(const CalibrationJob& job) {
  LATHE_ASSERT(job.tasks.size() == job.graph->blocks.size(), "one task list for each block");
  LATHE_ASSERT(job.ids.dim() == 2 && job.ids.scalar_type() == at::kLong && job.ids.numel() > 0,
               "ids must be Long [samples, length]");
}

}  // namespace

void calibrate(const CalibrationJob& job, const DriverEvents& events) {
  const c10::NoGradGuard no_grad;
  check_job(job);
  if (job.graph->config.experts) user_error("calibrating a mixture of experts is not supported yet");
  BlockLoader blocks(*job.graph, *job.weights, job.device, job.compute);
  Stream stream(job);
  embed_samples(*job.graph, *job.weights, job.ids, job.device, stream.hidden);
  const RopeTables rope = rope_tables(job.graph->config, job.ids.size(1), job.device);
  for (size_t b = 0; b < job.graph->blocks.size(); ++b) {
    BlockPass pass(job, b, blocks.next(), rope, stream);
    events.block_done(pass.run([&](std::string_view stage) {
      if (events.progress) events.progress(static_cast<int64_t>(b), fmt::format("block {}: {}", b, stage));
    }));
    release_free_memory();  // what a block left behind must not add up
  }
  if (events.progress) events.progress(static_cast<int64_t>(job.graph->blocks.size()), "done");
}

}  // namespace lathe
