#include "recipes/budget/layer_patterns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "recipes/target_pattern.h"

namespace lathe {
namespace {

using Names = std::vector<std::string>;

TEST(LayerPatterns, NamesOfSomeLayersComeTogether) {
  EXPECT_THAT(layer_patterns({"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj",
                              "model.layers.3.mlp.gate_proj", "model.layers.3.mlp.up_proj"},
                             6),
              testing::ElementsAre(R"(/^model\.layers\.(0|3)\.(mlp\.gate_proj|mlp\.up_proj)$/)"));
  EXPECT_THAT(
      layer_patterns({"blk.0.attn_v.weight", "blk.1.attn_v.weight", "token_embd.weight"}, 2),
      testing::UnorderedElementsAre(R"(/^blk\.[0-9]+\.attn_v\.weight$/)", R"(/^token_embd\.weight$/)"));
  EXPECT_THAT(
      layer_patterns({"model.layers.4.mlp.experts.0.up_proj", "model.layers.4.mlp.experts.17.up_proj"}, 6),
      testing::ElementsAre(R"(/^model\.layers\.4\.mlp\.experts\.[0-9]+\.up_proj$/)"));
}

/// Each name by its pattern's regular expression, and no other of a model of 12 layers.
TEST(LayerPatterns, MatchTheNamesAndNoOther) {
  const Names parts = {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"};
  Names all, some;
  for (int layer = 0; layer < 12; ++layer) {
    for (const std::string& part : parts) all.push_back("model.layers." + std::to_string(layer) + "." + part);
  }
  for (size_t i = 0; i < all.size(); i += 1 + i % 3) some.push_back(all[i]);
  for (const Names& names : {some, all, Names{all[1]}, Names{all[3], all[33]}}) {
    const Names patterns = layer_patterns(names, 12);
    for (const std::string& name : all) {
      const auto matches = std::ranges::count_if(patterns, [&](const std::string& pattern) {
        return std::regex_search(name, std::regex(pattern_expression(pattern)));
      });
      EXPECT_EQ(matches, std::ranges::count(names, name)) << name;
    }
  }
}

}  // namespace
}  // namespace lathe
