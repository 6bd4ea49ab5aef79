// What the kernels that round values share: every value is mapped by itself, with the scale and the zero
// point of its group. A thread takes four neighbours of a group with one load and one store; where groups or
// addresses don't allow that, a warp takes a group, a value a lane.
#pragma once

#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "lib/kernels/cuda/group_quant_cuda.h"

namespace lathe::device {

constexpr int kWarp = 32;
constexpr int kMapThreads = 256;
constexpr int64_t kMaxMapBlocks = 1 << 20;

/// Scales and zero points of groups, or of all of them.
struct GroupScales {
  const float* scales;
  const int8_t* zeros;  // null for 0
  bool shared = false;
  const float* global = nullptr;  // by which scales are multiplied first, or null
  __device__ ScaleZero of(int64_t group) const {
    const int64_t place = shared ? 0 : group;
    ScaleZero result;
    result.scale = global == nullptr ? scales[place] : scales[place] * *global;
    result.zero = zeros == nullptr ? 0.0f : static_cast<float>(zeros[place]);
    return result;
  }
};

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T values[4];
};

/// FP8 formats that devices of compute capability 8.9 and later convert to by an instruction.
enum class NativeFormat { none, e4m3, e5m2 };

inline NativeFormat native_format(const Minifloat& number) {
  if (number.sign_bit != 7) return NativeFormat::none;
  if (number.mantissa == 3 && number.largest == 448.0f) return NativeFormat::e4m3;
  return number.mantissa == 2 && number.largest == 57344.0f ? NativeFormat::e5m2 : NativeFormat::none;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
constexpr bool kConvertsFp8 = true;
#else
constexpr bool kConvertsFp8 = false;
#endif

template <NativeFormat format>
constexpr __nv_fp8_interpretation_t kInterpretation = format == NativeFormat::e4m3 ? __NV_E4M3 : __NV_E5M2;

/// encode_number() of w / scale: by the instruction where there is one, which rounds to nearest even and
/// saturates as number_code() does (of a NaN, which callers refuse, the codes differ).
template <NativeFormat format>
__device__ inline uint8_t encode_fp8(float w, float scale, const Minifloat& number) {
  if constexpr (kConvertsFp8 && format != NativeFormat::none)
    return __nv_cvt_float_to_fp8(w / scale, __NV_SATFINITE, kInterpretation<format>);
  return encode_number(w, scale, number);
}

/// code_number(), likewise: FP16 holds every number of both formats.
template <NativeFormat format>
__device__ inline float fp8_number(uint8_t code, const Minifloat& number) {
  if constexpr (kConvertsFp8 && format != NativeFormat::none)
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, kInterpretation<format>)));
  return code_number(code, number);
}

/// round_on_grid(), likewise.
template <NativeFormat format>
__device__ inline float round_to_fp8(float w, float scale, const Minifloat& number) {
  if constexpr (kConvertsFp8 && format != NativeFormat::none)
    return scale * fp8_number<format>(encode_fp8<format>(w, scale, number), number);
  return round_on_grid(w, scale, number);
}

/// launch(std::integral_constant<NativeFormat, ...>) for the grid's.
template <class Launch>
int with_native_format(const Minifloat& number, Launch launch) {
  switch (native_format(number)) {
    case NativeFormat::e4m3:
      return launch(std::integral_constant<NativeFormat, NativeFormat::e4m3>());
    case NativeFormat::e5m2:
      return launch(std::integral_constant<NativeFormat, NativeFormat::e5m2>());
    default:
      return launch(std::integral_constant<NativeFormat, NativeFormat::none>());
  }
}

/// Index: of a four; 32 bits where they do, for the division that finds its group.
template <class Index, class In, class Out, class Groups, class Map>
__global__ void map_fours(Index fours, Index fours_of_group, const In* __restrict__ in, Out* __restrict__ out,
                          Groups groups, Map map) {
  const auto* const from = reinterpret_cast<const Four<In>*>(in);
  auto* const to = reinterpret_cast<Four<Out>*>(out);
  const auto step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index n = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; n < fours; n += step) {
    const Four<In> loaded = from[n];
    const ScaleZero group = groups.of(static_cast<int64_t>(n / fours_of_group));
    Four<Out> mapped;
#pragma unroll
    for (int i = 0; i < 4; ++i) mapped.values[i] = map(loaded.values[i], group);
    to[n] = mapped;
  }
}

template <class In, class Out, class Groups, class Map>
__global__ void map_groups(kernels::GroupLayout layout, const In* in, Out* out, Groups groups, Map map) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarp;
  for (int64_t group = first; group < layout.groups; group += stride) {
    const ScaleZero grid = groups.of(group);
    const int64_t end = (group + 1) * layout.length;
    for (int64_t i = group * layout.length + threadIdx.x % kWarp; i < end; i += kWarp)
      out[i] = map(in[i], grid);
  }
}

inline int map_blocks(int64_t threads) {
  const int64_t wanted = (threads + kMapThreads - 1) / kMapThreads;
  return static_cast<int>(wanted < kMaxMapBlocks ? wanted : kMaxMapBlocks);
}

template <class T>
bool lies_in_fours(const kernels::GroupLayout& layout, const T* values) {
  return layout.length % 4 == 0 && reinterpret_cast<uintptr_t>(values) % alignof(Four<T>) == 0;
}

/// out = map(in, groups.of(its group)), a ScaleZero; map: (In, ScaleZero) -> Out, both on the device.
template <class In, class Out, class Groups, class Map>
int map_values(LatheCudaQueue queue, kernels::GroupLayout layout, const In* in, Out* out, Groups groups,
               Map map) {
  if (layout.groups == 0 || layout.length == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  const int64_t fours = layout.groups * layout.length / 4, of_group = layout.length / 4;
  if (!lies_in_fours(layout, in) || !lies_in_fours(layout, out)) {
    map_groups<<<map_blocks(layout.groups * kWarp), kMapThreads, 0, stream>>>(layout, in, out, groups, map);
  } else if (fours < int64_t{1} << 31) {
    map_fours<uint32_t><<<map_blocks(fours), kMapThreads, 0, stream>>>(
        static_cast<uint32_t>(fours), static_cast<uint32_t>(of_group), in, out, groups, map);
  } else {
    map_fours<int64_t><<<map_blocks(fours), kMapThreads, 0, stream>>>(fours, of_group, in, out, groups, map);
  }
  return cudaGetLastError();
}

}  // namespace lathe::device
