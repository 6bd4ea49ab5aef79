// Between files and ATen. ATen itself is only declared here; sources that compute include <ATen/ATen.h>.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "lib/tensor/tensor_view.h"

namespace at {
class Tensor;
}

namespace lathe {

/// The ATen scalar type of a file's dtype. InternalError for E8M0 and other types that ATen lacks here.
c10::ScalarType to_scalar_type(DType dtype);
/// The file dtype of an ATen scalar type (Float, Half, BFloat16, Char, Byte, Int, Long, ...).
DType to_dtype(c10::ScalarType type);

/// A tensor that shares the view's bytes; they must outlive it. Copies where the bytes aren't aligned for the
/// dtype.
at::Tensor borrow(const TensorView& view);

/// Does nobody else hold the tensor or its memory? Then it may be overwritten where a copy would do, too.
bool sole_owner(const at::Tensor& tensor);

/// Is no element a NaN or an infinity? One pass where none is.
bool all_finite(const at::Tensor& values);

/// The tensor's info; it must be dense.
TensorInfo info_of(const at::Tensor& tensor);

/// The bytes of a contiguous CPU tensor, valid while it lives.
std::span<const std::byte> bytes_of(const at::Tensor& tensor);

}  // namespace lathe
