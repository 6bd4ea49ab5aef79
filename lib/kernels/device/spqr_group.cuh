// The arithmetic of SpQR's column loop within one group of one row, for g++ (CPU) and nvcc (host and device).
// Single IEEE operations in a fixed order, as in group_quant.cuh, in FP32 or FP64.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

/// The longest group: a row of it is held in a thread's own memory.
constexpr int kSpqrColumns = 128;

/// Nearest integer, ties to even, of a number that is clamped to a grid of at most 8 bits.
LATHE_HOST_DEVICE float round_code(float x) { return round_half_even(x); }
LATHE_HOST_DEVICE double round_code(double x) {
  const double magic = 6755399441055744.0;  // 1.5 * 2^52
  return (x + magic) - magic;
}

/// One row of a group. value = scale * (code - zero), codes 0 .. top; zero is a real number.
template <class T>
struct SpqrRow {
  const T* weight;  // [columns]
  const T* factor;  // U's diagonal block [columns, columns], rows `factor_stride` apart
  int64_t factor_stride;
  const bool* marked;  // [columns]: is kept whatever it loses; null: none is
  T scale, zero, top;
  T threshold;     // on the squared error over the pivot, above which a weight is kept
  uint8_t* codes;  // [columns]
  T* errors;       // [columns]: what the later columns make up for; 0 of a weight that is kept
  T* kept;         // [columns]: what the code's value lacks; 0 of a weight that is not kept
};

/// Rounds or keeps each column, and lets the row's later ones make up for its error.
template <class T>
LATHE_HOST_DEVICE void round_spqr_row(const SpqrRow<T>& row, int columns) {
  T weight[kSpqrColumns];
  for (int k = 0; k < columns; ++k) weight[k] = row.weight[k];
  for (int j = 0; j < columns; ++j) {
    const T* const factor = row.factor + j * row.factor_stride;
    T code = row.scale > 0 ? weight[j] / row.scale + row.zero : T(0);
    code = code > 0 ? (code < row.top ? code : row.top) : T(0);  // a NaN becomes 0
    code = round_code(code);
    const T lost = weight[j] - row.scale * (code - row.zero);
    const T error = lost / factor[j];
    const bool keep = (row.marked != nullptr && row.marked[j]) || error * error > row.threshold;
    row.codes[j] = static_cast<uint8_t>(static_cast<int32_t>(code));
    row.kept[j] = keep ? lost : T(0);
    row.errors[j] = keep ? T(0) : error;
    if (keep) continue;
    for (int k = j + 1; k < columns; ++k) weight[k] = weight[k] - error * factor[k];
  }
}

}  // namespace lathe::device
