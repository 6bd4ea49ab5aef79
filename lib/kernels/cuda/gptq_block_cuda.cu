// GPTQ's column loop on CUDA: a warp a row, the row's columns in its registers (lane l holds columns l, l +
// 32, l + 64, l + 96). A column's weight goes to all lanes by a shuffle, all lanes round it to the same code,
// and each lets its later columns make up for the error. U is read from the first-level cache, which holds a
// whole block of it (64 KB in FP32), one coalesced row a column. No synchronisation but the warp's own.
#include <cuda_runtime.h>

#include "lib/kernels/cuda/gptq_block_cuda.h"

namespace {

using lathe::kernels::GptqBlock;
using lathe::kernels::kGptqColumns;

constexpr int kWarp = 32;
constexpr int kThreads = 128;
constexpr int kParts = static_cast<int>(kGptqColumns) / kWarp;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int64_t kMaxBlocks = 1 << 20;

/// Rounds the columns that `part` of every lane holds, for one row.
template <int part, class T>
__device__ void round_part(const GptqBlock<T>& block, int64_t row, int lane, T (&weight)[kParts]) {
  const int64_t first = part * kWarp;
  const int64_t end = block.columns - first < kWarp ? block.columns - first : kWarp;
  T own_error = 0;
  int8_t own_code = 0;
  for (int source = 0; source < end; ++source) {
    const int64_t j = first + source, place = row * block.groups + block.column_group[j];
    const T* const factor = block.factor + j * block.factor_stride;
    const T scale = static_cast<T>(block.scales[place]);
    const T zero = block.zeros == nullptr ? T(0) : static_cast<T>(block.zeros[place]);
    const T value = __shfl_sync(kAllLanes, weight[part], source);
    const auto rounded = lathe::device::round_weight(value, scale, zero, factor[j],
                                                     static_cast<T>(block.qmin), static_cast<T>(block.qmax));
    if (lane == source) {
      own_error = rounded.error;
      own_code = static_cast<int8_t>(static_cast<int32_t>(rounded.code));
    }
#pragma unroll
    for (int p = part; p < kParts; ++p) {
      const int64_t k = p * kWarp + lane;
      if (k > j && k < block.columns) {
        weight[p] = lathe::device::compensate(weight[p], rounded.error, factor[k]);
      }
    }
  }
  if (lane >= end) return;
  block.codes[row * block.codes_stride + first + lane] = own_code;
  block.errors[row * block.errors_stride + first + lane] = own_error;
}

template <class T>
__global__ void round_rows(GptqBlock<T> block) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarp;
  for (int64_t row = first; row < block.rows; row += stride) {
    T weight[kParts];
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const int64_t k = p * kWarp + lane;
      weight[p] = k < block.columns ? block.weight[row * block.weight_stride + k] : T(0);
    }
    static_assert(kParts == 4, "a call for each part");
    round_part<0>(block, row, lane, weight);
    round_part<1>(block, row, lane, weight);
    round_part<2>(block, row, lane, weight);
    round_part<3>(block, row, lane, weight);
  }
}

template <class T>
int launch(LatheCudaQueue queue, const GptqBlock<T>& block) {
  if (block.rows == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const int64_t wanted = (block.rows * kWarp + kThreads - 1) / kThreads;
  const int blocks = static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
  round_rows<<<blocks, kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(block);
  return cudaGetLastError();
}

}  // namespace

extern "C" {

int lathe_cuda_gptq_block_f32(LatheCudaQueue queue, const GptqBlock<float>* block) {
  return launch(queue, *block);
}
int lathe_cuda_gptq_block_f64(LatheCudaQueue queue, const GptqBlock<double>* block) {
  return launch(queue, *block);
}
}
