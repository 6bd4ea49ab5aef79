// CUDA against CPU, bit for bit. Needs a GPU; elsewhere it says why it is skipped.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/kernels/code_layout.h"
#include "lib/tensor/device.h"

namespace lathe::kernels {
namespace {

using device::CodeLayout;
using device::CodeOrder;

void expect_same_on(c10::Device device, const CodeLayout& layout, int64_t out, int64_t in) {
  const at::Tensor codes =
      at::randint(-(1 << (layout.bits - 1)), 1 << (layout.bits - 1), {out, in}, at::kChar);
  const at::Tensor words = pack_codes(codes, layout), moved = pack_codes(codes.to(device), layout);
  EXPECT_TRUE(moved.is_cuda() && words.equal(moved.cpu())) << static_cast<int>(layout.order);
  EXPECT_TRUE(unpack_codes(moved, layout, out, in).cpu().equal(codes)) << static_cast<int>(layout.order);
}

TEST(CodeLayoutGpu, EqualsTheCpuBitForBit) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(8);
  for (const int bits : {4, 8}) {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{256, 192}, {250, 187}, {1, 1}}) {
      for (const CodeOrder order :
           {CodeOrder::rows, CodeOrder::exllama, CodeOrder::marlin, CodeOrder::machete})
        expect_same_on(device, {order, bits, 192, 256}, out, in);
      for (const bool shuffled : {true, false}) {
        const CodeLayout layout{CodeOrder::trtllm, bits, 192, 256, 16 / bits, shuffled, !shuffled};
        expect_same_on(device, layout, out, in);
      }
    }
  }
  expect_same_on(device, {CodeOrder::gemv_fast, 4, 192, 256}, 250, 187);
  expect_same_on(device, {CodeOrder::exllama, 2, 192, 256}, 250, 187);
}

TEST(CodeLayoutGpu, ThreeBitsAndScaleTilesEqualTheCpusBitForBit) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(9);
  const at::Tensor codes = at::randint(-4, 4, {37, 160}, at::kChar);
  const at::Tensor words = pack_exllama3(codes.to(device));
  EXPECT_TRUE(words.cpu().equal(pack_exllama3(codes)));
  EXPECT_TRUE(unpack_exllama3(words).cpu().equal(codes));
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{200, 10}, {1, 1}, {256, 32}}) {
    const at::Tensor scales = at::randint(0, 256, {rows, columns}, at::kByte);
    const at::Tensor tiles = swizzle_scales(scales.to(device));
    EXPECT_TRUE(tiles.cpu().equal(swizzle_scales(scales)));
    EXPECT_TRUE(unswizzle_scales(tiles, rows, columns).cpu().equal(scales));
  }
}

}  // namespace
}  // namespace lathe::kernels
