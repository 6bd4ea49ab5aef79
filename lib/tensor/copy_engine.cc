// Written against c10's device-generic interface, as copy_stream.cc.
#include "lib/tensor/copy_engine.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

struct EventPoint final : CopyEngine::Point {
  explicit EventPoint(const c10::Stream& stream) : event(stream.device_type()) { event.record(stream); }
  c10::Event event;
};

const c10::Event& event_of(const CopyEngine::Mark& mark) {
  LATHE_ASSERT(mark != nullptr, "a wait for nothing");
  return static_cast<const EventPoint&>(*mark).event;
}

class StreamCopies final : public CopyEngine {
 public:
  explicit StreamCopies(c10::Device device)
      : streams_(device.type()),
        device_(device),
        in_(streams_.getStreamFromGlobalPool(device)),
        out_(streams_.getStreamFromGlobalPool(device)) {}

  Mark computed() override { return mark(compute()); }
  void computation_waits(const Mark& mark) override { event_of(mark).block(compute()); }
  void copies_in_wait(const Mark& mark) override { event_of(mark).block(in_); }
  Mark copy_in(const at::Tensor& device, const at::Tensor& host) override { return copy(in_, device, host); }
  Mark copy_out(const at::Tensor& host, const at::Tensor& device, const Mark& after) override {
    event_of(after).block(out_);
    return copy(out_, host, device);
  }
  void host_waits(const Mark& mark) override { event_of(mark).synchronize(); }

 private:
  c10::Stream compute() const { return streams_.getStream(device_); }
  static Mark mark(const c10::Stream& stream) { return std::make_shared<const EventPoint>(stream); }
  static Mark copy(const c10::Stream& stream, const at::Tensor& to, const at::Tensor& from) {
    const c10::StreamGuard guard(stream);
    to.copy_(from, /*non_blocking=*/true);
    return mark(stream);
  }

  c10::impl::VirtualGuardImpl streams_;
  c10::Device device_;
  c10::Stream in_, out_;
};

}  // namespace

std::unique_ptr<CopyEngine> make_copy_engine(c10::Device device) {
  LATHE_ASSERT(device.is_cuda(), "copy streams on {}", device.str());
  return std::make_unique<StreamCopies>(device);
}

}  // namespace lathe
