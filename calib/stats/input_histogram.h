// How a linear's inputs are spread: counts of a sample in a fixed number of bins, for people to look at
// beside what a static grid of them spans.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace lathe {

struct InputHistogram {
  static constexpr int64_t kBins = 64;

  double limit = 0;             // bins are equally wide, from -limit to limit: the sample's largest magnitude
  std::vector<int64_t> counts;  // [kBins]
};

/// Counts on the inputs' device: reading them waits for it.
struct InputHistogramCounts {
  at::Tensor limit;   // Double [1]
  at::Tensor counts;  // Long [kBins]

  InputHistogram read() const;
};

/// Queued only. sample: InputStats::sample.
InputHistogramCounts count_inputs(const at::Tensor& sample);

}  // namespace lathe
