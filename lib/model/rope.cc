// Rotary frequencies, in the arithmetic of transformers 5.17 (modeling_rope_utils.py): FP32 powers of the
// FP64 base, so that tables agree to the last few bits.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "lib/base/error.h"
#include "lib/model/forward.h"
#include "lib/model/rope_config.h"

namespace lathe {
namespace {

// theta^(2i/d) for i in [0, d/2).
at::Tensor powers(double theta, int64_t dim) {
  return at::pow(at::Scalar(theta), at::arange(0, dim, 2, at::kFloat) / dim);
}

// NTK-aware scaling: the base grows with the sequence once it is longer than the trained length.
at::Tensor dynamic_frequencies(const RopeConfig& rope, int64_t max_position, int64_t seq) {
  const double dim = static_cast<double>(rope.rotary_dim), trained = static_cast<double>(max_position);
  const double length = std::max(static_cast<double>(seq), trained), factor = rope.factor;
  const double stretch = factor * length / trained - (factor - 1.0);
  return powers(rope.theta * std::pow(stretch, dim / (dim - 2.0)), rope.rotary_dim).reciprocal();
}

// LongRoPE (arXiv 2402.13753): a stretch for each pair of channels, one set for sequences up to the trained
// length and one for longer ones.
at::Tensor longrope_frequencies(const RopeConfig& rope, int64_t seq) {
  const std::vector<double>& list = seq > rope.original_max_position ? rope.long_factor : rope.short_factor;
  const at::Tensor stretch = at::tensor(at::ArrayRef<double>(list)).to(at::kFloat);
  return (stretch * powers(rope.theta, rope.rotary_dim)).reciprocal();
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
at::Tensor yarn_frequencies(const RopeConfig& rope) {
  const int64_t rotary_dim = rope.rotary_dim;
  const double dim = static_cast<double>(rotary_dim),
               length = static_cast<double>(rope.original_max_position);
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
  const at::Tensor ramp = ((at::arange(rotary_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor pos = powers(rope.theta, rotary_dim);
  const at::Tensor extrapolate = 1 - ramp;
  return (rope.factor * pos).reciprocal() * (1 - extrapolate) + pos.reciprocal() * extrapolate;
}

at::Tensor frequencies(const RopeConfig& rope, int64_t max_position, int64_t seq) {
  switch (rope.type) {
    case RopeConfig::Type::default_:
      return powers(rope.theta, rope.rotary_dim).reciprocal();
    case RopeConfig::Type::linear:
      return powers(rope.theta, rope.rotary_dim).reciprocal() / rope.factor;
    case RopeConfig::Type::dynamic:
      return dynamic_frequencies(rope, max_position, seq);
    case RopeConfig::Type::llama3:
      return llama3_frequencies(rope, powers(rope.theta, rope.rotary_dim).reciprocal());
    case RopeConfig::Type::yarn:
      return yarn_frequencies(rope);
    case RopeConfig::Type::longrope:
      return longrope_frequencies(rope, seq);
  }
  internal_error("rope type {}", static_cast<int>(rope.type));
}

struct Table {
  at::Tensor cos, sin;
};

Table make_table(const RopeConfig& rope, int64_t max_position, int64_t seq, c10::Device device) {
  const at::Tensor half = at::outer(at::arange(seq, at::kFloat), frequencies(rope, max_position, seq));
  const at::Tensor angles = at::cat({half, half}, -1);
  const double factor = rope_attention_factor(rope);
  return {(angles.cos() * factor).to(device), (angles.sin() * factor).to(device)};
}

}  // namespace

RopeTables rope_tables(const ModelConfig& config, int64_t seq, c10::Device device) {
  const at::NoGradGuard no_grad;
  const Table all = make_table(config.rope, config.max_position, seq, device);
  RopeTables tables{.cos = all.cos, .sin = all.sin, .local_cos = {}, .local_sin = {}};
  if (config.local_rope) {
    const Table local = make_table(*config.local_rope, config.max_position, seq, device);
    tables.local_cos = local.cos;
    tables.local_sin = local.sin;
  }
  return tables;
}

}  // namespace lathe
