// Channel moments on CUDA: a block owns 32 channels, each row of its threads takes a run of rows, loading
// several at once and neighbours in pairs where they are halves, and one warp adds the runs' sums in their
// order: the operations and their order are those of the CPU.
#include <cuda_runtime.h>

#include "lib/kernels/cuda/load.cuh"
#include "lib/kernels/cuda/statistics_cuda.h"

namespace {

using lathe::device::kMomentRun;
using lathe::kernels::MatrixLayout;
using lathe::kernels::MomentOutputs;

constexpr int kChannels = 32;  // of a block
constexpr int kMaxRuns = 2048 / kMomentRun;
constexpr int kAhead = 8;  // rows that are loaded before they are used

/// The sums of one channel over one run of rows.
struct RunSums {
  double first, square, third, fourth;
  float low, high, magnitude;
  int32_t outliers;
};

/// Adds `count` values of one channel, which come one after the other; returns their largest magnitude's
/// bits. (What fminf makes of a NaN is no matter: it is found by its bits, and refused.)
__device__ uint32_t add_values(const float (&values)[kAhead], int count, const MomentOutputs& out,
                               RunSums& sums) {
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (i >= count) break;
    sums.low = fminf(sums.low, values[i]);
    sums.high = fmaxf(sums.high, values[i]);
    largest = max(largest, lathe::device::magnitude_bits(values[i]));
  }
  if (out.magnitude != nullptr) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (i < count) sums.magnitude += fabsf(values[i]);
  }
  if (out.square != nullptr) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (i < count) sums.square += lathe::device::exact_square(values[i]);
  }
  if (out.first != nullptr) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (i < count) lathe::device::add_powers(values[i], sums.first, sums.third, sums.fourth);
  }
  if (out.outliers != nullptr) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (i < count) sums.outliers += lathe::device::is_outlier(values[i]);
  }
  return largest;
}

/// The first of `count` values of one channel that is bad, or count.
__device__ int first_bad(const float (&values)[kAhead], int count) {
  int found = count;
#pragma unroll
  for (int i = kAhead - 1; i >= 0; --i) {
    if (i < count && lathe::device::magnitude_bits(values[i]) > lathe::device::kLargestMagnitudeBits)
      found = i;
  }
  return found;
}

/// x: the first row's first element of `channels` neighbours; index: its place among all rows.
template <int channels, class T>
__device__ void sum_run(const T* x, int64_t rows, int64_t width, int64_t index, const MomentOutputs& out,
                        RunSums* result) {
  RunSums sums[channels] = {};
  float start[channels];
  lathe::device::load_floats(x, start);
#pragma unroll
  for (int c = 0; c < channels; ++c) sums[c].low = sums[c].high = start[c];
  int64_t bad = INT64_MAX;
  for (int64_t row = 0; row < rows; row += kAhead) {
    const int count = rows - row < kAhead ? static_cast<int>(rows - row) : kAhead;
    float values[channels][kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      float loaded[channels] = {};
      if (i < count) lathe::device::load_floats(x + (row + i) * width, loaded);
#pragma unroll
      for (int c = 0; c < channels; ++c) values[c][i] = loaded[c];
    }
#pragma unroll
    for (int c = 0; c < channels; ++c) {
      if (add_values(values[c], count, out, sums[c]) <= lathe::device::kLargestMagnitudeBits) continue;
      const int64_t found = index + (row + first_bad(values[c], count)) * width + c;
      bad = found < bad ? found : bad;
    }
  }
  if (bad < INT64_MAX) atomicMin(reinterpret_cast<long long*>(out.bad), static_cast<long long>(bad));
#pragma unroll
  for (int c = 0; c < channels; ++c) result[c] = sums[c];
}

