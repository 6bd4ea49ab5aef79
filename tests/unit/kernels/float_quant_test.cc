// Weights and inputs on floating-point grids. (What other libraries make of the same matrix:
// formats/targets.)
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "lib/kernels/group_quant.h"
#include "lib/kernels/group_search.h"
#include "lib/kernels/input_quant.h"
#include "lib/numeric/level_grid.h"
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

/// Numbers of every exponent, infinities too, of both signs: 64 mantissas evenly apart, among them every tie
/// of 5 bits and fewer, and their neighbours. Rows of 128.
at::Tensor every_kind_of_number() {
  std::vector<int32_t> bits;
  for (int32_t exponent = 0; exponent < 255; ++exponent) {
    for (int32_t mantissa = 0; mantissa < 64; ++mantissa) {
      const int32_t number = exponent << 23 | mantissa << 17;
      for (const int32_t near : {std::max(number - 1, 0), number, number + 1}) bits.push_back(near);
    }
  }
  bits.resize(bits.size() / 128 * 128 + 128, 0x7f800000);
  const at::Tensor positive = at::tensor(bits, at::kInt).view({-1, 128});
  return at::cat({positive, positive.bitwise_or(INT32_MIN)}).view(at::kFloat);
}

TEST(FloatQuant, CodesAndValuesOfEveryKindOfNumberAreTheReferences) {
  const at::Tensor w = every_kind_of_number();
  for (const FloatGridType& grid : float_grid_types()) {
    SCOPED_TRACE(grid.name);
    const Scheme scheme = Scheme::of_floats(grid.name);
    const GroupParams ones{at::ones({w.size(0), scheme.groups(128)}), {}, {}};
    const at::Tensor codes = group_encode(w, ones, scheme), values = group_fake_quantize(w, ones, scheme);
    const auto* const numbers = w.const_data_ptr<float>();
    const auto* const found = reinterpret_cast<const uint8_t*>(codes.const_data_ptr<int8_t>());
    for (int64_t i = 0; i < w.numel(); ++i) {
      const uint8_t expected = encode_float(grid.number, numbers[i]);
      ASSERT_EQ(found[i], expected) << numbers[i];
      const auto value = static_cast<float>(decode_float(grid.number, expected));
      ASSERT_EQ(std::memcmp(values.const_data_ptr<float>() + i, &value, sizeof value), 0) << numbers[i];
    }
  }
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

/// The least weighted squared error of one group under any of the 256 codes of its scale, in FP64.
double least_of_all_codes(const at::Tensor& values, const at::Tensor& importance, const Scheme& scheme,
                          double global) {
  const FloatGridType& grid = *scheme.float_grid();
  const at::Tensor levels = at::tensor(float_levels(grid.number).levels, at::kDouble);
  const at::Tensor magnitudes = values.to(at::kDouble).abs(), share = importance.to(at::kDouble);
  double least = INFINITY;
  for (int code = 0; code < 256; ++code) {
    const auto bits = static_cast<uint8_t>(code);
    const double scale = (scheme.has_global_scale() ? decode_float(kE4M3, bits) : decode_e8m0(bits)) * global;
    if (!(scale > 0)) continue;  // not a NaN either
    const at::Tensor nearest =
        levels.index_select(0, (magnitudes.unsqueeze(1) / scale - levels).abs().argmin(1)) * scale;
    least = std::min(least, (nearest - magnitudes).square().mul(share).sum().item<double>());
  }
  return least;
}

TEST(FloatQuant, SearchedScalesOfCodesAreTheBestOfAllCodes) {
  at::manual_seed(2);
  const at::Tensor w = at::randn({24, 64}) * at::randn({24, 1}).exp(), ones = at::ones({64});
  const at::Tensor importance = at::randn({64}).mul(2).exp();
  const at::Tensor global = global_scale(w.abs().max());
  for (const char* type : {"nvfp4", "mxfp4", "mxfp6_e2m3", "mxfp8", "mxint8"}) {
    const Scheme scheme = Scheme::of_floats(type);
    const int64_t length = scheme.group_length(64);
    const at::Tensor over = scheme.has_global_scale() ? global : at::Tensor();
    for (const bool weighted : {false, true}) {  // what matters little may be cut off by far
      const at::Tensor share = weighted ? importance : ones;
      const GroupRange found = search_range(w, weighted ? importance : at::Tensor(), scheme, DType::F32, 40,
                                            weighted ? 0.95 : 0.5, over);
      for (int64_t row = 0; row < w.size(0); ++row) {
        for (int64_t first = 0; first < 64; first += length) {
          const at::Tensor one = w[row].slice(0, first, first + length).view({1, length}).contiguous();
          const at::Tensor part = share.slice(0, first, first + length);
          const auto end = [&](const at::Tensor& all) { return all[row][first / length].view({1, 1}); };
          const double error = weighted_error(one, part, scheme, {end(found.lo), end(found.hi)}, over);
          const double least =
              least_of_all_codes(one.view({-1}), part, scheme, over.defined() ? over.item<double>() : 1);
          EXPECT_LE(error, least * (1 + 1e-4)) << type << weighted << " row " << row << " from " << first;
        }
      }
    }
  }
}

TEST(FloatQuant, TheLargestWeightFallsOnFourOrSixAsTheOthersAsk) {
  const Scheme scheme = Scheme::of_floats("nvfp4");
  const at::Tensor global = at::full({}, 0.125f),
                   ramp = at::tensor({4.f, 3.f, 2.f, 1.5f, 1.f, .5f, -4.f, 0.f});
  const at::Tensor on_four = at::cat({ramp, ramp}).view({1, 16}), on_six = on_four.clone();
  on_six.masked_fill_(on_four == 4, 6);
  for (const at::Tensor& w : {on_four, on_six}) {
    const GroupRange found = search_range(w, {}, scheme, DType::F32, 40, 0.5, global);
    const GroupParams params = group_params(found, scheme, DType::F32, global);
    EXPECT_EQ(params.scales.item<float>(), 8);
    EXPECT_TRUE(group_fake_quantize(w, params, scheme).equal(w));
  }
}

TEST(FloatQuant, AnMxExponentGoesUpOrDownAsTheOthersAsk) {
  const Scheme scheme = Scheme::of_floats("mxfp4");
  const auto scale = [&](float others) {
    at::Tensor w = at::full({1, 32}, others);
    w[0][5] = 7.25f;  // 6 at the scale of 1, 8 at that of 2
    const GroupRange found = search_range(w, {}, scheme, DType::F32, 40, 0.5);
    EXPECT_EQ(group_params(group_min_max(w, scheme), scheme, DType::F32).scales.item<float>(), 2);
    return group_params(found, scheme, DType::F32).scales.item<float>();
  };
  EXPECT_EQ(scale(0.5f), 1);  // which the scale of 2 makes 0
  EXPECT_EQ(scale(1), 2);
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
