// CUDA against CPU, bit for bit. Needs a GPU; elsewhere it says why it is skipped.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/group_quant.h"
#include "lib/tensor/device.h"

namespace lathe::kernels {
namespace {

bool same_bits(const at::Tensor& cpu, const at::Tensor& cuda) {
  if (cpu.scalar_type() != at::kFloat) return at::equal(cpu, cuda.cpu());
  return at::equal(cpu.contiguous().view(at::kInt), cuda.cpu().contiguous().view(at::kInt));
}

void expect_same_on(c10::Device device, const at::Tensor& weight, const Scheme& scheme, DType scale_dtype) {
  SCOPED_TRACE(fmt::format("{} on {}x{}", scheme.describe(), weight.size(0), weight.size(1)));
  const at::Tensor moved = weight.to(device);
  const GroupRange range = group_min_max(weight, scheme), other_range = group_min_max(moved, scheme);
  EXPECT_TRUE(same_bits(range.lo, other_range.lo) && same_bits(range.hi, other_range.hi));
  const GroupParams params = group_params(range, scheme, scale_dtype);
  const GroupParams other = group_params(other_range, scheme, scale_dtype);
  EXPECT_TRUE(same_bits(params.scales, other.scales));
  if (!scheme.symmetric) {
    EXPECT_TRUE(same_bits(params.zero_points, other.zero_points));
  }
  const at::Tensor codes = group_encode(weight, params, scheme),
                   other_codes = group_encode(moved, other, scheme);
  EXPECT_TRUE(same_bits(codes, other_codes));
  EXPECT_TRUE(same_bits(group_decode(codes, params, scheme), group_decode(other_codes, other, scheme)));
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
