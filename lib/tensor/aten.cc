#include "lib/tensor/aten.h"

#include <ATen/ATen.h>

#include <cmath>

#include "lib/base/error.h"

namespace lathe {

c10::ScalarType to_scalar_type(DType dtype) {
  switch (dtype) {
    case DType::F64:
      return at::kDouble;
    case DType::F32:
      return at::kFloat;
    case DType::F16:
      return at::kHalf;
    case DType::BF16:
      return at::kBFloat16;
    case DType::F8_E4M3:
      return at::kFloat8_e4m3fn;
    case DType::F8_E5M2:
      return at::kFloat8_e5m2;
    case DType::I64:
      return at::kLong;
    case DType::I32:
      return at::kInt;
    case DType::I16:
      return at::kShort;
    case DType::I8:
      return at::kChar;
    case DType::U8:
      return at::kByte;
    case DType::BOOL:
      return at::kBool;
    case DType::F8_E8M0:
      return at::kFloat8_e8m0fnu;
  }
  internal_error("to_scalar_type: dtype {}", static_cast<int>(dtype));
}

DType to_dtype(c10::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return DType::F64;
    case at::kFloat:
      return DType::F32;
    case at::kHalf:
      return DType::F16;
    case at::kBFloat16:
      return DType::BF16;
    case at::kFloat8_e4m3fn:
      return DType::F8_E4M3;
    case at::kFloat8_e5m2:
      return DType::F8_E5M2;
    case at::kFloat8_e8m0fnu:
      return DType::F8_E8M0;
    case at::kLong:
      return DType::I64;
    case at::kInt:
      return DType::I32;
    case at::kShort:
      return DType::I16;
    case at::kChar:
      return DType::I8;
    case at::kByte:
      return DType::U8;
    case at::kBool:
      return DType::BOOL;
    default:
      internal_error("to_dtype: no file dtype for {}", c10::toString(type));
  }
}

at::Tensor borrow(const TensorView& view) {
  const auto options = at::TensorOptions().dtype(to_scalar_type(view.info.dtype));
  void* data = const_cast<std::byte*>(view.bytes.data());
  if (reinterpret_cast<uintptr_t>(data) % traits(view.info.dtype).bytes == 0) {
    return at::from_blob(
        data, view.info.shape, [owner = view.owner](void*) {}, options);
  }
  at::Tensor copy = at::empty(view.info.shape, options);
  std::memcpy(copy.data_ptr(), data, view.bytes.size());
  return copy;
}

TensorInfo info_of(const at::Tensor& tensor) {
  return {to_dtype(tensor.scalar_type()), tensor.sizes().vec()};
}

bool sole_owner(const at::Tensor& tensor) {
  return tensor.defined() && tensor.use_count() == 1 && tensor.storage().use_count() == 1;
}

bool all_finite(const at::Tensor& values) {
  // NaN and infinity both survive a sum, which takes no memory; a finite sum that overflows is looked into.
  return std::isfinite(values.sum().item<double>()) || at::isfinite(values).all().item<bool>();
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  LATHE_ASSERT(tensor.is_contiguous() && tensor.is_cpu(), "bytes_of needs a contiguous CPU tensor");
  return {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

}  // namespace lathe
