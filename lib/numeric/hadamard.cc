#include "lib/numeric/hadamard.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "lib/base/error.h"
#include "lib/numeric/hadamard_matrices.h"

namespace lathe {
namespace {

/// Null for powers of two, and where no order divides n.
const HadamardMatrix* matrix_of(int64_t n) {
  const auto rows = hadamard_matrices();
  const auto row = std::ranges::find_if(rows, [&](const HadamardMatrix& m) { return n % m.order == 0; });
  return row == rows.end() ? nullptr : &*row;
}

/// Float [order, order].
at::Tensor entries_of(const HadamardMatrix& matrix) {
  at::Tensor entries = at::empty({matrix.order, matrix.order}, at::kFloat);
  float* out = entries.data_ptr<float>();
  for (const char digit : matrix.signs) {
    const int value = digit <= '9' ? digit - '0' : digit - 'a' + 10;
    for (int bit = 3; bit >= 0; --bit) *out++ = (value >> bit & 1) != 0 ? 1.0f : -1.0f;
  }
  return entries;
}

constexpr int64_t kGrainValues = 1 << 15;

/// Sylvester's matrix times each of `count` vectors of `length`, a power of two, in place.
void sylvester(float* values, int64_t count, int64_t length) {
  for (int64_t v = 0; v < count; ++v, values += length) {
    for (int64_t half = 1; half < length; half *= 2) {
      for (int64_t begin = 0; begin < length; begin += 2 * half) {
        for (int64_t i = begin; i < begin + half; ++i) {
          const float a = values[i], b = values[i + half];
          values[i] = a + b;
          values[i + half] = a - b;
        }
      }
    }
  }
}

}  // namespace

bool has_hadamard(int64_t n) {
  if (n < 1) return false;
  const HadamardMatrix* const matrix = matrix_of(n);
  return std::has_single_bit(static_cast<uint64_t>(matrix == nullptr ? n : n / matrix->order));
}

at::Tensor hadamard_rows(at::Tensor rows) {
  const int64_t n = rows.size(1);
  LATHE_ASSERT(has_hadamard(n) && rows.is_contiguous() && rows.scalar_type() == at::kFloat && rows.is_cpu(),
               "a Hadamard transform of {} values", n);
  const HadamardMatrix* const matrix = matrix_of(n);
  const int64_t order = matrix == nullptr ? 1 : matrix->order, length = n / order;
  sylvester(rows.data_ptr<float>(), rows.size(0) * order, length);
  rows.mul_(1 / std::sqrt(static_cast<double>(n)));
  if (matrix == nullptr) return rows;
  return at::matmul(entries_of(*matrix), rows.view({-1, order, length})).view({-1, n});
}

namespace {

/// In place, of CPU Float values.
void rotate_on_cpu(const at::Tensor& values, int64_t block) {
  float* const data = values.data_ptr<float>();
  at::parallel_for(0, values.numel() / block, kGrainValues / block,
                   [&](int64_t begin, int64_t end) { sylvester(data + begin * block, end - begin, block); });
}

/// The same sums in the same order by libtorch's operations, on any device. values: Float [n, block].
at::Tensor rotate_by_operations(at::Tensor values, int64_t block) {
  for (int64_t half = 1; half < block; half *= 2) {
    const at::Tensor pairs = values.view({-1, 2, half});
    const at::Tensor a = pairs.select(1, 0), b = pairs.select(1, 1);
    values = at::stack({a + b, a - b}, 1);
  }
  return values;
}

}  // namespace

at::Tensor hadamard_blocks_of(at::Tensor x, int64_t block) {
  LATHE_ASSERT(x.dim() >= 1 && block >= 1 && std::has_single_bit(static_cast<uint64_t>(block)) &&
                   x.size(-1) % block == 0 && x.is_contiguous() && x.scalar_type() == at::kFloat,
               "blocks of {} in rows of {} values", block, x.dim() > 0 ? x.size(-1) : 0);
  if (x.is_cpu()) {
    rotate_on_cpu(x, block);
  } else {
    x = rotate_by_operations(x.view({-1, block}), block).view(x.sizes());
  }
  return x.mul_(1 / std::sqrt(static_cast<double>(block)));
}

at::Tensor hadamard_blocks(const at::Tensor& x, int64_t block) {
  return hadamard_blocks_of(
      x.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true, at::MemoryFormat::Contiguous), block);
}

}  // namespace lathe
