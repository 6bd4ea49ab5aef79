// Weights and inputs on floating-point grids. (What other libraries make of the same matrix:
// formats/targets.)
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lib/kernels/group_quant.h"
#include "lib/kernels/group_search.h"
#include "lib/kernels/input_quant.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe::kernels {
namespace {

using test::Rounded;
using test::rounded;
using test::tensor_of;

TEST(FloatQuant, RowsOfABlockShareTheWidestsScale) {
  const Scheme scheme = Scheme::of_floats("fp8_e4m3", 128, 128);
  at::manual_seed(4);
  const at::Tensor w = at::randn({200, 384});
  const Rounded part = rounded(w, scheme);
  const at::Tensor scales = one_row_each(part.params.scales, scheme);
  ASSERT_EQ(scales.sizes(), (std::vector<int64_t>{2, 3}));
  for (int64_t r = 0; r < 2; ++r) {
    for (int64_t c = 0; c < 3; ++c) {
      const at::Tensor block = w.slice(0, 128 * r, 128 * (r + 1)).slice(1, 128 * c, 128 * (c + 1));
      EXPECT_EQ(scales[r][c].item<float>(), (block.abs().max() / 448).item<float>());
    }
  }
  const QuantizedTensor tensor = tensor_of(part, scheme);
  EXPECT_LT((tensor.dequantize() - w).abs().max().item<float>(), 0.04f * w.abs().max().item<float>());
  EXPECT_TRUE(tensor.dequantize_rows(100, 140).equal(tensor.dequantize().slice(0, 100, 140)));
}

TEST(FloatQuant, AGlobalScaleIsTheReciprocalOfItsReciprocal) {
  at::manual_seed(1);
  const at::Tensor magnitudes = at::rand({20000}).mul(40).sub(30).exp2();
  const at::Tensor scales = global_scale(magnitudes);
  EXPECT_TRUE(scales.reciprocal().reciprocal().equal(scales));
  EXPECT_LE((scales.view(at::kInt) - (magnitudes / 2688).view(at::kInt)).abs().max().item<int>(), 1);
  EXPECT_GT(global_scale(at::zeros({})).item<float>(), 0);
}

double weighted_error(const at::Tensor& w, const at::Tensor& importance, const Scheme& scheme,
                      const GroupRange& range, const at::Tensor& global) {
  const GroupParams params = group_params(range, scheme, DType::F32, global);
  const at::Tensor delta = group_fake_quantize(w, params, scheme) - w;
  return (delta.square() * importance).sum().item<double>();
}

TEST(FloatQuant, SearchedScalesOfCodesAreTheBestOfAllCodes) {
  at::manual_seed(2);
  const at::Tensor w = at::randn({6, 64}), importance = at::rand({64});
  const at::Tensor global = global_scale(w.abs().max());
  const Scheme scheme = Scheme::of_floats("nvfp4");
  const GroupRange found = search_range(w, importance, scheme, DType::F32, 40, 0.5, global);
  const at::Tensor scales = group_params(found, scheme, DType::F32, global).scales;
  // One group after the other, every E4M3 number within the factors 0.5 to 1.5 tried.
  for (int64_t row = 0; row < 6; ++row) {
    for (int64_t group = 0; group < 4; ++group) {
      const at::Tensor values = w[row].slice(0, 16 * group, 16 * group + 16);
      const at::Tensor share = importance.slice(0, 16 * group, 16 * group + 16);
      const double spanning = (values.abs().max() / (6 * global)).item<double>();
      double best = 1e30;
      for (int code = 1; code < 127; ++code) {
        const double scale = decode_float(kE4M3, static_cast<uint8_t>(code));
        if (scale < 0.52 * spanning || scale > 1.45 * spanning) continue;
        const at::Tensor steps = (values / (scale * global)).abs();
        const at::Tensor levels = at::tensor({0.f, .5f, 1.f, 1.5f, 2.f, 3.f, 4.f, 6.f});
        const at::Tensor nearest = levels.index_select(0, (steps.unsqueeze(1) - levels).abs().argmin(1));
        best = std::min(best, ((nearest - steps) * scale * global).square().mul(share).sum().item<double>());
      }
      const at::Tensor one = values.view({1, 16}).contiguous();
      const GroupRange own{found.lo[row][group].view({1, 1}), found.hi[row][group].view({1, 1})};
      EXPECT_LE(weighted_error(one, share, scheme, own, global), best * (1 + 1e-4)) << row << " " << group;
    }
  }
  EXPECT_LT(weighted_error(w, importance, scheme, found, global),
            0.95 * weighted_error(w, importance, scheme, group_min_max(w, scheme), global));
}

TEST(FloatQuant, ARowThatScalesLosesNothing) {
  at::manual_seed(3);
  const at::Tensor w = at::randn({4, 32});
  const Scheme scheme = Scheme::of_floats("fp8_e4m3");
  QuantizedTensor tensor = tensor_of(rounded(w, scheme), scheme);
  ASSERT_TRUE(tensor.can_scale_rows());
  const at::Tensor before = tensor.dequantize();
  tensor.scale_rows(at::tensor({2.f, 0.5f, 4.f, 1.f}));
  EXPECT_TRUE(tensor.dequantize().equal(before * at::tensor({2.f, 0.5f, 4.f, 1.f}).view({4, 1})));
  for (const Scheme& shared :
       {Scheme::of_floats("fp8_e4m3", -1, -1), Scheme::of_floats("nvfp4"), Scheme::of_floats("mxfp4")})
    EXPECT_FALSE(tensor_of(rounded(w, shared), shared).can_scale_rows()) << shared.describe();
}

at::Tensor fp8_values(const at::Tensor& x) {
  return x.clamp(-448, 448).to(at::kFloat8_e4m3fn).to(at::kFloat);
}

TEST(FloatInputs, Fp8IsRoundedPerTokenOrByItsStaticScale) {
  at::manual_seed(6);
  const at::Tensor x = at::randn({2, 5, 256});
  const InputQuantizer token{.scheme = ActivationScheme::of_floats("fp8_e4m3")};
  const at::Tensor scales = x.abs().amax(-1, true) / 448;
  EXPECT_TRUE(fake_quantize_input(x, token).equal(scales * fp8_values(x / scales)));

  InputQuantizer fixed = token;
  fixed.scheme.dynamic = false;
  fixed.scheme.per = ActivationScheme::Per::tensor;
  fixed.scale = 0.004f;  // 448 * 0.004 < the largest: clipped
  EXPECT_TRUE(fake_quantize_input(x, fixed).equal(0.004f * fp8_values(x / 0.004f)));

  InputQuantizer groups = token;
  groups.scheme.per = ActivationScheme::Per::group;
  groups.scheme.group_size = 128;
  const at::Tensor parts = x.view({2, 5, 2, 128}), own = parts.abs().amax(-1, true) / 448;
  EXPECT_TRUE(fake_quantize_input(x, groups).equal((own * fp8_values(parts / own)).view(x.sizes())));
}

TEST(FloatInputs, Nvfp4HasE4M3ScalesUnderItsStaticOne) {
  at::manual_seed(7);
  const at::Tensor x = at::randn({3, 64});
  InputQuantizer quantizer{.scheme = ActivationScheme::of_floats("nvfp4")};
  quantizer.scale = global_scale(x.abs().max() * 0.5).item<float>();  // one group's scale saturates
  const Scheme as_weights = Scheme::of_floats("nvfp4");
  const at::Tensor global = at::full({}, quantizer.scale);
  const GroupParams params = group_params(group_min_max(x, as_weights), as_weights, DType::F32, global);
  EXPECT_EQ(params.scales.max().item<float>(), 448);
  EXPECT_TRUE(fake_quantize_input(x, quantizer).equal(group_fake_quantize(x, params, as_weights)));
  EXPECT_TRUE(fake_quantize_input(x.index_fill(0, at::tensor({1}, at::kLong), NAN), quantizer)[1]
                  .isnan()
                  .all()
                  .item<bool>());
}

}  // namespace
}  // namespace lathe::kernels
