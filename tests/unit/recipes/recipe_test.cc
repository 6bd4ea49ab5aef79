// Good recipes, --set, the JSON form, targets, and the shipped files.
#include "recipes/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "lib/base/error.h"
#include "lib/numeric/kv_cache_methods.h"
#include "tests/unit/recipes/vocabulary.h"

namespace lathe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kFull = R"(model: some/model          # a comment
output: {path: out/x, formats: [compressed-tensors, gguf], shard_size: 1.5MiB}
calibration:
  data: [{path: a.txt}, {path: b.jsonl, field: body}]
  samples: 16
  seq_len: 256
  seed: 7
transforms: [{awq: {grid: 10, clip: false, shrink: 0.25, offset: -3, norm: l1}}, {smooth: }]
rules:
  - {targets: [mlp, '/layers\.0\./'], scheme: {type: int, bits: 3, group_size: 64, symmetric: false}, solver: {toy: {seed: -9}}}
  - targets: [linear]
    scheme: {bits: 8, group_size: -1}
ignore: [lm_head, down_proj]
kv_cache: {type: int}
evaluate: {text: "e v.txt", ctx: 128, rows: 3}
verify: {max_kl: 0.25, fallbacks: [damping, diagonal]}
)";

Recipe parse(const std::string& text, const std::vector<std::string>& sets = {}) {
  return parse_recipe(text, "r.yaml", sets, test_vocabulary());
}

TEST(Recipe, ReadsEveryKey) {
  const Recipe recipe = parse(kFull);
  EXPECT_EQ(recipe.file, "r.yaml");
  EXPECT_EQ(recipe.model, "some/model");
  EXPECT_EQ(recipe.output.path, "out/x");
  EXPECT_THAT(recipe.output.formats, ElementsAre("compressed-tensors", "gguf"));
  EXPECT_EQ(recipe.output.shard_size, 3u << 19);
  ASSERT_EQ(recipe.calibration.data.size(), 2u);
  EXPECT_EQ(recipe.calibration.data[0].path, "a.txt");
  EXPECT_EQ(recipe.calibration.data[0].field, "");
  EXPECT_EQ(recipe.calibration.data[1].field, "body");
  EXPECT_EQ(recipe.calibration.samples, 16);
  EXPECT_EQ(recipe.calibration.seq_len, 256);
  EXPECT_EQ(recipe.calibration.seed, 7u);
  EXPECT_THAT(recipe.ignore, ElementsAre("lm_head", "down_proj"));
  EXPECT_EQ(recipe.kv_cache, (KvCacheScheme{"int", 8}));
  ASSERT_TRUE(recipe.evaluate);
  EXPECT_EQ(recipe.evaluate->text, "e v.txt");
  EXPECT_EQ(recipe.evaluate->ctx, 128);
  EXPECT_EQ(recipe.evaluate->rows, 3);
  EXPECT_EQ(recipe.verify.max_kl, 0.25);
  EXPECT_THAT(recipe.verify.fallbacks, ElementsAre(SolverFallback::damping, SolverFallback::diagonal));
}

TEST(Recipe, ReadsAlgorithmsAndRules) {
  const Recipe recipe = parse(kFull);
  ASSERT_EQ(recipe.transforms.size(), 2u);
  const Options& awq = recipe.transforms[0].options;
  EXPECT_EQ(awq.integer("grid"), 10);
  EXPECT_FALSE(awq.flag("clip"));
  EXPECT_EQ(awq.number("shrink"), 0.25);
  EXPECT_EQ(awq.number("offset"), -3);
  EXPECT_EQ(awq.word("norm"), "l1");
  EXPECT_EQ(recipe.transforms[1].options.number("alpha"), 0.5) << "left out: the default";
  ASSERT_EQ(recipe.rules.size(), 2u);
  EXPECT_THAT(recipe.rules[0].targets, ElementsAre("mlp", "/layers\\.0\\./"));
  EXPECT_EQ(recipe.rules[0].scheme, (Scheme{"int", 3, 64, false}));
  EXPECT_EQ(recipe.rules[0].solver.name, "toy");
  EXPECT_EQ(recipe.rules[0].solver.options.integer("seed"), -9);
  EXPECT_EQ(recipe.rules[0].where, "r.yaml:10:5");
  EXPECT_EQ(recipe.rules[1].scheme, (Scheme{"int", 8, -1, true}));
  EXPECT_EQ(recipe.rules[1].solver.name, "rtn");
  EXPECT_EQ(recipe.rules[1].where, "r.yaml:11:5");
}

