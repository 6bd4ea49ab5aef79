#include "recipes/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <limits>

#include "algorithms/algorithm.h"
#include "formats/layouts/layout.h"
#include "formats/targets/target.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"
#include "lib/numeric/kv_cache_methods.h"
#include "recipes/calibration_section.h"
#include "recipes/options_reader.h"
#include "recipes/overrides.h"
#include "recipes/target_pattern.h"
#include "recipes/yaml_reader.h"

namespace lathe {
namespace {

constexpr uint64_t kMaxRecipeBytes = 1 << 20;
/// Group widths that some kernel reads: whole 32-bit words of 4-bit codes.
constexpr int64_t kGroupStep = 8;
constexpr int64_t kMaxGroup = 1 << 20;
/// No vocabulary makes a model that knows nothing diverge as far.
constexpr double kMostKl = 1000;
constexpr int64_t kMostTokens = int64_t{1} << 24, kMostSequences = int64_t{1} << 16;
constexpr size_t kMostCandidates = 64;

std::filesystem::path read_path(const YamlField& field, std::string_view what) { return field.text(what); }

std::vector<std::string> read_targets(const YamlField& field) {
  std::vector<std::string> targets;
  for (const YamlField& item : field.list("a list of roles and /regular expressions/")) {
    const std::string expected =
        fmt::format("one of {}, or /a regular expression/", join_words(role_targets()));
    std::string target = item.text(expected);
    if (is_pattern(target)) {
      if (const auto reason = pattern_error(target))
        item.refuse("a valid regular expression", ": " + *reason);
    } else if (std::find(role_targets().begin(), role_targets().end(), target) == role_targets().end()) {
      item.refuse(expected, did_you_mean(target, role_targets()));
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

GgmlType read_block_type(const YamlField& field) {
  std::vector<std::string> names;
  for (const GgmlTraits& row : ggml_types()) {
    if (row.made) names.emplace_back(row.name);
  }
  const std::string expected = fmt::format("a type of ggml that Lathe rounds to ({})", join_words(names));
  std::string name = field.text(expected);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::toupper(c); });
  if (std::ranges::find(names, name) == names.end()) field.refuse(expected, did_you_mean(name, names));
  return *parse_ggml_type(name);
}

void read_tensor_types(const YamlField& field, Recipe::Output& output) {
  for (const YamlField& item : field.list("a list such as [{tensors: /attn_v/, type: Q6_K}]")) {
    item.expect_map({"tensors", "type"});
    for (const char* key : {"tensors", "type"})
      if (!item.has(key)) item.refuse(fmt::format("the keys 'tensors' and 'type' ('{}' is missing)", key));
    const YamlField tensors = item.at("tensors");
    const std::string expected = "a /regular expression/ on the file's names, such as /attn_v/";
    const std::string pattern = tensors.text(expected);
    if (!is_pattern(pattern)) tensors.refuse(expected);
    if (const auto reason = pattern_error(pattern))
      tensors.refuse("a valid regular expression", ": " + *reason);
    output.gguf_tensor_types.push_back({pattern, read_block_type(item.at("type")), item.where()});
  }
}

/// What is for the formats gguf:... alone.
void read_gguf_output(const YamlField& field, Recipe::Output& output) {
  const bool used =
      std::ranges::any_of(output.formats, [](const std::string& name) { return name.starts_with("gguf:"); });
  for (const char* key : {"gguf_shard_size", "gguf_pre_tokenizer", "imatrix", "gguf_tensor_types"}) {
    if (used || !field.has(key) || field.at(key).is_null()) continue;
    field.at(key).refuse("null: none of the formats is a gguf:... one, which it is for");
  }
  const auto given = [&](const char* key) { return field.has(key) && !field.at(key).is_null(); };
  if (given("gguf_shard_size")) output.gguf_shard_size = field.at("gguf_shard_size").bytes(1);
  if (given("gguf_pre_tokenizer"))
    output.gguf_pre_tokenizer = field.at("gguf_pre_tokenizer").text("llama.cpp's name of a pre-tokenizer");
  if (given("gguf_tensor_types")) read_tensor_types(field.at("gguf_tensor_types"), output);
  if (given("imatrix")) output.imatrix = read_path(field.at("imatrix"), "an importance matrix, or null");
}

void read_output(const YamlField& field, const std::vector<std::string>& formats, Recipe::Output& output) {
  field.expect_map({"path", "formats", "shard_size", "scale_dtype", "gguf_shard_size", "gguf_pre_tokenizer",
                    "imatrix", "gguf_tensor_types"});
  if (field.has("scale_dtype") && !field.at("scale_dtype").is_null())
    output.scale_dtype = field.at("scale_dtype").one_of({DType::F16, DType::BF16});
  if (field.has("path") && !field.at("path").is_null()) output.path = read_path(field.at("path"), "a folder");
  if (field.has("formats")) {
    output.formats.clear();
    const std::vector<YamlField> items = field.at("formats").list("a list of formats");
    if (items.empty()) field.at("formats").refuse("at least one format");
    for (const YamlField& item : items) {
      const std::string expected = fmt::format("a known format ({})", join_words(formats));
      const std::string name = canonical_format(item.text(expected));
      if (std::find(formats.begin(), formats.end(), name) == formats.end())
        item.refuse(expected, suggested_format(name, formats));
      if (std::find(output.formats.begin(), output.formats.end(), name) != output.formats.end()) {
        item.refuse("each format once");
      }
      output.formats.push_back(name);
    }
  }
  if (field.has("shard_size")) output.shard_size = field.at("shard_size").bytes(1);
  read_gguf_output(field, output);
}

/// int, float and the floating-point grids that consumers read.
std::vector<std::string> number_types(std::vector<std::string> types) {
  for (const FloatGridType& grid : float_grid_types()) {
    if (grid.name != kE5M2.name) types.emplace_back(grid.name);
  }
  return types;
}

std::string read_type(const YamlField& field, const std::vector<std::string>& known) {
  const std::string expected = fmt::format("a known number type ({})", join_words(known));
  std::string type = field.text(expected);
  if (type == kE5M2.name) field.refuse("fp8_e4m3 (no consumer reads weights or inputs in E5M2)");
  if (std::ranges::find(known, type) == known.end()) field.refuse(expected, did_you_mean(type, known));
  return type;
}

int64_t read_group_size(const YamlField& group) {
  const std::string expected = fmt::format("a multiple of {} from {} to {}, or -1 for one group a row",
                                           kGroupStep, kGroupStep, kMaxGroup);
  const int64_t size = group.integer(-1, kMaxGroup, expected);
  if (size != -1 && (size < 1 || size % kGroupStep != 0)) group.refuse(expected);
  return size;
}

/// Side of the square blocks that share a scale (DeepSeek's FP8; every engine's kernels).
constexpr int64_t kBlock = 128;

Scheme read_float_scheme(const YamlField& field, const FloatGridType& grid) {
  if (grid.group_size != 0) {
    field.expect_map({"type"});
    return Scheme::of_floats(grid.name);
  }
  field.expect_map({"type", "per"});
  const std::string per = field.has("per") ? field.at("per").text("channel, tensor or block") : "channel";
  if (per == "channel") return Scheme::of_floats(grid.name);
  if (per == "tensor") return Scheme::of_floats(grid.name, -1, -1);
  if (per == "block") return Scheme::of_floats(grid.name, kBlock, kBlock);
  if (per == "group") {
    field.at("per").refuse(
        "channel, tensor or block (no consumer reads FP8 in groups of a row; type mxfp8 has groups of 32)");
  }
  field.at("per").refuse("channel, tensor or block");
}

Scheme read_scheme(const YamlField& field) {
  Scheme scheme;
  field.expect_map(
      {"type", "per", "bits", "group_size", "symmetric", "zero_point", "axis", "scale_bits", "scale_group"});
  if (field.has("type")) {
    const Scheme named{.type = read_type(field.at("type"), number_types({"int", "float"}))};
    if (named.floating()) {
      field.expect_map({"type"});
      return Scheme::as_they_are();
    }
    if (const FloatGridType* const grid = named.float_grid()) return read_float_scheme(field, *grid);
  }
  if (field.has("per")) field.at("per").refuse("no such key where type is int (`group_size` says it)");
  if (field.has("bits")) scheme.bits = static_cast<int>(field.at("bits").integer(1, 8));
  if (field.has("group_size")) scheme.group_size = read_group_size(field.at("group_size"));
  if (field.has("symmetric")) scheme.symmetric = field.at("symmetric").truth();
  if (field.has("zero_point")) {
    const std::string word = field.at("zero_point").text("integer or real");
    scheme.real_zero = word == "real";
    if (word != "real" && word != "integer") field.at("zero_point").refuse("integer or real");
  }
  if (field.has("axis")) scheme.axis = static_cast<int>(field.at("axis").integer(0, 1));
  if (field.has("scale_bits"))
    scheme.scale_grid.emplace().bits = static_cast<int>(field.at("scale_bits").integer(2, 8));
  if (field.has("scale_group")) {
    if (!scheme.scale_grid) field.at("scale_group").refuse("`scale_bits` beside it");
    scheme.scale_grid->rows = field.at("scale_group").integer(1, kMaxGroup);
  }
  return scheme;
}

ObserverChoice read_observer(const YamlField& field, bool calibrated) {
  using enum ActivationObserver;
  ObserverChoice observer;
  for (const char* key : {"observer", "percentile", "averaging_constant"}) {
    if (!calibrated && field.has(key))
      field.at(key).refuse("no such key where dynamic is true (the range is then each token's own)");
  }
  if (field.has("observer"))
    observer.method = field.at("observer").one_of({minmax, ema, percentile, mse, kl});
  const auto read_of = [&](const char* key, ActivationObserver of, double least, double most, double& value) {
    if (!field.has(key)) return;
    if (observer.method != of)
      field.at(key).refuse("no such key where observer is " + std::string(name_of(observer.method)));
    value = field.at(key).number(least, most);
  };
  read_of("percentile", percentile, 50, 100, observer.percentile);
  read_of("averaging_constant", ema, 1e-4, 1, observer.averaging_constant);
  return observer;
}

/// per: group of FP8, as wide as the blocks of weights that it stands beside.
void read_granularity(const YamlField& field, std::initializer_list<ActivationScheme::Per> choices,
                      ActivationScheme& scheme) {
  using Per = ActivationScheme::Per;
  if (field.has("dynamic")) scheme.dynamic = field.at("dynamic").truth();
  scheme.per = scheme.dynamic ? Per::token : Per::tensor;
  if (field.has("per")) scheme.per = field.at("per").one_of(choices);
  if (scheme.per == Per::group) scheme.group_size = kBlock;
}

void read_float_activations(const YamlField& field, const FloatGridType& grid, ActivationScheme& scheme) {
  scheme = ActivationScheme::of_floats(grid.name);
  if (grid.group_size != 0) {
    field.expect_map({"type", "observer", "percentile", "averaging_constant"});
    return;
  }
  field.expect_map({"type", "dynamic", "per", "observer", "percentile", "averaging_constant"});
  using Per = ActivationScheme::Per;
  read_granularity(field, {Per::token, Per::tensor, Per::group}, scheme);
}

ActivationTask read_activations(const YamlField& field) {
  ActivationTask task;
  ActivationScheme& scheme = task.scheme;
  field.expect_map(
      {"type", "bits", "dynamic", "per", "symmetric", "observer", "percentile", "averaging_constant"});
  if (field.has("type")) scheme.type = read_type(field.at("type"), number_types({"int"}));
  if (const FloatGridType* const grid = scheme.float_grid()) {
    read_float_activations(field, *grid, scheme);
    task.observer = read_observer(field, scheme.calibrated());
    if (const auto reason = task.problem()) user_error("{}: {}: {}", field.where(), field.path(), *reason);
    return task;
  }
  if (field.has("bits")) scheme.bits = static_cast<int>(field.at("bits").integer(8, 8));
  using Per = ActivationScheme::Per;
  read_granularity(field, {Per::token, Per::tensor}, scheme);
  if (field.has("symmetric")) scheme.symmetric = field.at("symmetric").truth();
  task.observer = read_observer(field, scheme.calibrated());
  if (const auto reason = task.problem()) user_error("{}: {}: {}", field.where(), field.path(), *reason);
  return task;
}

void read_setting(const YamlField& field, const KvCacheSetting& setting, KvCacheScheme& scheme) {
  const std::string expected = setting.expected();
  std::visit(
      [&](auto member) {
        using Value = std::remove_reference_t<decltype(scheme.*member)>;
        if constexpr (std::is_same_v<Value, bool>) {
          scheme.*member = field.truth();
        } else if constexpr (std::is_same_v<Value, double>) {
          const double number = setting.choices.empty() ? field.number(setting.least, setting.most, expected)
                                                        : field.number(0, 64, expected);
          if (!setting.allows(number)) field.refuse(expected);
          scheme.*member = number;
        } else if constexpr (std::is_same_v<Value, KvCacheWeights>) {
          scheme.*member = field.one_of({KvCacheWeights::attention, KvCacheWeights::fisher});
        } else {
          const int64_t number = field.integer(static_cast<int64_t>(setting.least),
                                               static_cast<int64_t>(setting.most), expected);
          if (!setting.allows(static_cast<double>(number))) field.refuse(expected);
          scheme.*member = static_cast<Value>(number);
        }
      },
      setting.member);
}

KvCacheScheme read_kv_cache(const YamlField& field) {
  KvCacheScheme scheme;
  std::vector<std::string> types = {"float", "int"};
  for (const KvCacheMethod& method : kv_cache_methods()) types.push_back(method.defaults.type);
  if (field.has("type")) {
    const std::string expected = fmt::format("a known type ({})", join_words(types));
    scheme.type = field.at("type").text(expected);
    if (std::ranges::find(types, scheme.type) == types.end())
      field.at("type").refuse(expected, did_you_mean(scheme.type, types));
  }
  const KvCacheMethod* const method = find_kv_cache_method(scheme.type);
  if (method == nullptr) {
    field.expect_map({"type", "bits", "per"});
    if (field.has("bits")) scheme.bits = static_cast<double>(field.at("bits").integer(8, 8));
    if (field.has("per")) {
      scheme.per_head = field.at("per").is_word("head");
      if (!scheme.per_head && !field.at("per").is_word("tensor")) field.at("per").refuse("tensor or head");
    }
    return scheme;
  }
  scheme = method->defaults;
  std::vector<std::string> keys = {"type"};
  for (const KvCacheSetting& setting : method->settings) keys.push_back(setting.key);
  field.expect_map(keys);
  for (const KvCacheSetting& setting : method->settings)
    if (field.has(setting.key)) read_setting(field.at(setting.key), setting, scheme);
  if (field.has("bits") && !field.has("value_bits")) scheme.value_bits = scheme.bits;
  return scheme;
}

/// The rule that stands for keys left out: plain rounding to the default scheme, of all linears; no rounding
/// where the scheme has no grid.
AlgorithmChoice default_solver(const std::vector<NamedOptions>& solvers, const Scheme& scheme) {
  const std::string_view name = scheme.floating() ? "float" : "rtn";
  const auto row = std::ranges::find(solvers, name, &NamedOptions::name);
  LATHE_ASSERT(row != solvers.end(), "the default solver, {}, is not registered", name);
  return {row->name, Options(row->options)};
}

Rule read_rule(const YamlField& field, const RecipeVocabulary& vocabulary) {
  field.expect_map({"targets", "scheme", "activations", "solver"});
  Rule rule{.targets = {"linear"}, .scheme = {}, .solver = {}, .where = field.where()};
  if (field.has("targets")) {
    rule.targets = read_targets(field.at("targets"));
    if (rule.targets.empty()) field.at("targets").refuse("at least one role or /regular expression/");
  }
  if (field.has("scheme")) rule.scheme = read_scheme(field.at("scheme"));
  if (field.has("activations") && !field.at("activations").is_null())
    rule.activations = read_activations(field.at("activations"));
  rule.solver = field.has("solver") ? read_choice(field.at("solver"), "solver", vocabulary.solvers)
                                    : default_solver(vocabulary.solvers, rule.scheme);
  return rule;
}

Candidate read_candidate(const YamlField& field, const RecipeVocabulary& vocabulary) {
  field.expect_map({"scheme", "activations", "solver", "gguf"});
  if (!field.has("gguf")) return {.rule = read_rule(field, vocabulary)};
  field.expect_map({"gguf"});
  return {.rule = {.targets = {}, .scheme = {}, .solver = {}, .where = field.where()},
          .block = read_block_type(field.at("gguf"))};
}

Budget read_budget(const YamlField& field) {
  Budget budget{.where = field.where()};
  field.expect_map({"bits_per_weight", "size", "kl", "vram", "context", "batch"});
  const auto given = [&](const char* key) { return field.has(key) && !field.at(key).is_null(); };
  if (given("bits_per_weight")) budget.bits_per_weight = field.at("bits_per_weight").number(0.5, 32);
  if (given("size")) budget.size = field.at("size").bytes(1);
  if (given("kl")) budget.kl = field.at("kl").number(0, kMostKl, "a divergence in nats");
  if (given("vram")) budget.vram = field.at("vram").bytes(1);
  if (given("context")) budget.context = field.at("context").integer(1, kMostTokens);
  if (given("batch")) budget.batch = field.at("batch").integer(1, kMostSequences);
  if (budget.bits_per_weight.has_value() + budget.size.has_value() + budget.kl.has_value() +
          budget.vram.has_value() !=
      1)
    field.refuse("one of bits_per_weight, size, kl and vram");
  for (const char* key : {"context", "batch"})
    if (given(key) && !budget.vram) field.at(key).refuse("null, for it says what `vram` has to hold");
  return budget;
}

Recipe::Sensitivity read_sensitivity(const YamlField& field) {
  Recipe::Sensitivity sensitivity;
  field.expect_map({"file", "held_out", "loss", "checked", "linears"});
  if (field.has("file") && !field.at("file").is_null())
    sensitivity.file = read_path(field.at("file"), "a file of measurements");
  if (field.has("held_out")) sensitivity.held_out = field.at("held_out").integer(1, 1 << 20);
  if (field.has("loss"))
    sensitivity.loss = field.at("loss").one_of({SensitivityLoss::kl, SensitivityLoss::fisher});
  if (field.has("checked")) sensitivity.checked = field.at("checked").integer(0, 1 << 20);
  if (field.has("linears")) sensitivity.linears = field.at("linears").truth();
  return sensitivity;
}

/// `candidates`, and what goes with them alone.
void read_candidates(const YamlField& root, const RecipeVocabulary& vocabulary, Recipe& recipe) {
  const auto given = [&](const char* key) { return root.has(key) && !root.at(key).is_null(); };
  if (given("sensitivity")) recipe.sensitivity = read_sensitivity(root.at("sensitivity"));
  if (!given("candidates")) {
    if (given("budget")) root.at("budget").refuse("null, for there are no `candidates` to choose among");
    recipe.sensitivity.of_rules = given("sensitivity");
    return;
  }
  if (given("rules")) root.at("rules").refuse("no rules beside `candidates`, which a budget makes rules of");
  const YamlField candidates = root.at("candidates");
  for (const YamlField& item : candidates.list("a list of schemes to choose among")) {
    recipe.candidates.push_back(read_candidate(item, vocabulary));
    const auto same = [&](const Candidate& other) {
      return candidate_json(other) == candidate_json(recipe.candidates.back());
    };
    if (std::ranges::count_if(recipe.candidates, same) > 1) item.refuse("each candidate once");
  }
  if (recipe.candidates.empty() || recipe.candidates.size() > kMostCandidates)
    candidates.refuse(fmt::format("1 to {} candidates", kMostCandidates));
  if (!recipe.transforms.empty()) {
    root.at("transforms")
        .refuse(
            "no transforms beside `candidates`, which are measured on the model as it is (add them to the "
            "recipe that the budget writes)");
  }
  if (given("budget")) recipe.budget = read_budget(root.at("budget"));
}

void read_rules(const YamlField& root, const RecipeVocabulary& vocabulary, Recipe& recipe) {
  static constexpr const char* kExpected =
      "a list of at least one rule, such as [{targets: [linear], solver: {rtn: {}}}]";
  if (!root.has("rules")) user_error("{}: rules: expected {}, found no such key", root.where(), kExpected);
  const YamlField rules = root.at("rules");
  for (const YamlField& item : rules.list(kExpected)) recipe.rules.push_back(read_rule(item, vocabulary));
  if (recipe.rules.empty()) rules.refuse(kExpected);
}

Recipe::Evaluate read_evaluate(const YamlField& field) {
  Recipe::Evaluate evaluate;
  field.expect_map({"text", "ctx", "rows"});
  if (!field.has("text")) field.refuse("the key 'text', a file to measure perplexity on");
  evaluate.text = read_path(field.at("text"), "a text file");
  if (field.has("ctx")) evaluate.ctx = field.at("ctx").integer(2, 1 << 20);
  if (field.has("rows")) evaluate.rows = field.at("rows").integer(0, Recipe::Evaluate::kMostRows);
  return evaluate;
}

Recipe::Verify read_verify(const YamlField& field) {
  Recipe::Verify verify;
  field.expect_map({"max_kl", "fallbacks"});
  if (field.has("max_kl") && !field.at("max_kl").is_null())
    verify.max_kl = field.at("max_kl").number(0, kMostKl, "a divergence in nats, or null");
  if (!field.has("fallbacks")) return verify;
  verify.fallbacks.clear();
  for (const YamlField& item : field.at("fallbacks").list("a list of what solvers may fall back to"))
    verify.fallbacks.push_back(item.one_of({SolverFallback::damping, SolverFallback::diagonal}));
  return verify;
}

MemoryLimits read_limits(const YamlField& field) {
  field.expect_map({"ram", "vram", "disk"});
  const auto read = [&](const char* key, uint64_t minimum) {
    const bool given = field.has(key) && !field.at(key).is_null();
    return given ? std::optional(field.at(key).bytes(minimum)) : std::nullopt;
  };
  return {read("ram", 1), read("vram", 1), read("disk", 0)};
}

Recipe::ReportDetail read_report(const YamlField& field) {
  field.expect_map({"activations"});
  return {.activations = field.has("activations") && field.at("activations").truth()};
}

Recipe read_recipe(const YamlField& root, const RecipeVocabulary& vocabulary) {
  Recipe recipe;
  root.expect_map({"model", "output", "calibration", "transforms", "rules", "ignore", "kv_cache", "evaluate",
                   "verify", "limits", "report", "candidates", "budget", "sensitivity"});
  if (root.has("model") && !root.at("model").is_null())
    recipe.model = read_path(root.at("model"), "a folder");
  if (root.has("output")) read_output(root.at("output"), vocabulary.formats, recipe.output);
  recipe.calibration.none = root.has("calibration") && root.at("calibration").is_null();
  if (root.has("calibration") && !recipe.calibration.none)
    read_calibration(root.at("calibration"), recipe.calibration);
  if (root.has("transforms")) {
    for (const YamlField& item : root.at("transforms").list("a list of transforms, such as [{awq: {}}]")) {
      AlgorithmChoice choice = read_choice(item, "transform", vocabulary.transforms);
      if (std::ranges::count(recipe.transforms, choice.name, &AlgorithmChoice::name) > 0)
        item.refuse("each transform once", fmt::format(": {} stands above already", choice.name));
      recipe.transforms.push_back(std::move(choice));
    }
  }
  read_candidates(root, vocabulary, recipe);
  if (recipe.candidates.empty()) read_rules(root, vocabulary, recipe);
  if (root.has("ignore")) recipe.ignore = read_targets(root.at("ignore"));
  if (root.has("kv_cache") && !root.at("kv_cache").is_null())
    recipe.kv_cache = read_kv_cache(root.at("kv_cache"));
  if (root.has("evaluate") && !root.at("evaluate").is_null())
    recipe.evaluate = read_evaluate(root.at("evaluate"));
  if (root.has("verify") && !root.at("verify").is_null()) recipe.verify = read_verify(root.at("verify"));
  if (root.has("limits") && !root.at("limits").is_null()) recipe.limits = read_limits(root.at("limits"));
  if (root.has("report") && !root.at("report").is_null()) recipe.report = read_report(root.at("report"));
  return recipe;
}

template <class Entry>
std::vector<NamedOptions> named_options(const std::vector<Entry>& entries) {
  std::vector<NamedOptions> rows;
  for (const Entry& entry : entries) rows.push_back({entry.name, entry.options});
  return rows;
}

}  // namespace

RecipeVocabulary registered_vocabulary() {
  RecipeVocabulary vocabulary{named_options(transforms()), named_options(solvers()), {}};
  for (const Target& target : targets()) vocabulary.formats.push_back(target.name);
  for (const KernelLayout& layout : kernel_layouts()) vocabulary.formats.push_back(layout.name);
  return vocabulary;
}

Recipe parse_recipe(const std::string& text, const std::string& name, const std::vector<std::string>& sets,
                    const RecipeVocabulary& vocabulary) {
  YamlValue tree = parse_yaml(text, name);
  for (const std::string& set : sets) apply_override(tree, set);
  Recipe recipe = read_recipe(YamlField(tree, ""), vocabulary);
  recipe.file = name;
  return recipe;
}

Recipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& sets,
                   const RecipeVocabulary& vocabulary) {
  return parse_recipe(read_text_file(file, kMaxRecipeBytes), file.string(), sets, vocabulary);
}

Recipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& sets) {
  return load_recipe(file, sets, registered_vocabulary());
}

}  // namespace lathe
