#include "apps/quantize/finish.h"

#include <fmt/format.h>

#include <cstdio>

#include "apps/quantize/evaluation.h"
#include "apps/quantize/manifest.h"

namespace lathe {
namespace {}  // namespace

void finish_run(const FinishedRun& run, const ModelFolder& artifact, const ArtifactWriters& writers,
                const WrittenTensors& written, RunReport& report, Progress& progress, OutputFolder& output) {
  report.set_written(writers.front()->bytes());
  report.timed("read back", [&] {
    for (const auto& writer : writers) writer->verify(written);
  });
  if (run.evaluation.defined()) {
    report.set_evaluation(report.timed("evaluate", [&] {
      return evaluate_with_progress(artifact, &run.model, run.evaluation, run.device, run.compute,
                                    run.memory->storage, progress);
    }));
  }
  for (const auto& writer : writers) {
    report.write(*writer);
    write_manifest(writer->folder(), run.recipe, run.calibration);
  }
  output.commit();
  if (!run.request.quiet)
    fmt::print("{}\nwritten to {}\n", report.terminal_summary(*writers.front()),
               run.recipe.output.path.string());
}

}  // namespace lathe
