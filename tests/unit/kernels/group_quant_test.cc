// The kernels against a slow scalar reference, bit for bit.
#include "lib/kernels/group_quant.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/kernels/dequantize.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe::kernels {
namespace {

/// One group, written down from the definition with the C library's functions and ATen's casts.
struct ReferenceGroup {
  float lo = 0, hi = 0, scale = 0;
  int zero = 0;
  std::vector<int> codes;
  std::vector<float> values;
};

float cast_scale(float scale, DType dtype) {
  if (dtype == DType::F16) return static_cast<float>(c10::Half(scale));
  if (dtype == DType::BF16) return static_cast<float>(c10::BFloat16(scale));
  return scale;
}

int clamp_code(float code, const Scheme& scheme) {
  return static_cast<int>(
      std::fmin(std::fmax(code, static_cast<float>(scheme.qmin())), static_cast<float>(scheme.qmax())));
}

void reference_codes(const float* w, int64_t length, const Scheme& scheme, ReferenceGroup& group) {
  for (int64_t i = 0; i < length; ++i) {
    const int code = clamp_code(std::nearbyint(w[i] / group.scale) + static_cast<float>(group.zero), scheme);
    group.codes.push_back(code);
    group.values.push_back(group.scale * static_cast<float>(code - group.zero));
  }
}

ReferenceGroup reference(const float* w, int64_t length, const Scheme& scheme, DType scale_dtype) {
  ReferenceGroup group;
  group.lo = *std::min_element(w, w + length);
  group.hi = *std::max_element(w, w + length);
  const float levels = static_cast<float>(scheme.qmax() - scheme.qmin());
  const float lo = std::fmin(group.lo, 0.0f), hi = std::fmax(group.hi, 0.0f);
  group.scale = scheme.symmetric ? std::fmax(std::fabs(group.lo), std::fabs(group.hi)) / (levels / 2)
                                 : (hi - lo) / levels;
  if (scheme.zero_above_lowest) group.scale = std::fmax(group.scale, hi / (levels - 1));
  group.scale = cast_scale(group.scale, scale_dtype);
  if (group.scale == 0) group.scale = scale_dtype == DType::F16 ? 0x1p-14f : 0x1p-126f;
  if (!scheme.symmetric) {
    group.zero = clamp_code(std::nearbyint(static_cast<float>(scheme.qmin()) - lo / group.scale), scheme);
    if (scheme.zero_above_lowest) group.zero = std::max(group.zero, scheme.qmin() + 1);
  }
  reference_codes(w, length, scheme, group);
  return group;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// Compares every output of every kernel for one matrix.
void expect_reference(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype) {
  SCOPED_TRACE(fmt::format("{} on {} rows of {}, {} scales", scheme.describe(), weight.size(0),
                           weight.size(1), name_of(scale_dtype)));
  const GroupRange range = group_min_max(weight, scheme);
  const GroupParams params = group_params(range, scheme, scale_dtype);
  const at::Tensor codes = group_encode(weight, params, scheme),
                   values = dequantize(test::tensor_of({params, codes}, scheme));
  const at::Tensor fake = group_fake_quantize(weight, params, scheme);
  ASSERT_EQ(params.zero_points.defined(), !scheme.symmetric);
  const int64_t length = scheme.group_length(weight.size(1)), groups = weight.numel() / length;
  ASSERT_EQ(params.scales.numel(), groups);
  for (int64_t g = 0; g < groups; ++g) {
    const ReferenceGroup expected =
        reference(weight.const_data_ptr<float>() + g * length, length, scheme, scale_dtype);
    ASSERT_EQ(range.lo.const_data_ptr<float>()[g], expected.lo);
    ASSERT_EQ(range.hi.const_data_ptr<float>()[g], expected.hi);
    ASSERT_TRUE(same_bits(params.scales.const_data_ptr<float>()[g], expected.scale)) << "group " << g;
    if (!scheme.symmetric) {
      ASSERT_EQ(params.zero_points.const_data_ptr<int8_t>()[g], expected.zero) << "group " << g;
    }
    for (int64_t i = 0; i < length; ++i) {
      const int64_t at = g * length + i;
      ASSERT_EQ(codes.const_data_ptr<int8_t>()[at], expected.codes[i]) << "value " << at;
      ASSERT_TRUE(same_bits(values.const_data_ptr<float>()[at], expected.values[i])) << "value " << at;
      ASSERT_TRUE(same_bits(fake.const_data_ptr<float>()[at], expected.values[i])) << "value " << at;
    }
  }
}

TEST(GroupQuant, EqualsTheReferenceForEveryWidthAndGroup) {
  at::manual_seed(4);
  const at::Tensor weight = at::randn({5, 256}) * 0.1;
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      for (const int64_t group : {32, 64, 128, -1}) {
        for (const DType dtype : {DType::F16, DType::BF16, DType::F32}) {
          expect_reference(weight, {"int", bits, group, symmetric}, dtype);
        }
      }
    }
  }
}