TEST(Recipe, AWordMayStandForANumber) {
  const Recipe recipe =
      parse("rules: [{solver: {toy: {alpha: auto, steps: 7}}}, {solver: {toy: {alpha: 1}}}]");
  const Options &searched = recipe.rules[0].solver.options, &given = recipe.rules[1].solver.options;
  ASSERT_TRUE(searched.is_word("alpha"));
  EXPECT_EQ(searched.word("alpha"), "auto");
  EXPECT_EQ(searched.integer("steps"), 7);
  ASSERT_FALSE(given.is_word("alpha"));
  EXPECT_EQ(given.number("alpha"), 1.0);
  const Recipe again = parse(recipe.to_json().dump());
  EXPECT_EQ(again.to_json(), recipe.to_json());
}

TEST(Recipe, ActivationsHaveDefaultsThatFitTogether) {
  const auto read = [](const std::string& keys) {
    const Recipe recipe = parse("rules: [{activations: " + keys + "}]");
    EXPECT_EQ(parse(recipe.to_json().dump()).to_json(), recipe.to_json());
    return recipe.rules[0].activations;
  };
  using Per = ActivationScheme::Per;
  EXPECT_FALSE(parse("rules: [{}]").rules[0].activations);
  EXPECT_FALSE(read("null"));
  EXPECT_EQ(read("{}")->scheme, ActivationScheme{});
  EXPECT_EQ(read("{type: int, bits: 8, dynamic: true, per: token, symmetric: false}")->scheme,
            (ActivationScheme{"int", 8, true, Per::token, false}));
  EXPECT_EQ(read("{dynamic: false}")->scheme, (ActivationScheme{"int", 8, false, Per::tensor, true}));
  EXPECT_EQ(read("{dynamic: false}")->observer, ObserverChoice{});
  EXPECT_EQ(read("{dynamic: false, observer: ema}")->observer.method, ActivationObserver::ema);
  EXPECT_EQ(read("{dynamic: false, observer: ema}")->observer.averaging_constant, 0.01);
  EXPECT_EQ(read("{dynamic: false, observer: ema, averaging_constant: 0.2}")->observer.averaging_constant,
            0.2);
  EXPECT_EQ(read("{dynamic: false, observer: kl}")->observer.method, ActivationObserver::kl);
  EXPECT_FALSE(read("{dynamic: false, symmetric: false, observer: mse}")->scheme.symmetric);
  EXPECT_EQ(read("{type: fp8_e4m3, per: group}")->scheme.group_size, 128);
  EXPECT_EQ(read("{dynamic: false, observer: percentile, percentile: 99.5}")->observer,
            (ObserverChoice{ActivationObserver::percentile, 99.5}));
}

TEST(Recipe, ABudgetOfAGpuHasDefaults) {
  const auto read = [](const std::string& budget) {
    const Recipe recipe = parse("candidates: [{scheme: {bits: 4}}, {scheme: {bits: 8}}]\nbudget: " + budget);
    EXPECT_EQ(parse(recipe.to_json().dump()).to_json(), recipe.to_json());
    return *recipe.budget;
  };
  const Budget given = read("{vram: 8GiB, context: 8192, batch: 2}");
  EXPECT_EQ(given.vram, uint64_t{8} << 30);
  EXPECT_EQ(given.context, 8192);
  EXPECT_EQ(given.batch, 2);
  EXPECT_EQ(given.describe(), "a GPU of 8.0 GiB for 2 x 8192 tokens");
  EXPECT_EQ(read("{vram: 20GB}").context, 4096);
  EXPECT_EQ(read("{vram: 20GB}").batch, 1);
  EXPECT_FALSE(read("{size: 3GB}").vram);
}

