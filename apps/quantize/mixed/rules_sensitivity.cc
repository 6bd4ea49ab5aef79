#include "apps/quantize/mixed/rules_sensitivity.h"

#include <fmt/format.h>

#include <memory>

#include "apps/quantize/mixed/measure.h"
#include "apps/quantize/mixed/mixture.h"
#include "apps/quantize/mixed/sensitivity_file.h"
#include "apps/quantize/mixed/sensitivity_report.h"
#include "apps/quantize/mixed/unmeasured.h"
#include "apps/quantize/request_checks.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/new_folder.h"
#include "recipes/budget/ruled_groups.h"

namespace lathe {

namespace fs = std::filesystem;

RulesMeasured measure_rules(const RunRequest& request, const Recipe& recipe) {
  ModelFolder model = open_source(recipe);
  check_measurable(recipe);
  check_texts_exist(recipe);
  check_output_apart(recipe);
  RuledGroups made = ruled_groups(recipe, model.graph, model.checkpoint->tensors());
  const fs::path file = sensitivity_place(recipe);
  RulesMeasured result{.warnings = made.warnings};
  if (fs::exists(file)) {
    const SensitivityTable table = part_of(read_sensitivity(file), file, made.recipe, model, made.plan);
    losses_for(table, file, made.recipe);
    result.section = sensitivity_section(table, made.recipe, model.graph, made.plan);
    if (const auto warning = measured_otherwise(table, file, made.recipe))
      result.warnings.push_back(*warning);
    return result;
  }
  if (request.dry_run) {
    if (!request.json) fmt::print("{}", describe_unmeasured({made.recipe, made.plan, file}, nullptr));
    result.to_measure = [&request, made = std::move(made),
                         model = std::make_shared<const ModelFolder>(std::move(model))](const RunText& text) {
      return plan_measurement(request, made.recipe, *model, made.plan, &text.calibration);
    };
    return result;
  }
  const NewFolder folder(output_place(file).parent_path());
  Progress progress(request.quiet);
  const Stopwatch watch;
  const SensitivityTable table = measure_candidates(request, made.recipe, model, made.plan, progress).table;
  result.seconds = watch.seconds();
  write_sensitivity(file, table);
  result.section = sensitivity_section(table, made.recipe, model.graph, made.plan);
  if (!request.quiet)
    fmt::print("{}written to {}\n", describe_sensitivity(table, names_of(made.recipe)), file.string());
  return result;
}

}  // namespace lathe
