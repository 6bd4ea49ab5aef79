#include "lib/tensor/copy_stream.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

c10::Stream new_stream(c10::Device device) {
  LATHE_ASSERT(device.is_cuda(), "a copy stream on {}", device.str());
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

c10::Stream current_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

CopyStream::CopyStream(c10::Device device) : stream_(new_stream(device)) {}

at::Tensor CopyStream::copy_in(const at::Tensor& host) const {
  LATHE_ASSERT(host.is_cpu(), "copy_in of a tensor on {}", host.device().str());
  const c10::StreamGuard guard(stream_);
  // The pinned block goes back to ATen's cache at once; the cache waits for the copy before it is used again.
  return host.pin_memory().to(stream_.device(), /*dtype=*/host.scalar_type(), /*non_blocking=*/true);
}

c10::Event CopyStream::done() const {
  c10::Event event(stream_.device_type());
  event.record(stream_);
  return event;
}

at::Tensor queued_copy(const at::Tensor& host, c10::Device device) {
  LATHE_ASSERT(host.is_cpu(), "queued copy of a tensor on {}", host.device().str());
  if (device.is_cpu()) return host;
  return host.pin_memory().to(device, /*dtype=*/host.scalar_type(), /*non_blocking=*/true);
}

void wait_on_device(const c10::Event& event, c10::Device device) { event.block(current_stream(device)); }

void used_by_current_stream(const at::Tensor& tensor) {
  tensor.record_stream(current_stream(tensor.device()));
}

}  // namespace lathe
