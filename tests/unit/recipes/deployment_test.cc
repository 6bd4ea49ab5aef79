// The planner's arithmetic, against figures that the field quotes and sums done by hand; and the table of
// GPUs.
#include "recipes/deployment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "lib/base/error.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

/// A dense Llama: `kv` is the width of its keys.
ServedModel llama(int64_t layers, int64_t hidden, int64_t kv, int64_t intermediate, int64_t vocabulary) {
  ServedModel model{.family = "llama",
                    .hidden = hidden,
                    .intermediate = intermediate,
                    .attention = hidden,
                    .kv = kv,
                    .vocabulary = vocabulary};
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (const auto& [out, in] : std::vector<std::pair<int64_t, int64_t>>{{hidden, hidden},
                                                                          {kv, hidden},
                                                                          {kv, hidden},
                                                                          {hidden, hidden},
                                                                          {intermediate, hidden},
                                                                          {intermediate, hidden},
                                                                          {hidden, intermediate}}) {
      model.linears.push_back({out, in});
      model.parameters += out * in;
    }
    model.cache.push_back({2 * kv, 0});
  }
  model.floating = 2 * vocabulary * hidden + (2 * layers + 1) * hidden;
  model.parameters += model.floating;
  return model;
}
ServedModel llama_7b() { return llama(32, 4096, 4096, 11008, 32000); }
ServedModel llama_13b() { return llama(40, 5120, 5120, 13824, 32000); }
ServedModel llama3_70b() { return llama(80, 8192, 1024, 28672, 128256); }

Precision precision(const std::string& name) {
  for (const Precision& each : precisions())
    if (each.name == name) return each;
  ADD_FAILURE() << name;
  return {};
}

/// A model of a round number of weights, as people speak of them.
uint64_t nominal(int64_t billions, const std::string& name) {
  ServedModel model;
  model.parameters = billions * 1'000'000'000;
  return weight_size(model, precision(name)).nominal;
}

/// On a GPU of the table.
Advice advice_on(const ServedModel& model, const std::string& gpu, int64_t context = 4096,
                 int64_t batch = 1) {
  const Gpu& found = find_gpu(gpu);
  return advise(model, {.memory = found.memory, .gpu = &found, .context = context, .batch = batch});
}
std::string weights_on(const ServedModel& model, const std::string& gpu, int64_t batch = 1) {
  const Advice advice = advice_on(model, gpu, 2048, batch);
  return advice.chosen ? advice.rows[*advice.chosen].precision->name : "none";
}

