// Weights on floating-point grids, against what modelopt and compressed-tensors make of the same matrix.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/kernels/group_quant.h"
#include "tests/unit/formats/golden_file.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe {
namespace {

using test::Rounded;
using test::rounded;
using test::tensor_of;

using namespace kernels;

const test::GoldenFile& golden() {
  static const test::GoldenFile file("floats/floats.safetensors");
  return file;
}

at::Tensor weight() { return golden().at("in.weight").to(at::kFloat); }

at::Tensor first_rows(const at::Tensor& codes, const at::Tensor& of) { return codes.slice(0, 0, of.size(0)); }

/// Byte [rows, in / 2], the even column in the low half.
at::Tensor nibbles(const at::Tensor& codes) {
  const at::Tensor bytes = codes.contiguous().view(at::kByte).view({codes.size(0), -1, 2});
  return bytes.select(2, 0).bitwise_or(bytes.select(2, 1).bitwise_left_shift(4));
}

TEST(FloatLibrary, Fp8IsModeloptsBitForBit) {
  const Scheme channel = Scheme::of_floats("fp8_e4m3"), tensor = Scheme::of_floats("fp8_e4m3", -1, -1);
  const Rounded rows = rounded(weight(), channel), whole = rounded(weight(), tensor);
  const at::Tensor& expected = golden().at("modelopt.fp8_pc_pt.weight");
  EXPECT_TRUE(rows.params.scales.view({-1}).equal(golden().at("modelopt.fp8_pc_pt.weight_scale")));
  EXPECT_TRUE(first_rows(rows.codes, expected).view(at::kByte).equal(expected.view(at::kByte)));
  const at::Tensor& single = golden().at("modelopt.fp8_per_tensor.weight");
  EXPECT_TRUE(one_row_each(whole.params.scales, tensor)
                  .reshape({})
                  .equal(golden().at("modelopt.fp8_per_tensor.weight_scale")));
  // modelopt divides in the weights' BF16 here, and so rounds twice; never nearer than one rounding of the
  // quotient.
  const at::Tensor part = first_rows(golden().at("in.weight"), single),
                   scale = golden().at("modelopt.fp8_per_tensor.weight_scale");
  EXPECT_TRUE((part / scale).to(at::kFloat8_e4m3fn).view(at::kByte).equal(single.view(at::kByte)));
  const at::Tensor exact = part.to(at::kFloat),
                   own = first_rows(tensor_of(whole, tensor).dequantize(), single);
  EXPECT_TRUE(((own - exact).abs() <= (single.to(at::kFloat) * scale - exact).abs()).all().item<bool>());
}

TEST(FloatLibrary, Nvfp4IsModeloptsBitForBitUnderItsGlobalScale) {
  const Scheme scheme = Scheme::of_floats("nvfp4");
  const at::Tensor& global = golden().at("modelopt.nvfp4.weight_scale_2");
  // Ours is rounded so that its reciprocal stands for it, too: one bit beside modelopt's at most.
  const at::Tensor own = global_scale(weight().abs().max());
  EXPECT_LE((own.view(at::kInt) - global.view(at::kInt)).abs().item<int>(), 1);
  for (const at::Tensor& used : {global, own}) {
    const GroupParams params = group_params(group_min_max(weight(), scheme), scheme, DType::F32, used);
    EXPECT_TRUE(params.scales.equal(golden().at("modelopt.nvfp4.weight_scale").to(at::kFloat)));
    const at::Tensor codes = group_encode(weight(), params, scheme);
    const at::Tensor& expected = golden().at("modelopt.nvfp4.weight");
    // The last bit of the global scale decides where a weight lies exactly between two numbers.
    const int64_t others = nibbles(first_rows(codes, expected)).ne(expected).sum().item<int64_t>();
    EXPECT_LE(others, used.is_same(global) ? 0 : 8);
  }
  const GroupParams params = group_params(group_min_max(weight(), scheme), scheme, DType::F32, global);
  const at::Tensor& values = golden().at("modelopt.nvfp4.dequant");
  const at::Tensor found = tensor_of({params, group_encode(weight(), params, scheme)}, scheme).dequantize();
  EXPECT_TRUE(first_rows(found, values).equal(values));
  EXPECT_TRUE(group_fake_quantize(weight(), params, scheme).equal(found));
}

/// What a target writes, by suffix.
std::map<std::string, at::Tensor> written(const char* target, const QuantizedTensor& tensor) {
  std::map<std::string, at::Tensor> result;
  for (auto& [name, value] : find_target(target).pack("m", tensor)) result[name.substr(2)] = value;
  return result;
}

/// Bytes of the rows that the golden file keeps.
void expect_bytes(const at::Tensor& ours, const std::string& name) {
  const at::Tensor& expected = golden().at(name);
  EXPECT_EQ(ours.scalar_type(), expected.scalar_type()) << name;
  const at::Tensor part = expected.dim() == 0 ? ours : first_rows(ours, expected);
  EXPECT_EQ(part.sizes(), expected.sizes()) << name;
  EXPECT_TRUE(part.contiguous().view(at::kByte).equal(expected.view(at::kByte))) << name;
}

TEST(FloatLibrary, Int4OfModeloptIsWrittenByteForByte) {
  // Its step is max|w| / 7; the codes are W / step.
  const Scheme scheme{.type = "int", .bits = 4, .group_size = 128, .symmetric = true};
  const at::Tensor steps = weight().view({128, 2, 128}).abs().amax(-1) / 7;
  const at::Tensor codes = (weight() / steps.repeat_interleave(128, 1)).round().clamp(-8, 7).to(at::kChar);
  const auto tensors = written("modelopt", {scheme, DType::F32, codes, steps, {}});
  expect_bytes(tensors.at("weight"), "modelopt.int4_awq_g128.weight");
  expect_bytes(tensors.at("weight_scale"), "modelopt.int4_awq_g128.weight_scale");
}

/// compressed-tensors divides in the weights' BF16, which rounds twice: its codes are made so here.
TEST(FloatLibrary, Fp8OfCompressedTensorsIsWrittenByteForByte) {
  for (const auto& [name, scheme] : {std::pair("fp8", Scheme::of_floats("fp8_e4m3", -1, -1)),
                                     {"fp8_dynamic", Scheme::of_floats("fp8_e4m3")},
                                     {"fp8_block", Scheme::of_floats("fp8_e4m3", 128, 128)}}) {
    SCOPED_TRACE(name);
    QuantizedTensor tensor = tensor_of(rounded(weight(), scheme, DType::BF16), scheme, DType::BF16);
    const at::Tensor scales =
        tensor.scales.to(at::kBFloat16).repeat_interleave(128 / tensor.scales.size(0), 0);
    const at::Tensor quotients = golden().at("in.weight") / scales.repeat_interleave(256 / scales.size(1), 1);
    const at::Tensor own = tensor.codes.clone();
    tensor.codes = quotients.clamp(-448, 448).to(at::kFloat8_e4m3fn).view(at::kChar);
    EXPECT_GT(own.eq(tensor.codes).to(at::kFloat).mean().item<float>(), 0.9);
    const auto tensors = written("compressed-tensors", tensor);
    expect_bytes(tensors.at("weight"), std::string("ct.") + name + ".weight");
    expect_bytes(tensors.at("weight_scale"), std::string("ct.") + name + ".weight_scale");
    const at::Tensor& values = golden().at(std::string("ct.") + name + ".dequant");  // rounded to BF16
    const at::Tensor found = tensor.dequantize().to(at::kBFloat16).to(at::kFloat);
    EXPECT_TRUE(first_rows(found, values).equal(values));
  }
}

/// Groups of zeros, where any scale is right: the library's is another.
at::Tensor groups_of_zeros(int64_t length) { return weight().view({128, -1, length}).eq(0).all(-1); }

TEST(FloatLibrary, Nvfp4OfCompressedTensorsIsWrittenByteForByte) {
  const Scheme scheme = Scheme::of_floats("nvfp4");
  const at::Tensor stored = golden().at("ct.nvfp4.weight_global_scale");
  const at::Tensor global = stored.reciprocal().reshape({});
  const GroupParams params = group_params(group_min_max(weight(), scheme), scheme, DType::F32, global);
  const auto tensors =
      written("compressed-tensors", tensor_of({params, group_encode(weight(), params, scheme)}, scheme));
  EXPECT_TRUE(tensors.at("weight_global_scale").equal(stored));
  const at::Tensor zero = groups_of_zeros(16),
                   expected = golden().at("ct.nvfp4.weight_scale").view(at::kByte);
  const at::Tensor scales = tensors.at("weight_scale").view(at::kByte);
  EXPECT_TRUE(at::where(zero, expected, scales).equal(expected));
  EXPECT_EQ(zero.sum().item<int64_t>(), 2);
  expect_bytes(tensors.at("weight_packed"), "ct.nvfp4.weight_packed");
  const at::Tensor& values = golden().at("ct.nvfp4.dequant");  // rounded to BF16
  const at::Tensor found = tensor_of({params, group_encode(weight(), params, scheme)}, scheme).dequantize();
  EXPECT_TRUE(first_rows(found, values).to(at::kBFloat16).to(at::kFloat).equal(values));
}

TEST(FloatLibrary, MxOfCompressedTensorsIsWrittenByteForByte) {
  for (const auto& [type, suffix] :
       {std::pair("mxfp4", "weight_packed"), {"mxfp6_e2m3", "weight_packed"}, {"mxfp8", "weight"}}) {
    SCOPED_TRACE(type);
    const std::string golden_name = std::string("ct.") + type + ".";
    const Scheme scheme = Scheme::of_floats(type);
    const auto tensors = written("compressed-tensors", tensor_of(rounded(weight(), scheme), scheme));
    expect_bytes(tensors.at(suffix), golden_name + suffix);
    const at::Tensor& expected = golden().at(golden_name + "weight_scale");
    EXPECT_TRUE(at::where(groups_of_zeros(32), expected, tensors.at("weight_scale")).equal(expected));
  }
}

TEST(FloatLibrary, MxScalesAreCompressedTensors) {
  for (const char* type : {"mxfp4", "mxfp6_e2m3", "mxfp8"}) {
    SCOPED_TRACE(type);
    const Scheme scheme = Scheme::of_floats(type);
    const Rounded part = rounded(weight(), scheme);
    const at::Tensor codes = golden().at(std::string("ct.") + type + ".weight_scale").to(at::kInt);
    const at::Tensor zero =
        weight().view({128, -1, 32}).eq(0).all(-1);  // there any scale is right: 2^-127 and ours, 1
    const at::Tensor expected = codes.sub(127).to(at::kFloat).exp2().masked_fill(zero, 1);
    EXPECT_TRUE(part.params.scales.equal(expected));
    const at::Tensor& values = golden().at(std::string("ct.") + type + ".dequant");
    EXPECT_TRUE(first_rows(tensor_of(part, scheme).dequantize(), values).equal(values));
  }
}

}  // namespace
}  // namespace lathe
