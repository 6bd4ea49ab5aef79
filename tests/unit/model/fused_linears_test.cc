// Which linears have to have one scheme.
#include "lib/model/fused_linears.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

/// The model with one scheme for all but one linear.
std::optional<std::string> with_odd(const ModelGraph& graph, const std::string& odd) {
  return half_fused(graph.blocks,
                    [&](const Linear& linear) { return linear.name.ends_with(odd) ? "int8" : "int4"; });
}

TEST(FusedLinears, ThoseOfOneInputNeedOneScheme) {
  const ModelGraph graph = graph_of(small_config());
  EXPECT_FALSE(with_odd(graph, "nothing"));
  for (const char* alone : {"self_attn.o_proj", "mlp.down_proj"})
    EXPECT_FALSE(with_odd(graph, alone)) << alone;
  for (const char* stacked :
       {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) {
    const std::string odd = std::string("model.layers.1.") + stacked;
    const auto problem = with_odd(graph, odd);
    ASSERT_TRUE(problem) << odd;
    EXPECT_THAT(*problem, HasSubstr("'model.layers.1."));
    EXPECT_THAT(*problem, HasSubstr("int8"));
  }
}

TEST(FusedLinears, SoDoExpertsOfABlockButNotTheirRouter) {
  const ModelGraph graph = graph_of(family_config("qwen2_moe"));
  for (const char* kind : {"gate_proj", "up_proj", "down_proj"})
    EXPECT_TRUE(with_odd(graph, std::string("mlp.experts.2.") + kind)) << kind;
  for (const char* alone : {"mlp.gate", "mlp.shared_expert_gate"})
    EXPECT_FALSE(with_odd(graph, alone)) << alone;
}

}  // namespace
}  // namespace lathe
