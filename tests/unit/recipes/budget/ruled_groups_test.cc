#include "recipes/budget/ruled_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

struct Model {
  explicit Model(const std::string& family = "llama")
      : graph(graph_of(with(family_config(family),
                            {{"hidden_size", 256}, {"head_dim", 64}, {"intermediate_size", 512}}))) {
    for (const auto& [name, shape] : graph.expected_tensors()) tensors[name] = {DType::F16, shape};
  }
  RuledGroups groups_of(const std::string& text) const {
    const Recipe recipe = parse_recipe("model: m\ncalibration: {data: [{path: a.txt}]}\n" + text, "r.yaml",
                                       {}, registered_vocabulary());
    return ruled_groups(recipe, graph, tensors);
  }
  ModelGraph graph;
  std::map<std::string, TensorInfo> tensors;
};

const Candidate& candidate_of(const RuledGroups& made, const std::string& group) {
  for (const ChoiceGroup& one : made.plan.groups)
    if (one.name == group) return made.recipe.candidates[one.candidates.front()];
  throw std::runtime_error("no group " + group);
}

// Groups of 512 divide down_proj's rows alone: no rule has to hold everywhere.
TEST(RuledGroups, EachGroupHasItsRuleAlone) {
  const Model model;
  const RuledGroups made = model.groups_of(
      "output: {path: o}\nrules:\n"
      "  - {targets: [down_proj], scheme: {bits: 8, group_size: 512}}\n"
      "  - {targets: [attention], scheme: {bits: 4, group_size: 32}}\n"
      "  - {targets: [up_proj, gate_proj], scheme: {bits: 4, group_size: 32}}\n");
  EXPECT_EQ(made.recipe.candidates.size(), 2u);  // the last two are the same
  ASSERT_EQ(made.plan.groups.size(), 4 * model.graph.blocks.size());
  for (const ChoiceGroup& group : made.plan.groups) {
    const Linear& first = model.graph.blocks[static_cast<size_t>(group.block)].linears[group.linears.front()];
    ASSERT_EQ(group.candidates.size(), 1u);
    EXPECT_EQ(made.plan.schemes[group.candidates.front()].bits, first.in == 512 ? 8 : 4);
  }
  EXPECT_TRUE(made.recipe.rules.empty());
  EXPECT_THAT(made.warnings, IsEmpty());
}

TEST(RuledGroups, FormatsWhoseBytesNobodyKnowsBeforehandAreMeasured) {
  const RuledGroups made = Model().groups_of(
      "output: {path: o, formats: [spqr]}\nrules: [{targets: [linear], scheme: {bits: 3, group_size: 16, "
      "symmetric: false, scale_bits: 3, scale_group: 16}, solver: {spqr: {}}}]\n");
  EXPECT_EQ(made.recipe.candidates.size(), 1u);
}

TEST(RuledGroups, GgufTensorsHaveTheTypesOfTheFile) {
  const Model model;
  const RuledGroups made = model.groups_of(
      "output: {path: o, formats: ['gguf:Q4_K_M'], gguf_tensor_types: [{tensors: '/attn_k/', type: Q8_0}, "
      "{tensors: '/blk.1.ffn_down/', type: F16}]}\n"
      "rules: [{targets: [attention, down_proj], scheme: {type: float}, solver: {float: {}}}]\n");
  EXPECT_EQ(candidate_of(made, "blk.0.attn_q.weight").block, GgmlType::Q4_K);
  EXPECT_EQ(candidate_of(made, "blk.0.attn_k.weight").block, GgmlType::Q8_0);
  EXPECT_EQ(candidate_of(made, "output.weight").block, GgmlType::Q6_K);
  EXPECT_EQ(candidate_of(made, "token_embd.weight").block, GgmlType::Q4_K);
  EXPECT_THROW(candidate_of(made, "blk.1.ffn_down.weight"), std::runtime_error);  // F16
  EXPECT_THROW(candidate_of(made, "blk.0.ffn_gate.weight"), std::runtime_error);  // no rule takes it
}

TEST(RuledGroups, CodesThatGoInAsTheyAreAreTheSolvers) {
  const RuledGroups made = Model().groups_of(
      "output: {path: o, formats: ['gguf:Q4_0']}\nrules:\n"
      "  - {targets: [attention], scheme: {bits: 4, group_size: 32}, solver: {gptq: {}}}\n"
      "  - {targets: [mlp], scheme: {bits: 4, group_size: 32, symmetric: false}, solver: {gptq: {}}}\n");
  EXPECT_EQ(candidate_of(made, "blk.0.attn_q.weight").rule.solver.name, "gptq");
  EXPECT_FALSE(candidate_of(made, "blk.0.attn_q.weight").block);
  EXPECT_EQ(candidate_of(made, "blk.0.ffn_up.weight").block, GgmlType::Q4_0);  // its zero points don't fit
}

TEST(RuledGroups, ExpertsOfAStackAreOneGroup) {
  const Model model("qwen2_moe");
  for (const char* format : {"'gguf:Q8_0'", "compressed-tensors"}) {
    const bool gguf = std::string(format) != "compressed-tensors";
    const RuledGroups made = model.groups_of(
        "output: {path: o, formats: [" + std::string(format) + "]}\nrules: [{targets: [expert], " +
        (gguf ? "scheme: {type: float}, solver: {float: {}}}]\n" : "scheme: {bits: 8, group_size: 8}}]\n"));
    for (const ChoiceGroup& group : made.plan.groups) {
      if (group.block < 0) continue;
      EXPECT_EQ(group.linears.size() % 4, 0u) << group.name;
    }
  }
}

TEST(RuledGroups, OtherFormatsAreTold) {
  const std::string rules = "rules: [{targets: [linear], scheme: {bits: 4, group_size: 32}}]\n";
  const auto told = [&](const std::string& formats) {
    return Model().groups_of("output: {path: o, formats: " + formats + "}\n" + rules).warnings;
  };
  EXPECT_THAT(told("[gptq, compressed-tensors]"), IsEmpty());
  EXPECT_THAT(told("[compressed-tensors, 'gguf:Q5_K_M']"),
              testing::ElementsAre(HasSubstr("as format compressed-tensors")));
  EXPECT_THAT(told("['gguf:Q5_K_M', compressed-tensors]"),
              testing::ElementsAre(HasSubstr("as format gguf:Q5_K_M")));
}

TEST(RuledGroups, RefusesWhereNothingIsRounded) {
  EXPECT_THAT(user_error_of([] {
                Model().groups_of(
                    "output: {path: o, formats: ['gguf:F16']}\n"
                    "rules: [{targets: [linear], scheme: {type: float}, solver: {float: {}}}]\n");
              }),
              HasSubstr("nothing is rounded in format gguf:F16"));
}

}  // namespace
}  // namespace lathe
