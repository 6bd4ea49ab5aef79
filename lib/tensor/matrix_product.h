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

/// out = factor a b, which may not overlap `out`; `out` [m, n] may be a part of a larger matrix.
void set_matrix_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double factor = 1);

/// sum += factor a b, in place; `sum` [m, n] may be a part of a larger matrix.
void add_matrix_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b, double factor = 1);

/// The same where `sum` is some rows of a larger matrix, `whole` rows in all: with the same bits for these
/// rows whatever part of it is worked on, if parts begin at multiples of part_rows(whole).
void add_matrix_product_of_rows(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b,
                                double factor, int64_t whole);
/// Few of a high matrix, all of one that isn't.
int64_t part_rows(int64_t whole);

/// x[..., in] weight[out, in]^T + bias[out], which may be undefined. Of x [samples, tokens, in], a sample's
/// result has the same bits whatever the others are, and however many.
at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// Who multiplies FP32 matrices on the CPU: "OpenBLAS 0.3.34, SkylakeX kernels" or "libtorch".
std::string describe_matrix_products();

}  // namespace lathe
