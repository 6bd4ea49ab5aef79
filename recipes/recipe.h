// What the user wrote. Parsed strictly: an unknown key, a wrong type or a bad value is a UserError of the form
// `file:line:column: key: expected ..., found ...`, with the nearest known key.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "calib/data/token_rows.h"
#include "lib/base/options.h"
#include "lib/model/graph.h"
#include "lib/numeric/scheme.h"

namespace lathe {

/// `{awq: {grid: 20}}`: a name from a registry with its options, complete.
struct AlgorithmChoice {
  std::string name;
  Options options;
};

struct Rule {
  std::vector<std::string> targets;  // role words, or /regex/ on module names
  Scheme scheme;
  AlgorithmChoice solver;
  std::string where;  // "awq.yaml:7:5", for later errors about this rule
};

struct Recipe {
  std::string file;
  std::filesystem::path model;
  struct Output {
    std::filesystem::path path;
    std::vector<std::string> formats = {"compressed-tensors"};
    uint64_t shard_size = 5'000'000'000;
  } output;
  struct Calibration {
    std::vector<DataSource> data;
    int64_t samples = 128, seq_len = 512;
    uint64_t seed = 0;
  } calibration;
  std::vector<AlgorithmChoice> transforms;
  std::vector<Rule> rules;
  std::vector<std::string> ignore = {"lm_head"};  // like targets
  struct Evaluate {
    std::filesystem::path text;
    int64_t ctx = 512;
    int64_t rows = 0;  // 0: all
  };
  std::optional<Evaluate> evaluate;

  /// The recipe with every default filled in, as JSON for report and manifest.
  nlohmann::json to_json() const;
};

/// `sets` are the --set arguments ("rules[0].scheme.group_size=64"), applied to the YAML before it is parsed; an error in
/// one names it instead of a line. `file` "-" is not special.
Recipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& sets);

/// Does a target word or /regex/ (ECMAScript over the whole module name, searched) match this linear?
bool target_matches(const std::string& target, LinearRole role, const std::string& name);

}  // namespace lathe
