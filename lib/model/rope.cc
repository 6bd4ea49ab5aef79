// Rotary frequencies, in the arithmetic of transformers 5.17 (modeling_rope_utils.py): FP32 powers of the
// FP64 base, so that tables agree to the last few bits.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lib/base/error.h"
#include "lib/model/forward.h"

namespace lathe {
namespace {

// theta^(2i/d) for i in [0, d/2).
at::Tensor powers(double theta, int64_t dim) {
  return at::pow(at::Scalar(theta), at::arange(0, dim, 2, at::kFloat) / dim);
}

// NTK-aware scaling: the base grows with the sequence once it is longer than the trained length.
at::Tensor dynamic_frequencies(const ModelConfig& config, int64_t seq) {
  const double dim = static_cast<double>(config.head_dim), trained = static_cast<double>(config.max_position);
  const double length = std::max(static_cast<double>(seq), trained), factor = config.rope.factor;
  const double stretch = factor * length / trained - (factor - 1.0);
  return powers(config.rope.theta * std::pow(stretch, dim / (dim - 2.0)), config.head_dim).reciprocal();
}

// Llama 3.1: wavelengths beyond low_freq_wavelen are stretched, those below high_freq_wavelen kept, the rest
// blended.
at::Tensor llama3_frequencies(const RopeConfig& rope, const at::Tensor& base) {
  const double length = static_cast<double>(rope.original_max_position);
  const double longest = length / rope.low_freq_factor, shortest = length / rope.high_freq_factor;
  const at::Tensor wavelength = (2.0 * std::numbers::pi) / base;
  const at::Tensor scaled = at::where(wavelength > longest, base / rope.factor, base);
  const at::Tensor smooth =
      (length / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor blended = (1.0 - smooth) * scaled / rope.factor + smooth * scaled;
  const at::Tensor medium = (wavelength >= shortest).logical_and(wavelength <= longest);
  return at::where(medium, blended, scaled);
}

// YaRN (arXiv 2309.00071, section 3.2): a ramp over the channels between interpolation and extrapolation.
at::Tensor yarn_frequencies(const RopeConfig& rope, int64_t head_dim) {
  const double dim = static_cast<double>(head_dim), length = static_cast<double>(rope.original_max_position);
  const auto channel_of = [&](double rotations) {
    return dim * std::log(length / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(rope.theta));
  };
  double low = channel_of(rope.beta_fast), high = channel_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  const at::Tensor ramp = ((at::arange(head_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor pos = powers(rope.theta, head_dim);
  const at::Tensor extrapolate = 1 - ramp;
  return (rope.factor * pos).reciprocal() * (1 - extrapolate) + pos.reciprocal() * extrapolate;
}

at::Tensor frequencies(const ModelConfig& config, int64_t seq) {
  const RopeConfig& rope = config.rope;
  switch (rope.type) {
    case RopeConfig::Type::default_:
      return powers(rope.theta, config.head_dim).reciprocal();
    case RopeConfig::Type::linear:
      return powers(rope.theta, config.head_dim).reciprocal() / rope.factor;
    case RopeConfig::Type::dynamic:
      return dynamic_frequencies(config, seq);
    case RopeConfig::Type::llama3:
      return llama3_frequencies(rope, powers(rope.theta, config.head_dim).reciprocal());
    case RopeConfig::Type::yarn:
      return yarn_frequencies(rope, config.head_dim);
  }
  internal_error("rope type {}", static_cast<int>(rope.type));
}

// YaRN's temperature (section 3.4), applied to cos and sin; 1 for every other type.
double attention_factor(const RopeConfig& rope) {
  if (rope.type != RopeConfig::Type::yarn) return 1.0;
  if (rope.attention_factor) return *rope.attention_factor;
  const auto scale = [&](double mscale) {
    return rope.factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0;
  };
  const double mscale = rope.mscale.value_or(0.0), all_dim = rope.mscale_all_dim.value_or(0.0);
  return mscale != 0.0 && all_dim != 0.0 ? scale(mscale) / scale(all_dim) : scale(1.0);
}

}  // namespace

RopeTables rope_tables(const ModelConfig& config, int64_t seq, c10::Device device) {
  const at::NoGradGuard no_grad;
  const at::Tensor half = at::outer(at::arange(seq, at::kFloat), frequencies(config, seq));
  const at::Tensor angles = at::cat({half, half}, -1);
  const double factor = attention_factor(config.rope);
  return {(angles.cos() * factor).to(device), (angles.sin() * factor).to(device)};
}

}  // namespace lathe
