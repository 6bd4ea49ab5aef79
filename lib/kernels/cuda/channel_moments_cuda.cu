// Channel moments on CUDA: a block owns 32 channels, each row of its threads takes a run of rows, loading
// several at once and neighbours in pairs where they are halves, and one warp adds the runs' sums in their
// order: the operations and their order are those of the CPU.
#include <cuda_runtime.h>

#include <type_traits>

#include "lib/kernels/cuda/load.cuh"
#include "lib/kernels/cuda/statistics_cuda.h"

namespace {

using lathe::device::kMomentChunk;
using lathe::device::kMomentRun;
using lathe::kernels::MatrixLayout;
using lathe::kernels::MomentOutputs;

constexpr int kChannels = 32;  // of a block
constexpr int kMaxRuns = kMomentChunk / kMomentRun;
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

/// Adds `rows` rows, kAhead of which are loaded before the first is used.
template <int kAhead, class Loaded, class Load, class Add>
__device__ void each_row(int64_t rows, Load load, Add add) {
  int64_t row = 0;
  for (; row + kAhead <= rows; row += kAhead) {
    Loaded loaded[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) loaded[i] = load(row + i);
    add(loaded);
  }
  for (; row < rows; ++row) {
    const Loaded loaded[1] = {load(row)};
    add(loaded);
  }
}

/// Sums of `rows` rows from x on, the first row's first of `channels` neighbours. Returns whether there is a
/// bad value.
template <Sums kind, int channels, class T>
__device__ bool sum_rows(const T* __restrict__ x, int64_t rows, int64_t width, const MomentOutputs& out,
                         Run<kind> (&sums)[channels]) {
  using Loaded = lathe::device::Neighbours<T, channels>;
  const auto load = [&](int64_t row) { return *reinterpret_cast<const Loaded*>(x + row * width); };
  uint32_t largest[channels] = {};
  float start[channels];
  load(0).to_floats(start);
#pragma unroll
  for (int c = 0; c < channels; ++c) sums[c].low = sums[c].high = start[c];
  each_row<kRowsAhead<kind>, Loaded>(rows, load,
                                     [&](const auto& loaded) { add_rows<kind>(loaded, out, sums, largest); });
  bool bad = false;
#pragma unroll
  for (int c = 0; c < channels; ++c) bad |= largest[c] > lathe::device::kLargestMagnitudeBits;
  return bad;
}

/// The same where nothing but the extent of two neighbouring halves is wanted: both are compared at once, as
/// they are, and a NaN stays.
template <class T>
__device__ bool pair_extent(const T* __restrict__ x, int64_t rows, int64_t width, RunExtent (&extents)[2]) {
  using Pair = lathe::device::PairOf<T>;
  const auto load = [&](int64_t row) { return *reinterpret_cast<const Pair*>(x + row * width); };
  Pair low = load(0), high = low;
  each_row<kRowsAhead<Sums::none>, Pair>(rows, load, [&](const auto& loaded) {
#pragma unroll
    for (const Pair pair : loaded) {
      low = __hmin2_nan(low, pair);
      high = __hmax2_nan(high, pair);
    }
  });
  using lathe::device::load_float, lathe::device::magnitude_bits;
  extents[0] = {load_float(low.x), load_float(high.x)};
  extents[1] = {load_float(low.y), load_float(high.y)};
  bool bad = false;
  for (const RunExtent& extent : extents)
    bad |=
        max(magnitude_bits(extent.low), magnitude_bits(extent.high)) > lathe::device::kLargestMagnitudeBits;
  return bad;
}

/// x: the first row's first element of `channels` neighbours; index: its place among all rows.
template <Sums kind, int channels, class T>
__device__ void sum_run(const T* __restrict__ x, int64_t rows, int64_t width, int64_t index,
                        const MomentOutputs& out, Run<kind>* result) {
  Run<kind> sums[channels] = {};
  bool bad;
  if constexpr (kind == Sums::none && channels == 2)
    bad = pair_extent(x, rows, width, sums);
  else
    bad = sum_rows<kind>(x, rows, width, out, sums);
#pragma unroll
  for (int c = 0; c < channels; ++c) result[c] = sums[c];
  if (bad)
    atomicMin(reinterpret_cast<long long*>(out.bad),
              static_cast<long long>(first_bad<channels>(x, rows, width, index)));
}

/// Values have one zero: the bits of others are ordered like integers, of negative ones backwards.
__device__ void lower(float* place, float value) {
  value += 0.0f;
  if (value >= 0)
    atomicMin(reinterpret_cast<int*>(place), __float_as_int(value));
  else
    atomicMax(reinterpret_cast<unsigned*>(place), __float_as_uint(value));
}
__device__ void raise(float* place, float value) {
  value += 0.0f;
  if (value >= 0)
    atomicMax(reinterpret_cast<int*>(place), __float_as_int(value));
  else
    atomicMin(reinterpret_cast<unsigned*>(place), __float_as_uint(value));
}

/// Adds the runs of one channel in order. Its extent goes to the running one; its sums go there, too, or, of
/// one chunk of several, to their places in `parts`.
template <Sums kind>
__device__ __noinline__ void add_channel(const Run<kind> (*runs)[kChannels], int count, int lane,
                                         int64_t channel, int64_t part, const MomentOutputs& out,
                                         const MomentOutputs& parts) {
  float low = runs[0][lane].low, high = runs[0][lane].high;
  for (int run = 1; run < count; ++run) {
    low = fminf(low, runs[run][lane].low);
    high = fmaxf(high, runs[run][lane].high);
  }
  if (out.step_low != nullptr) {
    out.step_low[part] = low + 0.0f;
    out.step_high[part] = high + 0.0f;
  }
  lower(out.low + channel, low);
  raise(out.high + channel, high);
  const auto add = [&](auto MomentOutputs::*member, auto of) {
    if (out.*member == nullptr) return;
    auto sum = of(runs[0][lane]);
    for (int run = 1; run < count; ++run) sum += of(runs[run][lane]);
    if (parts.*member != nullptr)
      (parts.*member)[part] = sum;
    else
      (out.*member)[channel] += sum;
  };
  if constexpr (kind != Sums::none) {
    add(&MomentOutputs::magnitude, [](const auto& run) { return static_cast<double>(run.magnitude); });
    add(&MomentOutputs::square, [](const auto& run) { return run.square; });
    add(&MomentOutputs::outliers, [](const auto& run) { return static_cast<int64_t>(run.outliers); });
  }
  if constexpr (kind == Sums::powers) {
    add(&MomentOutputs::first, [](const auto& run) { return run.first; });
    add(&MomentOutputs::third, [](const auto& run) { return run.third; });
    add(&MomentOutputs::fourth, [](const auto& run) { return run.fourth; });
  }
}

/// A block takes 32 channels of one chunk.
template <Sums kind, int channels, class T>
__global__ void __launch_bounds__(kMaxRuns* kChannels / channels, channels)
    moments(const __grid_constant__ MatrixLayout layout, const T* x, int64_t first_row,
            const __grid_constant__ MomentOutputs out, const __grid_constant__ MomentOutputs parts) {
  extern __shared__ unsigned char shared[];
  auto* const runs = reinterpret_cast<Run<kind>(*)[kChannels]>(shared);
  constexpr int kLanes = kChannels / channels;
  const int64_t chunk = blockIdx.y, begin = chunk * kMomentChunk;
  const int64_t left = layout.rows - begin, of_chunk = left < kMomentChunk ? left : kMomentChunk;
  const int lane = threadIdx.x % kLanes, run = threadIdx.x / kLanes;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kChannels + lane * channels;
  const int64_t row = run * kMomentRun;
  if (channel < layout.width && row < of_chunk) {
    const int64_t rows = of_chunk - row < kMomentRun ? of_chunk - row : kMomentRun;
    const int64_t index = (first_row + begin + row) * layout.width + channel;
    sum_run<kind, channels>(x + (begin + row) * layout.width + channel, rows, layout.width, index, out,
                            &runs[run][lane * channels]);
  }
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x);
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kChannels + own;
  if (own >= kChannels || place >= layout.width) return;
  add_channel<kind>(runs, static_cast<int>((of_chunk + kMomentRun - 1) / kMomentRun), own, place,
                    chunk * layout.width + place, out, parts);
}

