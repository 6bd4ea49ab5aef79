#include "lib/numeric/kv_cache.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/numeric/kvquant.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

/// Both codes of a group fill whole 32-bit words, as KIVI's kernels pack them.
constexpr int kWordBits = 32;

std::string describe_codes(double bits) {
  return bits == kTernaryBits ? "ternary" : fmt::format("int{}", bits);
}

std::string describe_low_bit(const KvCacheScheme& scheme) {
  if (scheme.type == "kivi") {
    return fmt::format("kivi: int{} keys by channel, int{} values by token, g{}, the last {} tokens in FP16",
                       scheme.bits, scheme.value_bits, scheme.group_size, scheme.window);
  }
  if (scheme.type == "kvquant") {
    return fmt::format(
        "kvquant: nuq{} keys by channel before rotation, nuq{} values by token, {:g} % outliers, levels "
        "by {}{}, the first {} tokens in FP16",
        scheme.bits, scheme.value_bits, 100 * scheme.outliers,
        scheme.weights == KvCacheWeights::fisher ? "Fisher's information" : "attention's derivative",
        scheme.q_norm ? ", Q-Norm" : "", scheme.sink);
  }
  return fmt::format(
      "skvq: {} keys, {} values by token, g{} of ordered channels, clipped, {} ranges, the first {} and last "
      "{} tokens in FP16",
      describe_codes(scheme.bits), describe_codes(scheme.value_bits), scheme.group_size,
      scheme.fp8_scales ? "FP8" : "FP16", scheme.sink, scheme.window);
}

bool ascending(const at::Tensor& values) {
  return values.numel() < 2 || values.slice(0, 1).ge(values.slice(0, 0, -1)).all().item<bool>();
}

}  // namespace

std::string KvCacheScheme::describe() const {
  if (low_bit()) return describe_low_bit(*this);
  return fmt::format("{} per {}", floating() ? "fp8 (e4m3)" : "int8", per_head ? "head" : "tensor");
}

std::optional<std::string> kv_cache_refuses(const KvCacheScheme& scheme, const KvCacheShape& shape) {
  if (scheme.type == "kivi") {
    if (shape.head_dim % scheme.group_size != 0) {
      return fmt::format("group_size {} doesn't divide the head size, {} (values share a range in a head)",
                         scheme.group_size, shape.head_dim);
    }
    for (const double bits : {scheme.bits, scheme.value_bits}) {
      const int codes = kWordBits / static_cast<int>(bits);
      if (scheme.group_size % codes != 0) {
        return fmt::format("group_size {} isn't a multiple of {}, the codes of {} bits in a word",
                           scheme.group_size, codes, bits);
      }
    }
    if (scheme.window < scheme.group_size || scheme.window % scheme.group_size != 0) {
      return fmt::format("window {} isn't a multiple of group_size {}: keys leave it in whole groups",
                         scheme.window, scheme.group_size);
    }
    return std::nullopt;
  }
  if (scheme.type == "skvq" && shape.channels() % scheme.group_size != 0) {
    return fmt::format("group_size {} doesn't divide the {} channels of the keys ({} heads of {})",
                       scheme.group_size, shape.channels(), shape.heads, shape.head_dim);
  }
  // What is rounded before rotation is turned in pairs of channels afterwards.
  if (scheme.low_bit() && shape.head_dim % 2 != 0)
    return fmt::format("the head size, {}, is odd: keys are rounded before they are rotated in pairs",
                       shape.head_dim);
  return std::nullopt;
}

int64_t rounded_keys(const KvCacheScheme& scheme, int64_t t) {
  // Once `window` keys have gathered behind the last rounded one, all of them leave; the query that came with
  // the last of them still saw it as it was.
  if (scheme.type == "kivi") return t / scheme.window * scheme.window;
  return rounded_values(scheme, t);
}

int64_t rounded_values(const KvCacheScheme& scheme, int64_t t) {
  // A value leaves when the window's last one came before the query's own, which comes on top.
  if (scheme.type == "kivi") return std::max<int64_t>(0, t - scheme.window);
  if (scheme.type == "skvq") return std::max<int64_t>(0, t + 1 - scheme.window);
  LATHE_ASSERT(scheme.type == "kvquant", "a KV cache of type {} rounds all tokens", scheme.type);
  return t + 1;
}

int cache_levels(double bits) {
  if (bits == kTernaryBits) return 3;
  const auto whole = static_cast<int>(bits);
  LATHE_ASSERT(whole == bits && whole >= 1 && whole <= 8, "codes of {} bits", bits);
  return 1 << whole;
}

double stored_code_bits(double bits, int64_t channels) {
  if (bits != kTernaryBits) return bits;
  return 8 * static_cast<double>(ceil_div(channels, kTernaryCodes)) / static_cast<double>(channels);
}

