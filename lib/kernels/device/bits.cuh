// What every device header stands on: the host/device marker and the bits of a float. C++17, no library calls
// that nvcc lacks.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define LATHE_HOST_DEVICE __host__ __device__ inline
#else
#define LATHE_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace lathe::device {

LATHE_HOST_DEVICE uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

LATHE_HOST_DEVICE float bits_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

LATHE_HOST_DEVICE uint64_t double_bits(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

LATHE_HOST_DEVICE double bits_double(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace lathe::device
