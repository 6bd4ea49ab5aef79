// Some of an input's tokens, evenly spread over all that are observed, whatever their number turns out to be:
// what a histogram for people is made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace lathe {

/// Keeps token k * stride of those that it is shown, k = 0, 1, ...; whenever there are more than
/// rows_of(width) the stride is doubled. Which ones those are depends on their number alone.
class TokenSample {
 public:
  /// Values that are kept at most, in whole tokens, two at least.
  static constexpr int64_t kValues = int64_t{1} << 16;
  static int64_t rows_of(int64_t width);

  explicit TokenSample(int64_t width) : most_(rows_of(width)) {}

  /// x: [tokens, width] of any float type, on any device, which is not waited for.
  void observe(const at::Tensor& x);
  /// Adds another's tokens after these: evenly spread, too, but for where the two meet.
  void merge(const TokenSample& other);
  /// FP32 [kept tokens, width]; undefined before anything was observed.
  at::Tensor finish() const;

 private:
  void thin();

  int64_t most_;
  int64_t seen_ = 0, stride_ = 1;
  std::vector<at::Tensor> rows_;  // parts of the kept tokens, FP32
  int64_t kept_ = 0;
};

}  // namespace lathe
