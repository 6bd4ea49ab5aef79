#include "lib/numeric/weight_histogram.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr int64_t kRuns = 8;

}  // namespace

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
  const int64_t wanted = std::clamp<int64_t>(WeightHistogram::kSampled / std::max<int64_t>(in, 1), 1, out);
  const int64_t runs = wanted == out ? 1 : std::min(kRuns, wanted), rows = wanted / runs;
  std::vector<at::Tensor> before, after;
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t first = runs == 1 ? 0 : run * (out - rows) / (runs - 1);
    before.push_back(weight.slice(0, first, first + rows));
    after.push_back(quantized.dequantize_rows(first, first + rows));
  }
  const at::Tensor sampled = at::cat(before), rounded = at::cat(after);
  const at::Tensor limit = at::maximum(sampled.abs().max(), rounded.abs().max()).to(at::kDouble).view({1});
  return {limit, at::stack({count_in_bins(sampled, limit, WeightHistogram::kBins),
                            count_in_bins(rounded, limit, WeightHistogram::kBins)})};
}

}  // namespace lathe
