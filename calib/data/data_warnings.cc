#include "calib/data/data_warnings.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lathe {
namespace {

constexpr int64_t kTokensPerColumn = 16;
constexpr double kOneScript = 0.99, kOtherScripts = 0.05;
constexpr int64_t kTelling = 16384;  // tokens of a vocabulary: smaller ones cut any text into short pieces
constexpr double kFewBytes = 2;
constexpr double kNearlyAll = 0.95;
constexpr double kRepeated = 0.01;

/// In all, so that experts' inputs see enough.
int64_t wanted_for_experts(const ModelNeeds& needs) {
  if (needs.widest_expert_input == 0) return 0;
  const auto columns = static_cast<double>(kTokensPerColumn * needs.widest_expert_input);
  return static_cast<int64_t>(std::ceil(columns / needs.expert_share));
}

double percent(double share) { return 100 * share; }

void warn_few_tokens(const CalibrationSet& set, const ModelNeeds& needs, std::vector<std::string>& warnings) {
  const int64_t wanted = kTokensPerColumn * needs.widest_input;
  if (set.tokens() < wanted) {
    warnings.push_back(fmt::format(
        "few calibration tokens: {} for inputs up to {} wide; {} (16 for each column) or more give reliable "
        "statistics",
        set.tokens(), needs.widest_input, wanted));
  }
  const auto sent = static_cast<int64_t>(static_cast<double>(set.tokens()) * needs.expert_share);
  const int64_t wanted_sent = kTokensPerColumn * needs.widest_expert_input;
  if (sent >= wanted_sent) return;
  warnings.push_back(
      fmt::format("few calibration tokens for an expert: {} of {} where all get as many, for inputs up to {} "
                  "wide; {} in all "
                  "would give each 16 for a column",
                  sent, set.tokens(), needs.widest_expert_input, wanted_for_experts(needs)));
}

/// Where the model's vocabulary is of more scripts than the text's, so that it was made for more languages.
void warn_one_language(const CalibrationSet& set, const ModelNeeds& needs,
                       std::vector<std::string>& warnings) {
  const text::Share script = text::largest_share(set.census.scripts());
  const text::Share language = text::largest_share(set.census.languages());
  const bool one_script = script.share >= kOneScript;
  const bool one_language = language.share >= kNearlyAll && language.name != text::kUnknownLanguage;
  if ((!one_script && !one_language) || script.name.empty() || needs.vocabulary.empty()) return;
  const double others = 1 - text::share_of(needs.vocabulary, script.name);
  if (others < kOtherScripts) return;
  const std::string what =
      one_language
          ? fmt::format("one language: {:.0f} % of it is {}", percent(language.share), language.name)
          : fmt::format("one script: {:.1f} % of its letters are {}", percent(script.share), script.name);
  warnings.push_back(
      fmt::format("calibration text of {}, but {:.0f} % of the letters of the model's vocabulary are {}; add "
                  "text in the languages that the model will read",
                  what, percent(others), one_language ? "of other scripts" : "of others"));
}

void warn_unlike_vocabulary(const CalibrationSet& set, const ModelNeeds& needs,
                            std::vector<std::string>& warnings) {
  const double bytes = set.census.bytes_per_token();
  if (needs.vocabulary_size < kTelling || bytes == 0 || bytes >= kFewBytes) return;
  warnings.push_back(
      fmt::format("calibration text that the tokenizer hardly knows: {:.2f} bytes a token, where text of the "
                  "kind that it "
                  "was made of has 3 to 5; is it what the model will read?",
                  bytes));
}

void warn_short(const CalibrationSet& set, std::vector<std::string>& warnings) {
  const DocumentCensus& census = set.census;
  if (census.documents() < 2) return;
  if (static_cast<double>(census.very_short()) < kNearlyAll * static_cast<double>(census.documents())) return;
  const bool all = census.very_short() == census.documents();
  warnings.push_back(
      fmt::format("{} calibration documents are very short: {}; add longer ones if the model will read such",
                  all ? "all" : "nearly all",
                  all ? fmt::format("the longest of {} has {} tokens", census.documents(), census.longest())
                      : fmt::format("{} of {} have {} tokens or fewer", census.very_short(),
                                    census.documents(), DocumentCensus::kShort)));
}

void warn_repeated(const CalibrationSet& set, std::vector<std::string>& warnings) {
  const auto documents = static_cast<double>(set.census.documents());
  const int64_t repeated = set.census.repeated();
  if (repeated < 2 || static_cast<double>(repeated) < kRepeated * documents) return;
  warnings.push_back(fmt::format(
      "repeated calibration documents: {} of {} equal an earlier one but for case, spaces and punctuation",
      repeated, set.census.documents()));
}

/// The sources that `is_one` names: "a.txt and 2 more"; empty where there is none.
template <class IsOne>
std::string names_of(const CalibrationSet& set, const IsOne& is_one) {
  const auto first = std::find_if(set.sources.begin(), set.sources.end(), is_one);
  if (first == set.sources.end()) return "";
  const auto others = std::count_if(first + 1, set.sources.end(), is_one);
  return others > 0 ? fmt::format("{} and {} more", first->path, others) : first->path;
}

void warn_unused(const CalibrationSet& set, std::vector<std::string>& warnings) {
  const std::string names =
      names_of(set, [](const SourceCounts& source) { return source.taken_tokens == 0; });
  if (names.empty()) return;
  warnings.push_back(fmt::format(
      "unused calibration data: none of the {} samples is taken from {}; raise calibration.samples or its "
      "weight, or leave it out",
      set.ids.size(0), names));
}

/// A dump, or another tool's samples: whoever feeds them expects them to stay whole.
void warn_recut(const CalibrationSet& set, std::vector<std::string>& warnings) {
  const std::string names = names_of(set, [](const SourceCounts& source) { return source.recut > 0; });
  if (names.empty()) return;
  const auto first = std::find_if(set.sources.begin(), set.sources.end(),
                                  [](const SourceCounts& source) { return source.recut > 0; });
  warnings.push_back(fmt::format(
      "token ids cut anew: {} holds rows of {} ids, which are joined and cut into samples of {}; set "
      "calibration.seq_len to {} to take them as they are",
      names, first->recut, set.ids.size(1), first->recut));
}

}  // namespace

void warn_length(const char* what, int64_t length, int64_t max_position, std::vector<std::string>& warnings) {
  if (max_position == 0 || length <= max_position) return;
  warnings.push_back(fmt::format("{} of {} tokens is longer than the model's max_position_embeddings, {}",
                                 what, length, max_position));
}

int64_t wanted_tokens(const ModelNeeds& needs) {
  return std::max(kTokensPerColumn * needs.widest_input, wanted_for_experts(needs));
}

std::vector<std::string> data_warnings(const CalibrationSet& set, const ModelNeeds& needs) {
  std::vector<std::string> warnings;
  warn_few_tokens(set, needs, warnings);
  warn_one_language(set, needs, warnings);
  warn_unlike_vocabulary(set, needs, warnings);
  warn_short(set, warnings);
  warn_repeated(set, warnings);
  warn_unused(set, warnings);
  warn_recut(set, warnings);
  warn_length("calibration.seq_len", set.ids.size(1), needs.max_position, warnings);
  return warnings;
}

}  // namespace lathe
