// Copies from host memory to a CUDA device that run beside the computation: through pinned memory, on a
// stream of their own. Written against c10's device-generic interface, so that nothing of libtorch_cuda is
// linked.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

namespace lathe {

class CopyStream {
 public:
  /// A CUDA device; InternalError for another.
  explicit CopyStream(c10::Device device);

  /// A copy of a dense CPU tensor on the device, queued: the call returns when the values are in pinned
  /// memory, and `host` may be dropped then. To be used only by streams that wait for done().
  at::Tensor copy_in(const at::Tensor& host) const;

  /// The point after all copies that this thread queued so far.
  c10::Event done() const;

 private:
  c10::Stream stream_;
};

/// A dense CPU tensor on the device (itself where that is the CPU), through pinned memory: queued on the
/// current stream, and not waited for.
at::Tensor queued_copy(const at::Tensor& host, c10::Device device);

/// Makes the device's current stream of this thread wait for `event`; the host does not wait.
void wait_on_device(const c10::Event& event, c10::Device device);

/// Tells the allocator that a tensor made by another stream is used by the current one, so that its memory is
/// not given away before that use is over.
void used_by_current_stream(const at::Tensor& tensor);

}  // namespace lathe
