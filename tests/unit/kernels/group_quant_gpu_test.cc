// CUDA against CPU, bit for bit. Needs a GPU; elsewhere it says why it is skipped.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/group_quant.h"
#include "lib/kernels/input_quant.h"
#include "lib/tensor/device.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe::kernels {
namespace {

bool same_bits(const at::Tensor& cpu, const at::Tensor& cuda) {
  if (cpu.scalar_type() != at::kFloat) return at::equal(cpu, cuda.cpu());
  return at::equal(cpu.contiguous().view(at::kInt), cuda.cpu().contiguous().view(at::kInt));
}

void expect_same_on(c10::Device device, const at::Tensor& weight, const Scheme& scheme, DType scale_dtype) {
  const at::Tensor global = scheme.has_global_scale() ? global_scale(weight.abs().amax()) : at::Tensor();
  SCOPED_TRACE(fmt::format("{} on {}x{}", scheme.describe(), weight.size(0), weight.size(1)));
  const at::Tensor moved = weight.to(device);
  const GroupRange range = group_min_max(weight, scheme), other_range = group_min_max(moved, scheme);
  EXPECT_TRUE(same_bits(range.lo, other_range.lo) && same_bits(range.hi, other_range.hi));
  const GroupParams params = group_params(range, scheme, scale_dtype, global);
  const GroupParams other =
      group_params(other_range, scheme, scale_dtype, global.defined() ? global.to(device) : global);
  EXPECT_TRUE(same_bits(params.scales, other.scales));
  if (!scheme.symmetric) {
    EXPECT_TRUE(same_bits(params.zero_points, other.zero_points));
  }
  const at::Tensor codes = group_encode(weight, params, scheme),
                   other_codes = group_encode(moved, other, scheme);
  EXPECT_TRUE(same_bits(codes, other_codes));
  EXPECT_TRUE(same_bits(dequantize(test::tensor_of({params, codes}, scheme)),
                        dequantize(test::tensor_of({other, other_codes}, scheme))));
  EXPECT_TRUE(
      same_bits(group_fake_quantize(weight, params, scheme), group_fake_quantize(moved, other, scheme)));
}

TEST(GroupQuantGpu, EqualsTheCpuBitForBit) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(9);
  const at::Tensor awkward = at::stack({at::zeros({256}), at::full({256}, 0.3f), at::randn({256}) * 1e-40,
                                        at::randn({256}) * 1e-7, at::arange(-128, 128).to(at::kFloat) * 0.5});
  const at::Tensor weight = at::cat({at::randn({67, 256}), awkward}).contiguous();
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      for (const int64_t group : {32, 64, 128, -1}) {
        for (const DType dtype : {DType::F16, DType::BF16, DType::F32}) {
          Scheme scheme{"int", bits, group, symmetric};
          expect_same_on(device, weight, scheme, dtype);
          scheme.zero_above_lowest = !symmetric;
          if (!symmetric) expect_same_on(device, weight, scheme, dtype);
        }
      }
    }
  }
  for (const int64_t width : {1, 43, 172, 4096}) {
    expect_same_on(device, at::randn({3, width}), {"int", 4, -1, false}, DType::F16);
  }
}

TEST(GroupQuantGpu, RangesOfSpoiledGroupsAreTheCpus) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(13);
  for (const int64_t length : {1, 7, 16, 24, 32, 43, 64, 128, 512}) {
    at::Tensor weight = at::randn({137, length});
    weight[8].fill_(-0.0f);
    for (const int64_t group : {0, 5, 6, 70, 136})
      weight[group][group % length] = group % 2 == 0 ? NAN : INFINITY;
    const Scheme scheme{"int", 4, -1, true};
    const GroupRange range = group_min_max(weight, scheme), other = group_min_max(weight.to(device), scheme);
    for (const auto& [cpu, cuda] :
         {std::pair{range.lo, other.lo.cpu()}, std::pair{range.hi, other.hi.cpu()}}) {
      EXPECT_TRUE(cpu.isnan().equal(cuda.isnan())) << length;
      EXPECT_TRUE(same_bits(cpu.nan_to_num(0), cuda.nan_to_num(0))) << length;
    }
  }
}

