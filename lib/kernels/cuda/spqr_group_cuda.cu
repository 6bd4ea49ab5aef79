// SpQR's column loop on CUDA: a thread a row. A group is short (16 columns as a rule), so that a row's part
// of it takes some hundred operations, and the factor's block is read by all threads alike.
#include <cuda_runtime.h>

#include "lib/kernels/cuda/spqr_group_cuda.h"

namespace {

using lathe::kernels::SpqrGroup;

constexpr int kThreads = 64;

template <class T>
__global__ void round_rows(SpqrGroup<T> group) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (r < group.rows) lathe::device::round_spqr_row(group.row(r), group.columns);
}

template <class T>
int launch(LatheCudaQueue queue, const SpqrGroup<T>& group) {
  if (group.rows == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const int blocks = static_cast<int>((group.rows + kThreads - 1) / kThreads);
  round_rows<<<blocks, kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(group);
  return cudaGetLastError();
}

}  // namespace

extern "C" {

int lathe_cuda_spqr_group_f32(LatheCudaQueue queue, const SpqrGroup<float>* group) {
  return launch(queue, *group);
}
int lathe_cuda_spqr_group_f64(LatheCudaQueue queue, const SpqrGroup<double>* group) {
  return launch(queue, *group);
}
}
