#include "apps/quantize/finish.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "apps/quantize/evaluation.h"
#include "apps/quantize/manifest.h"

namespace lathe {
namespace {

/// The folder whose figures are this one's, too: all formats hold the same values but GGUF, whose blocks are
/// rounded anew.
const ArtifactWriter& scored_as(const ArtifactWriter& writer, const ArtifactWriters& writers) {
  if (writer.target().gguf != nullptr) return writer;
  return **std::ranges::find_if(writers, [](const auto& w) { return w->target().gguf == nullptr; });
}

}  // namespace

void finish_run(const FinishedRun& run, const OpenArtefact& open, const ArtifactWriters& writers,
                const WrittenTensors& written, RunReport& report, Progress& progress, OutputFolder& output) {
  report.set_written(writers.front()->bytes());
  report.timed("read back", [&] {
    for (const auto& writer : writers) writer->verify(written);
  });
  std::map<const ArtifactWriter*, EvalResult> results;
  if (run.evaluation.defined()) {
    report.timed("evaluate", [&] {
      for (const auto& writer : writers) {
        if (&scored_as(*writer, writers) != writer.get()) continue;
        results.emplace(writer.get(),
                        evaluate_with_progress(open(writer->folder()), &run.model, run.evaluation, run.device,
                                               run.compute, run.memory->storage, progress));
      }
    });
  }
  const auto choose_figures = [&](const ArtifactWriter& writer) {
    const auto found = results.find(&scored_as(writer, writers));
    if (found != results.end()) report.set_evaluation(found->second);
  };
  for (const auto& writer : writers) {
    choose_figures(*writer);
    report.write(*writer);
    write_manifest(writer->folder(), run.recipe, run.calibration);
  }
  // Layouts that stand in none of the formats' folders have a manifest of their own.
  const std::filesystem::path layouts = output.path() / "layouts";
  if (writers.size() > 1 && std::filesystem::is_directory(layouts))
    write_manifest(layouts, run.recipe, run.calibration);
  choose_figures(*writers.front());
  output.commit();
  if (!run.request.quiet)
    fmt::print("{}\nwritten to {}\n", report.terminal_summary(*writers.front()),
               run.recipe.output.path.string());
}

}  // namespace lathe
