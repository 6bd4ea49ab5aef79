// `quantize compare`: artefacts side by side on one text.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/quantize/compare_checks.h"
#include "apps/quantize/requests.h"
#include "lib/eval/evaluate.h"

namespace lathe {

/// One of them.
struct ComparedArtefact {
  std::string name;                  // its path, as given
  uint64_t bytes = 0;                // of weight files' tensors
  double bits_per_weight = 0;        // of all the model's parameters
  std::optional<EvalResult> result;  // nothing: it could not be evaluated,
  std::string trouble = {};          // and why
  /// report.json beside it. Without one, but with a reference: `linears` alone, of each name, role and
  /// weight_error, |W - Q|^2 / |W|^2 of what stands in the files (fitted folds apart). Else null.
  nlohmann::json report = {};
  bool errors_measured = false;        // such ones
  std::optional<size_t> same_as = {};  // an earlier one that is the same,
  std::string same_by = {};            // "paths", or "manifests": of tensors and config.json
};

/// What a model says at one position.
struct TokenOpinion {
  std::string name;                     // the artefact, or "reference"
  std::optional<size_t> artefact = {};  // its place in Comparison::artefacts
  std::string token;
  double probability = 0;         // of that token, its most likely one
  double next_probability = 0;    // of the token that really follows
  std::optional<double> kl = {};  // from the reference, nats
};
/// A position at which not all name the same token.
struct Disagreement {
  int64_t row = 0, position = 0;        // of the text's rows
  std::string context = {}, next = {};  // the text before and at it, and what follows
  std::vector<TokenOpinion> opinions = {};
};

struct Comparison {
  std::string text;
  int64_t ctx = 0, tokens = 0;
  std::optional<std::string> reference = {};
  std::optional<double> reference_perplexity = {};
  std::vector<ComparedArtefact> artefacts = {};
  int64_t positions = 0, disagreements = 0;  // at so many of the positions
  std::vector<Disagreement> examples = {};   // those that differ most
  std::vector<CompareCheck> checks = {};
};

/// An artefact's report.json, and what its manifest.json says of its tensors and config.json (null: nothing).
/// UserError for what is no JSON object.
nlohmann::json read_report(const std::filesystem::path& file);
nlohmann::json read_contents(const std::filesystem::path& file);

/// Named as in --fail-if; of what could be measured.
Figures figures_of(const ComparedArtefact& artefact);
/// Every condition of every artefact, and that it could be evaluated.
std::vector<CompareCheck> check_artefacts(const std::vector<ComparedArtefact>& artefacts,
                                          const std::vector<FailCondition>& conditions);

nlohmann::json comparison_json(const Comparison& comparison);
std::string comparison_text(const Comparison& comparison);

/// Prints the comparison. CheckFailed where a condition holds or an artefact's logits are not finite.
void run_compare(const CompareRequest& request);

}  // namespace lathe