/// Adds the runs of one channel in order, and their sum to the running one.
__device__ void add_channel(const RunSums (*runs)[kChannels], int count, int lane, int64_t channel,
                            const MomentOutputs& out) {
  float low = runs[0][lane].low, high = runs[0][lane].high;
  double magnitude = 0, square = 0, first = 0, third = 0, fourth = 0;
  int64_t outliers = 0;
  for (int run = 0; run < count; ++run) {
    const RunSums& sums = runs[run][lane];
    low = fminf(low, sums.low);
    high = fmaxf(high, sums.high);
    magnitude += static_cast<double>(sums.magnitude);
    square += sums.square;
    first += sums.first;
    third += sums.third;
    fourth += sums.fourth;
    outliers += sums.outliers;
  }
  if (out.step_low != nullptr) {
    out.step_low[channel] = low + 0.0f;
    out.step_high[channel] = high + 0.0f;
  }
  out.low[channel] = fminf(out.low[channel], low);
  out.high[channel] = fmaxf(out.high[channel], high);
  if (out.magnitude != nullptr) out.magnitude[channel] += magnitude;
  if (out.square != nullptr) out.square[channel] += square;
  if (out.first != nullptr) {
    out.first[channel] += first;
    out.third[channel] += third;
    out.fourth[channel] += fourth;
  }
  if (out.outliers != nullptr) out.outliers[channel] += outliers;
}

template <int channels, class T>
__global__ void __launch_bounds__(kMaxRuns* kChannels / channels, channels)
    moments(MatrixLayout layout, const T* x, int64_t first_row, MomentOutputs out) {
  extern __shared__ unsigned char shared[];
  RunSums(*runs)[kChannels] = reinterpret_cast<RunSums(*)[kChannels]>(shared);
  constexpr int kLanes = kChannels / channels;
  const int lane = threadIdx.x % kLanes, run = threadIdx.x / kLanes;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kChannels + lane * channels;
  const int64_t row = run * kMomentRun;
  if (channel < layout.width && row < layout.rows) {
    const int64_t rows = layout.rows - row < kMomentRun ? layout.rows - row : kMomentRun;
    const int64_t index = (first_row + row) * layout.width + channel;
    sum_run<channels>(x + row * layout.width + channel, rows, layout.width, index, out,
                      &runs[run][lane * channels]);
  }
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x);
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kChannels + own;
  if (own >= kChannels || place >= layout.width) return;
  add_channel(runs, static_cast<int>((layout.rows + kMomentRun - 1) / kMomentRun), own, place, out);
}

template <int channels, class T>
int launch(cudaStream_t stream, MatrixLayout layout, const T* x, int64_t first_row, MomentOutputs out) {
  static_assert(kMaxRuns * kChannels * sizeof(RunSums) <= 49152,
                "shared memory of a block without opting in");
  const int blocks = static_cast<int>((layout.width + kChannels - 1) / kChannels);
  const int runs = static_cast<int>((layout.rows + kMomentRun - 1) / kMomentRun);
  // A warp at least: it is 32 threads that add up the runs.
  const int threads = runs * (kChannels / channels) < kChannels ? kChannels : runs * (kChannels / channels);
  moments<channels>
      <<<blocks, threads, runs * kChannels * sizeof(RunSums), stream>>>(layout, x, first_row, out);
  return cudaGetLastError();
}

}  // namespace

extern "C" int lathe_cuda_channel_moments(LatheCudaQueue queue, MatrixLayout layout, const void* x,
                                          int64_t first_row, MomentOutputs out) {
  if (layout.width == 0 || layout.rows == 0) return cudaSuccess;
  if (layout.rows > kMaxRuns * kMomentRun) return cudaErrorInvalidValue;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  return lathe::device::with_input_type(layout.type, x, [&](const auto* values) -> int {
    if constexpr (sizeof(*values) == 2) {
      if (layout.width % 2 == 0 && reinterpret_cast<uintptr_t>(values) % 4 == 0)
        return launch<2>(stream, layout, values, first_row, out);
    }
    return launch<1>(stream, layout, values, first_row, out);
  });
}
