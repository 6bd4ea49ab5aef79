// Channel moments on CUDA: a block owns 32 channels, each row of its threads takes a run of rows, loading
// several at once and neighbours in pairs where they are halves, and one warp adds the runs' sums in their
// order: the operations and their order are those of the CPU.
#include <cuda_runtime.h>

#include <type_traits>

#include "lib/kernels/cuda/load.cuh"
#include "lib/kernels/cuda/statistics_cuda.h"

namespace {

using lathe::device::kMomentRun;
using lathe::kernels::MatrixLayout;
using lathe::kernels::MomentOutputs;

constexpr int kChannels = 32;  // of a block
constexpr int kMaxRuns = 2048 / kMomentRun;
/// Which sums a kernel can make: what it doesn't keep leaves registers for loads.
enum class Sums { none, magnitudes, powers };

/// Rows that a thread loads before it uses them, so that enough bytes are under way to fill the memory's
/// latency: kept as they come, two halves in a register.
template <Sums kind>
constexpr int kRowsAhead = kind == Sums::none         ? 32
                           : kind == Sums::magnitudes ? 16
                                                      : 8;

struct RunExtent {
  float low, high;
};

struct RunMagnitudes : RunExtent {
  float magnitude;
  int32_t outliers;
  double square;
};
struct RunPowers : RunMagnitudes {
  double first, third, fourth;
};

/// What a run of rows leaves of a channel.
template <Sums kind>
using Run = std::conditional_t<kind == Sums::none, RunExtent,
                               std::conditional_t<kind == Sums::magnitudes, RunMagnitudes, RunPowers>>;

/// Adds `count` rows, which come one after the other; returns the largest magnitude's bits of each channel.
/// (What fminf makes of a NaN is no matter: it is found by its bits, and refused.)
template <Sums kind, int channels, class T, int count>
__device__ void add_rows(const lathe::device::Neighbours<T, channels> (&rows)[count],
                         const MomentOutputs& out, Run<kind> (&sums)[channels],
                         uint32_t (&largest)[channels]) {
  const auto each = [&](auto add) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      float values[channels];
      rows[i].to_floats(values);
#pragma unroll
      for (int c = 0; c < channels; ++c) add(sums[c], values[c], c);
    }
  };
  each([&](Run<kind>& run, float value, int c) {
    run.low = fminf(run.low, value);
    run.high = fmaxf(run.high, value);
    largest[c] = max(largest[c], lathe::device::magnitude_bits(value));
  });
  if constexpr (kind != Sums::none) {
    if (out.magnitude != nullptr)
      each([](RunMagnitudes& run, float value, int) { run.magnitude += fabsf(value); });
    if (out.square != nullptr)
      each([](RunMagnitudes& run, float value, int) { run.square += lathe::device::exact_square(value); });
    if (out.outliers != nullptr)
      each([](RunMagnitudes& run, float value, int) { run.outliers += lathe::device::is_outlier(value); });
  }
  if constexpr (kind == Sums::powers) {
    if (out.first != nullptr)
      each([](RunPowers& run, float value, int) {
        lathe::device::add_powers(value, run.first, run.third, run.fourth);
      });
  }
}

/// Which of `rows` rows has the first bad value, and in which channel; of values that have one.
template <int channels, class T>
__device__ __noinline__ int64_t first_bad(const T* x, int64_t rows, int64_t width, int64_t index) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int c = 0; c < channels; ++c) {
      const uint32_t bits = lathe::device::magnitude_bits(lathe::device::load_float(x[row * width + c]));
      if (bits > lathe::device::kLargestMagnitudeBits) return index + row * width + c;
    }
  }
  return INT64_MAX;
}

/// x: the first row's first element of `channels` neighbours; index: its place among all rows.
template <Sums kind, int channels, class T>
__device__ void sum_run(const T* __restrict__ x, int64_t rows, int64_t width, int64_t index,
                        const MomentOutputs& out, Run<kind>* result) {
  using Loaded = lathe::device::Neighbours<T, channels>;
  constexpr int kAhead = kRowsAhead<kind>;
  const auto load = [&](int64_t row) { return *reinterpret_cast<const Loaded*>(x + row * width); };
  Run<kind> sums[channels] = {};
  uint32_t largest[channels] = {};
  float start[channels];
  load(0).to_floats(start);
#pragma unroll
  for (int c = 0; c < channels; ++c) sums[c].low = sums[c].high = start[c];
  int64_t row = 0;
  for (; row + kAhead <= rows; row += kAhead) {
    Loaded loaded[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) loaded[i] = load(row + i);
    add_rows<kind>(loaded, out, sums, largest);
  }
  for (; row < rows; ++row) {
    const Loaded loaded[1] = {load(row)};
    add_rows<kind>(loaded, out, sums, largest);
  }
  bool bad = false;
#pragma unroll
  for (int c = 0; c < channels; ++c) {
    bad |= largest[c] > lathe::device::kLargestMagnitudeBits;
    result[c] = sums[c];
  }
  if (bad)
    atomicMin(reinterpret_cast<long long*>(out.bad),
              static_cast<long long>(first_bad<channels>(x, rows, width, index)));
}

