// sensitivity.json: what was measured of a model's groups under candidates, for any later budget.
//
//   schema            1; raised when a key changes its meaning or goes away
//   lathe             the version that measured
//   model             name; fingerprint: hash of names, sizes and samples of config.json and weight files
//   data              calibration_ids, held_out_ids: hashes; held_out_tokens: that KL is the mean of;
//                     checked_tokens: that KL is the mean of where it only checks the estimate, in some
//                     groups, null elsewhere (not in files of older versions); recipe: measured_on()
//   computed          device, dtype
//   candidates        list, each as in a recipe
//   groups            list of {name, linears or table (names), weights: their number, losses: list of
//                     {candidate: index, weight_mse, weight_relative_mse, output_error, output_relative_error
//                     (null for tables), kl and fisher: nats, null where not asked for, linears: list, as
//                     the group's, of {weight_mse, output_error, output_relative_error, fisher, kl: of that
//                     linear alone, where asked for} (not of tables, nor in files of older versions)}}
//   rank_correlation  rank_correlations()
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "calib/sensitivity/sensitivity.h"
#include "formats/targets/model_folder.h"
#include "recipes/budget/choice.h"
#include "recipes/recipe.h"

namespace lathe {

inline constexpr int kSensitivitySchema = 1;

struct SensitivityTable {
  struct Group {
    std::string name;
    std::vector<std::string> members;  // linears, or one table's tensor
    bool table = false;
    double weights = 0;
    std::vector<size_t> candidates;  // that were tried, and
    std::vector<GroupLoss> losses;   // what each lost
  };
  std::string model, fingerprint;
  nlohmann::json data, computed;
  std::vector<nlohmann::json> candidates;  // candidate_json()
  std::vector<Group> groups;
};

/// As a file of losses has what may not be there.
nlohmann::json or_null(const std::optional<double>& number);

/// Hash of what the model's weights are: a copy elsewhere has the same.
std::string model_fingerprint(const ModelFolder& model);

/// Durable and at once.
void write_sensitivity(const std::filesystem::path& file, const SensitivityTable& table);
/// UserError naming file and key for what write_sensitivity() doesn't write.
SensitivityTable read_sensitivity(const std::filesystem::path& file);

/// What a table has of a plan's groups and the recipe's candidates, in their order. UserError where `file`'s
/// table is of another model, or lacks one of them.
SensitivityTable part_of(const SensitivityTable& table, const std::filesystem::path& file,
                         const Recipe& recipe, const ModelFolder& model, const ChoicePlan& plan);

/// Where the estimates that a budget sums up are not what was measured of the groups that were checked: the
/// KL of a candidate's checked groups in sum is more than twice their estimate, or less than half. Of a
/// mixture of experts it mostly is: gradients don't see tokens that go to other experts. Nothing with loss:
/// kl.
std::optional<std::string> estimate_is_off(const SensitivityTable& table, const Recipe& recipe);

/// What a budget sums up, of a part_of() a table. UserError where it isn't there, or the sum is not finite.
ChoiceLosses losses_for(const SensitivityTable& part, const std::filesystem::path& file,
                        const Recipe& recipe);

/// What the recipe says of `calibration`, held_out and, where it has some, transforms and imatrix; for
/// SensitivityTable::data, so that what was measured can be told from what another recipe would measure.
nlohmann::json measured_on(const Recipe& recipe);
/// "out/x.sensitivity.json: was measured with calibration.samples 12, held_out 2; ...": what the recipe says
/// otherwise, which then decides nothing. Nothing where it says the same, or the table doesn't say.
std::optional<std::string> measured_otherwise(const SensitivityTable& table,
                                              const std::filesystem::path& file, const Recipe& recipe);

/// Spearman's rho of each cheap measure with the measured KL: {all: {measure: rho}, by_candidate: list of the
/// same, pairs: {all: number, by_candidate: list}: of group and candidate, that these rest on}; null where it
/// means nothing. Where single linears were measured, `linears` and `pairs.linears` are the same of linear
/// and candidate.
nlohmann::json rank_correlations(const SensitivityTable& table);

/// Of its candidates, as people read them.
std::vector<std::string> names_of(const Recipe& recipe);

}  // namespace lathe
