#include "calib/stats/input_histogram.h"

#include <ATen/ATen.h>

#include "lib/numeric/weight_histogram.h"

namespace lathe {

InputHistogram InputHistogramCounts::read() const {
  const at::Tensor found = counts.cpu();
  const auto* const first = found.const_data_ptr<int64_t>();
  return {limit.item<double>(), {first, first + InputHistogram::kBins}};
}

InputHistogramCounts count_inputs(const at::Tensor& sample) {
  const at::Tensor limit = sample.abs().max().to(at::kDouble).view({1});
  return {limit, count_in_bins(sample, limit, InputHistogram::kBins)};
}

}  // namespace lathe
