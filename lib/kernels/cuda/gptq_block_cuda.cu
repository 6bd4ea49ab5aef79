// GPTQ's column loop on CUDA: eight lanes a row, four rows a warp, the row's columns and their grids in its
// lanes' registers (lane l holds columns l, l + 8, l + 16, ...). A column's weight and grid go to the row's
// lanes by shuffles, all of them round it to the same code, and each lets its later columns make up for the
// error. More lanes a row would round in vain, fewer would leave small matrices without enough warps. U is
// read from the first-level cache, which holds a whole block of it (64 KB in FP32). No synchronisation but
// the warp's own.
#include <cuda_runtime.h>

#include <utility>

#include "lib/kernels/cuda/gptq_block_cuda.h"

namespace {

using lathe::kernels::GptqBlock;
using lathe::kernels::kGptqColumns;

constexpr int kWarp = 32;
constexpr int kLanes = 8;  // of a row
constexpr int kThreads = 128;
constexpr int kParts = static_cast<int>(kGptqColumns) / kLanes;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int64_t kMaxBlocks = 1 << 20;

/// What a lane holds of its row.
template <class T>
struct Columns {
  T weight[kParts], scale[kParts], zero[kParts];
};

/// zero: of the lane's own column; that of lane `source` counts.
template <bool floats, class T>
__device__ lathe::device::RoundedWeight<T> rounded_on(const GptqBlock<T>& block, T value, T scale, T own_zero,
                                                      T pivot, int source) {
  if constexpr (floats) {
    return lathe::device::round_weight(value, scale, pivot, block.number);
  } else {
    const T zero = __shfl_sync(kAllLanes, own_zero, source, kLanes);
    return lathe::device::round_weight(value, scale, zero, pivot, static_cast<T>(block.qmin),
                                       static_cast<T>(block.qmax));
  }
}

/// Rounds the columns that `part` of every lane holds. `full`: the block has kGptqColumns columns.
template <int part, bool full, bool floats, class T>
__device__ void round_part(const GptqBlock<T>& block, int64_t row, bool write, int lane, Columns<T>& held) {
  const int first = part * kLanes, columns = full ? kParts * kLanes : static_cast<int>(block.columns);
  if (first >= columns) return;
  const int end = columns - first < kLanes ? columns - first : kLanes;
  T own_error = 0;
  int8_t own_code = 0;
  for (int source = 0; source < end; ++source) {
    const int j = first + source;
    const T* const factor = block.factor + j * block.factor_stride;
    const T scale = __shfl_sync(kAllLanes, held.scale[part], source, kLanes);
    const T value = __shfl_sync(kAllLanes, held.weight[part], source, kLanes);
    const auto rounded = rounded_on<floats>(block, value, scale, held.zero[part], factor[j], source);
    if (lane == source) {
      own_error = rounded.error;
      own_code = static_cast<int8_t>(static_cast<int32_t>(rounded.code));
    }
#pragma unroll
    for (int p = part; p < kParts; ++p) {
      const int k = p * kLanes + lane;
      if ((p > part || lane > source) && (full || k < columns)) {
        held.weight[p] = lathe::device::compensate(held.weight[p], rounded.error, factor[k]);
      }
    }
  }
  if (!write || lane >= end) return;
  block.codes[row * block.codes_stride + first + lane] = own_code;
  block.errors[row * block.errors_stride + first + lane] = own_error;
}

template <bool full, bool floats, class T, int... parts>
__device__ void round_parts(const GptqBlock<T>& block, int64_t row, bool write, int lane, Columns<T>& held,
                            std::integer_sequence<int, parts...>) {
  (round_part<parts, full, floats>(block, row, write, lane, held), ...);
}

template <bool full, bool floats, class T>
__global__ void round_rows(GptqBlock<T> block) {
  constexpr int kRows = kWarp / kLanes;  // of a warp
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp * kRows;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kLanes;
  for (int64_t start = first; start < block.rows;
       start += stride) {  // the same number of times for a whole warp
    const int64_t wanted = start + static_cast<int>(threadIdx.x) % kWarp / kLanes;
    const bool write = wanted < block.rows;
    const int64_t row = write ? wanted : block.rows - 1;
    Columns<T> held;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const int k = p * kLanes + lane;
      const bool there = full || k < block.columns;
      const int64_t place = there ? row * block.groups + block.column_group[k] : 0;
      held.weight[p] = there ? block.weight[row * block.weight_stride + k] : T(0);
      held.scale[p] = there ? static_cast<T>(block.scales[place]) : T(1);
      held.zero[p] = there && block.zeros != nullptr ? static_cast<T>(block.zeros[place]) : T(0);
    }
    round_parts<full, floats>(block, row, write, lane, held, std::make_integer_sequence<int, kParts>());
  }
}

template <bool floats, class T>
int launch(LatheCudaQueue queue, const GptqBlock<T>& block) {
  if (block.rows == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const int64_t wanted = (block.rows * kLanes + kThreads - 1) / kThreads;
  const int blocks = static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  if (block.columns == kGptqColumns) {
    round_rows<true, floats><<<blocks, kThreads, 0, stream>>>(block);
  } else {
    round_rows<false, floats><<<blocks, kThreads, 0, stream>>>(block);
  }
  return cudaGetLastError();
}

template <class T>
int launch_on_grid(LatheCudaQueue queue, const GptqBlock<T>& block) {
  return block.number.mantissa != 0 ? launch<true>(queue, block) : launch<false>(queue, block);
}

}  // namespace

extern "C" {

int lathe_cuda_gptq_block_f32(LatheCudaQueue queue, const GptqBlock<float>* block) {
  return launch_on_grid(queue, *block);
}
int lathe_cuda_gptq_block_f64(LatheCudaQueue queue, const GptqBlock<double>* block) {
  return launch_on_grid(queue, *block);
}
}
