// pack -> unpack of every layout over many shapes, and what each refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/layouts/marlin.h"
#include "tests/unit/formats/layouts/layout_fixture.h"

namespace lathe {
namespace {

using test::layout_named;
using test::planned;
using ::testing::HasSubstr;

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || (a.scalar_type() == b.scalar_type() && a.equal(b)));
}

void expect_round_trip(const KernelLayout& layout, const PlannedLinear& linear,
                       const QuantizedTensor& tensor) {
  SCOPED_TRACE(fmt::format("{}: {} [{}, {}]{}", layout.name, linear.scheme.describe(), linear.out, linear.in,
                           linear.group_index ? " act order" : ""));
  std::vector<at::Tensor> contents;
  for (const PlannedTensor& planned : layout.tensors(linear))
    contents.push_back(test::packed(layout, linear, tensor).at(planned.name.substr(2)));
  const QuantizedTensor back = layout.unpack(linear, contents);
  EXPECT_TRUE(same(back.codes, tensor.codes));
  EXPECT_TRUE(same(back.scales, tensor.scales));
  EXPECT_TRUE(same(back.zero_points, tensor.zero_points));
  EXPECT_TRUE(same(back.group_index, tensor.group_index));
  EXPECT_TRUE(back.scheme == tensor.scheme && back.scale_dtype == tensor.scale_dtype);
  EXPECT_TRUE(layout.notes(linear).contains("stored_shape"));
}

/// Every width, group and shape of a layout's: round trip where it holds it, a reason where it doesn't.
void try_all(const KernelLayout& layout, int& held, int& refused) {
  for (const int bits : {2, 3, 4, 5, 8}) {
    for (const int64_t group : {16, 32, 64, 128, -1}) {
      for (const bool symmetric : {true, false}) {
        for (const DType type : {DType::F16, DType::BF16}) {
          for (const auto& [out, in] : {std::pair<int64_t, int64_t>{128, 128},
                                        {64, 64},
                                        {72, 192},
                                        {8, 32},
                                        {136, 320},
                                        {1, 64},
                                        {256, 384},
                                        {33, 160}}) {
            PlannedLinear linear = planned(out, in, {"int", bits, group, symmetric}, type);
            if (!linear.scheme.divides(in)) continue;
            for (const bool act_order : {false, true}) {
              linear.group_index = act_order;
              if (layout.refuses(linear)) {
                ++refused;
                continue;
              }
              expect_round_trip(layout, linear,
                                act_order ? test::reordered(linear) : test::known_tensor(linear));
              ++held;
            }
          }
        }
      }
    }
  }
}

TEST(Layout, PackThenUnpackIsBitExactOverOddShapes) {
  for (const KernelLayout& layout : kernel_layouts()) {
    int held = 0, refused = 0;
    try_all(layout, held, refused);
    if (layout.name == "nvfp4-swizzled") {
      EXPECT_EQ(held, 0);
    } else {
      EXPECT_GT(held, 4) << layout.name;
    }
    EXPECT_GT(refused, 0) << layout.name;
  }
}

/// Codes and scales that random bits make.
QuantizedTensor float_tensor(const PlannedLinear& linear) {
  const auto [rows, groups] = linear.scheme.parameter_shape(linear.out, linear.in);
  QuantizedTensor tensor{linear.scheme, linear.scheme.scale_type(DType::F32), {}, {}, {}};
  const int64_t codes = linear.scheme.bits == 4 ? 16 : 126;
  tensor.codes = at::randint(0, codes, {linear.out, linear.in}, at::kByte).view(at::kChar);
  tensor.scales = at::randint(-6, 6, {rows, groups}, at::kFloat).exp2();  // of both types of codes
  if (linear.scheme.has_global_scale()) tensor.global_scale = at::full({}, 0.0123f);
  if (linear.activations) tensor.input = InputQuantizer{.scheme = *linear.activations};
  if (linear.activations && linear.activations->calibrated()) tensor.input->scale = 0.5f;
  return tensor;
}

TEST(Layout, ScaleTilesOfFloatingPointGridsComeBack) {
  at::manual_seed(9);
  const KernelLayout& layout = layout_named("nvfp4-swizzled");
  for (const char* type : {"nvfp4", "mxfp4", "mxfp8"}) {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{128, 128}, {1, 32}, {130, 96}, {300, 544}}) {
      for (const bool activations : {false, true}) {
        SCOPED_TRACE(fmt::format("{} [{}, {}] {}", type, out, in, activations));
        PlannedLinear linear = planned(out, in, Scheme::of_floats(type));
        if (activations) linear.activations = ActivationScheme::of_floats(type);
        ASSERT_EQ(layout.refuses(linear), std::nullopt);
        const QuantizedTensor tensor = float_tensor(linear);
        const auto contents = layout.pack(linear, tensor);
        const auto tensors = layout.tensors(linear);
        ASSERT_EQ(contents.size(), tensors.size());
        for (size_t i = 0; i < tensors.size(); ++i)
          EXPECT_EQ(info_of(contents[i]), tensors[i].info) << tensors[i].name;
        const QuantizedTensor back = layout.unpack(linear, contents);
        EXPECT_TRUE(back.codes.equal(tensor.codes) && back.scales.equal(tensor.scales));
        if (tensor.global_scale.defined()) {
          EXPECT_TRUE(back.global_scale.equal(tensor.global_scale));
        }
        ASSERT_EQ(back.input.has_value(), activations);
        if (activations) {
          EXPECT_EQ(back.input->scale, tensor.input->scale);
        }
        // The tile that CUTLASS's SfAtom has: row r, column c at ((r / 128) * columns / 4 + c / 4) * 512 + (r
        // % 32) * 16 + (r % 128) / 32 * 4 + c % 4.
        const int64_t r = out - 1, c = tensor.scales.size(1) - 1, wide = contents[1].size(1);
        const int64_t place = (r / 128 * (wide / 4) + c / 4) * 512 + r % 32 * 16 + r % 128 / 32 * 4 + c % 4;
        const float expected = tensor.scales[r][c].item<float>();
        const at::Tensor byte = contents[1].view(at::kByte).flatten()[place];
        if (std::string_view(type) == "nvfp4") {
          EXPECT_EQ(decode_float(kE4M3, byte.item<uint8_t>()), expected);
        } else {
          EXPECT_EQ(decode_e8m0(byte.item<uint8_t>()), expected);
        }
      }
    }
  }
  PlannedLinear mixed = planned(128, 128, Scheme::of_floats("nvfp4"));
  mixed.activations = ActivationScheme::of_floats("fp8_e4m3");
  EXPECT_THAT(layout.refuses(mixed).value_or(""), HasSubstr("activations of the same kind"));
  EXPECT_THAT(layout.refuses(planned(128, 40, Scheme::of_floats("nvfp4"))).value_or(""),
              HasSubstr("multiple of 16"));
  for (const char* other : {"marlin", "machete", "trtllm", "exllama"})
    EXPECT_NE(layout_named(other).refuses(planned(128, 128, Scheme::of_floats("nvfp4"))), std::nullopt)
        << other;
}

