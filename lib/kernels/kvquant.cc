#include "lib/kernels/kvquant.h"

#include <ATen/ATen.h>

#include <limits>

namespace lathe::kernels {
namespace {

at::Tensor halved(const at::Tensor& x) { return x.to(at::kHalf).to(at::kFloat); }

at::Tensor flat_numbers(const at::Tensor& x) { return halved(x).reshape({x.size(0) * x.size(1), -1}); }

/// A share of each row's numbers, which stand in order, linear between two of them. [rows, 1]
at::Tensor row_quantile(const at::Tensor& sorted, double share) {
  const double rank = share * static_cast<double>(sorted.size(1) - 1);
  const auto below = static_cast<int64_t>(rank);
  const int64_t above = std::min(below + 1, sorted.size(1) - 1);
  const auto weight = static_cast<float>(rank - static_cast<double>(below));
  const at::Tensor a = sorted.narrow(1, below, 1), b = sorted.narrow(1, above, 1);
  const at::Tensor apart = b - a;
  return weight < 0.5f ? a + apart * weight : b - apart * (1 - weight);
}

at::Tensor divided(const at::Tensor& numbers, const at::Tensor& middle, const at::Tensor& width) {
  return (numbers - middle).div_(width.masked_fill(width == 0, 1));
}

at::Tensor come_back(const at::Tensor& numbers, const KvQuantScaled& side, const at::Tensor& levels,
                     const KvCacheQuantizer& cache, const char* norm) {
  at::Tensor back = levels;
  if (const auto moved = cache.parameters.find(norm); moved != cache.parameters.end()) {
    const at::Tensor factors = moved->second.to(levels.device());
    back = back * factors[0] + factors[1];
  }
  at::Tensor values = back.take(kvquant_nearest(side.scaled, levels)).mul_(side.width).add_(side.middle);
  values = at::where(side.width == 0, side.middle.expand_as(values), values);
  return at::where(side.outliers, numbers, halved(values));
}

}  // namespace

KvQuantScaled kvquant_by_channel(const at::Tensor& numbers, const at::Tensor& lower,
                                 const at::Tensor& upper) {
  const at::Tensor middle = halved(halved(upper + lower) / 2), width = halved(halved(upper - lower) / 2);
  return {divided(numbers, middle, width), middle, width, numbers.lt(lower).logical_or_(numbers.gt(upper))};
}

KvQuantScaled kvquant_by_token(const at::Tensor& numbers, double outliers) {
  const at::Tensor sorted = std::get<0>(numbers.sort(1));
  at::Tensor beyond = at::zeros_like(numbers, numbers.options().dtype(at::kBool)), counted = numbers;
  if (outliers > 0) {
    beyond = numbers.le(row_quantile(sorted, outliers / 2))
                 .logical_or_(numbers.ge(row_quantile(sorted, 1 - outliers / 2)));
    counted = at::where(beyond, sorted.narrow(1, (sorted.size(1) - 1) / 2, 1), numbers);
  }
  const auto [least, largest] = at::aminmax(counted, 1, /*keepdim=*/true);
  const at::Tensor middle = (largest + least) / 2, width = (largest - least) / 2;
  return {divided(numbers, middle, width), middle, width, beyond};
}

at::Tensor kvquant_nearest(const at::Tensor& scaled, const at::Tensor& levels) {
  const at::Tensor above = at::searchsorted(levels, scaled).clamp_(0, levels.size(0) - 1);
  const at::Tensor below = (above - 1).clamp_(0);
  const at::Tensor lower = (scaled - levels.take(below)).abs_().le((scaled - levels.take(above)).abs_());
  return at::where(lower, below, above);
}

at::Tensor kvquant_keys(const at::Tensor& x, const KvCacheQuantizer& cache) {
  const auto parameter = [&](const char* name) { return cache.parameters.at(name).to(x.device()); };
  const at::Tensor numbers = flat_numbers(x);
  const KvQuantScaled side = kvquant_by_channel(numbers, parameter("key_lower"), parameter("key_upper"));
  return come_back(numbers, side, parameter("key_levels"), cache, "key_norm").view(x.sizes());
}

at::Tensor kvquant_values(const at::Tensor& x, const KvCacheQuantizer& cache) {
  const at::Tensor numbers = flat_numbers(x);
  return come_back(numbers, kvquant_by_token(numbers, cache.scheme.outliers),
                   cache.parameters.at("value_levels").to(x.device()), cache, "value_norm")
      .view(x.sizes());
}

}  // namespace lathe::kernels
