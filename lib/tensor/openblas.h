// OpenBLAS's FP32 matrix products, opened at first use: on CPUs with AVX-512 that are not Intel's, where the
// MKL inside libtorch takes AVX2 kernels that reach half of the machine's rate.
#pragma once

#include <cstdint>
#include <string>

namespace lathe {

/// A matrix as BLAS sees it: rows of `stride` elements, or (transposed) columns of as many.
struct BlasOperand {
  const float* data = nullptr;
  int64_t stride = 0;
  bool transposed = false;
};

class OpenBlas {
 public:
  /// None where the CPU doesn't call for it, or the library isn't there: ATen's products do then. The
  /// environment variable LATHE_BLAS=torch does without in any case, =openblas takes it on any CPU.
  static const OpenBlas* instance();

  /// c[m, n] = alpha a[m, k] b[k, n] + beta c, on the calling thread alone.
  void gemm(int64_t m, int64_t n, int64_t k, float alpha, BlasOperand a, BlasOperand b, float beta, float* c,
            int64_t c_stride) const;
  /// c[n, n] = x^T x on and above the diagonal, x[k, n] not transposed; below it `c` stays what it is. On the
  /// calling thread alone.
  void syrk(int64_t n, int64_t k, BlasOperand x, float* c, int64_t c_stride) const;

  /// "OpenBLAS 0.3.34, SkylakeX kernels".
  const std::string& description() const { return description_; }

 private:
  explicit OpenBlas(void* library);

  using Gemm = void (*)(int, int, int, int32_t, int32_t, int32_t, float, const float*, int32_t, const float*,
                        int32_t, float, float*, int32_t);
  using Syrk = void (*)(int, int, int, int32_t, int32_t, float, const float*, int32_t, float, float*,
                        int32_t);
  Gemm gemm_ = nullptr;
  Syrk syrk_ = nullptr;
  std::string description_;
};

}  // namespace lathe
