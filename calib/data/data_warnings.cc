#include "calib/data/data_warnings.h"

#include <fmt/format.h>

namespace lathe {
namespace {

constexpr int64_t kTokensPerColumn = 16;
constexpr double kOneScript = 0.99, kOtherScripts = 0.05;
constexpr int64_t kShortDocument = 64;
constexpr double kRepeated = 0.01;

double percent(double share) { return 100 * share; }

void warn_few_tokens(const CalibrationSet& set, const ModelNeeds& needs, std::vector<std::string>& warnings) {
  const int64_t wanted = kTokensPerColumn * needs.widest_input;
  if (set.tokens() >= wanted) return;
  warnings.push_back(fmt::format(
      "few calibration tokens: {} for inputs up to {} wide; {} (16 for each column) or more give reliable "
      "statistics",
      set.tokens(), needs.widest_input, wanted));
}

void warn_one_script(const CalibrationSet& set, const ModelNeeds& needs, std::vector<std::string>& warnings) {
  const text::ScriptShare text = text::largest_share(set.census.scripts());
  if (text.share < kOneScript || needs.vocabulary.empty()) return;
  const double others = 1 - text::share_of(needs.vocabulary, text.script);
  if (others < kOtherScripts) return;
  warnings.push_back(fmt::format(
      "calibration text of one script: {:.1f} % of its letters are {}, but {:.0f} % of the letters of the "
      "model's vocabulary are of others; add text in the languages that the model will read",
      percent(text.share), text.script, percent(others)));
}

void warn_short(const CalibrationSet& set, std::vector<std::string>& warnings) {
  if (set.census.documents() < 2 || set.census.longest() > kShortDocument) return;
  warnings.push_back(fmt::format(
      "all calibration documents are very short: the longest of {} has {} tokens; add longer ones "
      "if the model will read such",
      set.census.documents(), set.census.longest()));
}

void warn_repeated(const CalibrationSet& set, std::vector<std::string>& warnings) {
  const auto documents = static_cast<double>(set.census.documents());
  const int64_t repeated = set.census.repeated();
  if (repeated < 2 || static_cast<double>(repeated) < kRepeated * documents) return;
  warnings.push_back(fmt::format(
      "repeated calibration documents: {} of {} equal an earlier one but for case, spaces and punctuation",
      repeated, set.census.documents()));
}

}  // namespace

std::vector<std::string> data_warnings(const CalibrationSet& set, const ModelNeeds& needs) {
  std::vector<std::string> warnings;
  warn_few_tokens(set, needs, warnings);
  warn_one_script(set, needs, warnings);
  warn_short(set, warnings);
  warn_repeated(set, warnings);
  return warnings;
}

}  // namespace lathe