TEST(Recipe, SensitivityBesideRules) {
  const Recipe recipe = parse("rules: [{}]\nsensitivity: {}");
  EXPECT_TRUE(recipe.sensitivity.of_rules);
  EXPECT_EQ(recipe.sensitivity.held_out, 4);
  EXPECT_EQ(recipe.sensitivity.checked, 8);
  EXPECT_EQ(parse("rules: [{}]\nsensitivity: {checked: 0}").sensitivity.checked, 0);
  EXPECT_TRUE(parse(recipe.to_json().dump()).sensitivity.of_rules);
  EXPECT_FALSE(recipe.sensitivity.linears);
  const Recipe alone = parse("rules: [{}]\nsensitivity: {linears: true}");
  EXPECT_TRUE(alone.sensitivity.linears);
  EXPECT_TRUE(parse(alone.to_json().dump()).sensitivity.linears);
  EXPECT_FALSE(parse("rules: [{}]").sensitivity.of_rules);
  EXPECT_FALSE(parse("candidates: [{}]\nsensitivity: {}").sensitivity.of_rules);
}

TEST(Recipe, KvCachesHaveTheirMethodsDefaults) {
  const auto read = [](const std::string& keys) {
    const Recipe recipe = parse("{rules: [{}], kv_cache: " + keys + "}");
    EXPECT_EQ(parse(recipe.to_json().dump()).kv_cache, recipe.kv_cache);
    return recipe.kv_cache;
  };
  EXPECT_EQ(read("null"), std::nullopt);
  EXPECT_EQ(read("{}"), KvCacheScheme{});
  for (const KvCacheMethod& method : kv_cache_methods())
    EXPECT_EQ(read("{type: " + method.defaults.type + "}"), method.defaults);
  EXPECT_EQ(read("{type: kivi, bits: 4}")->value_bits, 4);
  EXPECT_EQ(read("{type: kivi, value_bits: 4}")->bits, 2);
  EXPECT_EQ(read("{type: kivi, bits: 4, value_bits: 2, window: 64}")->window, 64);
  EXPECT_EQ(read("{type: kvquant, outliers: 0.02, q_norm: true}")->outliers, 0.02);
  EXPECT_TRUE(read("{type: skvq, fp8_scales: true}")->fp8_scales);
  EXPECT_EQ(read("{type: skvq, bits: 2, value_bits: 1.5}")->value_bits, 1.5);
  EXPECT_EQ(read("{type: kvquant, weights: fisher}")->weights, KvCacheWeights::fisher);
  EXPECT_EQ(read("{type: kvquant, weights: attention}")->weights, KvCacheWeights::attention);
}

