// Channel moments on CUDA: a block owns 32 channels (one a lane, so that a warp reads 32 neighbours of a
// row), each of its warps takes a run of rows, loading several at once, and one warp adds the runs' sums in
// their order: the operations and their order are those of the CPU.
#include <cuda_runtime.h>

#include "lib/kernels/cuda/load.cuh"
#include "lib/kernels/cuda/statistics_cuda.h"

namespace {

using lathe::device::kMomentRun;
using lathe::kernels::MatrixLayout;
using lathe::kernels::MomentOutputs;

constexpr int kLanes = 32;
constexpr int kMaxRuns = 2048 / kMomentRun;
constexpr int kAhead = 8;  // rows that are loaded before they are used

/// The sums of one channel over one run of rows.
struct RunSums {
  double first, square, third, fourth;
  float low, high, magnitude;
  int32_t outliers;
};

__device__ void add_value(float value, const MomentOutputs& out, RunSums& sums) {
  sums.low = value < sums.low ? value : sums.low;
  sums.high = value > sums.high ? value : sums.high;
  if (out.magnitude != nullptr) sums.magnitude += fabsf(value);
  if (out.square != nullptr) sums.square += lathe::device::exact_square(value);
  if (out.first != nullptr) lathe::device::add_powers(value, sums.first, sums.third, sums.fourth);
  if (out.outliers != nullptr) sums.outliers += lathe::device::is_outlier(value);
}

__device__ bool is_bad(float value) {
  return lathe::device::magnitude_bits(value) > lathe::device::kLargestMagnitudeBits;
}

/// x: the first row's element; index: its place among all rows.
template <class T>
__device__ RunSums sums_of_run(const T* x, int64_t rows, int64_t width, int64_t index,
                               const MomentOutputs& out) {
  RunSums sums{};
  sums.low = sums.high = lathe::device::load_float(x[0]);
  int64_t bad_row = rows;
  for (int64_t row = 0; row < rows; row += kAhead) {
    float values[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      values[i] = row + i < rows ? lathe::device::load_float(x[(row + i) * width]) : 0.0f;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (row + i >= rows) break;
      add_value(values[i], out, sums);
      if (is_bad(values[i]) && row + i < bad_row) bad_row = row + i;
    }
  }
  if (bad_row < rows)
    atomicMin(reinterpret_cast<long long*>(out.bad), static_cast<long long>(index + bad_row * width));
  return sums;
}

/// Adds the runs of one channel in order, and their sum to the running one.
__device__ void add_channel(const RunSums (*runs)[kLanes], int count, int lane, int64_t channel,
                            const MomentOutputs& out) {
  float low = out.low[channel], high = out.high[channel];
  double magnitude = 0, square = 0, first = 0, third = 0, fourth = 0;
  int64_t outliers = 0;
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
  if (out.magnitude != nullptr) out.magnitude[channel] += magnitude;
  if (out.square != nullptr) out.square[channel] += square;
  if (out.first != nullptr) {
    out.first[channel] += first;
    out.third[channel] += third;
    out.fourth[channel] += fourth;
  }
  if (out.outliers != nullptr) out.outliers[channel] += outliers;
}

template <class T>
__global__ void __launch_bounds__(kMaxRuns* kLanes)
    moments(MatrixLayout layout, const T* x, int64_t first_row, MomentOutputs out) {
  extern __shared__ unsigned char shared[];
  RunSums(*runs)[kLanes] = reinterpret_cast<RunSums(*)[kLanes]>(shared);
  const int lane = threadIdx.x % kLanes, run = threadIdx.x / kLanes;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kLanes + lane;
  const int64_t row = run * kMomentRun;
  if (channel < layout.width) {
    const int64_t rows = layout.rows - row < kMomentRun ? layout.rows - row : kMomentRun;
    const int64_t index = (first_row + row) * layout.width + channel;
    runs[run][lane] = sums_of_run(x + row * layout.width + channel, rows, layout.width, index, out);
  }
  __syncthreads();
  const int count = static_cast<int>(blockDim.x / kLanes);
  if (run == 0 && channel < layout.width) add_channel(runs, count, lane, channel, out);
}

}  // namespace

extern "C" int lathe_cuda_channel_moments(LatheCudaQueue queue, MatrixLayout layout, const void* x,
                                          int64_t first_row, MomentOutputs out) {
  if (layout.width == 0 || layout.rows == 0) return cudaSuccess;
  if (layout.rows > kMaxRuns * kMomentRun) return cudaErrorInvalidValue;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  return lathe::device::with_input_type(layout.type, x, [&](const auto* values) -> int {
    static_assert(kMaxRuns * kLanes * sizeof(RunSums) <= 49152, "shared memory of a block without opting in");
    const int blocks = static_cast<int>((layout.width + kLanes - 1) / kLanes);
    const int runs = static_cast<int>((layout.rows + kMomentRun - 1) / kMomentRun);
    moments<<<blocks, runs * kLanes, runs * kLanes * sizeof(RunSums),
              static_cast<cudaStream_t>(queue.stream)>>>(layout, values, first_row, out);
    return cudaGetLastError();
  });
}
