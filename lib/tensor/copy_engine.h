// Copies between a device and pinned host memory, in both directions at a time and beside the computation:
// what a store of activations that don't fit on the device is written against. An interface, so that the
// order of events is tested on machines without a device.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <memory>

namespace lathe {

class CopyEngine {
 public:
  /// A point in the order of what was queued.
  struct Point {
    virtual ~Point() = default;
  };
  using Mark = std::shared_ptr<const Point>;

  virtual ~CopyEngine() = default;

  /// After everything that the computation (the device's current stream) has queued so far.
  virtual Mark computed() = 0;
  /// The computation goes on after `mark`; the host does not wait.
  virtual void computation_waits(const Mark& mark) = 0;
  /// All later copies to the device come after `mark`; the host does not wait.
  virtual void copies_in_wait(const Mark& mark) = 0;
  /// Queues a copy of equal tensors; both must outlive the mark. `host` is pinned.
  virtual Mark copy_in(const at::Tensor& device, const at::Tensor& host) = 0;
  /// The same in the other direction, after `mark`.
  virtual Mark copy_out(const at::Tensor& host, const at::Tensor& device, const Mark& after) = 0;
  /// The host goes on after `mark`.
  virtual void host_waits(const Mark& mark) = 0;
};

/// A CUDA device's: a stream for each direction. InternalError for another device.
std::unique_ptr<CopyEngine> make_copy_engine(c10::Device device);

}  // namespace lathe
