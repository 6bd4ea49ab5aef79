// GPTQ's column loop on the CPU: threads over tiles of rows. A tile is held with its rows in the lanes of a
// vector, so that rounding a column, a chain of dependent operations in one row, is done for all rows of the
// tile at once, and stays in the first-level cache (8 KB in FP32) until all its columns are rounded. Compiled
// like group_quant_cpu.cc; rows don't depend on each other, so results don't depend on threads.
#include <ATen/Parallel.h>

#include <algorithm>

#include "lib/kernels/gptq_block_rows.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

constexpr int kLanes = 16;

/// Rows [first, first + count) of a block, count <= kLanes. Lanes beyond are zeros on a grid of step 1.
template <class T>
struct Tile {
  T weight[kGptqColumns][kLanes];
  T scale[kLanes], zero[kLanes], code[kLanes], error[kLanes];
};

template <class T>
inline __attribute__((always_inline)) void load(const GptqBlock<T>& block, int64_t first, int count,
                                                Tile<T>& tile) {
  for (int64_t k = 0; k < block.columns; ++k) {
    for (int lane = 0; lane < kLanes; ++lane) tile.weight[k][lane] = 0;
  }
  for (int lane = 0; lane < kLanes; ++lane) tile.scale[lane] = 1, tile.zero[lane] = 0;
  for (int lane = 0; lane < count; ++lane) {
    const T* const row = block.weight + (first + lane) * block.weight_stride;
    for (int64_t k = 0; k < block.columns; ++k) tile.weight[k][lane] = row[k];
  }
}

template <class T>
inline __attribute__((always_inline)) void load_grids(const GptqBlock<T>& block, int64_t first, int count,
                                                      int32_t group, Tile<T>& tile) {
  for (int lane = 0; lane < count; ++lane) {
    const int64_t place = (first + lane) * block.groups + group;
    tile.scale[lane] = static_cast<T>(block.scales[place]);
    if (block.zeros != nullptr) tile.zero[lane] = static_cast<T>(static_cast<int32_t>(block.zeros[place]));
  }
}

template <bool floats, class T>
inline __attribute__((always_inline)) void round_tile(const GptqBlock<T>& block, int64_t first, int count) {
  Tile<T> tile;
  load(block, first, count, tile);
  const T qmin = static_cast<T>(block.qmin), qmax = static_cast<T>(block.qmax);
  const device::Minifloat number = block.number;
  for (int64_t j = 0; j < block.columns; ++j) {
    if (j == 0 || block.column_group[j] != block.column_group[j - 1]) {
      load_grids(block, first, count, block.column_group[j], tile);
    }
    const T* const factor = block.factor + j * block.factor_stride;
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto rounded =
          floats ? device::round_weight(tile.weight[j][lane], tile.scale[lane], factor[j], number)
                 : device::round_weight(tile.weight[j][lane], tile.scale[lane], tile.zero[lane], factor[j],
                                        qmin, qmax);
      tile.code[lane] = rounded.code;
      tile.error[lane] = rounded.error;
    }
    for (int64_t k = j + 1; k < block.columns; ++k) {
#pragma omp simd  // else it is unrolled, and columns are vectorised, whose values lie apart
      for (int lane = 0; lane < kLanes; ++lane) {
        tile.weight[k][lane] = device::compensate(tile.weight[k][lane], tile.error[lane], factor[k]);
      }
    }
    for (int lane = 0; lane < count; ++lane) {
      const int64_t row = first + lane;
      block.codes[row * block.codes_stride + j] = static_cast<int8_t>(static_cast<int32_t>(tile.code[lane]));
      block.errors[row * block.errors_stride + j] = tile.error[lane];
    }
  }
}

// target_clones takes no templates.
LATHE_CLONES void round_rows(const GptqBlock<float>& block, int64_t first, int count) {
  round_tile<false>(block, first, count);
}
LATHE_CLONES void round_rows(const GptqBlock<double>& block, int64_t first, int count) {
  round_tile<false>(block, first, count);
}
LATHE_CLONES void round_rows_of_numbers(const GptqBlock<float>& block, int64_t first, int count) {
  round_tile<true>(block, first, count);
}
LATHE_CLONES void round_rows_of_numbers(const GptqBlock<double>& block, int64_t first, int count) {
  round_tile<true>(block, first, count);
}

template <class T>
void round_block(const GptqBlock<T>& block) {
  const int64_t tiles = (block.rows + kLanes - 1) / kLanes;
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t first = tile * kLanes;
      const int count = static_cast<int>(std::min<int64_t>(kLanes, block.rows - first));
      block.number.mantissa != 0 ? round_rows_of_numbers(block, first, count)
                                 : round_rows(block, first, count);
    }
  });
}

}  // namespace

void gptq_block(const GptqBlock<float>& block) { round_block(block); }
void gptq_block(const GptqBlock<double>& block) { round_block(block); }

}  // namespace lathe::kernels::cpu
