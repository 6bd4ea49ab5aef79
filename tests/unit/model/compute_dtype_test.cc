#include "lib/model/compute_dtype.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

const c10::Device kCpu(c10::kCPU), kCuda(c10::kCUDA, 0);

TEST(ComputeDType, AutoIsFp32OnTheCpuAndTheCheckpointsOnAGpu) {
  for (const DType checkpoint : {DType::F32, DType::BF16, DType::F16}) {
    EXPECT_EQ(resolve_compute_dtype("auto", kCpu, checkpoint), DType::F32);
    EXPECT_EQ(resolve_compute_dtype("auto", kCuda, checkpoint), checkpoint);
  }
}

TEST(ComputeDType, AWordIsTakenOnEveryDevice) {
  for (const c10::Device device : {kCpu, kCuda}) {
    EXPECT_EQ(resolve_compute_dtype("f32", device, DType::BF16), DType::F32);
    EXPECT_EQ(resolve_compute_dtype("bf16", device, DType::F16), DType::BF16);
    EXPECT_EQ(resolve_compute_dtype("f16", device, DType::F32), DType::F16);
  }
}

TEST(ComputeDType, RefusesAnotherWord) {
  for (const char* word : {"", "fp32", "F32", "int8", "auto "}) {
    EXPECT_EQ(user_error_of([&] { resolve_compute_dtype(word, kCpu, DType::F32); }),
              fmt::format("compute dtype '{}': expected auto, f32, bf16 or f16", word));
  }
}

/// What a block makes of hidden states, and where its router (if it has one) sends each token.
struct Passed {
  at::Tensor out;      // [b, s, hidden]
  at::Tensor experts;  // Long [b * s, per_token], ascending in a row; undefined in a dense block
};

Passed run(const SmallModel& model, const BlockWeights& weights, const at::Tensor& hidden) {
  const RopeTables rope = rope_tables(model.graph.config, hidden.size(1), at::kCPU);
  const BlockForward forward(model.graph.config, model.block(), weights, rope);
  Passed run{forward.run(hidden), {}};
  if (!model.block().experts) return run;
  const at::Tensor attended =
      forward.add_attention(hidden, forward.attention_out(forward.attention_in(hidden)));
  const at::Tensor y = forward.mlp_in(attended);
  run.experts = std::get<0>(forward.route(y.reshape({-1, y.size(-1)})).experts.sort(1, /*descending=*/false));
  return run;
}

/// What a block adds to the hidden states, compared in the Euclidean norm. Tokens that went to other experts,
/// because two were about equally likely, are left out; half of them must remain.
double difference_of_steps(const Passed& a, const Passed& b, const at::Tensor& hidden) {
  const at::Tensor difference = (a.out - b.out).flatten(0, 1), step = (b.out - hidden).flatten(0, 1);
  const at::Tensor same =
      a.experts.defined() ? a.experts.eq(b.experts).all(1) : at::ones({step.size(0)}, at::kBool);
  EXPECT_GT(same.sum().item<int64_t>(), step.size(0) / 2);
  const at::Tensor rows = same.nonzero().squeeze(1);
  return (difference.index_select(0, rows).norm() / step.index_select(0, rows).norm()).item<double>();
}

// A product of length k rounded to a mantissa of m bits has a relative error near 2^-(m + 1), as its rounded
// factors have; six such steps follow one another in a block.
constexpr double kBf16Tolerance = 6.0 / 256, kF16Tolerance = 6.0 / 2048;

TEST(ComputeDType, AHalfPrecisionBlockIsAsCloseToFp32AsItsRoundingAllows) {
  for (const std::string& family : all_families()) {
    const SmallModel model(family_config(family));
    const at::Tensor hidden = random_hidden(2, 9);
    const Passed exact = run(model, model.weights, hidden);
    for (const auto& [dtype, tolerance] :
         {std::pair(DType::BF16, kBf16Tolerance), {DType::F16, kF16Tolerance}}) {
      const BlockWeights weights(model.block(), model.source, at::kCPU, dtype);
      const Passed half = run(model, weights, hidden);
      EXPECT_EQ(half.out.scalar_type(), at::kFloat) << "the residual stream";
      const double difference = difference_of_steps(half, exact, hidden);
      EXPECT_LT(difference, tolerance) << name_of(dtype) << " " << family;
      EXPECT_GT(difference, tolerance / 100) << "not computed in " << name_of(dtype);
    }
  }
}

TEST(ComputeDType, LinearsSeeInputsOfTheComputeDtype) {
  const SmallModel model(small_config("qwen3"));
  const RopeTables rope = rope_tables(model.graph.config, 9, at::kCPU);
  const BlockWeights weights(model.block(), model.source, at::kCPU, DType::BF16);
  const BlockForward forward(model.graph.config, model.block(), weights, rope);
  const at::Tensor hidden = random_hidden(2, 9), x = forward.attention_in(hidden),
                   a = forward.attention_out(x);
  const at::Tensor y = forward.mlp_in(forward.add_attention(hidden, a)), z = forward.mlp_mid(y);
  for (const at::Tensor& input : {x, a, y, z}) EXPECT_EQ(input.scalar_type(), at::kBFloat16);
}

TEST(ComputeDType, KeepsWeightsAsTheyWereGivenAndRoundsEachNewOne) {
  const SmallModel model(small_config("qwen2"));
  BlockWeights weights(model.block(), model.source, at::kCPU, DType::BF16);
  const Linear& k = *model.block().find(LinearRole::k_proj);
  EXPECT_TRUE(at::equal(weights.weight(k), model.weights.weight(k)));
  EXPECT_TRUE(at::equal(weights.compute_weight(k), model.weights.weight(k).to(at::kBFloat16)));
  const at::Tensor other = at::randn({k.out, k.in}), bias = at::randn({k.out});
  weights.compute_bias(k);
  weights.set_weight(k, other);
  weights.set_bias(k, bias);
  EXPECT_TRUE(at::equal(weights.weight(k), other));
  EXPECT_TRUE(at::equal(weights.compute_weight(k), other.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(weights.compute_bias(k), bias.to(at::kBFloat16)));
}

TEST(ComputeDType, WeightsHeldInHalfPrecisionAreReadAsFp32) {
  const SmallModel model(small_config());
  BlockWeights weights(model.block(), model.source, at::kCPU, DType::BF16);
  weights.replace_each([](const at::Tensor& tensor) { return tensor.to(at::kBFloat16); });
  const Linear& k = *model.block().find(LinearRole::k_proj);
  EXPECT_EQ(weights.weight(k).scalar_type(), at::kFloat);
  EXPECT_EQ(weights.norm(model.block().mlp_norm).scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(weights.weight(k), model.weights.weight(k).to(at::kBFloat16).to(at::kFloat)));
}

}  // namespace
}  // namespace lathe
