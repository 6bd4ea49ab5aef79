#include "lib/numeric/weight_histogram.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/numeric/sampled_rows.h"

namespace lathe {

at::Tensor count_in_bins(const at::Tensor& values, const at::Tensor& limit, int64_t bins) {
  const at::Tensor place = at::nan_to_num(values.flatten().to(at::kDouble) / limit, 0, 1, -1);
  const double half = static_cast<double>(bins) / 2;
  const at::Tensor bin = ((place + 1) * half).floor_().clamp_(0, static_cast<double>(bins - 1)).to(at::kLong);
  return at::zeros({bins}, bin.options()).scatter_add_(0, bin, at::ones_like(bin));
}

WeightHistogram WeightHistogramCounts::read() const {
  const at::Tensor found = counts.cpu();
  const auto row = [&](int64_t which) {
    const auto* const first = found[which].const_data_ptr<int64_t>();
    return std::vector<int64_t>(first, first + WeightHistogram::kBins);
  };
  return {limit.item<double>(), row(0), row(1)};
}

WeightHistogramCounts count_weights(const at::Tensor& weight, const QuantizedTensor& quantized) {
  const int64_t out = weight.size(0), in = weight.size(1);
  LATHE_ASSERT(out == quantized.rows() && in == quantized.cols(), "weight histogram: the shapes differ");
  std::vector<at::Tensor> before, after;
  for (const auto& [begin, end] : sampled_rows(out, in, WeightHistogram::kSampled)) {
    before.push_back(weight.slice(0, begin, end));
    after.push_back(quantized.dequantize_rows(begin, end));
  }
  const at::Tensor sampled = at::cat(before), rounded = at::cat(after);
  const at::Tensor limit = at::maximum(sampled.abs().max(), rounded.abs().max()).to(at::kDouble).view({1});
  return {limit, at::stack({count_in_bins(sampled, limit, WeightHistogram::kBins),
                            count_in_bins(rounded, limit, WeightHistogram::kBins)})};
}

}  // namespace lathe
