// How the scales of a quantised matrix are spread: counts of a sample on a logarithmic axis, for people to
// look at.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "lib/numeric/ggml_type.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// Magnitudes of scales. Bin i holds those from 2^((first + i) / kBinsAnOctave) to below the next bin's, so
/// that a power of two begins a bin; at most 1,108 bins reach from FP32's least to its largest number.
struct ScaleCounts {
  static constexpr int kBinsAnOctave = 4;
  /// Scales of a matrix that are looked at, at most (in whole rows, one at least).
  static constexpr int64_t kSampled = int64_t{1} << 16;

  int64_t first = 0;            // of the bins
  std::vector<int64_t> counts;  // neither the first nor the last is 0
  int64_t zeros = 0;            // scales that are 0, or no number, and in no bin
  double least = std::numeric_limits<double>::infinity(), largest = 0;  // of those in bins

  /// What both counted.
  void add(const ScaleCounts& other);
  int64_t total() const;  // in bins
  /// The middle (by its logarithm) of the bin that the median lies in; 0 without any.
  double median() const;
};

/// scales: any float type, any shape.
ScaleCounts count_scales(const at::Tensor& scales);
/// Of a sample of the rows; of two levels, their product. Nothing of a matrix without scales.
std::optional<ScaleCounts> count_scales(const QuantizedTensor& tensor);

/// What each group's levels are multiplied by, FP32 [out, columns / group]: d, or d times the sub-block's
/// scale code. MXFP4: twice that, for E2M1's own values. blocks: Byte [out, row_bytes], contiguous, on the
/// CPU; of a type that is made of blocks and that Lathe makes.
at::Tensor ggml_scales(const at::Tensor& blocks, GgmlType type, int64_t columns);
/// Of a sample of the rows.
ScaleCounts count_ggml_scales(const at::Tensor& blocks, GgmlType type, int64_t columns);

}  // namespace lathe
