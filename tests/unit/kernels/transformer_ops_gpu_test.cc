// CUDA against CPU, bit for bit, for every dtype. Needs a GPU; elsewhere it says why it is skipped.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/kernels/transformer_ops.h"
#include "lib/tensor/device.h"

namespace lathe::kernels {
namespace {

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kHalf, at::kBFloat16};

class TransformerOpsGpu : public testing::Test {
 protected:
  void SetUp() override {
    device_ = resolve_device("auto");
    if (!device_.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
    at::manual_seed(12);
  }
  c10::Device device_ = c10::Device(c10::kCPU);
};

bool same_bits(const at::Tensor& cpu, const at::Tensor& cuda) {
  const at::ScalarType bits = cpu.element_size() == 4 ? at::kInt : at::kShort;
  return cpu.scalar_type() == cuda.scalar_type() &&
         at::equal(cpu.contiguous().view(bits), cuda.cpu().contiguous().view(bits));
}

TEST_F(TransformerOpsGpu, RmsNormEqualsTheCpu) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t width : {1, 63, 64, 65, 172, 4096}) {
      const at::Tensor wide = (at::randn({37, 2 * width}) * 5).to(type), x = wide.slice(1, width);
      const at::Tensor weight = at::randn({width});
      const at::Tensor moved = wide.to(device_).slice(1, width);
      for (const at::ScalarType result : kTypes) {
        EXPECT_TRUE(same_bits(rms_norm(x, weight, 1e-6, true, result),
                              rms_norm(moved, weight.to(device_), 1e-6, true, result)))
            << width << " of " << c10::toString(type) << " to " << c10::toString(result);
      }
    }
  }
}

TEST_F(TransformerOpsGpu, RotateHeadsEqualsTheCpu) {
  const at::Tensor cosines = at::randn({7, 48}), sines = at::randn({7, 48});
  for (const at::ScalarType type : kTypes) {
    const at::Tensor x = at::randn({3, 7, 5, 64}).to(type), moved = x.to(device_);
    rotate_heads_(x, cosines, sines);
    rotate_heads_(moved, cosines.to(device_), sines.to(device_));
    EXPECT_TRUE(same_bits(x, moved)) << c10::toString(type);
  }
}

TEST_F(TransformerOpsGpu, GatedProductEqualsTheCpu) {
  for (const at::ScalarType type : kTypes) {
    const at::Tensor fused = (at::randn({5, 11, 2 * 172}) * 10).to(type), moved = fused.to(device_);
    for (const Activation activation : {Activation::silu, Activation::gelu_tanh, Activation::quick_gelu,
                                        Activation::relu, Activation::relu2}) {
      EXPECT_TRUE(same_bits(gated_product(activation, fused.slice(2, 0, 172), fused.slice(2, 172)),
                            gated_product(activation, moved.slice(2, 0, 172), moved.slice(2, 172))))
          << static_cast<int>(activation) << " of " << c10::toString(type);
    }
  }
}

}  // namespace
}  // namespace lathe::kernels
