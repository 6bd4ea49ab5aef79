// Conditions that a device finds out and the host looks at later, all together.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace lathe {

/// Reading a number from a GPU makes the host wait for everything that was queued before. Checks that nobody
/// needs to know the outcome of at once are collected here, and read by one wait.
class DeferredChecks {
 public:
  /// Throws where `found` is bad. It runs after the place that was checked: what it names it holds copies of.
  using Look = std::function<void(int64_t found)>;

  /// `found`: Long or Bool of one element, on any device, the same for all.
  void add(const at::Tensor& found, Look look) { checks_.emplace_back(found, std::move(look)); }

  /// Waits for the device once and looks at everything added since, in the order it was added; so of several
  /// failures the first is reported, which may have caused the others. Nothing is left, even where it throws.
  void read();

 private:
  std::vector<std::pair<at::Tensor, Look>> checks_;
};

}  // namespace lathe
