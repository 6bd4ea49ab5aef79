#include "recipes/budget/choice_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "recipes/budget/recipe_yaml.h"
#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using testing::HasSubstr;

struct Model {
  explicit Model(const std::string& family) : graph(graph_of(family_config(family))) {
    for (const auto& [name, shape] : graph.expected_tensors()) tensors[name] = {DType::F16, shape};
  }
  ModelGraph graph;
  std::map<std::string, TensorInfo> tensors;
};

Recipe recipe_of(const std::string& text) {
  return parse_recipe("model: m\ncalibration: {data: [{path: a.txt}]}\nbudget: {bits_per_weight: 5}\n" + text,
                      "r.yaml", {}, registered_vocabulary());
}

/// Symmetric ones, which experts may have, too.
const std::string kIntegers =
    "output: {path: o}\n"
    "candidates:\n"
    "  - {scheme: {bits: 4, group_size: 8}, solver: {gptq: {}}}\n"
    "  - {scheme: {bits: 8, group_size: -1}}\n"
    "  - {scheme: {bits: 3, group_size: 8}}\n"
    "  - {scheme: {type: float}}\n";
const std::string kBlocks =
    "output: {path: o, formats: ['gguf:Q4_0']}\n"
    "candidates: [{gguf: Q4_0}, {gguf: q5_1}, {gguf: Q8_0}, {gguf: F16}]\n";

std::vector<size_t> random_choice(const ChoicePlan& plan, std::mt19937& random) {
  std::vector<size_t> choice;
  std::map<std::string, size_t> tied;
  for (const ChoiceGroup& group : plan.groups) {
    choice.push_back(random() % group.candidates.size());
    if (!group.tied.empty()) choice.back() = tied.emplace(group.tied, choice.back()).first->second;
  }
  return choice;
}

/// Names and numbers of candidates under a choice.
std::map<std::string, size_t> meant(const ChoicePlan& plan, const ModelGraph& graph,
                                    const std::vector<size_t>& choice, bool gguf) {
  std::map<std::string, size_t> result;
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    const ChoiceGroup& group = plan.groups[g];
    if (gguf) result[group.name] = group.candidates[choice[g]];
    if (gguf) continue;
    for (const size_t i : group.linears)
      result[graph.part(static_cast<size_t>(group.block)).linears[i].name] = group.candidates[choice[g]];
  }
  return result;
}

/// Whatever is chosen, the plan of the chosen recipe has the bytes that were counted and the schemes that
/// were meant; also once the recipe went through its text.
void expect_chosen_is_planned(const std::string& family, const std::string& text, bool gguf) {
  const Model model(family);
  const Recipe recipe = recipe_of(text);
  const ChoicePlan plan = plan_choices(recipe, model.graph, model.tensors);
  std::mt19937 random(11);
  for (int round = 0; round < 8; ++round) {
    const std::vector<size_t> choice = random_choice(plan, random);
    const Recipe chosen =
        parse_recipe(recipe_yaml(chosen_recipe(recipe, model.graph, plan, choice), "what\n\nfor"),
                     "chosen.yaml", {}, registered_vocabulary());
    EXPECT_TRUE(chosen.candidates.empty());
    const Plan made = make_plan(chosen, model.graph, model.tensors);
    EXPECT_EQ(made.outputs.front().bytes, plan.fixed_bytes + plan.bytes(choice)) << family;
    auto expected = meant(plan, model.graph, choice, gguf);
    std::erase_if(expected, [&](const auto& one) { return recipe.candidates[one.second].left(); });
    size_t seen = 0;
    for (const PlannedLinear& linear : made.quantized()) {
      if (gguf) break;
      ++seen;
      EXPECT_EQ(linear.scheme.bits, recipe.candidates[expected.at(linear.name)].rule.scheme.bits);
    }
    if (!gguf) {
      EXPECT_EQ(seen, expected.size());
      continue;
    }
    for (const GgufOutputTensor& tensor : made.outputs.front().gguf->tensors) {
      const auto wanted = expected.find(tensor.rule.gguf);
      if (wanted == expected.end()) continue;
      EXPECT_EQ(tensor.type, *recipe.candidates[wanted->second].block) << tensor.rule.gguf;
    }
  }
}

TEST(ChoicePlan, AChosenRecipeIsWhatWasCounted) {
  for (const char* family : {"llama", "qwen2", "qwen2_moe"})
    expect_chosen_is_planned(family, kIntegers, false);
}

// A head is chosen for where the recipe doesn't leave it out, and it has a weight of its own.
TEST(ChoicePlan, TheHeadIsAGroupOfItsOwn) {
  expect_chosen_is_planned("llama", kIntegers + "ignore: []\n", false);
  const Model model("llama");
  const ChoicePlan plan = plan_choices(recipe_of(kIntegers + "ignore: []\n"), model.graph, model.tensors);
  const ChoiceGroup& head = plan.groups.back();
  EXPECT_EQ(head.name, "lm_head");
  EXPECT_EQ(head.block, 2);
  EXPECT_EQ(head.bytes.back(), 2 * 40 * 32u) << "left in floating point";
  EXPECT_LT(plan_choices(recipe_of(kIntegers), model.graph, model.tensors).groups.size(), plan.groups.size());
}

