// Checks, allocation and dispatch; the loops are in channel_moments_cpu.cc and cuda/channel_moments_cuda.cu.
#include "lib/kernels/channel_moments.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <limits>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/kernels/channel_moments_rows.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/matrix_layout.h"

namespace lathe::kernels {
namespace {

template <class T>
T* pointer(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<T>() : nullptr;
}

MomentOutputs outputs(const ChannelMoments& moments, const StepExtrema& step) {
  return {.low = pointer<float>(moments.low),
          .high = pointer<float>(moments.high),
          .magnitude = pointer<double>(moments.magnitude),
          .square = pointer<double>(moments.square),
          .first = pointer<double>(moments.first),
          .third = pointer<double>(moments.third),
          .fourth = pointer<double>(moments.fourth),
          .outliers = pointer<int64_t>(moments.outliers),
          .bad = pointer<int64_t>(moments.bad),
          .step_low = pointer<float>(step.low),
          .step_high = pointer<float>(step.high)};
}

/// [chunks, width] for each sum that `moments` has.
ChannelMoments sums_like(const ChannelMoments& moments, int64_t chunks) {
  const auto part = [&](const at::Tensor& sum) {
    return sum.defined() ? at::empty({chunks, sum.size(0)}, sum.options()) : at::Tensor();
  };
  ChannelMoments parts;
  for (const auto sum : {&ChannelMoments::magnitude, &ChannelMoments::square, &ChannelMoments::first,
                         &ChannelMoments::third, &ChannelMoments::fourth, &ChannelMoments::outliers})
    parts.*sum = part(moments.*sum);
  return parts;
}

}  // namespace

ChannelMoments no_moments(int64_t width, MomentsWanted wanted, c10::Device device) {
  const auto options = at::TensorOptions().device(device);
  const auto zeros = [&](bool want, at::ScalarType type) {
    return want ? at::zeros({width}, options.dtype(type)) : at::Tensor();
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return {.low = at::full({width}, kInfinity, options.dtype(at::kFloat)),
          .high = at::full({width}, -kInfinity, options.dtype(at::kFloat)),
          .magnitude = zeros(wanted.magnitude, at::kDouble),
          .square = zeros(wanted.square, at::kDouble),
          .first = zeros(wanted.powers, at::kDouble),
          .third = zeros(wanted.powers, at::kDouble),
          .fourth = zeros(wanted.powers, at::kDouble),
          .outliers = zeros(wanted.outliers, at::kLong),
          .bad = at::full({1}, kNoneBad, options.dtype(at::kLong))};
}

void add_channel_moments(const at::Tensor& x, const ChannelMoments& moments, int64_t first_row,
                         const StepExtrema& step) {
  const MatrixLayout layout = matrix_layout(x, "channel moments");
  const int64_t chunks = ceil_div(layout.rows, kMomentChunkRows);
  LATHE_ASSERT(chunks <= kMaxMomentChunks && moments.low.size(0) == layout.width &&
                   moments.low.device() == x.device() &&
                   (!step.low.defined() || step.low.numel() == chunks * layout.width),
               "channel moments of {} rows and {} columns", layout.rows, layout.width);
  const MomentOutputs out = outputs(moments, step);
  if (x.is_cpu()) return cpu::channel_moments(layout, x.const_data_ptr<float>(), first_row, out);
  const c10::DeviceGuard guard(x.device());
  const CudaLibrary& cuda = cuda_library();
  const ChannelMoments parts = chunks > 1 ? sums_like(moments, chunks) : ChannelMoments();
  cuda.check(cuda.channel_moments(current_queue(x.device()), layout, x.const_data_ptr(), first_row, out,
                                  outputs(parts, {})),
             "channel_moments");
}

}  // namespace lathe::kernels