/// Adds the runs of one channel in order, and their sum to the running one.
template <Sums kind>
__device__ void add_channel(const Run<kind> (*runs)[kChannels], int count, int lane, int64_t channel,
                            const MomentOutputs& out) {
  float low = runs[0][lane].low, high = runs[0][lane].high;
  for (int run = 1; run < count; ++run) {
    low = fminf(low, runs[run][lane].low);
    high = fmaxf(high, runs[run][lane].high);
  }
  if (out.step_low != nullptr) {
    out.step_low[channel] = low + 0.0f;
    out.step_high[channel] = high + 0.0f;
  }
  out.low[channel] = fminf(out.low[channel], low);
  out.high[channel] = fmaxf(out.high[channel], high);
  // A sum of the runs' in their order.
  const auto total = [&](auto of) {
    auto sum = of(runs[0][lane]);
    for (int run = 1; run < count; ++run) sum += of(runs[run][lane]);
    return sum;
  };
  if constexpr (kind != Sums::none) {
    if (out.magnitude != nullptr)
      out.magnitude[channel] += total([](const auto& run) { return static_cast<double>(run.magnitude); });
    if (out.square != nullptr) out.square[channel] += total([](const auto& run) { return run.square; });
    if (out.outliers != nullptr)
      out.outliers[channel] += total([](const auto& run) { return static_cast<int64_t>(run.outliers); });
  }
  if constexpr (kind == Sums::powers) {
    if (out.first != nullptr) {
      out.first[channel] += total([](const auto& run) { return run.first; });
      out.third[channel] += total([](const auto& run) { return run.third; });
      out.fourth[channel] += total([](const auto& run) { return run.fourth; });
    }
  }
}

template <Sums kind, int channels, class T>
__global__ void __launch_bounds__(kMaxRuns* kChannels / channels, channels)
    moments(MatrixLayout layout, const T* x, int64_t first_row, MomentOutputs out) {
  extern __shared__ unsigned char shared[];
  auto* const runs = reinterpret_cast<Run<kind>(*)[kChannels]>(shared);
  constexpr int kLanes = kChannels / channels;
  const int lane = threadIdx.x % kLanes, run = threadIdx.x / kLanes;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kChannels + lane * channels;
  const int64_t row = run * kMomentRun;
  if (channel < layout.width && row < layout.rows) {
    const int64_t rows = layout.rows - row < kMomentRun ? layout.rows - row : kMomentRun;
    const int64_t index = (first_row + row) * layout.width + channel;
    sum_run<kind, channels>(x + row * layout.width + channel, rows, layout.width, index, out,
                            &runs[run][lane * channels]);
  }
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x);
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kChannels + own;
  if (own >= kChannels || place >= layout.width) return;
  add_channel<kind>(runs, static_cast<int>((layout.rows + kMomentRun - 1) / kMomentRun), own, place, out);
}

template <Sums kind, int channels, class T>
int launch(cudaStream_t stream, MatrixLayout layout, const T* x, int64_t first_row, MomentOutputs out) {
  static_assert(kMaxRuns * kChannels * sizeof(Run<kind>) <= 49152,
                "shared memory of a block without opting in");
  const int blocks = static_cast<int>((layout.width + kChannels - 1) / kChannels);
  const int runs = static_cast<int>((layout.rows + kMomentRun - 1) / kMomentRun);
  // A warp at least: it is 32 threads that add up the runs.
  const int threads = runs * (kChannels / channels) < kChannels ? kChannels : runs * (kChannels / channels);
  const size_t shared = static_cast<size_t>(runs) * kChannels * sizeof(Run<kind>);
  moments<kind, channels><<<blocks, threads, shared, stream>>>(layout, x, first_row, out);
  return cudaGetLastError();
}

template <int channels, class T>
int launch(cudaStream_t stream, MatrixLayout layout, const T* x, int64_t first_row, MomentOutputs out) {
  if (out.first != nullptr) return launch<Sums::powers, channels>(stream, layout, x, first_row, out);
  if (out.magnitude != nullptr || out.square != nullptr || out.outliers != nullptr)
    return launch<Sums::magnitudes, channels>(stream, layout, x, first_row, out);
  return launch<Sums::none, channels>(stream, layout, x, first_row, out);
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
