// Channel moments on CUDA: a block owns 32 channels (one a lane, so that a warp reads 128 contiguous bytes),
// its warps take the runs of rows in turn, and one warp adds the runs' sums in their order: the operations
// and their order are those of the CPU.
#include <cuda_runtime.h>

#include "lib/kernels/cuda/load.cuh"
#include "lib/kernels/cuda/statistics_cuda.h"

namespace {

using lathe::device::kMomentRun;
using lathe::kernels::MatrixLayout;
using lathe::kernels::MomentOutputs;

constexpr int kLanes = 32;
constexpr int kWarps = 8;
constexpr int kMaxRuns = 2048 / kMomentRun;

/// The sums of one channel over one run of rows.
struct RunSums {
  double first, square, third, fourth;
  float low, high, magnitude;
  int32_t outliers;
};

template <class T>
__device__ RunSums sums_of_run(const T* x, int64_t rows, int64_t width, int64_t first_index,
                               const MomentOutputs& out) {
  RunSums sums{};
  sums.low = sums.high = lathe::device::load_float(x[0]);
  int64_t bad_row = rows;
  for (int64_t row = 0; row < rows; ++row) {
    const float value = lathe::device::load_float(x[row * width]);
    sums.low = value < sums.low ? value : sums.low;
    sums.high = value > sums.high ? value : sums.high;
    if (lathe::device::magnitude_bits(value) > lathe::device::kLargestMagnitudeBits && row < bad_row)
      bad_row = row;
    sums.magnitude += fabsf(value);
    if (out.square != nullptr) sums.square += lathe::device::exact_square(value);
    if (out.first != nullptr) lathe::device::add_powers(value, sums.first, sums.third, sums.fourth);
    sums.outliers += lathe::device::is_outlier(value);
  }
  if (bad_row < rows)
    atomicMin(reinterpret_cast<long long*>(out.bad), static_cast<long long>(first_index + bad_row * width));
  return sums;
}

/// Adds the runs of one channel in order and writes its results.
__device__ void write_channel(const RunSums (*runs)[kLanes], int count, int lane, int64_t channel,
                              const MomentOutputs& out) {
  float low = runs[0][lane].low, high = runs[0][lane].high;
  double magnitude = 0, square = 0, first = 0, third = 0, fourth = 0;
  int32_t outliers = 0;
  for (int run = 0; run < count; ++run) {
    const RunSums& sums = runs[run][lane];
    low = sums.low < low ? sums.low : low;
    high = sums.high > high ? sums.high : high;
    magnitude += static_cast<double>(sums.magnitude);
    square += sums.square;
    first += sums.first;
    third += sums.third;
    fourth += sums.fourth;
    outliers += sums.outliers;
  }
  out.low[channel] = low;
  out.high[channel] = high;
  if (out.magnitude != nullptr) out.magnitude[channel] = magnitude;
  if (out.square != nullptr) out.square[channel] = square;
  if (out.first != nullptr) {
    out.first[channel] = first;
    out.third[channel] = third;
    out.fourth[channel] = fourth;
  }
  if (out.outliers != nullptr) out.outliers[channel] = outliers;
}

template <class T>
__global__ void moments(MatrixLayout layout, const T* x, MomentOutputs out) {
  extern __shared__ unsigned char shared[];
  RunSums(*runs)[kLanes] = reinterpret_cast<RunSums(*)[kLanes]>(shared);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kLanes + lane;
  const int count = static_cast<int>((layout.rows + kMomentRun - 1) / kMomentRun);
  for (int run = warp; run < count && channel < layout.width; run += kWarps) {
    const int64_t row = run * kMomentRun;
    const int64_t rows = layout.rows - row < kMomentRun ? layout.rows - row : kMomentRun;
    const int64_t index = row * layout.width + channel;
    runs[run][lane] = sums_of_run(x + index, rows, layout.width, index, out);
  }
  __syncthreads();
  if (warp == 0 && channel < layout.width) write_channel(runs, count, lane, channel, out);
}

}  // namespace

extern "C" int lathe_cuda_channel_moments(LatheCudaQueue queue, MatrixLayout layout, const void* x,
                                          MomentOutputs out) {
  if (layout.width == 0 || layout.rows == 0) return cudaSuccess;
  if (layout.rows > kMaxRuns * kMomentRun) return cudaErrorInvalidValue;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  return lathe::device::with_input_type(layout.type, x, [&](const auto* values) -> int {
    const int blocks = static_cast<int>((layout.width + kLanes - 1) / kLanes);
    const size_t bytes = (layout.rows + kMomentRun - 1) / kMomentRun * kLanes * sizeof(RunSums);
    static_assert(kMaxRuns * kLanes * sizeof(RunSums) <= 49152, "shared memory of a block without opting in");
    moments<<<blocks, kWarps * kLanes, bytes, static_cast<cudaStream_t>(queue.stream)>>>(layout, values, out);
    return cudaGetLastError();
  });
}