TEST(GroupQuant, EqualsTheReferenceForOddShapes) {
  at::manual_seed(5);
  for (const int64_t width : {1, 3, 15, 16, 17, 43, 172, 200}) {
    for (const int64_t rows : {1, 7}) {
      for (const bool symmetric : {true, false}) {
        expect_reference(at::randn({rows, width}), {"int", 4, -1, symmetric}, DType::F16);
      }
    }
  }
}

TEST(GroupQuant, EqualsTheReferenceForAwkwardGroups) {
  at::manual_seed(6);
  const at::Tensor ties = at::arange(-64, 64).to(at::kFloat) * 0.5;  // every second value is a tie of scale 1
  const std::vector<at::Tensor> groups = {at::zeros({128}),
                                          -at::zeros({128}),
                                          at::full({128}, 0.37),
                                          at::full({128}, -0.37),
                                          at::rand({128}) + 2,
                                          -at::rand({128}) - 2,
                                          at::randn({128}) * 1e-9,
                                          at::randn({128}) * 1e-40,
                                          at::randn({128}) * 1e4,
                                          at::randn({128}) * 4e-6,
                                          ties,
                                          at::cat({at::zeros({127}), at::ones({1})})};
  const at::Tensor weight = at::stack(groups).contiguous();
  for (const int bits : {2, 4, 8}) {
    for (const bool symmetric : {true, false}) {
      for (const DType dtype : {DType::F16, DType::BF16, DType::F32}) {
        expect_reference(weight, {"int", bits, 64, symmetric}, dtype);
      }
    }
  }
}

TEST(GroupQuant, ZeroPointsStayAboveTheLowestCodeWhereTheyMust) {
  at::manual_seed(8);
  const at::Tensor weight =
      at::cat({at::rand({8, 128}) + 0.5, at::zeros({1, 128}), at::randn({8, 128}), -at::rand({4, 128}) - 1,
               at::rand({4, 128}) * 15 - 0.3, at::full({1, 128}, 1e-9)})
          .contiguous();
  for (const int bits : {2, 3, 4, 8}) {
    Scheme scheme{"int", bits, 64, false};
    const GroupParams free = group_params(group_min_max(weight, scheme), scheme, DType::F16);
    scheme.zero_above_lowest = true;
    for (const DType dtype : {DType::F16, DType::BF16, DType::F32}) expect_reference(weight, scheme, dtype);
    const GroupParams kept = group_params(group_min_max(weight, scheme), scheme, DType::F16);
    EXPECT_TRUE(free.zero_points.eq(scheme.qmin()).any().item<bool>());
    EXPECT_GT(kept.zero_points.min().item<int>(), scheme.qmin());
    const at::Tensor wide =
        (free.zero_points > scheme.qmin() + 1).logical_and(free.zero_points < scheme.qmax());
    EXPECT_TRUE(kept.zero_points.masked_select(wide).equal(free.zero_points.masked_select(wide)));
    EXPECT_TRUE(kept.scales.masked_select(wide).equal(free.scales.masked_select(wide)));
    // What lies above 0 keeps within half a step, as it does with the zero point free.
    const at::Tensor error = (group_fake_quantize(weight, kept, scheme) - weight).abs().view({-1, 2, 64});
    EXPECT_TRUE((error <= kept.scales.unsqueeze(-1) * 1.002).all().item<bool>());
  }
}

TEST(GroupQuant, RoundsTiesToEven) {
  const Scheme scheme{"int", 4, -1, true};
  const at::Tensor weight = at::tensor({0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 7.5f, -8.5f}).view({1, 8});
  const GroupParams params{at::ones({1, 1}), {}};
  const at::Tensor expected = at::tensor({0, 2, 2, 0, -2, -2, 7, -8}, at::kChar).view({1, 8});
  EXPECT_TRUE(at::equal(group_encode(weight, params, scheme), expected));
}

TEST(GroupQuant, HonoursAGivenRange) {
  const Scheme scheme{"int", 4, 4, false};
  const at::Tensor weight = at::tensor({-3.0f, 0.0f, 1.0f, 9.0f}).view({1, 4});
  const GroupRange range{at::full({1, 1}, -1.0f), at::full({1, 1}, 2.0f)};
  const GroupParams params = group_params(range, scheme, DType::F32);
  EXPECT_FLOAT_EQ(params.scales.item<float>(), 0.2f);
  const at::Tensor values = group_fake_quantize(weight, params, scheme);
  EXPECT_FLOAT_EQ(values[0][0].item<float>(), -1.0f);
  EXPECT_FLOAT_EQ(values[0][1].item<float>(), 0.0f);
  EXPECT_FLOAT_EQ(values[0][3].item<float>(), 2.0f);
}

