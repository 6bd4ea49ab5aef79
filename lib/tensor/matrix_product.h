// Matrix products: all that Lathe multiplies goes through here, so that the fastest library for the machine
// does it. FP32 on a CPU where OpenBLAS is faster (openblas.h): OpenBLAS; everything else: ATen.
//
// With OpenBLAS a result is computed in tiles whose size depends on the shape alone, each by one thread: the
// number of threads changes no bit.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace lathe {

/// a b of matrices of one type, which may be views. [m, k] x [k, n] -> [m, n].
at::Tensor matrix_product(const at::Tensor& a, const at::Tensor& b);

/// sum += factor a b, in place; `sum` [m, n] may be a part of a larger matrix.
void add_matrix_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b, double factor = 1);

/// x[..., in] weight[out, in]^T + bias[out], which may be undefined.
at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// The solution of T x = b in place of b[m, n]; T[m, m] is one triangle of a matrix, whose other one isn't
/// read.
void solve_triangle_left(const at::Tensor& triangle, bool upper, const at::Tensor& b);

/// The solution of x T = b in place of b[m, n]; T[n, n].
void solve_triangle_right(const at::Tensor& triangle, bool upper, const at::Tensor& b);

/// Who multiplies FP32 matrices on the CPU: "OpenBLAS 0.3.34, SkylakeX kernels" or "libtorch".
std::string describe_matrix_products();

}  // namespace lathe
