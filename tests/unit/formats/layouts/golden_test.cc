// Our packers against the kernels' own: tests/golden/layouts, whose README says which code made what.
#include <gtest/gtest.h>

#include "lib/kernels/code_layout.h"
#include "tests/unit/formats/golden_file.h"
#include "tests/unit/formats/layouts/layout_fixture.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::known_tensor;
using test::layout_named;
using test::packed;
using test::planned;

const at::Tensor& golden(const std::string& name) {
  static const test::GoldenFile file("layouts/layouts.safetensors");
  return file.at(name);
}

Scheme scheme(int bits, int64_t group, bool symmetric) { return {"int", bits, group, symmetric}; }

std::map<std::string, at::Tensor> packed_known(const std::string& layout, const PlannedLinear& linear) {
  return packed(layout_named(layout), linear, known_tensor(linear));
}

/// Made by the kernels' own loaders from scales and zero points alone (make_layout_parameters.py).
const at::Tensor& loaded(const std::string& name) {
  static const test::GoldenFile file("layouts/parameters.safetensors");
  return file.at(name);
}

/// Bit for bit, whatever the shape; products of 0 have either sign.
void expect_same(const at::Tensor& ours, const std::string& name, const at::Tensor& theirs) {
  EXPECT_EQ(ours.scalar_type(), theirs.scalar_type()) << name;
  EXPECT_TRUE(at::equal(ours.flatten(), theirs.flatten())) << name;
}

void expect_same(const at::Tensor& ours, const std::string& name) { expect_same(ours, name, golden(name)); }
void expect_loaded(const at::Tensor& ours, const std::string& name) {
  EXPECT_EQ(ours.sizes(), loaded(name).sizes()) << name;
  expect_same(ours, name, loaded(name));
}

TEST(LayoutGolden, MarlinAsVllmMakesIt) {
  for (const int bits : {4, 8}) {
    const auto grouped = packed_known("marlin", planned(128, 256, scheme(bits, 64, true)));
    expect_same(grouped.at("qweight"), fmt::format("marlin{}", bits));
    expect_same(grouped.at("scales"), "marlin_scales_g64");
  }
  // The kernel multiplies no 8-bit weights with zero points, but its packer has them.
  for (const int bits : {4, 8}) {
    expect_same(packed_known("marlin", planned(128, 256, scheme(bits, 64, false))).at("qzeros"),
                fmt::format("marlin{}_zeros_g64", bits));
  }
  expect_same(packed_known("marlin", planned(128, 256, scheme(4, -1, true))).at("scales"),
              "marlin_scales_channel");
}

TEST(LayoutGolden, MarlinTakesColumnsInTheOrderThatGptqmodelsLoaderSays) {
  PlannedLinear linear = planned(128, 256, scheme(4, 64, true));
  linear.group_index = true;
  QuantizedTensor tensor = known_tensor(linear);
  tensor.group_index = golden("marlin_order_groups");
  const auto ours = packed(layout_named("marlin"), linear, tensor);
  expect_same(ours.at("g_idx"), "marlin_order_g_idx");
  expect_same(ours.at("g_idx_sort_indices"), "marlin_order_indices");
  expect_same(ours.at("qweight"), "marlin4_order");
  expect_same(ours.at("scales"), "marlin_scales_g64");
}

TEST(LayoutGolden, MarlinPadsAsVllmDoes) {
  const auto padded = packed_known("marlin", planned(72, 96, scheme(4, 32, true)));
  EXPECT_EQ(padded.at("qweight").sizes(), golden("marlin4_padded").sizes());
  expect_same(padded.at("scales"), "marlin_scales_g32_padded");
  // Padded codes are 0 there, too, and the scales' zeros cancel them.
  expect_same(padded.at("qweight"), "marlin4_padded");
}

TEST(LayoutGolden, MacheteAsItsCuteLayoutSays) {
  for (const int bits : {4, 8}) {
    expect_same(packed_known("machete", planned(256, 128, scheme(bits, 64, true))).at("weight_packed"),
                fmt::format("machete{}", bits));
  }
}

TEST(LayoutGolden, TensorRtLlmOfEachGeneration) {
  for (const int bits : {4, 8}) {
    const PlannedLinear linear = planned(128, 128, scheme(bits, 64, true));
    for (const auto& [layout, generation] :
         {std::pair("trtllm", 80), {"trtllm-sm90", 90}, {"trtllm-sm100", 100}}) {
      expect_same(packed_known(layout, linear).at("weight").view(at::kInt),
                  fmt::format("trtllm{}_sm{}", bits, generation));
    }
  }
}

