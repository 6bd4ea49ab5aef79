// The planner's arithmetic, against figures that the field quotes and sums done by hand; and the table of
// GPUs.
#include "recipes/deployment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <set>

#include "lib/base/error.h"
#include "recipes/parallel_degrees.h"
#include "recipes/served_model.h"
#include "tests/unit/recipes/served_models.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Sizes as a hostile config.json gives them: a sum that no 64 bits hold is never a small one.
TEST(KvCache, ThatIsTooLargeToCountIsSaidToBeTheLargest) {
  ServedModel model;
  model.hidden = model.intermediate = 1;
  model.attention = model.kv = int64_t{1} << 60;
  model.cache.assign(4, {int64_t{1} << 61, 0});
  EXPECT_EQ(kv_cache_bytes(model, 8, 1, 16), kMostServedBytes);
  EXPECT_EQ(kv_cache_bytes(model, 1, 1, 16), kMostServedBytes);
  EXPECT_EQ(activation_bytes(model, 8, 1), kMostServedBytes);
  EXPECT_LT(room_for_weights(model, 80'000'000'000, 8, 1, 16), 0);
  EXPECT_EQ(kv_cache_bytes(llama3_70b(), 1 << 24, 1 << 16, 16), uint64_t{80 * 4096} << 40);
  model.cache.assign(1, {3, 0});
  EXPECT_EQ(kv_cache_bytes(model, 3, 1, 4), 5u);  // 36 bits
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
  for (const ServedCache& cache : served_caches()) {
    EXPECT_THAT(kCacheBits, Contains(cache.bits));
    for (const std::string& generation : cache.generations)
      EXPECT_EQ(find_generation(generation).name, generation);
    EXPECT_FALSE(cache.type.empty() || cache.server.empty() || cache.how.empty() || cache.source.empty());
  }
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
  EXPECT_EQ(find_gpu("H20").name, "H20");
  EXPECT_EQ(find_gpu("RTX 4000").name, "RTX 4000 Ada");
  const auto refusal = [](const char* name) -> std::string {
    try {
      find_gpu(name);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  // Characters of a model's number are no name of it.
  for (const char* other : {"H10", "RTX A400", "RTX 409", "B20"})
    EXPECT_THAT(refusal(other), HasSubstr("unknown GPU")) << other;
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
  EXPECT_THAT(eight.why, Contains(HasSubstr("FP8 in vLLM: --kv-cache-dtype fp8")));
  EXPECT_THAT(eight.why, Contains(HasSubstr("recipes/kv-fp8.yaml")));
  const Advice large = advice_on(llama3_70b(), "RTX 4090", 4096, 1);
  EXPECT_EQ(large.gpus, 2);
  EXPECT_THAT(large.why, Contains(HasSubstr("tensor parallelism of 2")));
  const Advice never =
      advise(llama3_70b(), {.memory = 500'000'000, .gpu = nullptr, .context = 1 << 20, .batch = 64});
  EXPECT_FALSE(never.chosen);
  EXPECT_THAT(never.why, Contains(HasSubstr("not even 64")));
}

/// Of so many heads, of keys and values the second number.
ServedModel with_heads(ServedModel model, int64_t heads, int64_t kv_heads) {
  model.heads = heads;
  model.kv_heads = kv_heads;
  return model;
}

// Degrees as vLLM's asserts allow them.
TEST(Advise, DividesHeadsAsServersDo) {
  const auto degrees = [](const ServedModel& model) { return parallel_degrees(model); };
  EXPECT_THAT(degrees(llama3_70b()), ElementsAre(1, 2, 4, 8, 16, 32, 64)) << "heads that aren't known";
  EXPECT_THAT(degrees(with_heads(llama3_70b(), 64, 8)), ElementsAre(1, 2, 4, 8, 16, 32, 64));
  // SmolLM2-135M; and Qwen2.5-0.5B, whose intermediate size 7 and 14 don't divide.
  EXPECT_THAT(degrees(with_heads(llama(30, 576, 192, 1536, 49152), 9, 3)), ElementsAre(1, 3));
  EXPECT_THAT(degrees(with_heads(llama(24, 896, 128, 4864, 151936), 14, 2)), ElementsAre(1, 2));
  // 40 heads and 10 of keys and values (Phi-4): 4 neither divides 10 nor is a multiple of it.
  const ServedModel phi = with_heads(llama(40, 5120, 1280, 17920, 100352), 40, 10);
  EXPECT_THAT(degrees(phi), ElementsAre(1, 2, 5, 10, 20, 40));
  EXPECT_EQ(parallel_problem(phi, 4), "10 KV heads / 4");
  EXPECT_EQ(parallel_problem(phi, 3), "40 heads / 3");
  EXPECT_EQ(parallel_problem(llama_13b(), 3), "an unknown number of heads / 3");
  EXPECT_EQ(cache_copies(phi, 5), 1);
  EXPECT_EQ(cache_copies(phi, 40), 4);
  ServedModel latent = phi;
  latent.latent = true;
  EXPECT_THAT(degrees(latent), ElementsAre(1, 2, 4, 5, 8, 10, 20, 40));
  EXPECT_EQ(cache_copies(latent, 8), 8);
}

// Two GPUs would hold it, but 63 heads and 7 of keys and values go between 7 at the least.
TEST(Advise, TakesADegreeThatDividesHeads) {
  ServedModel model = with_heads(llama3_70b(), 64, 8);
  EXPECT_EQ(advice_on(model, "RTX 4090", 4096, 1).gpus, 2);
  model = with_heads(llama3_70b(), 63, 7);
  model.intermediate = 28665;  // 9 x 7 x 455
  const Advice odd = advice_on(model, "RTX 4090", 4096, 1);
  EXPECT_EQ(odd.gpus, 7);
  EXPECT_THAT(odd.why, Contains(HasSubstr("tensor parallelism of 7")));
  EXPECT_THAT(odd.why, Contains(AllOf(HasSubstr("63 heads / 2"), HasSubstr("63 heads / 4"),
                                      Not(HasSubstr("63 heads / 8")), HasSubstr("vllm"))));
  const Advice never =
      advise(model, {.memory = 500'000'000, .gpu = nullptr, .context = 1 << 20, .batch = 64});
  EXPECT_FALSE(never.chosen);
  EXPECT_THAT(never.why, Contains(HasSubstr("not even 63")));
  EXPECT_THAT(never.why, Contains(HasSubstr("63 heads / 64")));
}

// Beyond the KV heads, more GPUs hold more of the cache together, and each no less of it.
TEST(Advise, CountsKvHeadsThatStandOnSeveralGpus) {
  const ServedModel one = with_heads(llama3_70b(), 64, 8);
  ServedModel two = one;
  two.kv_heads = 2;
  const Deployment place{.memory = 16'000'000'000, .gpu = nullptr, .context = 131072, .batch = 1};
  const Advice split = advise(one, place), copied = advise(two, place);
  ASSERT_TRUE(split.chosen);
  ASSERT_TRUE(copied.chosen);
  EXPECT_EQ(split.cache_copies, std::max(1, split.gpus / 8));
  EXPECT_EQ(copied.cache_copies, copied.gpus / 2);
  EXPECT_GT(copied.gpus, split.gpus);
  const auto cache = copied.cache[copied.cache_bits] * static_cast<uint64_t>(copied.cache_copies);
  const AdviceRow& row = copied.rows[*copied.chosen];
  // So do the weights that make them, and each GPU keeps its own residual stream and logits.
  const uint64_t more = static_cast<uint64_t>(copied.gpus - 1);
  const uint64_t keys = static_cast<uint64_t>(copied.cache_copies - 1) * row.weights.kv_bytes;
  EXPECT_GT(row.weights.kv_bytes, 0u);
  EXPECT_EQ(copied.undivided, undivided_bytes(two, place.context, place.batch));
  EXPECT_EQ(on_all_gpus(copied, row, copied.cache_bits),
            row.weights.bytes + keys + copied.activations + more * copied.undivided + cache);
  EXPECT_THAT(copied.why, Contains(HasSubstr("and so do their weights, " +
                                             decimal_bytes(row.weights.bytes + keys) + " in all")));
  EXPECT_THAT(copied.why, Contains(HasSubstr("keeps the residual stream and the logits whole")));
  EXPECT_LE(static_cast<double>(on_all_gpus(copied, row, copied.cache_bits)) / copied.gpus,
            kServerShare * static_cast<double>(place.memory));
  EXPECT_THAT(copied.why, Contains(AllOf(HasSubstr("with 2 KV heads each stands on"),
                                         HasSubstr(decimal_bytes(cache) + " in all in place of"))));
  EXPECT_THAT(split.why, Not(Contains(HasSubstr("KV heads each stands on"))));
}

// vLLM computes with FP8 from compute capability 8.9 on.
TEST(Advise, ACacheOfEightBitsIsOneThatTheGenerationHas) {
  const auto why = [](const char* gpu, int64_t batch) {
    const Advice advice = advice_on(llama_7b(), gpu, 4096, batch);
    EXPECT_EQ(kCacheBits[advice.cache_bits], 8) << gpu;
    return advice.why;
  };
  EXPECT_THAT(why("RTX 3090", 10),
              AllOf(Contains(HasSubstr("INT8 in vLLM: --kv-cache-dtype int8_per_token_head")),
                    Not(Contains(HasSubstr("FP8 in")))));
  EXPECT_THAT(why("T4", 6), Contains(HasSubstr("INT8 in vLLM")));
  EXPECT_THAT(why("RTX 4090", 10), Contains(HasSubstr("FP8 in vLLM")));
  EXPECT_THAT(why("H100 SXM", 32), Contains(HasSubstr("FP8 in vLLM")));
  const Advice unknown = advise(llama_7b(), {.memory = 24'000'000'000, .context = 4096, .batch = 10});
  EXPECT_THAT(unknown.why, Contains(HasSubstr("FP8 in vLLM (Ada, Hopper, Blackwell): ")));
}

struct Said {
  std::string model, gpu;
  int64_t context, batch;
  std::string recipe;
  std::vector<std::string> why;           // of each part of a sentence
  std::vector<std::string> not_why = {};  // what would contradict the choice
};

void PrintTo(const Said& said, std::ostream* out) {
  *out << said.model << " on " << said.gpu << ", " << said.batch << " x " << said.context;
}

ServedModel model_named(const std::string& name) {
  return name == "8B" ? llama3_8b() : name == "70B" ? llama3_70b() : smollm2();
}

class AdviseWhy : public ::testing::TestWithParam<Said> {};

TEST_P(AdviseWhy, SpeaksForTheChoice) {
  const Said& said = GetParam();
  const Advice advice = advice_on(model_named(said.model), said.gpu, said.context, said.batch);
  EXPECT_EQ(advice.recipe, said.recipe);
  for (const std::string& part : said.why) EXPECT_THAT(advice.why, Contains(HasSubstr(part)));
  for (const std::string& part : said.not_why) EXPECT_THAT(advice.why, Not(Contains(HasSubstr(part))));
}

constexpr const char *kFp8 = "recipes/fp8-dynamic.yaml", *kInt8 = "recipes/smoothquant.yaml",
                     *kInt4 = "recipes/awq.yaml", *kNvfp4 = "recipes/nvfp4.yaml",
                     *kNvfp4Both = "recipes/nvfp4-w4a4.yaml";

INSTANTIATE_TEST_SUITE_P(
    ByHardware, AdviseWhy,
    ::testing::Values(
        // FP8, though INT4 has fewer bytes to read.
        Said{"8B",
             "H100 SXM",
             2048,
             1,
             kFp8,
             {"INT4's 5.73 GB of weights are read faster than FP8's 9.08 GB; but FP8 loses less",
              "3.13 against 3.18", "prompts are multiplied in FP8"},
             {"fewest bytes", "dequantised", "no FP8"}},
        Said{"8B", "L4", 8192, 8, kFp8, {"8 sequences at a time: decoding is bound by reading memory"}},
        Said{"8B", "H100 SXM", 2048, 32, kFp8, {"weights and activations in FP8 are multiplied natively"}},
        // Where FP8 doesn't fit on as few GPUs.
        Said{"70B",
             "H100 SXM",
             2048,
             32,
             kInt4,
             {"activations in 16 bits, for no recipe fits whose activations are multiplied natively",
              "FP8 weights don't fit: ", "dequantised to 16 when they are multiplied"},
             {"in FP8 are multiplied natively", "it has no FP8"}},
        Said{"8B",
             "T4",
             8192,
             32,
             kInt8,
             {"weights and activations in INT8 are multiplied natively", "it has no FP8"},
             {"dequantised", "activations in 16 bits"}},
        Said{"8B",
             "T4",
             2048,
             32,
             kInt4,
             {"activations in 16 bits, for no recipe fits whose", "INT8 weights don't fit: ",
              "dequantised to 16 when they are multiplied; native INT4 needs activations in it, too"}},
        Said{"8B",
             "A100 80GB SXM",
             2048,
             1,
             kInt4,
             {"INT4's weights are the fewest bytes, 5.73 GB", "it has no FP8"}},
        Said{"8B",
             "A100 80GB SXM",
             2048,
             32,
             kInt8,
             {"weights and activations in INT8 are multiplied natively"}},
        // A small card: INT4, though arithmetic counts.
        Said{"8B",
             "RTX 4090",
             2048,
             32,
             kInt4,
             {"activations in 16 bits, for a card of 24 GB and less holds more context with weights of 4 "
              "bits: "
              "recipes/fp8-dynamic.yaml would fit, too (",
              "24 GB and below: beside INT4's weights 18.27 GB are left, beside those in 16 bits 7.94 GB"},
             {"no recipe fits", "speed"}},
        Said{"8B", "RTX 4090", 6144, 32, kInt4, {"recipes/fp8-dynamic.yaml doesn't fit"}},
        Said{"8B",
             "RTX 3090",
             2048,
             32,
             kInt4,
             {"recipes/smoothquant.yaml would fit, too (", "it has no FP8"}},
        Said{"8B", "RTX 4090", 2048, 1, kInt4, {"INT4's weights are the fewest bytes"}},
        // NVFP4: of weights alone its products are in 16 bits.
        Said{"8B",
             "B200",
             2048,
             1,
             kNvfp4,
             {"INT4's 5.73 GB of weights are read faster than NVFP4's 6.03 GB; but NVFP4 is what this "
              "generation "
              "multiplies natively as soon as activations are quantised, too: recipes/nvfp4-w4a4.yaml",
              "dequantised to 16 when they are multiplied; native NVFP4 needs activations in it, too"},
             {"fewest bytes"}},
        Said{"8B",
             "B200",
             2048,
             32,
             kNvfp4Both,
             {"weights and activations in NVFP4 are multiplied natively"},
             {"dequantised"}},
        Said{"8B", "RTX 5090", 2048, 1, kNvfp4, {"INT4's 5.73 GB of weights are read faster"}},
        Said{
            "SmolLM2", "RTX 5080", 2048, 8, kNvfp4, {"16-bit weights would fit, too"}, {"24 GB and below"}}));

// Whatever is asked: no sentence but what the numbers and the choice bear out.
TEST(Advise, EverySentenceIsTrueOfItsChoice) {
  int advised = 0;
  for (const char* name : {"SmolLM2", "8B", "70B"}) {
    const ServedModel model = model_named(name);
    for (const Gpu& gpu : gpus()) {
      const GpuGeneration& generation = find_generation(gpu.generation);
      for (const int64_t batch : {1, 8, 32}) {
        for (const int64_t context : {2048, 8192, 32768}) {
          SCOPED_TRACE(fmt::format("{} on {}, {} x {}", name, gpu.name, batch, context));
          const Advice advice = advice_on(model, gpu.name, context, batch);
          ASSERT_TRUE(advice.chosen);
          ++advised;
          const AdviceRow& chosen = advice.rows[*advice.chosen];
          const std::string why = fmt::format("{}", fmt::join(advice.why, "\n"));
          const auto says = [&](const std::string& part) { return why.find(part) != std::string::npos; };
          const auto fits = [&](const std::string& precision) {
            for (const AdviceRow& row : advice.rows)
              if (row.precision->name == precision)
                return static_cast<double>(on_all_gpus(advice, row, 1) /
                                           static_cast<uint64_t>(advice.gpus)) <=
                       kServerShare * static_cast<double>(gpu.memory);
            return false;
          };
          const bool least = std::ranges::none_of(
              advice.rows, [&](const auto& row) { return row.weights.bytes < chosen.weights.bytes; });
          const bool many = batch >= kComputeBound, native = advice.recipe == chosen.precision->both;
          EXPECT_EQ(says("are the fewest bytes"), !many && least);
          EXPECT_EQ(says("are read faster than"), !many && !least);
          EXPECT_EQ(says("weights and activations in "), many && native);
          EXPECT_TRUE(!native || generation.computes(chosen.precision->arithmetic));
          EXPECT_EQ(says("activations in 16 bits, for"), many && !native);
          EXPECT_EQ(says("dequantised to 16"), !native);
          EXPECT_EQ(says("it has no FP8"), !generation.computes("FP8"));
          for (const char* other : {"FP8", "INT8", "NVFP4"})
            EXPECT_FALSE(says(fmt::format("{} weights don't fit", other)) && fits(other)) << other;
          EXPECT_FALSE(says("recipes/fp8-dynamic.yaml would fit") && !fits("FP8"));
          EXPECT_FALSE(says("recipes/fp8-dynamic.yaml doesn't fit") && fits("FP8"));
          EXPECT_FALSE(says("recipes/smoothquant.yaml would fit") && !fits("INT8"));
          EXPECT_FALSE(says("recipes/smoothquant.yaml doesn't fit") && fits("INT8"));
          EXPECT_EQ(says("tensor parallelism of"), advice.gpus > 1);
          EXPECT_EQ(says("16-bit weights would fit, too"),
                    advice.gpus == 1 && advice.rows[0].fit[0] == Fit::fits);
        }
      }
    }
  }
  EXPECT_GT(advised, 800);
}

// Between the sizes of whole recipes stand mixtures.
TEST(Advise, NamesAMixtureThatUsesTheRoom) {
  const auto why = [](const ServedModel& model, uint64_t memory) {
    const Advice advice = advise(model, {.memory = memory});
    return std::pair(advice.gpus, fmt::format("{}", fmt::join(advice.why, "\n")));
  };
  const uint64_t gib = uint64_t{1} << 30;
  const auto [small_gpus, small] = why(llama_7b(), 5 * gib + gib / 2);
  EXPECT_EQ(small_gpus, 2);
  EXPECT_THAT(small, HasSubstr("one GPU holds a mixture of 3 to 8 bits: recipes/fit-8gib.yaml"));
  const auto [gpus, middle] = why(llama_7b(), 8 * gib);
  EXPECT_EQ(gpus, 1);
  EXPECT_THAT(middle, AllOf(HasSubstr("more bits than 4 have room"),
                            HasSubstr("--set 'budget={vram: 8GiB, context: 4096, batch: 1}'")));
  EXPECT_THAT(why(llama_7b(), 80 * gib).second, Not(HasSubstr("fit-8gib")));
  EXPECT_THAT(why(llama_7b(), 2 * gib).second, Not(HasSubstr("fit-8gib"))) << "3 bits are too many, too";
}

TEST(Advise, WarnsOfAContextThatTheModelWasNotMadeFor) {
  ServedModel model = llama_7b();
  EXPECT_THAT(advice_on(model, "L4", 8192).warnings, IsEmpty());  // it isn't known
  model.positions = 8192;
  EXPECT_THAT(advice_on(model, "L4", 8192).warnings, IsEmpty());
  EXPECT_THAT(advice_on(model, "L4", 8193).warnings,
              ElementsAre(AllOf(HasSubstr("made for 8192 positions"), HasSubstr("a context of 8193"))));
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
