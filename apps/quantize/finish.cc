#include "apps/quantize/finish.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "apps/quantize/evaluation.h"
#include "apps/quantize/manifest.h"
#include "lib/base/error.h"
#include "recipes/algorithm_checks.h"

namespace lathe {
namespace {

/// The folder whose figures are this one's, too: all formats hold the same values but GGUF, whose blocks are
/// rounded anew.
const ArtifactWriter& scored_as(const ArtifactWriter& writer, const ArtifactWriters& writers) {
  if (writer.target().gguf != nullptr) return writer;
  return **std::ranges::find_if(writers, [](const auto& w) { return w->target().gguf == nullptr; });
}

constexpr size_t kNamedFindings = 5;

/// The artefacts, on the run's own word and the model's.
std::vector<Findings> check_artefacts(const FinishedRun& run, const ArtifactWriters& writers,
                                      const WrittenTensors& written, const RunReport& report) {
  const Findings fallbacks = report.fallbacks();
  std::vector<Findings> found;
  for (const auto& writer : writers) {
    found.push_back(writer->check(written, moves_scales(run.recipe)));
    found.back().insert(found.back().end(), fallbacks.begin(), fallbacks.end());
  }
  return found;
}

/// What the artefact's outputs on text may not be.
Findings check_divergence(const EvalResult& result, const Recipe& recipe) {
  const std::string place = recipe.evaluate->text.string();
  if (!std::isfinite(result.perplexity) || (result.divergence && !std::isfinite(result.divergence->mean)))
    return {
        {check::divergence, place, "a finite perplexity and KL divergence",
         fmt::format("{:g} and {:g}", result.perplexity, result.divergence ? result.divergence->mean : 0)}};
  if (!recipe.verify.max_kl || !result.divergence || result.divergence->mean <= *recipe.verify.max_kl)
    return {};
  return {{check::divergence, place,
           fmt::format("a mean KL divergence of at most {:g} nats (verify.max_kl)", *recipe.verify.max_kl),
           fmt::format("{:.5g}", result.divergence->mean)}};
}

/// Keeps the output where nobody takes it for a good one, and ends the run.
[[noreturn]] void reject(const std::vector<Findings>& found, OutputFolder& output) {
  Findings all;
  for (const Findings& part : found) all.insert(all.end(), part.begin(), part.end());
  for (size_t i = 0; i < std::min(all.size(), kNamedFindings); ++i)
    fmt::print(stderr, "quantize: check failed: {}\n", all[i].text());
  const std::string place = output.reject().string();
  throw CheckFailed(fmt::format(
      "{} of the artefact's checks failed; it is kept as {}, and its report.json (verification) names each",
      all.size(), place));
}

}  // namespace

void finish_run(const FinishedRun& run, const OpenArtefact& open, const ArtifactWriters& writers,
                const WrittenTensors& written, RunReport& report, Progress& progress, OutputFolder& output) {
  report.set_written(writers.front()->bytes());
  std::vector<Findings> found;
  report.timed("verify", [&] { found = check_artefacts(run, writers, written, report); });
  const auto sound = [&] { return std::ranges::all_of(found, &Findings::empty); };
  std::map<const ArtifactWriter*, EvalResult> results;
  if (run.evaluation.defined() && sound()) {
    report.timed("evaluate", [&] {
      for (size_t i = 0; i < writers.size(); ++i) {
        const ArtifactWriter& writer = *writers[i];
        if (&scored_as(writer, writers) != &writer) continue;
        try {
          const EvalResult result =
              evaluate_with_progress(open(writer.folder()), &run.model, run.evaluation, run.device,
                                     run.compute, run.memory->storage, progress);
          results.emplace(&writer, result);
          found[i] = check_divergence(result, run.recipe);
        } catch (const CheckFailed& failure) {
          found[i] = {{check::divergence, run.recipe.evaluate->text.string(), "logits that are finite",
                       failure.what()}};
        }
      }
    });
  }
  const auto choose_figures = [&](const ArtifactWriter& writer) {
    const auto figures = results.find(&scored_as(writer, writers));
    if (figures != results.end()) report.set_evaluation(figures->second);
  };
  for (size_t i = 0; i < writers.size(); ++i) {
    choose_figures(*writers[i]);
    report.set_verification(found[i]);
    report.write(*writers[i]);
    write_manifest(writers[i]->folder(), run.recipe, run.calibration);
  }
  if (!sound()) reject(found, output);
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