TEST(ChoicePlan, AChosenGgufFileIsWhatWasCounted) {
  for (const char* family : {"llama", "qwen2", "qwen2_moe"}) expect_chosen_is_planned(family, kBlocks, true);
}

TEST(ChoicePlan, OneCandidateForAllIsThatOfEachGroup) {
  for (const char* family : {"llama", "qwen2_moe"}) {
    const Model model(family);
    const Recipe recipe = recipe_of(kIntegers);
    const ChoicePlan plan = plan_choices(recipe, model.graph, model.tensors);
    for (size_t c = 0; c < recipe.candidates.size(); ++c) {
      if (recipe.candidates[c].left()) continue;
      const Plan named =
          make_plan(chosen_recipe(recipe, model.graph, plan, std::vector<size_t>(plan.groups.size(), c)),
                    model.graph, model.tensors);
      const Plan all = make_plan(uniform_recipe(recipe, plan, c), model.graph, model.tensors);
      EXPECT_EQ(all.scale_dtype, named.scale_dtype);
      EXPECT_EQ(all.kept(), named.kept()) << family;
      ASSERT_EQ(all.quantized().size(), named.quantized().size());
      for (size_t i = 0; i < named.quantized().size(); ++i)
        EXPECT_EQ(all.quantized()[i].scheme, named.quantized()[i].scheme) << family;
    }
  }
}

TEST(ChoicePlan, GroupsAreWhatEnginesStack) {
  const Model model("qwen2_moe");
  const ChoicePlan plan = plan_choices(recipe_of(kIntegers), model.graph, model.tensors);
  for (const ChoiceGroup& group : plan.groups) {
    const Block& block = model.graph.blocks[static_cast<size_t>(group.block)];
    std::set<Slot> slots;
    for (const size_t i : group.linears) {
      slots.insert(block.linears[i].input.slot);
      EXPECT_EQ(block.linears[i].input.expert.has_value(), group.tied == "experts");
    }
    EXPECT_EQ(slots.size(), 1u) << group.name;
  }
}

TEST(ChoicePlan, GgufTensorsGoTheirOwnWays) {
  const Model model("llama");
  const ChoicePlan plan = plan_choices(recipe_of(kBlocks), model.graph, model.tensors);
  std::set<std::string> names, tables;
  for (const ChoiceGroup& group : plan.groups) {
    names.insert(group.name);
    if (group.block < 0) tables.insert(group.table);
  }
  EXPECT_TRUE(names.contains("blk.0.attn_q.weight") && names.contains("blk.0.attn_k.weight"));
  EXPECT_THAT(tables, testing::Contains("model.embed_tokens.weight"));
}

std::string refusal(const std::string& text) {
  const Model model("llama");
  return user_error_of([&] { plan_choices(recipe_of(text), model.graph, model.tensors); });
}

TEST(ChoicePlan, SomethingIsQuantised) {
  EXPECT_THAT(refusal("output: {path: o}\ncandidates: [{scheme: {type: float}}]\n"),
              HasSubstr("all of them leave linears in floating point"));
  EXPECT_THAT(
      refusal("output: {path: o}\ncandidates: [{scheme: {bits: 4, group_size: 8}}, {scheme: {type: float}, "
              "activations: {bits: 8}}]\n"),
      HasSubstr("candidates[1]: a linear that is left in floating point takes no `activations`"));
}

TEST(ChoicePlan, RefusesWhatOneModelCantHold) {
  EXPECT_THAT(refusal("output: {path: o}\ncandidates: [{scheme: {bits: 4, group_size: 24}}]\n"),
              HasSubstr("candidates[0]: model.layers.0."));
  EXPECT_THAT(refusal("output: {path: o}\ncandidates: [{scheme: {bits: 4, group_size: 8}}, {gguf: Q4_0}]\n"),
              HasSubstr("candidates[1]: Q4_0 for format compressed-tensors; expected a `scheme`"));
  EXPECT_THAT(refusal("output: {path: o, formats: ['gguf:Q4_0']}\ncandidates: [{gguf: Q4_K}]\n"),
              HasSubstr("none of them can cut"));
  EXPECT_THAT(
      refusal(
          "output: {path: o, formats: [spqr]}\ncandidates: [{scheme: {bits: 3, group_size: 16, symmetric: "
          "false, scale_bits: 3, scale_group: 16}, solver: {spqr: {}}}]\n"),
      testing::AnyOf(HasSubstr("known only when it is written"), HasSubstr("candidates[0]")));
  EXPECT_THAT(
      refusal(
          "output: {path: o, formats: [modelopt]}\ncandidates: [{scheme: {type: nvfp4}}, {scheme: {bits: 4, "
          "group_size: 8}}]\n"),
      HasSubstr("candidates"));
}

}  // namespace
}  // namespace lathe
