// The mean magnitude of each input channel, E|x_j|.
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe {

/// Sums over the tokens of a chunk in FP32 (ATen's cascade), over chunks in FP64.
class MeanAbsCollector {
 public:
  MeanAbsCollector(int64_t width, c10::Device device);

  /// x: FP32 [tokens, width]. Returns false, leaving the sums spoiled, where x holds a NaN or an infinity.
  bool observe(const at::Tensor& x);
  void merge(const MeanAbsCollector& other);
  /// FP32 [width], the sum times `factor`.
  at::Tensor finish(double factor) const;

 private:
  at::Tensor sum_;  // FP64 [width]
};

}  // namespace lathe
