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
  /// Bytes that it holds at most; what finish() makes of them comes on top.
  static uint64_t most_held(int64_t width);

  explicit TokenSample(int64_t width) : most_(rows_of(width)) {}

  /// x: [tokens, width] of any float type, on any device, which is not waited for.
  void observe(const at::Tensor& x);
  /// Adds another's tokens after these: evenly spread, too, but for where the two meet.
  void merge(const TokenSample& other);
  /// FP32 [kept tokens, width]; undefined before anything was observed.
  at::Tensor finish() const;

 private:
  /// Tokens that were taken together. Those of them that a larger stride keeps are picked when they are asked
  /// for: a few small operations on a device at every doubling cost more than the rows meanwhile.
  struct Part {
    at::Tensor rows;  // FP32
    int64_t stride;   // when they were taken
    int64_t first;    // of the tokens kept at that stride, which of them the first row is
  };
  /// Times rows_of(width) that may be held before what isn't kept is let go of.
  static constexpr int64_t kMostHeld = 2;

  /// What is kept of all parts at `stride`, [tokens, width].
  at::Tensor kept_at(int64_t stride) const;
  /// Holds no more than what is kept.
  void gather();

  int64_t most_;
  int64_t seen_ = 0, stride_ = 1;
  std::vector<Part> parts_;
  int64_t kept_ = 0, held_ = 0;  // rows
};

}  // namespace lathe
