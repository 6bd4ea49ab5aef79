// Checks, allocation and dispatch; the loops are in channel_moments_cpu.cc and cuda/channel_moments_cuda.cu.
#include "lib/kernels/channel_moments.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/error.h"
#include "lib/kernels/channel_moments_rows.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/matrix_layout.h"

namespace lathe::kernels {
namespace {

ChannelMoments allocate(const at::Tensor& x, MomentsWanted wanted) {
  const auto vector = [&](bool want, at::ScalarType type) {
    return want ? at::empty({x.size(1)}, x.options().dtype(type)) : at::Tensor();
  };
  return {.low = vector(true, at::kFloat),
          .high = vector(true, at::kFloat),
          .magnitude = vector(wanted.magnitude, at::kDouble),
          .square = vector(wanted.square, at::kDouble),
          .first = vector(wanted.powers, at::kDouble),
          .third = vector(wanted.powers, at::kDouble),
          .fourth = vector(wanted.powers, at::kDouble),
          .outliers = vector(wanted.outliers, at::kInt),
          .bad = at::full({1}, kNoneBad, x.options().dtype(at::kLong))};
}

template <class T>
T* pointer(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<T>() : nullptr;
}

MomentOutputs outputs(const ChannelMoments& moments) {
  return {.low = pointer<float>(moments.low),
          .high = pointer<float>(moments.high),
          .magnitude = pointer<double>(moments.magnitude),
          .square = pointer<double>(moments.square),
          .first = pointer<double>(moments.first),
          .third = pointer<double>(moments.third),
          .fourth = pointer<double>(moments.fourth),
          .outliers = pointer<int32_t>(moments.outliers),
          .bad = pointer<int64_t>(moments.bad)};
}

}  // namespace

ChannelMoments channel_moments(const at::Tensor& x, MomentsWanted wanted) {
  const MatrixLayout layout = matrix_layout(x, "channel moments");
  LATHE_ASSERT(layout.rows >= 1 && layout.rows <= kMaxMomentRows, "channel moments of {} rows", layout.rows);
  ChannelMoments moments = allocate(x, wanted);
  if (x.is_cpu()) {
    cpu::channel_moments(layout, x.const_data_ptr<float>(), outputs(moments));
  } else {
    const c10::DeviceGuard guard(x.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.channel_moments(current_queue(x.device()), layout, x.const_data_ptr(), outputs(moments)),
               "channel_moments");
  }
  return moments;
}

}  // namespace lathe::kernels