/// Adds the chunks' sums to the running ones in the chunks' order. A thread a channel.
__global__ void add_chunks(MatrixLayout layout, int64_t chunks, MomentOutputs out, MomentOutputs parts) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (channel >= layout.width) return;
  const auto add = [&](auto MomentOutputs::*member) {
    if (out.*member == nullptr) return;
    auto sum = (out.*member)[channel];
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += (parts.*member)[chunk * layout.width + channel];
    (out.*member)[channel] = sum;
  };
  add(&MomentOutputs::magnitude);
  add(&MomentOutputs::square);
  add(&MomentOutputs::first);
  add(&MomentOutputs::third);
  add(&MomentOutputs::fourth);
  add(&MomentOutputs::outliers);
}

/// What one call is about.
struct Call {
  cudaStream_t stream;
  MatrixLayout layout;
  int64_t first_row;
  MomentOutputs out, parts;
};

template <Sums kind, int channels, class T>
int launch(const Call& call, const T* x) {
  static_assert(kMaxRuns * kChannels * sizeof(Run<kind>) <= 49152,
                "shared memory of a block without opting in");
  const MatrixLayout& layout = call.layout;
  const int64_t chunks = (layout.rows + kMomentChunk - 1) / kMomentChunk;
  const int64_t most = layout.rows < kMomentChunk ? layout.rows : kMomentChunk;
  const dim3 blocks(static_cast<unsigned>((layout.width + kChannels - 1) / kChannels),
                    static_cast<unsigned>(chunks));
  const int runs = static_cast<int>((most + kMomentRun - 1) / kMomentRun);
  // A warp at least: it is 32 threads that add up the runs.
  const int threads = runs * (kChannels / channels) < kChannels ? kChannels : runs * (kChannels / channels);
  const size_t shared = static_cast<size_t>(runs) * kChannels * sizeof(Run<kind>);
  moments<kind, channels>
      <<<blocks, threads, shared, call.stream>>>(layout, x, call.first_row, call.out, call.parts);
  if (kind != Sums::none && chunks > 1) {
    constexpr int kThreads = 128;
    add_chunks<<<static_cast<unsigned>((layout.width + kThreads - 1) / kThreads), kThreads, 0, call.stream>>>(
        layout, chunks, call.out, call.parts);
  }
  return cudaGetLastError();
}

template <int channels, class T>
int launch(const Call& call, const T* x) {
  const MomentOutputs& out = call.out;
  if (out.first != nullptr) return launch<Sums::powers, channels>(call, x);
  if (out.magnitude != nullptr || out.square != nullptr || out.outliers != nullptr)
    return launch<Sums::magnitudes, channels>(call, x);
  return launch<Sums::none, channels>(call, x);
}

}  // namespace

extern "C" int lathe_cuda_channel_moments(LatheCudaQueue queue, MatrixLayout layout, const void* x,
                                          int64_t first_row, MomentOutputs out, MomentOutputs parts) {
  if (layout.width == 0 || layout.rows == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const Call call{static_cast<cudaStream_t>(queue.stream), layout, first_row, out, parts};
  return lathe::device::with_input_type(layout.type, x, [&](const auto* values) -> int {
    if constexpr (sizeof(*values) == 2) {
      if (layout.width % 2 == 0 && reinterpret_cast<uintptr_t>(values) % 4 == 0)
        return launch<2>(call, values);
    }
    return launch<1>(call, values);
  });
}