TEST(KvCache, OfA7BIsTwoGiBASequenceOf4096TokensAndHalfOfThatInEightBits) {
  EXPECT_EQ(kv_cache_bytes(llama_7b(), 4096, 1, 16), 2'147'483'648u);
  EXPECT_EQ(kv_cache_bytes(llama_7b(), 4096, 8, 16), 16ull << 30);
  EXPECT_EQ(kv_cache_bytes(llama_7b(), 4096, 1, 8), 1ull << 30);
  EXPECT_EQ(kv_cache_bytes(llama_7b(), 4096, 1, 4), 1ull << 29);
  EXPECT_EQ(kv_cache_bytes(llama_7b(), 4096, 1, 2), 1ull << 28);
}

TEST(KvCache, OfLlama3With8KvHeadsIsAnEighthOfThatWith64) {
  const ServedModel shared = llama(80, 8192, 8 * 128, 28672, 128256),
                    own = llama(80, 8192, 64 * 128, 28672, 128256);
  EXPECT_EQ(8 * kv_cache_bytes(shared, 8192, 1, 16), kv_cache_bytes(own, 8192, 1, 16));
  EXPECT_EQ(kv_cache_bytes(shared, 1, 1, 16), 2u * 80 * 8 * 128 * 2);
}

TEST(KvCache, SlidingLayersHoldTheirWindowAlone) {
  ServedModel model;
  model.cache = {{100, 512}, {100, 0}};
  EXPECT_EQ(kv_cache_bytes(model, 4096, 3, 16), 3u * 2 * 100 * (512 + 4096));
  EXPECT_EQ(kv_cache_bytes(model, 256, 3, 16), 3u * 2 * 100 * (256 + 256));
}

TEST(Weights, OfRoundModelsAreTheFieldsFigures) {
  EXPECT_EQ(nominal(7, "FP16"), 14'000'000'000u);
  EXPECT_EQ(nominal(7, "INT4"), 3'500'000'000u);
  EXPECT_EQ(nominal(13, "FP16"), 26'000'000'000u);
  EXPECT_EQ(nominal(70, "FP16"), 140'000'000'000u);
  EXPECT_EQ(nominal(70, "INT8"), 70'000'000'000u);
  EXPECT_EQ(nominal(70, "FP8"), 70'000'000'000u);
  EXPECT_EQ(nominal(70, "INT4"), 35'000'000'000u);
}

/// "About" figures of a card of 20 GB: 7B leaves 6 GB in BF16 and 16.5 in INT4; 13B doesn't fit, and
/// leaves 13.
TEST(Weights, OfRealModelsLeaveWhatTheFieldSaysOfA20GbCard) {
  const auto left = [](const ServedModel& model, size_t row) {
    const Advice advice = advise(model, {.memory = 20'000'000'000});
    return static_cast<double>(advice.rows.at(row).left) / 1e9;
  };
  EXPECT_NEAR(left(llama_7b(), 0), 6, 0.6);
  EXPECT_NEAR(left(llama_7b(), 3), 16.5, 0.5);
  EXPECT_LT(left(llama_13b(), 0), 0);
  EXPECT_NEAR(left(llama_13b(), 3), 13, 0.5);
}

TEST(Weights, CountScalesZeroPointsAndWhatStaysInSixteenBits) {
  ServedModel model;
  model.linears = {{256, 512}, {64, 256}};
  model.floating = 1000;
  model.parameters = 256 * 512 + 64 * 256 + 1000;
  const double weights = 256 * 512 + 64 * 256;
  EXPECT_EQ(weight_size(model, precision("FP16")).bytes, 2 * static_cast<uint64_t>(model.parameters));
  EXPECT_EQ(weight_size(model, precision("INT4")).bytes,
            static_cast<uint64_t>(weights * (4 + 20.0 / 128) / 8 + 2000));
  EXPECT_EQ(weight_size(model, precision("INT8")).bytes,
            static_cast<uint64_t>(weights + 2 * (256 + 64) + 2000));  // a scale a row
}

TEST(Weights, TakeSmallerGroupsWhere128DoesNotDivideAndStayWhereNoneDoes) {
  ServedModel model;
  model.linears = {{64, 576}, {64, 128}};
  model.parameters = 64 * (576 + 128);
  EXPECT_EQ(weight_size(model, precision("INT4")).group_size, 64);
  EXPECT_EQ(weight_size(model, precision("INT4")).kept, 0);
  model.linears.push_back({64, 100});
  model.parameters += 6400;
  const WeightSize size = weight_size(model, precision("INT4"));
  EXPECT_EQ(size.kept, 2);  // 576 and 100, by 128
  EXPECT_EQ(size.group_size, 0);
}

TEST(Precisions, AreReportedToLoseThisOnLlama2With70B) {
  EXPECT_EQ(precision("FP16").perplexity, 3.12);
  EXPECT_EQ(precision("FP8").perplexity, 3.13);
  EXPECT_EQ(precision("INT8").perplexity, 3.14);
  EXPECT_EQ(precision("INT4").perplexity, 3.18);  // AWQ; GPTQ 3.20
}

TEST(GpuTable, EveryRowIsWholeAndNoNameStandsTwice) {
  std::set<std::string> names;
  for (const Gpu& gpu : gpus()) {
    EXPECT_TRUE(names.insert(gpu.name).second) << gpu.name;
    EXPECT_FALSE(find_generation(gpu.generation).native.empty());
    EXPECT_GE(gpu.memory, 8'000'000'000u) << gpu.name;
    EXPECT_GE(gpu.bytes_a_second, 2e11) << gpu.name;
    EXPECT_FALSE(gpu.source.empty());
    EXPECT_THAT((std::set<std::string>{"consumer", "workstation", "datacenter"}), Contains(gpu.kind));
    EXPECT_EQ(&find_gpu(gpu.name), &gpu);
  }
  for (const GpuGeneration& generation : gpu_generations()) EXPECT_FALSE(generation.source.empty());
}

TEST(GpuTable, GenerationsComputeWhatTheFieldSays) {
  const auto computes = [](const char* generation, const char* format) {
    return find_generation(generation).computes(format);
  };
  for (const char* format : {"FP16", "INT8", "INT4"}) EXPECT_TRUE(computes("Turing", format)) << format;
  EXPECT_FALSE(computes("Turing", "BF16"));
  for (const char* format : {"BF16", "TF32"}) EXPECT_TRUE(computes("Ampere", format)) << format;
  EXPECT_FALSE(computes("Ampere", "FP8"));
  EXPECT_TRUE(computes("Ada", "FP8"));
  EXPECT_TRUE(computes("Hopper", "FP8"));
  EXPECT_FALSE(computes("Hopper", "NVFP4"));
  for (const char* format : {"FP8", "NVFP4", "MXFP4", "MXFP6", "MXFP8"})
    EXPECT_TRUE(computes("Blackwell", format)) << format;
}

TEST(GpuTable, NamesAreFoundAsPeopleWriteThem) {
  EXPECT_EQ(find_gpu("NVIDIA GeForce RTX 4090").name, "RTX 4090");
  EXPECT_EQ(find_gpu("h100-sxm").name, "H100 SXM");
  EXPECT_EQ(find_gpu("rtx4000ada").name, "RTX 4000 Ada");
  EXPECT_EQ(find_gpu("L4").name, "L4");  // not the L40S
  const auto refusal = [](const char* name) -> std::string {
    try {
      find_gpu(name);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal("A100"),
              AllOf(HasSubstr("may be A100 40GB, A100 80GB PCIe and A100 80GB SXM"), Not(HasSubstr("H100"))));
  EXPECT_THAT(refusal("RTX 9090"),
              AllOf(HasSubstr("unknown GPU 'RTX 9090'; did you mean 'RTX 3090'"), HasSubstr("--vram")));
  EXPECT_THAT(refusal(""), HasSubstr("unknown GPU"));
}

TEST(Advise, ChoosesByHardware) {
  EXPECT_EQ(weights_on(llama_7b(), "H100 SXM"), "FP8");
  EXPECT_EQ(weights_on(llama_7b(), "L40S"), "FP8");
  EXPECT_EQ(weights_on(llama_7b(), "A100 80GB SXM"), "INT4");
  EXPECT_EQ(weights_on(llama_7b(), "A100 80GB SXM", 32), "INT8");
  EXPECT_EQ(weights_on(llama_7b(), "RTX 4090"), "INT4");
  EXPECT_EQ(weights_on(llama_7b(), "RTX 4000 Ada"), "INT4");
  EXPECT_EQ(weights_on(llama_7b(), "RTX 3090"), "INT4");
  EXPECT_EQ(weights_on(llama_7b(), "B200"), "NVFP4");
}

TEST(Advise, QuantisesActivationsOnlyWhereProductsAreBoundByArithmetic) {
  EXPECT_EQ(advice_on(llama_7b(), "B200").recipe, "recipes/nvfp4.yaml");
  EXPECT_EQ(advice_on(llama_7b(), "B200", 1024, 64).recipe, "recipes/nvfp4-w4a4.yaml");
  EXPECT_EQ(advice_on(llama_7b(), "A100 80GB SXM", 1024, 64).recipe, "recipes/smoothquant.yaml");
  EXPECT_EQ(advice_on(llama_7b(), "A100 80GB SXM", 1024, 1).recipe, "recipes/awq.yaml");
}

TEST(Advise, TakesACacheOfEightBitsAndMoreGpusOnlyWhereItMust) {
  const Advice one = advice_on(llama_7b(), "RTX 4000 Ada", 4096, 4);
  EXPECT_EQ(kCacheBits[one.cache_bits], 16);
  EXPECT_EQ(one.gpus, 1);
  const Advice eight = advice_on(llama_7b(), "RTX 4000 Ada", 4096, 8);  // 4 + 16 GiB
  EXPECT_EQ(kCacheBits[eight.cache_bits], 8);
  EXPECT_THAT(eight.why, Contains(HasSubstr("kv_cache: {type: float, bits: 8}")));
  const Advice large = advice_on(llama3_70b(), "RTX 4090", 4096, 1);
  EXPECT_EQ(large.gpus, 2);
  EXPECT_THAT(large.why, Contains(HasSubstr("tensor parallelism of 2")));
  const Advice never =
      advise(llama3_70b(), {.memory = 500'000'000, .gpu = nullptr, .context = 1 << 20, .batch = 64});
  EXPECT_FALSE(never.chosen);
  EXPECT_THAT(never.why, Contains(HasSubstr("not even 64")));
}

TEST(Advise, SumsAreTheirPartsAndVerdictsFollowThem) {
  const Advice advice = advice_on(llama_7b(), "RTX 4090", 4096, 4);
  for (const AdviceRow& row : advice.rows) {
    for (size_t k = 0; k < kCacheBits.size(); ++k) {
      EXPECT_EQ(row.total[k], row.weights.bytes + advice.activations + advice.cache[k]);
      const double share = static_cast<double>(row.total[k]) / 24e9;
      EXPECT_EQ(row.fit[k], share <= 0.9 ? Fit::fits : share <= 1 ? Fit::tight : Fit::no) << share;
    }
  }
  EXPECT_EQ(advice.rows[0].fit[0], Fit::tight);  // 13.5 + 8.6 + 0.8 GB
  EXPECT_EQ(advice.rows[0].fit[1], Fit::fits);
}

TEST(Advise, LongestContextsAreThoseThatStillFit) {
  const ServedModel model = llama_7b();
  const Gpu& gpu = find_gpu("RTX 4090");
  const Advice advice = advice_on(model, "RTX 4090", 4096, 2);
  for (const AdviceRow& row : advice.rows) {
    const int64_t most = row.tokens[1];
    const auto total = [&](int64_t context) {
      return row.weights.bytes + activation_bytes(model, context, 2) + kv_cache_bytes(model, context, 2, 8);
    };
    EXPECT_LE(static_cast<double>(total(most)), 0.9 * static_cast<double>(gpu.memory)) << row.precision->name;
    EXPECT_GT(static_cast<double>(total(most + 1)), 0.9 * static_cast<double>(gpu.memory))
        << row.precision->name;
  }
}

}  // namespace
}  // namespace lathe