TEST(Recipe, OnlyRulesAreNeeded) {
  const Recipe recipe = parse("rules: [{}]");
  EXPECT_TRUE(recipe.model.empty());
  EXPECT_TRUE(recipe.output.path.empty());
  EXPECT_THAT(recipe.output.formats, ElementsAre("compressed-tensors"));
  EXPECT_EQ(recipe.output.shard_size, 5'000'000'000u);
  EXPECT_TRUE(recipe.calibration.data.empty());
  EXPECT_EQ(recipe.calibration.samples, 128);
  EXPECT_EQ(recipe.calibration.seq_len, 512);
  EXPECT_EQ(recipe.calibration.seed, 0u);
  EXPECT_TRUE(recipe.transforms.empty());
  EXPECT_THAT(recipe.rules[0].targets, ElementsAre("linear"));
  EXPECT_EQ(recipe.rules[0].scheme, Scheme{});
  EXPECT_THAT(recipe.ignore, ElementsAre("lm_head"));
  EXPECT_FALSE(recipe.evaluate);
}

TEST(Recipe, AliasesWork) {
  const Recipe recipe = parse("rules:\n  - {targets: [mlp], scheme: &s {bits: 3}}\n  - {scheme: *s}\n");
  EXPECT_EQ(recipe.rules[1].scheme.bits, 3);
  // Changing one place changes only that place.
  const Recipe changed = parse("rules:\n  - {targets: [mlp], scheme: &s {bits: 3}}\n  - {scheme: *s}\n",
                               {"rules[0].scheme.bits=5"});
  EXPECT_EQ(changed.rules[0].scheme.bits, 5);
  EXPECT_EQ(changed.rules[1].scheme.bits, 3);
}

TEST(Recipe, QuotesMakeTextOfNumbers) { EXPECT_EQ(parse("model: '5'\nrules: [{}]").model, "5"); }

TEST(Recipe, AByteOrderMarkAndWindowsLinesAreFine) {
  EXPECT_EQ(parse("\xef\xbb\xbfmodel: a\r\nrules:\r\n  - targets: [mlp]\r\n").rules[0].targets[0], "mlp");
}

struct GoodSet {
  std::string argument;
  std::string pointer;  // into to_json()
  std::string value;    // as JSON
};

TEST(Set, ReachesEveryPlace) {
  const std::vector<GoodSet> table = {
      {"model=other", "/model", "\"other\""},
      {"output.path=x/y", "/output/path", "\"x/y\""},
      {"output.path=a=b", "/output/path", "\"a=b\""},
      {"output.shard_size=2GB", "/output/shard_size", "2000000000"},
      {"output.formats[1]=gguf", "/output/formats/1", "\"gguf\""},
      {"calibration.samples=8", "/calibration/samples", "8"},
      {"calibration.data[0].path=c.txt", "/calibration/data/0/path", "\"c.txt\""},
      {"calibration.data=[{path: d.txt}]", "/calibration/data", R"([{"path": "d.txt"}])"},
      {"calibration.data=e.txt", "/calibration/data", R"([{"path": "e.txt"}])"},
      {"calibration.data=[{path: f, weight: 2.5}, g]", "/calibration/data",
       R"([{"path": "f", "weight": 2.5}, {"path": "g"}])"},
      {"calibration.data=[{path: f, samples: 2, token_weight: 4}]", "/calibration/data",
       R"([{"path": "f", "samples": 2, "token_weight": 4.0}])"},
      {"calibration.packing=document", "/calibration/packing", "\"document\""},
      {"calibration.min_tokens=32", "/calibration/min_tokens", "32"},
      {"calibration.special_tokens=true", "/calibration/special_tokens", "true"},
      {"calibration.bos=always", "/calibration/bos", "\"always\""},
      {"transforms[0].awq.clip=false", "/transforms/0/awq/clip", "false"},
      {"transforms[0].awq.shrink=0.125", "/transforms/0/awq/shrink", "0.125"},
      {"transforms=[]", "/transforms", "[]"},
      {"rules[0].scheme.group_size=64", "/rules/0/scheme/group_size", "64"},
      {"rules[0].targets=[q_proj, '/k_.*/']", "/rules/0/targets", R"(["q_proj", "/k_.*/"])"},
      {"rules[1].scheme.bits=3", "/rules/1/scheme/bits", "3"},
      {"rules[0].solver={toy: {seed: 4}}", "/rules/0/solver/toy/seed", "4"},
      {"ignore[1]=mlp", "/ignore/1", "\"mlp\""},
      {"ignore=[]", "/ignore", "[]"},
      {"evaluate.text=t.txt", "/evaluate/text", "\"t.txt\""},
  };
  const std::string base =
      "transforms: [{awq: {grid: 5}}]\noutput: {formats: [compressed-tensors]}\nignore: [lm_head]\nrules: "
      "[{targets: [linear]}]\n";
  for (const GoodSet& row : table) {
    const nlohmann::json json = parse(base, {row.argument}).to_json();
    EXPECT_EQ(json.at(nlohmann::json::json_pointer(row.pointer)), nlohmann::json::parse(row.value))
        << row.argument;
  }
}

TEST(Set, TheLastOneWins) {
  const Recipe recipe = parse(kFull, {"calibration.samples=1", "calibration.samples=2", "evaluate=null"});
  EXPECT_EQ(recipe.calibration.samples, 2);
  EXPECT_FALSE(recipe.evaluate);
}

TEST(Set, CanBuildARecipeFromLittle) {
  const Recipe recipe = parse("rules:\n", {"rules[0].targets[0]=mlp", "rules[0].scheme.bits=3"});
  EXPECT_EQ(recipe.rules.at(0).scheme.bits, 3);
  EXPECT_EQ(recipe.rules.at(0).where, "--set rules[0].targets[0]=mlp");
}

TEST(Set, EveryElementOfAList) {
  const std::string two = "candidates: [{scheme: {bits: 3}}, {scheme: {bits: 4}}]\n";
  const Recipe recipe = parse(two, {"candidates[*].scheme.group_size=64", "candidates[*].solver={rtn: {}}"});
  ASSERT_EQ(recipe.candidates.size(), 2u);
  for (const Candidate& candidate : recipe.candidates) EXPECT_EQ(candidate.rule.scheme.group_size, 64);
  EXPECT_EQ(recipe.candidates[0].rule.scheme.bits, 3);
  EXPECT_EQ(recipe.candidates[1].rule.scheme.bits, 4);
  const auto error_of = [&](const char* argument) -> std::string {
    try {
      parse(two, {argument});
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(error_of("ignore[*]=x"), testing::HasSubstr("expected 'ignore' to be a list with elements"));
  EXPECT_THAT(error_of("candidates[*]scheme=1"), testing::HasSubstr("expected a path such as"));
}

TEST(Set, MistakesElsewhereKeepTheirLine) {
  try {
    parse("model: a\nrules: [{scheme: {bits: 4, group_size: 3}}]\n", {"rules[0].scheme.bits=5"});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("r.yaml:2:40: rules[0].scheme.group_size: expected"));
  }
}

TEST(Calibration, SourcesThatCountTheirSamplesGiveTheSum) {
  const auto samples = [](const std::string& calibration) {
    return parse("rules: [{}]\ncalibration: " + calibration).calibration.samples;
  };
  EXPECT_EQ(samples("{data: [{path: a, samples: 3}, {path: b, samples: 4}]}"), 7);
  EXPECT_EQ(samples("{data: [{path: a, samples: 3}, {path: b, samples: 4}], samples: 7}"), 7);
  EXPECT_EQ(samples("{data: [{path: a, samples: 3}, b]}"), 128);
  EXPECT_EQ(samples("{data: [{path: a, samples: 3}, b], samples: 10}"), 10);
}

TEST(RecipeJson, IsCompleteAndReadsBackAsItself) {
  for (const std::string text : {kFull, "rules: [{}]"}) {
    const nlohmann::json json = parse(text).to_json();
    EXPECT_EQ(parse(json.dump(2)).to_json(), json);
  }
  // Manifests and the recipes that budgets become are read again.
  for (const auto& entry : std::filesystem::directory_iterator(LATHE_SOURCE_DIR "/recipes")) {
    if (entry.path().extension() != ".yaml") continue;
    SCOPED_TRACE(entry.path());
    const nlohmann::json shipped = load_recipe(entry.path(), {}).to_json();
    EXPECT_EQ(parse_recipe(shipped.dump(), "again.json", {}, registered_vocabulary()).to_json(), shipped);
  }
  const auto cache = parse("{rules: [{}], kv_cache: {type: int, per: head}}").to_json()["kv_cache"];
  EXPECT_EQ(cache, nlohmann::json::parse(R"({"type": "int", "bits": 8, "per": "head"})"));
  const nlohmann::json json = parse("rules: [{}]").to_json();
  EXPECT_EQ(json, nlohmann::json::parse(R"({
    "model": null,
    "output": {"path": null, "formats": ["compressed-tensors"], "shard_size": 5000000000,
               "scale_dtype": null, "gguf_shard_size": null, "gguf_pre_tokenizer": null, "imatrix": null, "gguf_tensor_types": null},
    "calibration": {"data": [], "samples": 128, "seq_len": 512, "seed": 0, "packing": "pack",
                    "min_tokens": 1, "special_tokens": false, "bos": "auto", "propagate": "quantised",
                    "experts": {"min_tokens": 256, "fallback": "all_tokens"}},
    "transforms": [],
    "rules": [{"targets": ["linear"], "scheme": {"type": "int", "bits": 4, "group_size": 128, "symmetric": true,
               "zero_point": "integer", "axis": 1},
               "activations": null, "solver": {"rtn": {}}}],
    "ignore": ["lm_head"], "kv_cache": null,
    "evaluate": null,
    "verify": {"max_kl": null, "fallbacks": ["damping"]},
    "limits": {"ram": null, "vram": null, "disk": null},
    "report": {"activations": false}})"));
}

TEST(TargetMatches, WordsAndExpressions) {
  const std::string name = "model.layers.1.mlp.down_proj";
  const auto matches = [&](const std::string& target) {
    return target_matches(target, {.name = name, .role = LinearRole::down_proj, .input = {}});
  };
  for (const char* yes :
       {"down_proj", "mlp", "linear", "/down/", "/down", "/^model\\.layers\\.1\\./",
        "/layers\\.(0|1)\\..*proj$/", "/^up|down/", "/^(?:up|model)/", "/^[m|]odel/", "/^up[(]|mlp/"}) {
    EXPECT_TRUE(matches(yes)) << yes;
  }
  for (const char* no : {"up_proj", "attention", "lm_head", "/layers\\.11/", "/^down/", "/DOWN/",
                         "/^(up|down)/", "/^[|]mlp/", "/^\\|mlp/"}) {
    EXPECT_FALSE(matches(no)) << no;
  }
  EXPECT_THROW(matches("/(/"), UserError);
}

class ShippedRecipe : public testing::TestWithParam<std::string> {};

TEST_P(ShippedRecipe, ParsesWithTheRegistriesAndExplainsItself) {
  const std::filesystem::path file = std::filesystem::path(LATHE_SOURCE_DIR) / "recipes" / GetParam();
  const Recipe recipe = load_recipe(file, {});
  EXPECT_NE(recipe.rules.empty(), recipe.candidates.empty());
  EXPECT_FALSE(recipe.model.empty());
  EXPECT_FALSE(recipe.output.path.empty());
  // What it says is what a recipe with nothing but rules and places does: defaults and examples don't drift
  // apart.
  EXPECT_EQ(recipe.calibration.samples, Recipe::Calibration{}.samples);
  EXPECT_EQ(recipe.calibration.seq_len, Recipe::Calibration{}.seq_len);
  EXPECT_EQ(recipe.output.shard_size, Recipe::Output{}.shard_size);
  // Documented line by line: no key without a comment on the line or above it.
  std::ifstream text(file);
  std::string line;
  int keys = 0, comments = 0;
  while (std::getline(text, line)) {
    const size_t start = line.find_first_not_of(" -");
    if (start == std::string::npos) continue;
    (line[start] == '#' ? comments : keys) += 1;
  }
  EXPECT_GE(comments, keys);
}

std::vector<std::string> shipped_recipes() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(LATHE_SOURCE_DIR) / "recipes")) {
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, ShippedRecipe, testing::ValuesIn(shipped_recipes()), [](const auto& info) {
  std::string name = info.param.substr(0, info.param.find('.'));
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST(ShippedRecipes, AreThere) {
  EXPECT_THAT(shipped_recipes(), testing::IsSupersetOf({"awq-gptq.yaml", "awq.yaml", "gptq.yaml",
                                                        "kv-fp8.yaml", "rtn.yaml", "fit-8gib.yaml"}));
}

}  // namespace
}  // namespace lathe
