// Families that nobody knows: what servers stack by the names alone has one scheme and shares its scale.
#include "recipes/fused_by_name.h"

#include <gmock/gmock.h>

#include "lib/model/weights_graph.h"
#include "tests/unit/model/test_model.h"
#include "tests/unit/recipes/vocabulary.h"

namespace lathe {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// What a plan of these rules says of an unknown family with an attention, an MLP and two experts.
std::string refusal(const std::string& rules) {
  std::map<std::string, TensorInfo> tensors;
  const auto add = [&](const std::string& name) { tensors[name + ".weight"] = {DType::F16, {64, 64}}; };
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) add(std::string("l.0.attention.") + name);
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    add(std::string("l.0.mlp.") + name);
    for (const char* expert : {"0", "1"}) add(std::string("l.1.moe.experts.") + expert + "." + name);
  }
  for (const char* name : {"w1", "w2", "w3"})
    for (const char* expert : {"0", "1"}) add(std::string("l.2.moe.experts.") + expert + "." + name);
  const ModelGraph graph = weights_graph("zebra", tensors, "folder").graph;
  const Recipe recipe = parse_recipe("model: m\noutput: {path: o}\ncalibration: null\nrules:\n" + rules,
                                     "r.yaml", {}, test_vocabulary());
  try {
    make_plan(recipe, graph, tensors);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

constexpr const char* kRest = "  - {targets: [linear], scheme: {bits: 4, group_size: 32}}\n";

TEST(FusedByName, NeedOneScheme) {
  const auto with = [](const std::string& target, const std::string& scheme = "{bits: 8, group_size: 32}") {
    return refusal("  - {targets: [" + target + "], scheme: " + scheme + "}\n" + kRest);
  };
  EXPECT_THAT(with("q_proj"), AllOf(HasSubstr("l.0.attention."), HasSubstr("need one scheme")));
  EXPECT_THAT(with("up_proj"), HasSubstr("need one scheme"));
  EXPECT_THAT(with("/experts.1.down_proj/"), HasSubstr("l.1.moe.experts.1.down_proj"));
  EXPECT_THAT(with("/experts.0.w3/"), HasSubstr("l.2.moe.experts.0.w1"));
  EXPECT_THAT(with("/experts.0.w2/"), HasSubstr("l.2.moe.experts.1.w2"));
  EXPECT_EQ(with("o_proj"), "");
  EXPECT_EQ(with("'/mlp.down_proj/'"), "");
  EXPECT_EQ(refusal(kRest), "");
}

TEST(FusedByName, ShareTheScaleOfTheTensorUnderOneRule) {
  EXPECT_EQ(refusal("  - {targets: [linear], scheme: {type: nvfp4}}\n"), "");
  EXPECT_EQ(refusal("  - {targets: [linear], scheme: {type: fp8_e4m3, per: tensor}}\n"), "");
  const std::string apart =
      "  - {targets: [up_proj], scheme: {type: nvfp4}}\n  - {targets: [linear], scheme: {type: nvfp4}}\n";
  EXPECT_THAT(refusal(apart), AllOf(HasSubstr("quantised by two rules"), HasSubstr("l.0.mlp.up_proj")));
  const std::string down =
      "  - {targets: [/experts.1.w2/], scheme: {type: nvfp4}}\n  - {targets: [linear], scheme: {type: "
      "nvfp4}}\n";
  EXPECT_EQ(refusal(down), "");  // each expert's has a scale of its own
}

TEST(FusedByName, NamesTellWhatSharesAScale) {
  const auto name = [](const char* module, LinearRole role, int64_t in = 64) {
    return sharing_by_name({.name = module, .role = role, .input = {}, .out = 8, .in = in});
  };
  const std::string gate = name("l.1.experts.0.w1", LinearRole::other);
  EXPECT_FALSE(gate.empty());
  EXPECT_EQ(gate, name("l.1.experts.0.w3", LinearRole::other));
  EXPECT_NE(gate, name("l.1.experts.1.w1", LinearRole::other));
  EXPECT_EQ(name("l.1.experts.0.w2", LinearRole::other), "");
  EXPECT_EQ(name("l.1.q_proj", LinearRole::q_proj), name("l.1.v_proj", LinearRole::v_proj));
  EXPECT_NE(name("l.1.q_proj", LinearRole::q_proj),
            name("l.1.v_proj", LinearRole::v_proj, 96));  // of an encoder's
  EXPECT_EQ(name("l.1.q_a_proj", LinearRole::other), name("l.1.kv_a_proj_with_mqa", LinearRole::other));
}

}  // namespace
}  // namespace lathe
