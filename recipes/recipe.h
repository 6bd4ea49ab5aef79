// What the user wrote. Parsed strictly: an unknown key, a wrong type or a bad value is a UserError of the
// form `file:line:column: key: expected ..., found ...`, with the nearest known key.
//
// Relative paths (model, data, text, output) are relative to the current working directory, as on the command
// line; not to the recipe's folder.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "algorithms/solver_fallback.h"
#include "calib/data/calibration_set.h"
#include "calib/driver/expert_policy.h"
#include "calib/driver/propagate.h"
#include "calib/stats/activation_range.h"
#include "lib/activations/memory_budget.h"
#include "lib/base/options.h"
#include "lib/model/graph.h"
#include "lib/numeric/ggml_type.h"
#include "lib/numeric/kv_cache.h"
#include "lib/numeric/scheme.h"
#include "lib/text/bos_token.h"

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
  std::optional<ActivationTask> activations = std::nullopt;  // none: weights only
  std::string where;  // "awq.yaml:7:5", for later errors about this rule
};

/// A scheme that a budget may choose for a group of linears: as a rule without targets; or, of a GGUF file, a
/// type of blocks.
struct Candidate {
  Rule rule;
  std::optional<GgmlType> block = std::nullopt;

  /// Does it leave a linear as it is?
  bool left() const { return !block && rule.scheme.floating(); }
  /// "int4 asym g64, gptq", "Q4_K", "left in floating point".
  std::string describe() const;
};

/// What of a group's quantisation a budget sums up: the KL divergence that was measured on the held-out text,
/// or its estimate by Fisher's information (calib/sensitivity/loss_gradients.h), for which no variant of the
/// model is run.
enum class SensitivityLoss { kl, fisher };
constexpr std::string_view name_of(SensitivityLoss loss) {
  return loss == SensitivityLoss::kl ? "kl" : "fisher";
}

/// What a mixture of candidates is held to: one of them.
struct Budget {
  /// Bits for each weight of those that are chosen for, as they stand in the file.
  std::optional<double> bits_per_weight = std::nullopt;
  std::optional<uint64_t> size = std::nullopt;  // bytes of all tensors of the weight files
  std::optional<double> kl =
      std::nullopt;  // nats that may be lost, as predicted, with as few bytes as that takes
  /// Bytes of a GPU that serves `batch` sequences of `context` tokens: weights, KV cache and activations
  /// (recipes/deployment.h).
  std::optional<uint64_t> vram = std::nullopt;
  int64_t context = 4096, batch = 1;
  std::string where = {};

  /// "4.25 bits/weight", "3.8 GiB", "KL 0.02", "a GPU of 20.0 GiB for 4 x 8192 tokens".
  std::string describe() const;
};

struct Recipe {
  /// A type for tensors of a GGUF file, by a /regular expression/ on their names there.
  struct TensorType {
    std::string tensors;
    GgmlType type = GgmlType::F16;
    std::string where;
  };

  std::string file;
  std::filesystem::path model;
  struct Output {
    std::filesystem::path path;
    std::vector<std::string> formats = {"compressed-tensors"};
    uint64_t shard_size = 5'000'000'000;
    uint64_t gguf_shard_size = 0;    // of gguf:...; 0: one file
    std::string gguf_pre_tokenizer;  // its tokenizer.ggml.pre; empty: found out
    /// Of the scales of integer grids; none: the model's type, FP16 for an FP32 model.
    std::optional<DType> scale_dtype = std::nullopt;
    std::filesystem::path imatrix;  // importances for gguf:..., in place of those measured; empty: none
    std::vector<TensorType> gguf_tensor_types;  // of gguf:..., in place of its mix's; the first match wins
  } output;
  struct Calibration {
    bool none = false;  // `calibration: null`: nothing is run; each weight is quantised by itself
    std::vector<DataSource> data;
    int64_t samples = 128, seq_len = 512;
    uint64_t seed = 0;
    Packing packing = Packing::pack;
    int64_t min_tokens = 1;                        // shorter documents are dropped
    bool special_tokens = false;                   // around each text, as the tokenizer's post-processor says
    text::BosRule bos = text::BosRule::automatic;  // in front of each sample
    Propagate propagate = Propagate::quantised;
    ExpertPolicy experts;
  } calibration;
  std::vector<AlgorithmChoice> transforms;
  std::vector<Rule> rules;
  std::vector<std::string> ignore = {"lm_head"};  // like targets
  std::optional<KvCacheScheme> kv_cache;          // none: it stays in floating point
  struct Evaluate {
    std::filesystem::path text;
    int64_t ctx = 512;
    int64_t rows = 0;                                // 0: all
    static constexpr int64_t kMostRows = 1'000'000;  // as many as samples
  };
  std::optional<Evaluate> evaluate;
  /// What the finished artefact is held to, beyond what every one is.
  struct Verify {
    std::optional<double> max_kl;  // nats, the mean on `evaluate`'s text; none: any that is finite
    std::vector<SolverFallback> fallbacks = {SolverFallback::damping};  // that solvers may take
  } verify;
  MemoryLimits limits;  // on the run; results don't depend on them
  /// With candidates there are no rules: `quantize sensitivity` measures them, and a budget chooses.
  std::vector<Candidate> candidates;
  std::optional<Budget> budget;
  struct Sensitivity {
    std::filesystem::path file;  // measurements to use, or where to put them; empty: beside the output
    int64_t held_out = 4;        // samples that are kept from calibration, for the loss
    SensitivityLoss loss = SensitivityLoss::kl;
    int64_t checked = 8;   // groups whose KL is measured beside an estimate that stands for it; 0: none
    bool linears = false;  // measure each linear alone, too, where the KL of its group is measured
    /// Beside rules: each group is measured under what they make of it, for whoever wants to know.
    bool of_rules = false;
  } sensitivity;
  struct ReportDetail {
    bool activations = false;  // describe the inputs of the quantised linears
  } report;

  /// The recipe with every default filled in, as JSON for report and manifest. It is itself a valid recipe
  /// (JSON is YAML): reading it back gives the same run. `file` and `where` are not part of it.
  nlohmann::json to_json() const;
};

/// One candidate as in Recipe::to_json(): what measurements are kept under.
nlohmann::json candidate_json(const Candidate& candidate);

/// A name that a recipe may use, with its options.
struct NamedOptions {
  std::string name;
  std::vector<OptionSpec> options;
};

/// What a recipe may name.
struct RecipeVocabulary {
  std::vector<NamedOptions> transforms, solvers;
  std::vector<std::string> formats;
};
/// Everything in the registries of algorithms and formats.
RecipeVocabulary registered_vocabulary();

/// `sets` are the --set arguments ("rules[0].scheme.group_size=64"), applied in order to the YAML before it
/// is read; an error in a value set so names the argument instead of a line. `file` "-" is not special.
Recipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& sets);
Recipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& sets,
                   const RecipeVocabulary& vocabulary);
/// The same for a text; `name` stands for the file in errors.
Recipe parse_recipe(const std::string& text, const std::string& name, const std::vector<std::string>& sets,
                    const RecipeVocabulary& vocabulary);

/// Does a target match this linear? A target is a word of role_targets(), or a regular expression after a
/// slash (ECMAScript, searched in the module name; the closing slash may be left out). UserError for a
/// malformed expression; load_recipe() has already refused those of a recipe, with their place.
bool target_matches(const std::string& target, const Linear& linear);

}  // namespace lathe
