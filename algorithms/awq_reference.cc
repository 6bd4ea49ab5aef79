#include "algorithms/awq_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "lib/kernels/device/group_quant.cuh"

namespace lathe {
namespace {

using Values = std::vector<double>;

Values values_of(const at::Tensor& tensor) {
  const at::Tensor all = tensor.to(at::kDouble).contiguous();
  return {all.const_data_ptr<double>(), all.const_data_ptr<double>() + all.numel()};
}

device::Grid grid_of(const AwqReferenceLinear& linear) {
  const device::ScaleType type = linear.scale_dtype == DType::F16    ? device::ScaleType::f16
                                 : linear.scale_dtype == DType::BF16 ? device::ScaleType::bf16
                                                                     : device::ScaleType::f32;
  return {static_cast<float>(linear.scheme.qmin()), static_cast<float>(linear.scheme.qmax()),
          linear.scheme.symmetric, type};
}

/// Q(w) - w of one group whose range is [min, max] times `factor`.
Values rounding_errors(const AwqReferenceLinear& linear, const double* w, int64_t length, double factor) {
  const auto [low, high] = std::minmax_element(w, w + length);
  const device::ScaleZero grid = device::choose_scale_zero(
      static_cast<float>(*low * factor), static_cast<float>(*high * factor), grid_of(linear));
  Values errors;
  for (int64_t k = 0; k < length; ++k) {
    const double code = std::clamp(std::nearbyint(w[k] / grid.scale) + grid.zero, 1.0 * linear.scheme.qmin(),
                                   1.0 * linear.scheme.qmax());
    errors.push_back(grid.scale * (code - grid.zero) - w[k]);
  }
  return errors;
}

/// The mean over tokens of (d x)^2, d as long as the columns from `first` on.
double squared_output(const at::Tensor& x, const Values& d, int64_t first) {
  const int64_t tokens = x.size(0), in = x.size(1);
  const auto* const values = x.const_data_ptr<float>();
  double sum = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    double output = 0;
    for (size_t k = 0; k < d.size(); ++k) output += d[k] * values[t * in + first + static_cast<int64_t>(k)];
    sum += output * output / static_cast<double>(tokens);
  }
  return sum;
}

/// Equation 4 for given scales.
double loss_of(const at::Tensor& x, const std::vector<AwqReferenceLinear>& linears, const Values& scales) {
  const int64_t in = x.size(1);
  double loss = 0;
  for (const AwqReferenceLinear& linear : linears) {
    const int64_t length = linear.scheme.group_length(in);
    for (int64_t row = 0; row < linear.weight.size(0); ++row) {
      Values scaled = values_of(linear.weight[row]), d;
      for (size_t j = 0; j < scaled.size(); ++j) scaled[j] *= scales[j];
      for (int64_t first = 0; first < in; first += length) {
        const Values errors = rounding_errors(linear, scaled.data() + first, length, 1);
        for (int64_t k = 0; k < length; ++k)
          d.push_back(errors[static_cast<size_t>(k)] / scales[static_cast<size_t>(first + k)]);
      }
      loss += squared_output(x, d, 0);
    }
  }
  return loss;
}

/// v_j, in parts of a group's largest magnitude.
Values relative_magnitudes(const std::vector<AwqReferenceLinear>& linears, int64_t in) {
  Values sums(static_cast<size_t>(in), 0);
  double rows = 0;
  for (const AwqReferenceLinear& linear : linears) {
    const int64_t length = linear.scheme.group_length(in);
    for (int64_t row = 0; row < linear.weight.size(0); ++row, ++rows) {
      const Values w = values_of(linear.weight[row].abs());
      for (size_t j = 0; j < w.size(); ++j) {
        const auto group = static_cast<std::ptrdiff_t>(static_cast<int64_t>(j) / length * length);
        const double largest = *std::max_element(w.begin() + group, w.begin() + group + length);
        if (largest > 0) sums[j] += w[j] / largest;
      }
    }
  }
  for (double& sum : sums) sum /= rows;
  return sums;
}

Values shared_over_heads(const Values& channels, int64_t repeat, int64_t head_dim) {
  if (repeat == 1) return channels;
  Values shared = channels;
  for (size_t j = 0; j < channels.size(); ++j) {
    const auto block = static_cast<size_t>(repeat * head_dim), dim = static_cast<size_t>(head_dim);
    double sum = 0;
    for (size_t head = 0; head < static_cast<size_t>(repeat); ++head)
      sum += channels[j / block * block + head * dim + j % dim];
    shared[j] = sum / static_cast<double>(repeat);
  }
  return shared;
}

/// Equation 5, or duo scaling. Channels without signal or weight keep 1.
Values scales_at(double ratio, const Values& inputs, const Values& weights, bool duo) {
  Values scales(inputs.size(), 1);
  double largest = 0, smallest = INFINITY;
  const auto alive = [&](size_t j) { return inputs[j] > 0 && weights[j] > 0; };
  for (size_t j = 0; j < inputs.size(); ++j) {
    if (!alive(j)) continue;
    scales[j] = std::pow(inputs[j], ratio);
    if (duo) scales[j] /= std::pow(weights[j], 1 - ratio) + 1e-4;
    scales[j] = std::max(scales[j], 1e-4);
    largest = std::max(largest, scales[j]);
    smallest = std::min(smallest, scales[j]);
  }
  for (size_t j = 0; j < inputs.size(); ++j) {
    if (alive(j)) scales[j] /= std::sqrt(largest * smallest);
  }
  return scales;
}

}  // namespace

AwqReferenceChoice awq_reference(const at::Tensor& x, const std::vector<AwqReferenceLinear>& linears,
                                 int64_t grid, bool duo_scaling, int64_t repeat, int64_t head_dim) {
  const int64_t in = x.size(1);
  const Values inputs = shared_over_heads(values_of(x.to(at::kDouble).abs().mean(0)), repeat, head_dim);
  const Values weights = shared_over_heads(relative_magnitudes(linears, in), repeat, head_dim);
  Values best_scales(static_cast<size_t>(in), 1);
  AwqReferenceChoice choice;
  choice.unscaled = loss_of(x, linears, best_scales);
  double best = choice.unscaled;
  for (int64_t i = 0; i < grid; ++i) {
    const Values scales =
        scales_at(static_cast<double>(i) / static_cast<double>(grid), inputs, weights, duo_scaling);
    choice.losses.push_back(loss_of(x, linears, scales));
    if (!(choice.losses.back() < best)) continue;
    best = choice.losses.back();
    choice.best = static_cast<int>(i);
    best_scales = scales;
  }
  choice.scales = at::tensor(best_scales, at::kDouble);
  return choice;
}

at::Tensor awq_clip_reference(const at::Tensor& x, const AwqReferenceLinear& linear,
                              const std::vector<double>& factors) {
  const int64_t in = x.size(1), length = linear.scheme.group_length(in);
  at::Tensor chosen = at::ones({linear.weight.size(0), in / length}, at::kDouble);
  for (int64_t row = 0; row < linear.weight.size(0); ++row) {
    const Values w = values_of(linear.weight[row]);
    for (int64_t group = 0; group < in / length; ++group) {
      double best = INFINITY;
      for (const double factor : factors) {
        const int64_t first = group * length;
        const double loss =
            squared_output(x, rounding_errors(linear, w.data() + first, length, factor), first);
        if (!(loss < best)) continue;
        best = loss;
        chosen[row][group] = factor;
      }
    }
  }
  return chosen;
}

}  // namespace lathe