TEST(GroupQuantGpu, NumbersOfFloatingPointGridsAreTheCpus) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(10);
  // Halfway between neighbours, below the smallest, at and beyond the largest: what an instruction that
  // converts could take otherwise.
  const at::Tensor ties = at::arange(0, 4096).to(at::kFloat).mul_(0x1p-13f).view({8, 512});
  const at::Tensor weight =
      at::cat({at::randn({61, 512}), ties, ties.neg(), ties * 0x1p-12f, ties * 0x1p12f});
  for (const FloatGridType& grid : float_grid_types()) {
    const Scheme scheme = Scheme::of_floats(grid.name);
    for (const DType dtype : {DType::F32, DType::BF16}) expect_same_on(device, weight, scheme, dtype);
    // With the scale 1 ties stay ties, and much lies beyond the largest number.
    const GroupParams ones{at::ones({weight.size(0), scheme.groups(512)}), {}, {}};
    const GroupParams moved{ones.scales.to(device), {}, {}};
    const at::Tensor wide = weight * 1024, wide_moved = wide.to(device);
    EXPECT_TRUE(same_bits(group_encode(wide, ones, scheme), group_encode(wide_moved, moved, scheme)))
        << grid.name;
    EXPECT_TRUE(
        same_bits(group_fake_quantize(wide, ones, scheme), group_fake_quantize(wide_moved, moved, scheme)))
        << grid.name;
  }
}

TEST(GroupQuantGpu, InputsAreRoundedAsOnTheCpu) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(12);
  std::vector<InputQuantizer> quantizers = {{.scheme = {.symmetric = true}},
                                            {.scheme = {.symmetric = false}}};
  for (const FloatGridType& grid : float_grid_types()) {
    InputQuantizer quantizer{.scheme = ActivationScheme::of_floats(grid.name)};
    if (quantizer.scheme.calibrated()) quantizer.scale = 0.004f;
    if (quantizer.scheme.problem()) continue;
    quantizers.push_back(quantizer);
    if (quantizer.scheme.per != ActivationScheme::Per::group) continue;  // those widths are whole blocks
    quantizer.hadamard = 32;
    quantizers.push_back(quantizer);
  }
  InputQuantizer fixed{.scheme = {.dynamic = false, .per = ActivationScheme::Per::tensor}, .scale = 0.02f};
  quantizers.push_back(fixed);
  fixed.scheme.symmetric = false;
  fixed.zero_point = 5;
  quantizers.push_back(fixed);
  for (const InputQuantizer& quantizer : quantizers) {
    const bool groups = quantizer.scheme.per == ActivationScheme::Per::group;
    for (const int64_t width : {groups ? 64 : 43, 512}) {
      const at::Tensor x = at::randn({33, width}) * 3;
      EXPECT_TRUE(same_bits(fake_quantize_input(x, quantizer), fake_quantize_input(x.to(device), quantizer)))
          << quantizer.scheme.describe();
    }
  }
}

TEST(CudaLibrary, AMissingOrForeignLibraryIsTheUsersToMend) {
  try {
    open_cuda_library("no/such/liblathe_cuda.so");
    FAIL() << "opened a library that does not exist";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("this build has no CUDA kernels"));
  }
  try {
    open_cuda_library("libm.so.6");
    FAIL() << "took the C library for ours";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("lathe_cuda_group_min_max"));
  }
}

TEST(CudaLibrary, LiesBesideTheProgramWhereItWasBuilt) {
  const auto path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "liblathe_cuda.so";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "built without a CUDA toolkit";
  EXPECT_NE(cuda_library().group_encode, nullptr);  // opens without a driver: cudart is linked statically
}

}  // namespace
}  // namespace lathe::kernels
