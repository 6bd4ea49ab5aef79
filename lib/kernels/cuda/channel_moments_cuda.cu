// Channel moments on CUDA: a block owns 32 channels, each row of its threads takes a run of rows, loading
// several at once and neighbours in pairs where they are halves, and one warp adds the runs' sums in their
// order: the operations and their order are those of the CPU. Extents alone have no order, and a kernel of
// their own.
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

constexpr int kWarp = 32, kExtentThreads = 256, kExtentRows = 256;
constexpr int kVectorsAhead = 8;  // that a thread loads before it uses them

/// Extents alone, of halves: their order is free, so a warp takes as many channels of a row as 16-byte loads
/// bring, and the warps of a block take its kExtentRows rows in turn. Pairs are compared as they are; a NaN
/// stays.
template <class T>
__global__ void __launch_bounds__(kExtentThreads)
    extents(MatrixLayout layout, const T* __restrict__ x, int64_t first_row,
            const __grid_constant__ MomentOutputs out) {
  using Vector = lathe::device::Vector<T>;
  using Pair = lathe::device::PairOf<T>;
  constexpr int kWarps = kExtentThreads / kWarp, kPairs = Vector::kCount / 2;
  __shared__ Pair lows[kWarps][kWarp * kPairs], highs[kWarps][kWarp * kPairs];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t vector = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * kExtentRows;
  const int64_t rows = layout.rows - begin < kExtentRows ? layout.rows - begin : kExtentRows;
  if (vector * Vector::kCount < layout.width) {
    Vector loaded[kVectorsAhead];
    const auto load = [&](int k, int64_t row) {  // the last row again rather than none: extents don't mind
      loaded[k].load(x + (begin + (row < rows ? row : rows - 1)) * layout.width, vector);
    };
    load(0, warp);
    Pair low[kPairs], high[kPairs];
#pragma unroll
    for (int i = 0; i < kPairs; ++i) low[i] = high[i] = loaded[0].pair(i);
    for (int64_t row = warp; row < rows; row += kVectorsAhead * kWarps) {
#pragma unroll
      for (int k = 0; k < kVectorsAhead; ++k) load(k, row + k * kWarps);
#pragma unroll
      for (int k = 0; k < kVectorsAhead; ++k) {
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
          low[i] = __hmin2_nan(low[i], loaded[k].pair(i));
          high[i] = __hmax2_nan(high[i], loaded[k].pair(i));
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      lows[warp][lane * kPairs + i] = low[i];
      highs[warp][lane * kPairs + i] = high[i];
    }
  }
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x);
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kWarp * Vector::kCount + 2 * own;
  if (own >= kWarp * kPairs || channel >= layout.width) return;
  Pair low = lows[0][own], high = highs[0][own];
  for (int i = 1; i < kWarps; ++i) {
    low = __hmin2_nan(low, lows[i][own]);
    high = __hmax2_nan(high, highs[i][own]);
  }
  using lathe::device::load_float, lathe::device::magnitude_bits;
  const float low_of[2] = {load_float(low.x), load_float(low.y)};
  const float high_of[2] = {load_float(high.x), load_float(high.y)};
  bool bad = false;
  for (int c = 0; c < 2; ++c) {
    bad |= max(magnitude_bits(low_of[c]), magnitude_bits(high_of[c])) > lathe::device::kLargestMagnitudeBits;
    lower(out.low + channel + c, low_of[c]);
    raise(out.high + channel + c, high_of[c]);
  }
  if (bad)
    atomicMin(reinterpret_cast<long long*>(out.bad),
              static_cast<long long>(first_bad<2>(x + begin * layout.width + channel, rows, layout.width,
                                                  (first_row + begin) * layout.width + channel)));
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

/// Is there nothing to find but extents, in what extents() can read?
template <class T>
bool extents_do(const Call& call, const T* x) {
  const MomentOutputs& out = call.out;
  return out.first == nullptr && out.magnitude == nullptr && out.square == nullptr &&
         out.outliers == nullptr && out.step_low == nullptr &&
         call.layout.width % lathe::device::Vector<T>::kCount == 0 &&
         reinterpret_cast<uintptr_t>(x) % 16 == 0;
}

template <class T>
int launch_extents(const Call& call, const T* x) {
  constexpr int64_t kChannelsAtOnce = kWarp * lathe::device::Vector<T>::kCount;
  const dim3 blocks(static_cast<unsigned>((call.layout.width + kChannelsAtOnce - 1) / kChannelsAtOnce),
                    static_cast<unsigned>((call.layout.rows + kExtentRows - 1) / kExtentRows));
  extents<<<blocks, kExtentThreads, 0, call.stream>>>(call.layout, x, call.first_row, call.out);
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
      if (extents_do(call, values)) return launch_extents(call, values);
      if (layout.width % 2 == 0 && reinterpret_cast<uintptr_t>(values) % 4 == 0)
        return launch<2>(call, values);
    }
    return launch<1>(call, values);
  });
}
