// Rounding of activations: properties. That it is compressed-tensors' arithmetic is tested beside the format.
#include "lib/kernels/input_quant.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/base/error.h"
#include "lib/numeric/hadamard.h"

namespace lathe::kernels {
namespace {

const InputQuantizer kToken{};
const ActivationScheme kStatic{"int", 8, false, ActivationScheme::Per::tensor, true};

TEST(FakeQuantizeInput, ErrorsAreAtMostHalfAStepOfTheTokensOwnScale) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({3, 5, 70}) * at::rand({3, 5, 1}) * 100;
  for (const bool symmetric : {true, false}) {
    const at::Tensor y = fake_quantize_input(x, {.scheme = {.symmetric = symmetric}});
    EXPECT_EQ(y.sizes(), x.sizes());
    const at::Tensor span = symmetric ? 2 * x.abs().amax(-1, true)
                                      : x.amax(-1, true).clamp_min(0) - x.amin(-1, true).clamp_max(0);
    EXPECT_LE(((y - x).abs() / (span / 255)).max().item<double>(), 0.5 + 1e-4);
    EXPECT_FALSE(y.equal(x));
  }
}

TEST(FakeQuantizeInput, ATokenDoesNotDependOnItsNeighbours) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({64, 333});
  const at::Tensor all = fake_quantize_input(x, kToken);
  EXPECT_TRUE(all.slice(0, 7, 8).equal(fake_quantize_input(x.slice(0, 7, 8), kToken)));
  at::set_num_threads(2);
  EXPECT_TRUE(all.equal(fake_quantize_input(x, kToken)));
  at::set_num_threads(1);
}

TEST(FakeQuantizeInput, RoundingTwiceIsRoundingOnce) {
  at::manual_seed(3);
  const InputQuantizer quantizer{kStatic, 0.05f, 0};
  const at::Tensor once = fake_quantize_input(at::randn({40, 16}) * 3, quantizer);
  EXPECT_TRUE(fake_quantize_input(once, quantizer).equal(once));
}

TEST(FakeQuantizeInput, HalvesAreComputedInFloat) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({6, 40}).to(at::kBFloat16);
  const at::Tensor y = fake_quantize_input(x, kToken);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(y.equal(fake_quantize_input(x.to(at::kFloat), kToken).to(at::kBFloat16)));
}

TEST(FakeQuantizeInput, ViewsAreReadAsTheyLie) {
  at::manual_seed(5);
  const at::Tensor x = at::randn({30, 8}).t();
  EXPECT_TRUE(fake_quantize_input(x, kToken).equal(fake_quantize_input(x.contiguous(), kToken)));
  EXPECT_EQ(fake_quantize_input(at::empty({0, 8}), kToken).size(0), 0);
}

TEST(FakeQuantizeInput, ANaNIsNeverHidden) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    at::Tensor x = at::ones({2, 70});
    x[1][66] = bad;
    for (const bool symmetric : {true, false}) {
      const at::Tensor y = fake_quantize_input(x, {.scheme = {.symmetric = symmetric}});
      EXPECT_TRUE(at::isfinite(y[0]).all().item<bool>());
      EXPECT_TRUE(at::isnan(y[1]).any().item<bool>());
    }
    const float fixed = fake_quantize_input(x, {kStatic, 0.5f, 0})[1][66].item<float>();
    EXPECT_TRUE(std::isnan(bad) ? std::isnan(fixed) : fixed == 63.5f) << fixed;
  }
}

TEST(FakeQuantizeInput, RefusesWhatIsNoScheme) {
  const at::Tensor x = at::ones({2, 8});
  EXPECT_THROW(fake_quantize_input(x, {{.bits = 4}, 0, 0}), InternalError);
  EXPECT_THROW(fake_quantize_input(x, {kStatic, 0, 0}), InternalError);
}

TEST(InputQuantizer, RotatesBeforeItRoundsAndBack) {
  at::manual_seed(8);
  const at::Tensor x = at::randn({7, 64});
  InputQuantizer plain{.scheme = ActivationScheme::of_floats("mxfp4")}, rotating = plain;
  rotating.hadamard = 32;
  const at::Tensor expected = hadamard_blocks(fake_quantize_input(hadamard_blocks(x, 32), plain), 32);
  EXPECT_TRUE(fake_quantize_input(x, rotating).equal(expected));
  EXPECT_FALSE(fake_quantize_input(x, plain).equal(expected));
}

}  // namespace
}  // namespace lathe::kernels