TEST(GroupQuant, ErrorIsAtMostHalfAStepInsideTheRange) {
  at::manual_seed(7);
  const Scheme scheme{"int", 5, 32, false};
  const at::Tensor weight = at::randn({64, 96});
  const GroupParams params = group_params(group_min_max(weight, scheme), scheme, DType::F32);
  const at::Tensor error = (group_fake_quantize(weight, params, scheme) - weight).abs().view({64, 3, 32});
  // The zero point is rounded, too: half a step for the value, half for the grid's place at the ends.
  EXPECT_TRUE((error <= params.scales.unsqueeze(-1) * 1.0001).all().item<bool>());
  EXPECT_LT((error / params.scales.unsqueeze(-1)).mean().item<double>(), 0.26);
}

TEST(GroupQuant, GroupsWithNanOrInfinityHaveNanRanges) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const int64_t place : {0, 5, 31, 32, 42}) {
      at::Tensor weight = at::randn({2, 43});
      weight[1][place] = bad;
      const GroupRange range = group_min_max(weight, {"int", 4, -1, true});
      EXPECT_TRUE(std::isfinite(range.lo[0].item<float>()) && std::isfinite(range.hi[0].item<float>()));
      EXPECT_TRUE(std::isnan(range.lo[1].item<float>()) && std::isnan(range.hi[1].item<float>())) << place;
    }
  }
}

/// Short groups are looked at 16 at a time: the ends of each, and which of them is spoiled.
TEST(GroupQuant, RangesOfManyShortGroupsAreEachGroups) {
  at::manual_seed(9);
  for (const int64_t length : {16, 32, 48, 64, 128}) {
    const int64_t groups = 41;  // twice 16, and some
    at::Tensor weight = at::randn({groups, length});
    weight[3].fill_(-0.0f);
    weight[4].abs_();
    weight[5].abs_().neg_();
    for (const int64_t spoiled : {-1, 0, 7, 15, 16, 40}) {
      at::Tensor some = weight.clone();
      if (spoiled >= 0) some[spoiled][(5 * spoiled + 3) % length] = spoiled % 2 == 0 ? NAN : -INFINITY;
      const GroupRange range = group_min_max(some, {"int", 4, length, true});
      const auto [lo, hi] = some.aminmax(1, true);
      const auto ends = [](const at::Tensor& x) { return (x + 0.0f).contiguous().view(at::kInt); };
      for (int64_t group = 0; group < groups; ++group) {
        SCOPED_TRACE(fmt::format("group {} of {}, {} spoiled", group, length, spoiled));
        if (group == spoiled) {
          EXPECT_TRUE(std::isnan(range.lo[group].item<float>()) && std::isnan(range.hi[group].item<float>()));
          continue;
        }
        EXPECT_TRUE(range.lo[group].contiguous().view(at::kInt).equal(ends(lo[group])));
        EXPECT_TRUE(range.hi[group].contiguous().view(at::kInt).equal(ends(hi[group])));
      }
    }
  }
}

TEST(GroupQuant, AScaleBeyondItsTypeIsInfinite) {
  const GroupRange range{at::full({1, 1}, -1e7f), at::full({1, 1}, 1e7f)};
  for (const bool symmetric : {true, false}) {
    const Scheme scheme{"int", 4, 4, symmetric};
    EXPECT_TRUE(std::isinf(group_params(range, scheme, DType::F16).scales.item<float>()));
    EXPECT_TRUE(std::isfinite(group_params(range, scheme, DType::BF16).scales.item<float>()));
  }
}

TEST(GroupQuant, IsTheSameForAnyNumberOfThreads) {
  at::manual_seed(8);
  const Scheme scheme{"int", 4, 64, false};
  const at::Tensor weight = at::randn({512, 512});
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const GroupParams params = group_params(group_min_max(weight, scheme), scheme, DType::F16);
  const at::Tensor one = group_fake_quantize(weight, params, scheme);
  at::set_num_threads(3);
  EXPECT_TRUE(at::equal(group_fake_quantize(weight, params, scheme), one));
  at::set_num_threads(before);
}

TEST(GroupQuant, BrokenPromisesAreInternalErrors) {
  const at::Tensor weight = at::randn({4, 64});
  EXPECT_THROW(group_min_max(weight, {"int", 4, 48, true}), InternalError);
  EXPECT_THROW(group_min_max(weight.t(), {"int", 4, -1, true}), InternalError);
  EXPECT_THROW(group_min_max(weight.to(at::kDouble), {"int", 4, 32, true}), InternalError);
  const GroupParams params =
      group_params(group_min_max(weight, {"int", 4, 32, true}), {"int", 4, 32, true}, DType::F16);
  EXPECT_THROW(group_encode(weight, params, {"int", 4, 64, true}), InternalError);
  EXPECT_THROW(group_encode(weight, params, {"int", 4, 32, false}), InternalError);
}

}  // namespace
}  // namespace lathe::kernels
