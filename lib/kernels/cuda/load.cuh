// Reading activations of any input type as FP32 in CUDA kernels.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "lib/kernels/channel_moments_rows.h"

namespace lathe::device {

__device__ inline float load_float(float x) { return x; }
__device__ inline float load_float(__half x) { return __half2float(x); }
__device__ inline float load_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// What one load brings, as it stands in memory: one value, or two halves at an address that is a multiple
/// of 4.
template <class T, int count>
struct Neighbours;
template <class T>
struct Neighbours<T, 1> {
  T value;
  __device__ void to_floats(float (&values)[1]) const { values[0] = load_float(value); }
};
template <>
struct Neighbours<__half, 2> {
  __half2 value;
  __device__ void to_floats(float (&values)[2]) const {
    const float2 pair = __half22float2(value);
    values[0] = pair.x;
    values[1] = pair.y;
  }
};
template <>
struct Neighbours<__nv_bfloat16, 2> {
  __nv_bfloat162 value;
  __device__ void to_floats(float (&values)[2]) const {
    const float2 pair = __bfloat1622float2(value);
    values[0] = pair.x;
    values[1] = pair.y;
  }
};

template <class T>
struct PairType;
template <>
struct PairType<__half> {
  using type = __half2;
};
template <>
struct PairType<__nv_bfloat16> {
  using type = __nv_bfloat162;
};
template <>
struct PairType<float> {
  using type = float2;
};
/// Two values; halves are compared two at once.
template <class T>
using PairOf = typename PairType<T>::type;

/// 16 bytes of values, loaded at once.
template <class T>
class Vector {
 public:
  static constexpr int kCount = 16 / sizeof(T);
  /// The vector `index` of those that begin at x, an address that is a multiple of 16.
  __device__ void load(const T* x, int64_t index) { bits_ = reinterpret_cast<const uint4*>(x)[index]; }
  __device__ T value(int i) const { return reinterpret_cast<const T*>(&bits_)[i]; }
  /// Values 2 i and 2 i + 1.
  __device__ PairOf<T> pair(int i) const { return reinterpret_cast<const PairOf<T>*>(&bits_)[i]; }

 private:
  uint4 bits_;
};

/// How many values of x come before the first where a Vector may stand, at most `total`.
template <class T>
__host__ __device__ inline int64_t values_before_vectors(const T* x, int64_t total) {
  const int64_t before = static_cast<int64_t>((16 - reinterpret_cast<uintptr_t>(x) % 16) % 16 / sizeof(T));
  return before < total ? before : total;
}

/// This thread's share of `total` values: of `threads` of them, eight at least, it is number `first`. Most
/// come as use_vector(Vector), `ahead` of which are loaded before the first is used; what stands before and
/// after them as use(value).
template <int ahead, class T, class Use, class UseVector>
__device__ void each_vector(const T* __restrict__ x, int64_t total, int64_t first, int64_t threads, Use use,
                            UseVector use_vector) {
  const int64_t before = values_before_vectors(x, total);
  const int64_t vectors = (total - before) / Vector<T>::kCount, after = before + vectors * Vector<T>::kCount;
  if (first < before) use(x[first]);
  if (after + first < total) use(x[after + first]);
  for (int64_t at = first; at < vectors; at += ahead * threads) {
    Vector<T> loaded[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (at + k * threads < vectors) loaded[k].load(x + before, at + k * threads);
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (at + k * threads >= vectors) break;
      use_vector(loaded[k]);
    }
  }
}

/// use(value) for each value of a share as above.
template <int ahead, class T, class Use>
__device__ void each_value(const T* __restrict__ x, int64_t total, int64_t first, int64_t threads, Use use) {
  each_vector<ahead>(x, total, first, threads, use, [&](const Vector<T>& vector) {
#pragma unroll
    for (int i = 0; i < Vector<T>::kCount; ++i) use(vector.value(i));
  });
}

/// body(x as a pointer to its element type).
template <class Body>
int with_input_type(kernels::InputType type, const void* x, Body body) {
  switch (type) {
    case kernels::InputType::f16:
      return body(static_cast<const __half*>(x));
    case kernels::InputType::bf16:
      return body(static_cast<const __nv_bfloat16*>(x));
    default:
      return body(static_cast<const float*>(x));
  }
}

}  // namespace lathe::device
