// What a plan says of mixtures of experts: the policy, and what consumers can't load.
#include "recipes/plan.h"

#include <gmock/gmock.h>

#include "tests/unit/model/test_model.h"
#include "tests/unit/recipes/vocabulary.h"

namespace lathe {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A model's graph with the tensors of its checkpoint.
struct Model {
  explicit Model(const std::string& family) : Model(graph_of(family_config(family))) {}
  explicit Model(ModelGraph of) : graph(std::move(of)) {
    for (const auto& [name, shape] : graph.expected_tensors()) tensors[name] = {DType::F16, shape};
  }
  ModelGraph graph;
  std::map<std::string, TensorInfo> tensors;
};

constexpr const char* kAll = "rules:\n  - {targets: [linear], scheme: {bits: 4, group_size: 8}}\n";

Recipe recipe_of(const std::string& text) {
  return parse_recipe(
      "model: m\noutput: {path: o}\ncalibration: {data: [{path: a.txt}], experts: {min_tokens: "
      "77, fallback: weight_only}}\n" +
          text,
      "r.yaml", {}, test_vocabulary());
}

Plan plan_of(const Model& model, const std::string& text) {
  return make_plan(recipe_of(text), model.graph, model.tensors);
}

std::string refusal(const std::string& family, const std::string& text) {
  const Model model(family);
  return user_error_of([&] { plan_of(model, text); });
}

std::string described(const std::string& family) {
  const Model model(family);
  const std::string text = std::string(kAll) + "ignore: [lm_head]\n";
  return describe_plan(plan_of(model, text), recipe_of(text), model.graph);
}

TEST(Plan, SaysWhatHappensToExperts) {
  EXPECT_THAT(
      described("qwen2_moe"),
      HasSubstr("experts    4 in each of 2 blocks, 2 for a token; one that fewer than 77 tokens reach is "
                "rounded without statistics (weight_only)\n"));
  EXPECT_THAT(described("llama"), testing::Not(HasSubstr("experts")));
}

// A head of its own weight is a linear like others, where readers of the format take it so.
TEST(Plan, QuantisesAHead) {
  const Model model("llama");
  const std::string all = std::string(kAll) + "ignore: []\n";
  const Plan plan = plan_of(model, all);
  ASSERT_TRUE(plan.lm_head.quantized);
  EXPECT_EQ(plan.parts(), 3u);
  EXPECT_EQ(plan.quantized().back().name, "lm_head");
  EXPECT_THAT(plan.kept(), IsEmpty());
  const auto& stored = plan.outputs.front().tensors;
  EXPECT_TRUE(std::ranges::any_of(stored, [](const auto& t) { return t.name.starts_with("lm_head."); }));
  EXPECT_TRUE(std::ranges::none_of(stored, [](const auto& t) { return t.name == "lm_head.weight"; }));
  EXPECT_THAT(plan_of(model, std::string(kAll) + "ignore: [lm_head]\n").kept(), ElementsAre("lm_head"));

  Model tied("llama");
  tied.graph.config.tie_word_embeddings = true;
  EXPECT_THAT(
      user_error_of([&] { plan_of(tied, all); }),
      AllOf(HasSubstr("lm_head, whose weight is the embedding's"), HasSubstr("add lm_head to `ignore`")));
}

TEST(Plan, SaysWhatIsFusedAndWhereScalesFold) {
  const auto plan = [](const std::string& family, bool transform) {
    const Model model(family);
    const std::string text =
        std::string(kAll) + "ignore: [lm_head]\n" + (transform ? "transforms: [{awq: {}}]\n" : "");
    return describe_plan(plan_of(model, text), recipe_of(text), model.graph);
  };
  EXPECT_THAT(plan("llama", false),
              AllOf(HasSubstr("\nfused      q_proj, k_proj, v_proj; gate_proj, up_proj ("),
                    testing::Not(HasSubstr("\nfolds"))));
  EXPECT_THAT(plan("llama", true),
              HasSubstr("\nfolds      input_layernorm -> q_proj, k_proj, v_proj; v_proj -> o_proj; "
                        "post_attention_layernorm -> gate_proj, up_proj; up_proj -> down_proj ("));
  EXPECT_THAT(plan("mixtral", true),
              AllOf(HasSubstr("gate_proj, up_proj of 4 experts; down_proj of 4 experts ("),
                    HasSubstr("; w3 -> down_proj (each expert) (")));
}

TEST(Plan, ListsFusedLinearsAndFoldsOfEachBlock) {
  Model model("llama");
  model.graph.blocks[1].edges[1].closed = "values are clamped";
  const std::string text = std::string(kAll) + "ignore: [lm_head]\n";
  const nlohmann::json json = plan_json(plan_of(model, text), recipe_of(text), model.graph);
  const std::string block = "model.layers.1.";
  EXPECT_EQ(json.at("fused").size(), 2 * model.graph.blocks.size());
  EXPECT_EQ(json.at("fused")[3],
            (nlohmann::json{{"block", 1}, {"linears", {block + "mlp.gate_proj", block + "mlp.up_proj"}}}));
  EXPECT_EQ(json.at("folds").size(), 4 * model.graph.blocks.size());
  EXPECT_EQ(json.at("folds")[5], (nlohmann::json{{"block", 1},
                                                 {"producer", block + "self_attn.v_proj"},
                                                 {"consumers", {block + "self_attn.o_proj"}},
                                                 {"closed", "values are clamped"}}));
  EXPECT_THAT(describe_plan(plan_of(model, text), recipe_of(text + "transforms: [{awq: {}}]\n"), model.graph),
              HasSubstr("v_proj -> o_proj closed: values are clamped"));
}

TEST(Plan, ExpertsKeptBesideQuantisedLinearsAreWarnedAbout) {
  const Model model("mixtral");
  const std::string kept = std::string(kAll) + "ignore: [lm_head, expert]\n";
  EXPECT_THAT(plan_of(model, kept).output_warnings(),
              ElementsAre(AllOf(HasSubstr("experts.0.w1'"), HasSubstr("transformers"))));
  const std::string block = std::string(kAll) + "ignore: [lm_head, '/layers.1.block_sparse_moe/']\n";
  EXPECT_THAT(plan_of(model, block).output_warnings(),
              ElementsAre(HasSubstr("layers.1.block_sparse_moe.experts.0.w1'")));
  EXPECT_THAT(plan_of(model, std::string(kAll) + "ignore: [lm_head]\n").output_warnings(), IsEmpty());
}

TEST(Plan, WarningsStandWithTheFormatThatTheyAreAbout) {
  Recipe recipe = recipe_of("rules: [{targets: [linear], scheme: {bits: 2, group_size: 16}}]\n");
  recipe.output.formats = {"compressed-tensors", "gptq", "gguf:Q8_0"};
  const Model model("llama");
  const Plan plan = make_plan(recipe, model.graph, model.tensors);
  EXPECT_THAT(plan.warnings, IsEmpty());
  EXPECT_THAT(plan.outputs[0].warnings, IsEmpty());
  EXPECT_THAT(plan.outputs[1].warnings, ElementsAre(HasSubstr("4 and 8 bits only")));
  EXPECT_THAT(plan.outputs[2].warnings, testing::Not(testing::Contains(HasSubstr("4 and 8 bits"))));
  EXPECT_THAT(plan.output_warnings(), testing::Contains(HasSubstr("4 and 8 bits only")));
}

TEST(Plan, GridsKeepToZeroPointsThatAllFormatsHold) {
  Recipe recipe = recipe_of(
      "rules: [{targets: [attention], scheme: {bits: 4, group_size: -1, symmetric: false}}, "
      "{targets: [linear], scheme: {bits: 8, group_size: -1}}]\n");
  const Model model("llama");
  const auto above_lowest = [&](const std::vector<std::string>& formats, LinearRole role) {
    recipe.output.formats = formats;
    for (const PlannedLinear& linear : make_plan(recipe, model.graph, model.tensors).quantized())
      if (linear.role == role) return linear.scheme.zero_above_lowest;
    return false;
  };
  EXPECT_TRUE(above_lowest({"gptq"}, LinearRole::q_proj));
  EXPECT_TRUE(above_lowest({"compressed-tensors", "gptq"}, LinearRole::q_proj));
  EXPECT_FALSE(above_lowest({"gptq"}, LinearRole::up_proj));
  EXPECT_FALSE(above_lowest({"compressed-tensors", "gptq-v2"}, LinearRole::q_proj));
}

TEST(Plan, LinesAboutConsumersNameTheFormatWhereThereAreSeveral) {
  const Model model("llama");
  Recipe recipe = recipe_of("rules: [{targets: [linear], scheme: {bits: 4, group_size: -1}}]\n");
  const auto text = [&](const std::vector<std::string>& formats) {
    recipe.output.formats = formats;
    return describe_plan(make_plan(recipe, model.graph, model.tensors), recipe, model.graph);
  };
  EXPECT_THAT(text({"gptq"}), AllOf(HasSubstr("\nconsumer   vLLM: "), testing::Not(HasSubstr("gptq: vLLM"))));
  EXPECT_THAT(text({"compressed-tensors", "gptq"}),
              AllOf(HasSubstr("\nconsumer   compressed-tensors: vLLM: Marlin, "),
                    HasSubstr("\nconsumer   gptq: vLLM: gptq_marlin, "),
                    testing::Not(HasSubstr("\nconsumer   vLLM"))));
}

TEST(Plan, BlockTypesDecideWhoReadsAGgufFile) {
  const Model model("llama");
  Recipe recipe = recipe_of(std::string(kAll) + "ignore: [lm_head]\n");
  recipe.output.formats = {"gguf:MXFP4", "gguf:Q8_0"};
  const std::string text = describe_plan(make_plan(recipe, model.graph, model.tensors), recipe, model.graph);
  EXPECT_THAT(
      text, AllOf(HasSubstr("\nconsumer   gguf:MXFP4: SGLang: does not read it: it has no kernel for MXFP4"),
                  HasSubstr("\nconsumer   gguf:MXFP4: llama.cpp: reads it"),
                  HasSubstr("\nconsumer   gguf:Q8_0: SGLang: reads it")));
}

TEST(Plan, BitsCountAllThatAFormatStores) {
  const Model model("llama");
  Recipe recipe = recipe_of("rules: [{targets: [linear], scheme: {bits: 4, group_size: -1}}]\n");
  const Linear& first = model.graph.blocks[0].linears[0];
  const double in = static_cast<double>(first.in), out = static_cast<double>(first.out);
  const auto stored = [&](const std::string& format) {
    recipe.output.formats = {format};
    const Plan plan = make_plan(recipe, model.graph, model.tensors);
    return plan.outputs.front().stored_bits(plan.quantized().front()).value_or(0);
  };
  EXPECT_DOUBLE_EQ(stored("compressed-tensors"), 4 + 16 / in + 128 / (in * out));  // with the shape, 2 x I64
  EXPECT_DOUBLE_EQ(stored("awq"), 4 + (16 + 4) / in);                              // a zero point a group
  EXPECT_DOUBLE_EQ(stored("gptq"), 4 + (16 + 4) / in + 32 / out);                  // and an index an input
  EXPECT_EQ(stored("gguf:Q8_0"), 0);                                               // its blocks' own
}

TEST(Plan, ZeroPointsOfExpertsAreRefused) {
  const std::string asymmetric = "{bits: 4, group_size: 8, symmetric: false}";
  EXPECT_THAT(
      refusal("mixtral", "rules: [{targets: [linear], scheme: " + asymmetric + "}]\nignore: [lm_head]\n"),
      AllOf(HasSubstr("experts.0.w1: format compressed-tensors"), HasSubstr("zero points of experts")));
  const Model model("mixtral");
  EXPECT_NO_THROW(plan_of(model, "rules: [{targets: [attention], scheme: " + asymmetric +
                                     "}, {targets: [expert], scheme: {bits: 4, group_size: 8}}]\n"));
}

TEST(Plan, ExpertsOfSeveralSchemesAreRefused) {
  const std::string rest = "{targets: [linear], scheme: {bits: 4, group_size: 8}}]\nignore: [lm_head]\n";
  const std::string of_block =
      "rules: [{targets: ['/layers.1.block_sparse_moe.experts/'], scheme: {bits: 8, group_size: 8}}, ";
  EXPECT_THAT(refusal("mixtral", of_block + rest),
              AllOf(HasSubstr("layers.0.block_sparse_moe.experts.0.w1'"), HasSubstr("by one scheme")));
  const std::string of_down = "rules: [{targets: ['/experts.*w2/'], scheme: {bits: 8, group_size: 8}}, ";
  EXPECT_THAT(refusal("mixtral", of_down + rest),
              AllOf(HasSubstr("experts.0.w2'"), HasSubstr("by one scheme")));
}

TEST(Plan, GatesAreRefused) {
  for (const char* gate : {"router", "shared_expert_gate"}) {
    const std::string rule = fmt::format(
        "rules: [{{targets: [{}], scheme: {{bits: 4, group_size: 8}}}}]\nignore: [lm_head]\n", gate);
    EXPECT_THAT(refusal("qwen2_moe", rule),
                AllOf(HasSubstr(gate), HasSubstr("neither by transformers nor by vLLM")));
  }
}

TEST(Plan, ATransformThatCanMoveNoScaleIsRefused) {
  const Model clipped(
      graph_of(with(family_config("olmoe"), {{"clip_qkv", 0.5}})));  // no edge leads to o_proj
  const std::string rules =
      "ignore: [lm_head]\nrules: [{targets: [o_proj], scheme: {bits: 4, group_size: 8}}]\n";
  EXPECT_NO_THROW(plan_of(clipped, rules));
  EXPECT_THAT(user_error_of([&] { plan_of(clipped, "transforms: [{awq: {}}]\n" + rules); }),
              AllOf(HasSubstr("no scale can move into any of the linears"), HasSubstr("'awq'")));
  EXPECT_NO_THROW(plan_of(Model("llama"), "transforms: [{awq: {}}]\n" + rules));
}

std::string registered_refusal(const std::string& text) {
  const Model model("llama");
  const auto recipe = parse_recipe("model: m\noutput: {path: o}\nignore: [lm_head]\n" + text, "r.yaml", {},
                                   registered_vocabulary());
  return user_error_of([&] { make_plan(recipe, model.graph, model.tensors); });
}

TEST(Plan, AWordThatDecidesNothingIsRefused) {
  const std::string all = "{targets: [linear], scheme: {bits: 4, group_size: 8}}";
  EXPECT_THAT(
      refusal("llama", "ignore: [lm_head]\nrules: [" + all +
                           ", {targets: [v_proj], scheme: {bits: 8, group_size: 8}}]\n"),
      AllOf(HasSubstr("r.yaml:5:"), HasSubstr("'v_proj' decides about no linear"),
            HasSubstr("layers.0.self_attn.v_proj' goes to r.yaml:5:"), HasSubstr("first match wins")));
  // One word of two; and one whose linears are all ignored.
  EXPECT_THAT(refusal("llama",
                      "ignore: [lm_head]\nrules: [{targets: [attention], scheme: {bits: 4, group_size: "
                      "8}}, {targets: [o_proj, mlp], scheme: {bits: 4, group_size: 8}}]\n"),
              HasSubstr("'o_proj' decides about no linear"));
  EXPECT_THAT(refusal("llama",
                      "ignore: [lm_head, mlp]\nrules: [{targets: [attention, down_proj], scheme: "
                      "{bits: 4, group_size: 8}}]\n"),
              AllOf(HasSubstr("'down_proj' decides about no linear"), HasSubstr("ignored by the recipe")));
  EXPECT_NO_THROW(plan_of(Model("llama"),
                          "ignore: [lm_head]\nrules: [{targets: [v_proj, '/q_proj|k_proj/'], "
                          "scheme: {bits: 8, group_size: 8}}, " +
                              all + "]\n"));
}

TEST(Plan, AnIgnoreThatMatchesNothingIsRefused) {
  EXPECT_THAT(refusal("llama", std::string(kAll) + "ignore: [lm_head, '/layers.7/']\n"),
              AllOf(HasSubstr("r.yaml: ignore"), HasSubstr("'/layers.7/' matches no linear")));
  EXPECT_THAT(refusal("llama", std::string(kAll) + "ignore: [lm_head, router]\n"),
              HasSubstr("'router' matches no linear"));
}

/// What stands beside a linear would belong to the packed one as well, or be lost with it.
TEST(Plan, ATensorBesideAQuantisedLinearIsRefused) {
  Model model("llama");
  const std::string linear = "model.layers.1.mlp.up_proj", all = kAll;
  model.tensors[linear + ".bias"] = {DType::F16, {model.graph.blocks[1].find(LinearRole::up_proj)->out}};
  EXPECT_THAT(plan_of(model, all + "ignore: [lm_head]\n").outputs[0].tensors, testing::Not(IsEmpty()));
  model.tensors[linear + ".weight_scale"] = {DType::F16, {1}};
  EXPECT_THAT(
      user_error_of([&] { plan_of(model, all + "ignore: [lm_head]\n"); }),
      AllOf(HasSubstr("tensor '" + linear + ".weight_scale': beside a linear that is to be quantised"),
            HasSubstr("add '" + linear + "' to `ignore`")));
  EXPECT_THAT(plan_of(model, all + "ignore: [lm_head, /layers.1.mlp/]\n").outputs[0].tensors,
              testing::Not(IsEmpty()));
  model.tensors.erase(linear + ".weight_scale");
  model.tensors[linear + ".lora.a.weight"] = {DType::F16, {1}};  // however deep
  EXPECT_THAT(user_error_of([&] { plan_of(model, all + "ignore: [lm_head]\n"); }),
              HasSubstr("tensor '" + linear + ".lora.a.weight': beside a linear"));
}

TEST(Plan, LinearsAreDecidedWithoutOutputs) {
  const Model model("qwen2_moe");
  const Recipe recipe = recipe_of(std::string(kAll) + "ignore: [lm_head, down_proj]\n");
  const Plan whole = make_plan(recipe, model.graph, model.tensors);
  const Plan linears = plan_linears(recipe, model.graph);
  EXPECT_THAT(linears.outputs, IsEmpty());
  EXPECT_EQ(linears.kept(), whole.kept());
  ASSERT_EQ(linears.quantized().size(), whole.quantized().size());
  for (size_t i = 0; i < whole.quantized().size(); ++i)
    EXPECT_EQ(linears.quantized()[i].scheme, whole.quantized()[i].scheme);
  EXPECT_EQ(linears.scale_dtype, whole.scale_dtype);
  EXPECT_THAT(
      user_error_of([&] { plan_linears(recipe_of(std::string(kAll) + "ignore: [linear]\n"), model.graph); }),
      HasSubstr("quantises no linear"));
}

/// A scale of a KV cache that the checkpoint brings along has the name of the one that kv_cache gives.
TEST(Plan, AKvScaleThatIsThereAlreadyIsRefused) {
  Model model("llama");
  const std::string text = std::string(kAll) + "ignore: [lm_head]\n",
                    scale = "model.layers.1.self_attn.k_scale";
  model.tensors[scale] = {DType::F32, {1}};
  EXPECT_THAT(plan_of(model, text).outputs[0].tensors, testing::Not(IsEmpty()));  // carried along
  EXPECT_EQ(user_error_of([&] { plan_of(model, text + "kv_cache: {type: float, bits: 8, per: tensor}\n"); }),
            "tensor '" + scale + "': stands in the checkpoint, and so would the scale that kv_cache gives");
}

TEST(Plan, RangesThatGroupsAreTooShortForAreRefused) {
  const auto rule = [](const std::string& scheme, const std::string& solver) {
    return registered_refusal("calibration: null\nrules: [{scheme: {bits: 4, group_size: 8, " + scheme +
                              "}, solver: {" + solver + "}}]\n");
  };
  EXPECT_THAT(rule("symmetric: true", "gptq: {range: kl}"),
              AllOf(HasSubstr("q_proj"), HasSubstr("range kl needs groups of at least 512")));
  EXPECT_THAT(rule("symmetric: true", "rtn: {range: kl}"), HasSubstr("range kl"));
  EXPECT_THAT(rule("symmetric: false", "hqq: {range: percentile}"),
              AllOf(HasSubstr("q_proj"), HasSubstr("group of 8 weights")));
}

TEST(Plan, ComparingStreamsNeedsTwo) {
  const std::string rules =
      "rules: [{scheme: {bits: 4, group_size: 8}, solver: {gptq: {match_reference: 0.5}}}]\n";
  EXPECT_THAT(
      registered_refusal("calibration: {data: t.txt, propagate: reference}\n" + rules),
      AllOf(HasSubstr("solver gptq"), HasSubstr("match_reference"), HasSubstr("propagate: quantised")));
  const Model model("llama");
  const auto recipe = parse_recipe("model: m\noutput: {path: o}\nignore: [lm_head]\n" + rules, "r.yaml", {},
                                   registered_vocabulary());
  EXPECT_NO_THROW(make_plan(recipe, model.graph, model.tensors));
}

TEST(Plan, RangesThatNobodyTakesOrOffersAreSaid) {
  const auto rules = [](const std::string& solver) {
    return "rules: [{scheme: {bits: 4, group_size: 8}, solver: {" + solver + "}}]\n";
  };
  EXPECT_THAT(registered_refusal(rules("gptq: {offered_range: true}")),
              HasSubstr("no transform of the recipe offers ranges"));
  EXPECT_THAT(
      registered_refusal("transforms: [{awq: {clip: false}}]\n" + rules("gptq: {offered_range: true}")),
      HasSubstr("no transform of the recipe offers ranges"));
  const Model model("llama");
  const auto warnings = [&](const std::string& text) {
    const auto recipe = parse_recipe("model: m\noutput: {path: o}\nignore: [lm_head]\n" + text, "r.yaml", {},
                                     registered_vocabulary());
    return make_plan(recipe, model.graph, model.tensors).warnings;
  };
  const std::string awq = "transforms: [{awq: {}}]\n";
  EXPECT_THAT(warnings(awq + rules("gptq: {}")),
              ElementsAre(AllOf(HasSubstr("solver gptq takes no offered ranges"), HasSubstr("awq"))));
  EXPECT_THAT(warnings(awq + rules("gptq: {offered_range: true}")), IsEmpty());
  EXPECT_THAT(warnings(awq + rules("rtn: {}")), IsEmpty());
  EXPECT_THAT(warnings("transforms: [{awq: {clip: false}}]\n" + rules("gptq: {}")), IsEmpty());
}

TEST(Plan, RotatesTheInputsOfWhatIsQuantised) {
  const std::string some = "rules: [{targets: [attention], scheme: {bits: 4, group_size: 8}}]\n";
  const Model model("llama");
  const auto recipe = parse_recipe(
      "model: m\noutput: {path: o}\nignore: [lm_head]\ntransforms: [{hadamard: {block: 16}}]\n" + some,
      "r.yaml", {}, registered_vocabulary());
  const Plan plan = make_plan(recipe, model.graph, model.tensors);
  for (const LinearPlan& linear : plan.blocks.front())
    EXPECT_EQ(linear.scheme.hadamard, linear.quantized ? 16 : 0) << linear.linear->name;
  EXPECT_THAT(describe_plan(plan, recipe, model.graph),
              AllOf(HasSubstr("hadamard rotates the inputs of 8 linears"), HasSubstr("blocks of 16 channels"),
                    testing::Not(HasSubstr("\nfolds"))));
  EXPECT_THAT(plan.output_warnings(), ElementsAre(HasSubstr("read past transform_config")));
  const std::string rules = "rules: [{scheme: {bits: 4, group_size: 8}}]\n";
  EXPECT_THAT(registered_refusal("transforms: [{hadamard: {block: 32}}]\n" + rules),
              AllOf(HasSubstr("blocks of 32 do not divide the 48 input features"), HasSubstr("down_proj")));
  EXPECT_THAT(registered_refusal("transforms: [{hadamard: {block: 24}}]\n" + rules),
              HasSubstr("block 24: expected 16, 32, 64 or 128"));
  EXPECT_THAT(registered_refusal("transforms: [{awq: {}}, {hadamard: {block: 16}}]\n" + rules),
              HasSubstr("hadamard mixes the channels that awq chooses scales for"));
}

constexpr const char* kInt8 = "rules: [{scheme: {bits: 8, group_size: -1}, activations: ";

TEST(Plan, CarriesActivationsAndSaysSo) {
  const Model model("llama");
  const std::string text = std::string("ignore: [lm_head]\n") + kInt8 + "{dynamic: false, observer: mse}}]\n";
  const Plan plan = plan_of(model, text);
  for (const PlannedLinear& linear : plan.quantized()) {
    ASSERT_TRUE(linear.activations);
    EXPECT_EQ(linear.activations->per, ActivationScheme::Per::tensor);
  }
  EXPECT_THAT(describe_plan(plan, recipe_of(text), model.graph),
              HasSubstr("int8 sym channel, input int8 sym static per tensor (mse)"));
  EXPECT_THAT(plan.warnings, IsEmpty());
}

TEST(Plan, TheEntropyObserverIsWarnedOf) {
  const Model model("llama");
  const std::string head = std::string("ignore: [lm_head]\n") + kInt8;
  EXPECT_THAT(plan_of(model, head + "{dynamic: false, observer: kl}}]\n").warnings,
              ElementsAre(HasSubstr("observer kl clips large values")));
  EXPECT_THAT(plan_of(model, head + "{dynamic: false, observer: ema}}]\n").warnings, IsEmpty());
}

TEST(Plan, LinearsThatAreFusedNeedOneGridOfInputs) {
  const std::string both =
      "ignore: [lm_head]\nrules: [{targets: [q_proj], scheme: {bits: 8, group_size: -1}, "
      "activations: {}}, {scheme: {bits: 8, group_size: -1}}]\n";
  EXPECT_THAT(refusal("llama", both),
              AllOf(HasSubstr("int8 sym channel, input int8 sym dynamic per token"), HasSubstr("fused")));
}

TEST(Plan, WarnsOfExpertsWithQuantisedActivations) {
  const std::string text = std::string("ignore: [lm_head]\n") + kInt8 + "{}}]\n";
  EXPECT_THAT(plan_of(Model("mixtral"), text).output_warnings(),
              ElementsAre(HasSubstr("quantised activations")));
  EXPECT_THAT(plan_of(Model("llama"), text).output_warnings(), IsEmpty());
}

}  // namespace
}  // namespace lathe