double kv_cache_bits(const KvCacheScheme& scheme, const KvCacheShape& shape, int64_t tokens) {
  if (!scheme.low_bit()) return scheme.bits;
  const auto channels = static_cast<double>(shape.channels());
  const auto side = [&](double bits, double more, int64_t end) {
    const auto rounded = static_cast<double>(std::max<int64_t>(0, end - scheme.sink));
    const auto all = static_cast<double>(tokens);
    return (rounded * (stored_code_bits(bits, shape.channels()) + more) + (all - rounded) * 16) / all;
  };
  double key_more = 0, value_more = 0;  // for each code
  if (scheme.type == "kvquant") {
    key_more = 32 * scheme.outliers;
    const size_t kept = kvquant_outliers(scheme.outliers, static_cast<size_t>(shape.channels()));
    value_more = 32 * (static_cast<double>(kept) + 1) / channels;
  } else {
    key_more = value_more = (scheme.fp8_scales ? 16.0 : 32.0) / static_cast<double>(scheme.group_size);
  }
  return (side(scheme.bits, key_more, rounded_keys(scheme, tokens - 1)) +
          side(scheme.value_bits, value_more, rounded_values(scheme, tokens - 1))) /
         2;
}

std::vector<KvCacheParameter> kv_cache_parameters(const KvCacheScheme& scheme, const KvCacheShape& shape) {
  std::vector<KvCacheParameter> result;
  const int64_t channels = shape.channels();
  if (scheme.type == "kvquant") {
    result = {{"key_lower", {DType::F32, {channels}}},
              {"key_upper", {DType::F32, {channels}}},
              {"key_levels", {DType::F32, {cache_levels(scheme.bits)}}},
              {"value_levels", {DType::F32, {cache_levels(scheme.value_bits)}}}};
    if (scheme.q_norm) {
      result.push_back({"key_norm", {DType::F32, {2}}});
      result.push_back({"value_norm", {DType::F32, {2}}});
    }
  } else if (scheme.type == "skvq") {
    const int64_t groups = channels / scheme.group_size;
    for (const std::string side : {"key", "value"}) {
      result.push_back({side + "_order", {DType::I32, {channels}}});
      result.push_back({side + "_begins", {DType::I32, {groups + 1}}});
      result.push_back({side + "_clip", {DType::F32, {groups}}});
    }
  }
  return result;
}

namespace {

/// What is wrong with the numbers of a parameter whose type and shape are right.
std::optional<std::string> problem_of_values(const std::string& name, const at::Tensor& values,
                                             int64_t channels) {
  if (values.is_floating_point() && !at::isfinite(values).all().item<bool>())
    return "expected finite numbers, found a NaN or an infinity";
  if (name.ends_with("_levels") && !ascending(values)) return "expected ascending levels";
  if (name.ends_with("_clip") && !values.gt(0).logical_and(values.le(1)).all().item<bool>())
    return "expected factors above 0 and up to 1";
  if (name.ends_with("_norm") && values[0].item<float>() <= 0) return "expected a positive factor";
  if (name.ends_with("_order") && !std::get<0>(values.to(at::kLong).sort()).equal(at::arange(channels)))
    return "expected each channel once";
  if (name.ends_with("_begins") && (values[0].item<int>() != 0 || values[-1].item<int>() != channels ||
                                    values.diff().le(0).any().item<bool>()))
    return fmt::format("expected groups that begin at 0, hold a channel at least, and end at {}", channels);
  return std::nullopt;
}

}  // namespace

std::optional<std::string> kv_cache_problem(const KvCacheQuantizer& quantizer, const KvCacheShape& shape) {
  const std::vector<KvCacheParameter> expected = kv_cache_parameters(quantizer.scheme, shape);
  for (const KvCacheParameter& parameter : expected) {
    const auto found = quantizer.parameters.find(parameter.name);
    const bool there = found != quantizer.parameters.end();
    if (!there || found->second.scalar_type() != to_scalar_type(parameter.info.dtype) ||
        found->second.sizes() != parameter.info.shape) {
      return fmt::format("{}: expected {}, found {}", parameter.name, parameter.info.describe(),
                         there ? info_of(found->second).describe() : "none");
    }
    if (const auto problem = problem_of_values(parameter.name, found->second, shape.channels()))
      return parameter.name + ": " + *problem;
  }
  for (const auto& [name, values] : quantizer.parameters) {
    if (std::ranges::find(expected, name, &KvCacheParameter::name) == expected.end())
      return name + ": no parameter of this scheme";
  }
  if (quantizer.scheme.type == "kvquant" &&
      quantizer.parameters.at("key_lower").gt(quantizer.parameters.at("key_upper")).any().item<bool>())
    return "key_lower: expected none above key_upper";
  return std::nullopt;
}

bool same_quantizer(const KvCacheQuantizer& a, const KvCacheQuantizer& b) {
  return a.scheme == b.scheme && a.k_scales == b.k_scales && a.v_scales == b.v_scales &&
         std::ranges::equal(a.parameters, b.parameters, [](const auto& x, const auto& y) {
           return x.first == y.first && x.second.scalar_type() == y.second.scalar_type() &&
                  x.second.equal(y.second);
         });
}

float kv_cache_scale(const KvCacheScheme& scheme, float largest) {
  LATHE_ASSERT(std::isfinite(largest) && largest >= 0, "KV cache: largest magnitude {}", largest);
  if (largest == 0) return 1;
  const auto scale = static_cast<float>(static_cast<double>(largest) / scheme.span());
  return scale > 0 ? scale : std::numeric_limits<float>::min();
}

}  // namespace lathe
