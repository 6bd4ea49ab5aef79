// The raw-pointer face of SpQR's column kernel, the same for CPU and CUDA.
#pragma once

#include <cstdint>

#include "lib/kernels/device/spqr_group.cuh"

namespace lathe::kernels {

/// All rows of one group of columns. Row-major matrices with strides between rows; T: float or double.
template <class T>
struct SpqrGroup {
  int64_t rows = 0;
  int columns = 0;
  const T* weight = nullptr;  // [rows, columns]
  int64_t weight_stride = 0;
  const T* factor = nullptr;  // [columns, columns]
  int64_t factor_stride = 0;
  const bool* marked = nullptr;  // [rows, columns] without gaps, or null
  const T *scales = nullptr, *zeros = nullptr, *thresholds = nullptr;  // [rows]
  T top = 0;
  uint8_t* codes = nullptr;  // [rows, columns]
  T *errors = nullptr, *kept = nullptr;
  int64_t codes_stride = 0, errors_stride = 0, kept_stride = 0;

  LATHE_HOST_DEVICE device::SpqrRow<T> row(int64_t r) const {
    return {weight + r * weight_stride,
            factor,
            factor_stride,
            marked == nullptr ? nullptr : marked + r * columns,
            scales[r],
            zeros[r],
            top,
            thresholds[r],
            codes + r * codes_stride,
            errors + r * errors_stride,
            kept + r * kept_stride};
  }
};

namespace cpu {
void spqr_group(const SpqrGroup<float>& group);
void spqr_group(const SpqrGroup<double>& group);
}  // namespace cpu

}  // namespace lathe::kernels
