// sensitivity.json, and what a run makes of one: correlations, sums for a budget, and what it says of the
// data.
#include <cstdlib>

#include "apps/quantize/mixed/sensitivity_file.h"
#include "lib/base/error.h"
#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  const std::filesystem::path file = folder.put("sensitivity.json", input);
  const SensitivityTable table = read_sensitivity(file);
  Recipe recipe;
  recipe.sensitivity.linears = true;
  measured_otherwise(table, file, recipe);
  rank_correlations(table);
  const std::filesystem::path again = folder.path() / "again.json";
  write_sensitivity(again, table);
  try {
    read_sensitivity(again);
  } catch (const UserError&) {
    std::abort();  // what is written is read
  }
  losses_for(table, file, recipe);
}
