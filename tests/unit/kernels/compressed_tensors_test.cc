// Against matrices that compressed-tensors quantised (bf16 throughout): same scales, same codes up to its
// bf16 division.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>

#include "lib/kernels/dequantize.h"
#include "lib/kernels/group_quant.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe::kernels {
namespace {

const std::filesystem::path kFixtures =
    std::filesystem::path(LATHE_SOURCE_DIR) / ".." / "shared" / "fixtures" / "ct";

/// The named tensor of a well-formed safetensors file, as FP32.
at::Tensor read_tensor(const std::string& file, const std::string& name) {
  uint64_t header_size = 0;
  std::memcpy(&header_size, file.data(), sizeof header_size);
  const auto entry = nlohmann::json::parse(file.substr(8, header_size)).at(name);
  const std::map<std::string, at::ScalarType> types = {
      {"BF16", at::kBFloat16}, {"F32", at::kFloat}, {"I8", at::kChar}};
  const std::string bytes = file.substr(8 + header_size + entry.at("data_offsets")[0].get<size_t>());
  return at::from_blob(const_cast<char*>(bytes.data()), entry.at("shape").get<std::vector<int64_t>>(),
                       at::TensorOptions().dtype(types.at(entry.at("dtype"))))
      .to(at::kFloat, false, /*copy=*/true);
}

/// Codes as compressed-tensors computes them: quotient and sum rounded to bf16.
at::Tensor codes_through_bf16(const at::Tensor& weight, const GroupParams& params, const Scheme& scheme) {
  at::Tensor scaled = weight.view({weight.size(0), params.scales.size(1), -1}).to(at::kBFloat16);
  scaled = scaled / params.scales.unsqueeze(-1).to(at::kBFloat16);
  if (params.zero_points.defined()) scaled = scaled + params.zero_points.unsqueeze(-1).to(at::kBFloat16);
  return scaled.clamp(scheme.qmin(), scheme.qmax()).round().to(at::kChar).view(weight.sizes());
}

void compare(const std::filesystem::path& path, const Scheme& scheme) {
  SCOPED_TRACE(path.filename().string());
  std::ifstream stream(path, std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(stream), {}};
  const at::Tensor weight = read_tensor(file, "in.weight"), dequantized = read_tensor(file, "dequant");
  GroupParams theirs{read_tensor(file, "in.weight_scale"), {}};
  if (!scheme.symmetric) theirs.zero_points = read_tensor(file, "in.weight_zero_point").to(at::kChar);
  const GroupParams ours = group_params(group_min_max(weight, scheme), scheme, DType::BF16);
  if (scheme.symmetric) {
    EXPECT_TRUE(at::equal(ours.scales, theirs.scales));
  } else {
    // There max - min is rounded to bf16 before the division. All-zero groups get an arbitrary scale in both.
    const at::Tensor used = weight.abs().view({weight.size(0), ours.scales.size(1), -1}).amax(-1) > 0;
    const at::Tensor zero_difference = (ours.zero_points.to(at::kInt) - theirs.zero_points).abs();
    EXPECT_LE((ours.scales / theirs.scales - 1).abs().masked_select(used).max().item<double>(), 0x1p-7);
    EXPECT_LE(zero_difference.masked_select(used).max().item<int>(), 1);
  }
  const at::Tensor peer_codes = codes_through_bf16(weight, theirs, scheme);
  // Their dequantised values are bf16: one rounding of the exact product.
  EXPECT_TRUE(at::equal(round_to(dequantize(test::tensor_of({theirs, peer_codes}, scheme)), DType::BF16),
                        dequantized))
      << "their codes, or our decoding of them, are other ones";
  const at::Tensor difference = (group_encode(weight, theirs, scheme).to(at::kInt) - peer_codes).abs();
  EXPECT_LE(difference.max().item<int>(), 1);
  EXPECT_LT(difference.to(at::kFloat).mean().item<double>(), scheme.bits <= 4 ? 0.05 : 0.5);
}

TEST(CompressedTensors, ScalesAndCodesAgree) {
  if (!std::filesystem::exists(kFixtures)) GTEST_SKIP() << "no fixtures beside the source tree";
  const std::regex name(R"(pack_w(\d)_(a?sym)_(?:g(\d+)|channel).*\.safetensors)");
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kFixtures)) {
    std::smatch match;
    const std::string file = entry.path().filename().string();
    if (!std::regex_match(file, match, name)) continue;
    const int64_t group = match[3].matched ? std::stoll(match[3]) : -1;
    compare(entry.path(), {"int", std::stoi(match[1]), group, match[2] == "sym"});
    ++files;
  }
  EXPECT_GT(files, 10);
}

}  // namespace
}  // namespace lathe::kernels