TEST(Layout, ExtremeScalesKeepTheirZeroPoints) {
  // Products of scale and zero point in the type's subnormals, and scales at the top of what they allow.
  for (const char* name : {"machete", "trtllm", "awq-gemv-fast-layout"}) {
    for (const float scale : {5.9604645e-8f, 6.1035156e-5f, 200.0f}) {
      const PlannedLinear linear = planned(128, 128, {"int", 4, 64, false});
      QuantizedTensor tensor = test::known_tensor(linear);
      tensor.scales.fill_(scale);
      expect_round_trip(layout_named(name), linear, tensor);
    }
  }
  for (const char* name : {"machete", "trtllm"}) {
    const PlannedLinear linear = planned(128, 128, {"int", 8, 64, false});
    expect_round_trip(layout_named(name), linear, test::known_tensor(linear));
    const PlannedLinear narrow = planned(128, 128, {"int", 8, 64, false}, DType::BF16);
    EXPECT_THAT(layout_named(name).refuses(narrow).value_or(""), HasSubstr("BF16 has 8 bits"));
  }
  const PlannedLinear linear = planned(128, 128, {"int", 8, 64, false});
  QuantizedTensor tensor = test::known_tensor(linear);
  tensor.scales.fill_(60000);
  EXPECT_THROW(layout_named("machete").pack(linear, tensor), UserError);
}

std::string reason(const char* layout, const PlannedLinear& linear) {
  return layout_named(layout).refuses(linear).value_or("");
}

TEST(Layout, RefusalsNameTheKernelsRule) {
  const Scheme four{"int", 4, 64, true}, eight_zeros{"int", 8, 64, false}, three{"int", 3, 64, true};
  EXPECT_THAT(reason("marlin", planned(64, 64, eight_zeros)),
              HasSubstr("4 or 8 bits without zero points, 4 with"));
  EXPECT_THAT(reason("marlin", planned(64, 96, {"int", 4, 48, true})), HasSubstr("group_size 48"));
  EXPECT_THAT(reason("machete", planned(576, 576, four)),
              HasSubstr("576 output features are not a multiple of 128"));
  EXPECT_THAT(reason("machete", planned(128, 128, {"int", 4, 32, true})), HasSubstr("group_size 32"));
  EXPECT_THAT(reason("trtllm", planned(72, 128, four)), HasSubstr("cutlass_preprocessors.cpp"));
  EXPECT_THAT(reason("trtllm", planned(128, 128, {"int", 4, -1, false})),
              HasSubstr("zero points need groups"));
  EXPECT_THAT(reason("exllama", planned(128, 128, {"int", 4, -1, true})), HasSubstr("takes groups only"));
  EXPECT_THAT(reason("exllama", planned(128, 128, four, DType::BF16)), HasSubstr("the kernel has F16 only"));
  EXPECT_THAT(reason("exllama", planned(40, 64, three)),
              HasSubstr("40 output features are not a multiple of 32"));
  EXPECT_THAT(reason("awq-gemv-layout", planned(128, 128, four)),
              HasSubstr("takes no bits without zero points"));
  EXPECT_THAT(reason("nvfp4-swizzled", planned(128, 128, four)), HasSubstr("int4 sym g64 has none of"));
  PlannedLinear quantised_input = planned(128, 128, four);
  quantised_input.activations = ActivationScheme{};
  EXPECT_THAT(reason("marlin", quantised_input), HasSubstr("16-bit activations"));
  PlannedLinear act_order = planned(128, 128, four);
  act_order.group_index = true;
  EXPECT_THAT(reason("trtllm", act_order), HasSubstr("no activation order"));
  EXPECT_EQ(reason("marlin", act_order), "");
}

TEST(Layout, MarlinPadsToTheCheaperFamilyOfTiles) {
  using layouts::marlin_padded;
  const auto sides = [](layouts::MarlinShape shape) { return std::pair(shape.out, shape.in); };
  EXPECT_EQ(sides(marlin_padded(64, 128, -1)), std::pair(int64_t{64}, int64_t{128}));
  EXPECT_EQ(sides(marlin_padded(128, 64, 64)), std::pair(int64_t{128}, int64_t{64}));
  EXPECT_EQ(sides(marlin_padded(576, 576, 64)),
            std::pair(int64_t{576}, int64_t{640}));  // 640 x 576 costs the same
}

}  // namespace
}  // namespace lathe