TEST(LayoutGolden, ExllamaAsExllamaV2ShufflesGptqsWords) {
  for (const int bits : {2, 4}) {
    const PlannedLinear linear = planned(bits == 2 ? 48 : 40, 96, scheme(bits, 32, true));
    const at::Tensor ours = packed_known("exllama", linear).at("qweight");
    EXPECT_TRUE(at::equal(ours.slice(1, 0, 40), golden(fmt::format("exllama{}", bits)))) << bits;
  }
  const PlannedLinear three = planned(64, 96, scheme(3, 32, true));
  EXPECT_TRUE(at::equal(packed_known("exllama", three).at("qweight").slice(1, 0, 40), golden("exllama3")));
}

TEST(LayoutGolden, MacheteParametersAsVllmLoadsThem) {
  for (const int bits : {4, 8}) {
    const auto ours = packed_known("machete", planned(128, 256, scheme(bits, 64, false)));
    expect_loaded(ours.at("weight_scale"), "machete_scales");
    expect_loaded(ours.at("weight_zero_point"), fmt::format("machete{}_zeros", bits));
  }
}

TEST(LayoutGolden, ExllamaParametersAsVllmLoadsThem) {
  for (const int bits : {4, 8}) {
    const auto ours = packed_known("exllama", planned(96, 256, scheme(bits, 64, true)));
    expect_loaded(ours.at("scales"), "exllama_scales");
    expect_loaded(ours.at("qzeros"), fmt::format("exllama{}_symmetric_zeros", bits));
  }
}

/// With zero points of its own the kernel takes the words of GPTQ's version 2 (use_v2_format).
TEST(LayoutGolden, ExllamaZerosAreThoseThatGptqmodelPacks) {
  for (const int bits : {2, 3, 4, 8}) {
    const auto stored = test::read_safetensors(
        fmt::format(LATHE_SOURCE_DIR "/tests/golden/gptq/w{}_asym_g32.safetensors", bits));
    const at::Tensor& zeros = stored.at("in.zeros");
    const PlannedLinear linear = planned(zeros.size(0), zeros.size(1) * 32, scheme(bits, 32, false));
    QuantizedTensor tensor = known_tensor(linear);
    tensor.zero_points = (zeros.to(at::kShort) + linear.scheme.qmin()).to(at::kChar);
    EXPECT_TRUE(packed(layout_named("exllama"), linear, tensor).at("qzeros").equal(stored.at("qzeros_v2")))
        << bits;
  }
}

TEST(LayoutGolden, TensorRtLlmParametersAsItConvertsThem) {
  const auto four = packed_known("trtllm", planned(128, 256, scheme(4, 64, false)));
  expect_loaded(four.at("weights_scaling_factor"), "trtllm_scales");
  expect_loaded(four.at("zero"), "trtllm4_zeros");
  // Its 8-bit conversion wraps beyond 127: zero points of 1 to 128 only.
  const PlannedLinear linear = planned(128, 256, scheme(8, 64, false));
  QuantizedTensor eight = known_tensor(linear);
  eight.zero_points = (eight.zero_points.to(at::kShort) + 128).bitwise_and(127).sub(127).to(at::kChar);
  expect_loaded(packed(layout_named("trtllm"), linear, eight).at("zero"), "trtllm8_small_zeros");
}

TEST(LayoutGolden, GemvAsAutoAwqPacksIt) {
  const auto plain = packed_known("awq-gemv-layout", planned(24, 256, scheme(4, 32, false)));
  const auto fast = packed_known("awq-gemv-fast-layout", planned(24, 256, scheme(4, 64, false)));
  for (const char* name : {"qweight", "qzeros", "scales"}) {
    expect_same(plain.at(name), std::string("awq_gemv_") + name);
    expect_same(fast.at(name), std::string("awq_gemv_fast_") + name);
  }
}

TEST(LayoutGolden, ScaleTilesAsVllmSwizzlesThem) {
  const at::Tensor scales = test::table<uint8_t>(
      200, 10, at::kByte, [](int64_t n, int64_t k) { return test::mixed(n, k, 3) & 0x7F; });
  expect_same(kernels::swizzle_scales(scales), "swizzled");
}

}  // namespace
}  // namespace lathe
