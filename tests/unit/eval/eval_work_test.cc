#include "lib/eval/eval_work.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace lathe {
namespace {

ModelGraph graph_of(int64_t hidden) {
  return build_graph(parse_model_config({{"model_type", "llama"},
                                         {"hidden_size", hidden},
                                         {"intermediate_size", 96},
                                         {"num_hidden_layers", 2},
                                         {"num_attention_heads", 4},
                                         {"num_key_value_heads", 4},
                                         {"vocab_size", 50},
                                         {"max_position_embeddings", 64},
                                         {"torch_dtype", "float32"}},
                                        "config.json"));
}

TEST(EvalWork, CountsBlocksAndHeadsOfBothModels) {
  const ModelGraph small = graph_of(32), large = graph_of(64);
  const double tokens = 6 * 8, pairs = 6 * 36;
  const auto blocks = [&](double hidden) {
    return 2 * (2 * tokens * (4 * hidden * hidden + 3 * hidden * 96) + 4 * hidden * pairs);
  };
  const EvalWork alone = eval_work(small, nullptr, 6, 8);
  EXPECT_DOUBLE_EQ(alone.forward.flops(), blocks(32));
  EXPECT_DOUBLE_EQ(alone.head, 2 * tokens * 50 * 32);
  EXPECT_DOUBLE_EQ(alone.probabilities, tokens * 50);
  const EvalWork both = eval_work(small, &large, 6, 8);
  EXPECT_DOUBLE_EQ(both.flops(), alone.flops() + blocks(64) + 2 * tokens * 50 * 64);
  EXPECT_DOUBLE_EQ(both.probabilities, 2 * tokens * 50);
}

}  // namespace
}  // namespace lathe
