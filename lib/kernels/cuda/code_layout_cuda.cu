// Kernel layouts on CUDA: a thread a word (a scale, for tiles). Neighbouring threads write neighbouring words
// of a block; the codes they read come through the cache, at most a few rows of W apart.
#include <cuda_runtime.h>

#include "lib/kernels/cuda/code_layout_cuda.h"

namespace lathe::kernels {
namespace {  // within ours, so that the kernels bear its name: tests/bench/gpu/sanitizer.py goes by it

using lathe::device::BlockSides;
using lathe::device::CodeLayout;
using lathe::device::CodePlace;
using lathe::kernels::CodeMatrix;
using lathe::kernels::ScaleMatrix;

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;

/// body(index) for all indices below `count`, a grid's stride apart.
template <class Body>
__global__ void each(int64_t count, Body body) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride)
    body(i);
}

template <class Body>
int launch(LatheCudaQueue queue, int64_t count, Body body) {
  if (count == 0) return cudaSuccess;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return error;
  const int64_t wanted = (count + kThreads - 1) / kThreads;
  const int blocks = static_cast<int>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
  each<<<blocks, kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(count, body);
  return cudaGetLastError();
}

/// One word of a block: the words are counted along `in` within a strip of output channels.
struct WordAt {
  int64_t in, out;  // the block's first code
  int32_t word;     // in the block
  int64_t index;    // in the layout

  __device__ WordAt(const CodeLayout& layout, int64_t i) {
    const BlockSides sides = lathe::device::block_sides(layout);
    const int32_t words = lathe::device::words_of_block(layout);
    const int64_t along_in = layout.in / sides.in, block = i / words;
    const int64_t block_in = block % along_in, block_out = block / along_in;
    word = static_cast<int32_t>(i % words);
    in = block_in * sides.in;
    out = block_out * sides.out;
    index = lathe::device::block_number(layout, block_in, block_out) * words + word;
  }
};

struct PackWord {
  CodeLayout layout;
  CodeMatrix matrix;
  __device__ void operator()(int64_t i) const {
    const WordAt at(layout, i);
    uint32_t packed = 0;
    for (int32_t field = 0; field < lathe::device::fields_of_word(layout); ++field) {
      const CodePlace place = lathe::device::code_place(layout, at.word, field);
      const int64_t k = at.in + place.in, n = at.out + place.out;
      if (k < matrix.in && n < matrix.out) {
        packed |= lathe::device::field_of_code(layout, matrix.codes[n * matrix.in + k])
                  << (layout.bits * field);
      }
    }
    matrix.words[at.index] = packed;
  }
};

struct UnpackWord {
  CodeLayout layout;
  CodeMatrix matrix;
  __device__ void operator()(int64_t i) const {
    const WordAt at(layout, i);
    const uint32_t packed = matrix.words[at.index];
    for (int32_t field = 0; field < lathe::device::fields_of_word(layout); ++field) {
      const CodePlace place = lathe::device::code_place(layout, at.word, field);
      const int64_t k = at.in + place.in, n = at.out + place.out;
      if (k < matrix.in && n < matrix.out)
        matrix.codes[n * matrix.in + k] = lathe::device::code_of_field(layout, packed, field);
    }
  }
};

struct PackExllama3 {
  CodeMatrix matrix;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / matrix.out, n = i % matrix.out;
    const int8_t* codes = matrix.codes + n * matrix.in + row / 3 * 32;
    matrix.words[i] = lathe::device::exllama3_pack(codes, 1, static_cast<int32_t>(row % 3));
  }
};

struct UnpackExllama3 {
  CodeMatrix matrix;
  __device__ void operator()(int64_t i) const {
    const int64_t n = i / matrix.in, k = i % matrix.in;
    matrix.codes[i] = lathe::device::exllama3_code(matrix.words + k / 32 * 3 * matrix.out + n, matrix.out,
                                                   static_cast<int32_t>(k % 32));
  }
};

struct SwizzleScale {
  ScaleMatrix matrix;
  int64_t columns;  // of the tiles
  bool back;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / columns, column = i % columns;
    const bool inside = row < matrix.rows && column < matrix.columns;
    uint8_t* tile = matrix.tiles + lathe::device::swizzled_scale(row, column, columns);
    uint8_t* plain = matrix.rows_of_scales + row * matrix.columns + column;
    if (!back) {
      *tile = inside ? *plain : 0;
    } else if (inside) {
      *plain = *tile;
    }
  }
};

int swizzle(LatheCudaQueue queue, const ScaleMatrix& matrix, bool back) {
  const int64_t columns = (matrix.columns + 3) / 4 * 4, rows = (matrix.rows + 127) / 128 * 128;
  return launch(queue, rows * columns, SwizzleScale{matrix, columns, back});
}

}  // namespace

extern "C" {

int lathe_cuda_pack_codes(LatheCudaQueue queue, CodeLayout layout, CodeMatrix matrix) {
  return launch(queue, lathe::device::words_of_layout(layout), PackWord{layout, matrix});
}
int lathe_cuda_unpack_codes(LatheCudaQueue queue, CodeLayout layout, CodeMatrix matrix) {
  return launch(queue, lathe::device::words_of_layout(layout), UnpackWord{layout, matrix});
}
int lathe_cuda_pack_exllama3(LatheCudaQueue queue, CodeMatrix matrix) {
  return launch(queue, matrix.in / 32 * 3 * matrix.out, PackExllama3{matrix});
}
int lathe_cuda_unpack_exllama3(LatheCudaQueue queue, CodeMatrix matrix) {
  return launch(queue, matrix.in * matrix.out, UnpackExllama3{matrix});
}
int lathe_cuda_swizzle_scales(LatheCudaQueue queue, ScaleMatrix matrix) {
  return swizzle(queue, matrix, false);
}
int lathe_cuda_unswizzle_scales(LatheCudaQueue queue, ScaleMatrix matrix) {
  return swizzle(queue, matrix, true);
}
}

}  // namespace lathe::kernels
