// Families that nobody knows: what servers stack by the names alone has one scheme and no scale of its own.
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

TEST(FusedByName, ShareNoScaleOfTheTensor) {
  EXPECT_THAT(refusal("  - {targets: [linear], scheme: {type: nvfp4}}\n"),
              AllOf(HasSubstr("take one scale for both"), HasSubstr("nvfp4 g16")));
  EXPECT_THAT(refusal("  - {targets: [linear], scheme: {type: fp8_e4m3, per: tensor}}\n"),
              HasSubstr("take one scale for both"));
  EXPECT_EQ(refusal("  - {targets: [o_proj, '/mlp.down_proj/'], scheme: {type: nvfp4}}\n"), "");
  EXPECT_EQ(refusal("  - {targets: [linear], scheme: {type: mxfp4}}\n"), "");
}

}  // namespace
}  // namespace lathe
