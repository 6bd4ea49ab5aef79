// What advice says of mixtures of experts, of models that need no quantisation, and of Volta.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipes/deployment.h"
#include "recipes/parallel_degrees.h"
#include "tests/unit/recipes/served_models.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char *kInt4 = "recipes/awq.yaml", *kNvfp4Both = "recipes/nvfp4-w4a4.yaml";

/// Qwen3-235B's shape, `layers` of it: 128 experts of 1536, 8 for a token.
ServedModel mixture(int64_t layers) {
  ServedModel model{.family = "qwen3_moe",
                    .hidden = 4096,
                    .intermediate = 8 * 1536,
                    .attention = 8192,
                    .kv = 512,
                    .vocabulary = 151936,
                    .experts = 128,
                    .experts_per_token = 8,
                    .heads = 64,
                    .kv_heads = 4};
  for (int64_t layer = 0; layer < layers; ++layer) {
    model.linears.push_back({.out = 8192, .in = 4096});
    for (int i = 0; i < 2; ++i) model.linears.push_back({.out = 512, .in = 4096, .kv_rows = 512});
    model.linears.push_back({.out = 4096, .in = 8192, .cut_input = true});
    for (int64_t expert = 0; expert < 128; ++expert) {
      for (int i = 0; i < 2; ++i) model.linears.push_back({.out = 1536, .in = 4096, .expert = true});
      model.linears.push_back({.out = 4096, .in = 1536, .expert = true, .cut_input = true});
    }
    model.cache.push_back({2 * 512, 0});
  }
  for (const ServedModel::Matrix& linear : model.linears) model.parameters += linear.out * linear.in;
  model.floating = 2 * model.vocabulary * model.hidden;
  model.parameters += model.floating;
  return model;
}

TEST(Advise, ReadsTheExpertsThatTokensChoose) {
  const ServedModel model = mixture(4);
  EXPECT_EQ(experts_read(llama_7b(), 5), 1);
  EXPECT_DOUBLE_EQ(experts_read(model, 1), 8.0 / 128);
  EXPECT_DOUBLE_EQ(experts_read(model, 2), 1 - (120.0 / 128) * (120.0 / 128));
  const Gpu& gpu = find_gpu("A100 80GB SXM");
  const Deployment place{.memory = gpu.memory, .gpu = &gpu, .context = 2048, .batch = 1};
  const Advice advice = advise(model, place);
  const WeightSize& weights = advice.rows[*advice.chosen].weights;
  EXPECT_GT(weights.expert_bytes, weights.bytes / 2);
  const double read = static_cast<double>(weights.bytes + advice.cache[0]) -
                      static_cast<double>(weights.expert_bytes) * 120 / 128;
  EXPECT_NEAR(static_cast<double>(read_in_a_step(model, place, advice)), read, 2);
}

// What the plan of the recipe refuses otherwise (tests/e2e/advise.sh asks it).
TEST(Advise, TellsARecipeWhatExpertsNeed) {
  const ServedModel model = mixture(2);
  const Advice four = advice_on(model, "A100 80GB SXM");
  EXPECT_EQ(four.recipe, kInt4);
  EXPECT_THAT(four.settings, ElementsAre("rules[0].scheme.symmetric=true"));
  EXPECT_THAT(four.why, Contains(HasSubstr("zero points of experts: --set rules[0].scheme.symmetric=true")));
  EXPECT_LT(four.rows[3].weights.bytes, weight_size(llama_7b(), precision("INT4")).bytes * 2);
  const Advice both = advice_on(model, "B200", 1024, 64);
  EXPECT_EQ(both.recipe, kNvfp4Both);
  EXPECT_THAT(both.settings, ElementsAre("output.formats=[modelopt]"));
  EXPECT_THAT(advice_on(llama_7b(), "RTX 4090").settings, IsEmpty());
  EXPECT_THAT(advice_on(smollm2(), "RTX 4090").settings, ElementsAre("rules[0].scheme.group_size=64"));
}

// As the plan has it: 1536 / 8 is no multiple of 128.
TEST(Advise, CutsExpertsBetweenGroups) {
  const ServedModel model = mixture(1);
  EXPECT_THAT(parallel_degrees(model), ElementsAre(1, 2, 4, 8, 16, 32, 64));
  EXPECT_THAT(parallel_degrees(model, 128), ElementsAre(1, 2, 4));
  EXPECT_THAT(parallel_degrees(model, 16), ElementsAre(1, 2, 4, 8, 16, 32));
  EXPECT_EQ(parallel_problem(model, 8, 128),
            "1536 inputs of a linear in experts / 8, no multiple of the group size 128");
  // 94 layers of INT4 need more than 4 GPUs of 24 GB, and go between no more.
  const Advice none = advice_on(mixture(94), "RTX 4090");
  EXPECT_FALSE(none.chosen);
  EXPECT_THAT(none.why, Contains(HasSubstr("inputs of a linear in experts / 8")));
  const Advice large = advice_on(mixture(94), "B200", 2048, 1);
  EXPECT_TRUE(large.chosen);
}

TEST(Advise, SaysFirstThatSixteenBitsFitWhereTheMemoryIsNotShort) {
  const Advice roomy = advice_on(smollm2(), "RTX 4000 Ada");
  EXPECT_TRUE(roomy.sixteen_bits_fit);
  EXPECT_THAT(roomy.why.front(), AllOf(HasSubstr("16-bit weights would fit, too"), HasSubstr("% of 20.00 GB"),
                                       HasSubstr("the memory asks for nothing")));
  const Advice close = advice_on(llama3_8b(), "RTX 4090", 2048);  // 16.1 GB and more of 24
  EXPECT_FALSE(close.sixteen_bits_fit);
  EXPECT_THAT(close.why.front(), Not(HasSubstr("16-bit weights")));
  EXPECT_THAT(close.why.back(), AllOf(HasSubstr("16-bit weights would fit, too"), Not(HasSubstr("asks"))));
}

// Volta multiplies nothing but 16 bits, and its servers are others.
TEST(Advise, KnowsVolta) {
  EXPECT_EQ(weights_on(llama_7b(), "V100 32GB", 32), "INT4");
  const Advice advice = advice_on(llama_7b(), "V100 32GB", 2048, 32);
  EXPECT_THAT(advice.why, Contains(HasSubstr("its generation multiplies nothing narrower")));
  EXPECT_THAT(advice.warnings, ElementsAre(HasSubstr("LMDeploy and llama.cpp")));
}

}  // namespace
}  // namespace lathe
