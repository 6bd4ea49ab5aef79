// sensitivity.json: what was measured of a model's groups under candidates, for any later budget.
//
//   schema            1; raised when a key changes its meaning or goes away
//   lathe             the version that measured
//   model             name; fingerprint: hash of names, sizes and samples of config.json and weight files
//   data              calibration_ids, held_out_ids: hashes; held_out_tokens: that KL is the mean of
//   computed          device, dtype
//   candidates        list, each as in a recipe
//   groups            list of {name, linears or table (names), weights: their number, losses: list of
//                     {candidate: index, weight_mse, weight_relative_mse, output_error, output_relative_error
//                     (null for tables), kl and fisher: nats, null where not asked for}}
//   rank_correlation  Spearman's rho of a cheap measure with kl: {all: {measure: rho}, by_candidate: list of
//                     the same}; null where it means nothing
#pragma once

#include <filesystem>
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

/// Hash of what the model's weights are: a copy elsewhere has the same.
std::string model_fingerprint(const ModelFolder& model);

/// Durable and at once.
void write_sensitivity(const std::filesystem::path& file, const SensitivityTable& table);
/// UserError naming file and key for what write_sensitivity() doesn't write.
SensitivityTable read_sensitivity(const std::filesystem::path& file);

/// The KL of every group and candidate of a plan. UserError where `file`'s table is of another model, or
/// lacks one of them.
ChoiceLosses losses_for(const SensitivityTable& table, const std::filesystem::path& file,
                        const Recipe& recipe, const ModelFolder& model, const ChoicePlan& plan);

/// For people: rank correlations, and the groups that lose most under each candidate. `names`: of candidates.
std::string describe_sensitivity(const SensitivityTable& table, const std::vector<std::string>& names);

}  // namespace lathe
