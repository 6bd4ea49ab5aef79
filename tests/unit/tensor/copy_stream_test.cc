#include "lib/tensor/copy_stream.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"
#include "lib/tensor/device.h"

namespace lathe {
namespace {

TEST(CopyStream, IsForGpusOnly) { EXPECT_THROW(CopyStream{c10::Device(c10::kCPU)}, InternalError); }

TEST(QueuedCopy, IsTheTensorItselfOnTheCpu) {
  const at::Tensor values = at::randn({5});
  EXPECT_EQ(queued_copy(values, c10::Device(c10::kCPU)).data_ptr(), values.data_ptr());
}

TEST(CopyStreamGpu, CopiesEveryDtypeInOrderWithTheStreamThatWaits) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  const CopyStream stream(device);
  for (int round = 0; round < 50; ++round) {
    std::vector<at::Tensor> host, moved;
    for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
      host.push_back(at::randn({1 << 18}).to(type));
      moved.push_back(stream.copy_in(host.back()));
    }
    wait_on_device(stream.done(), device);
    for (size_t i = 0; i < host.size(); ++i) {
      used_by_current_stream(moved[i]);
      EXPECT_TRUE(at::equal((moved[i] + moved[i]).cpu(), host[i] + host[i])) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace lathe
