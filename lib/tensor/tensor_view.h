// What a file says about a tensor, and a view of its bytes that somebody else owns (usually a memory
// mapping).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/tensor/dtype.h"

namespace lathe {

/// dtype and shape; row-major, dense.
struct TensorInfo {
  DType dtype = DType::F32;
  std::vector<int64_t> shape;

  int64_t numel() const;
  uint64_t nbytes() const;
  /// "F16 [576, 1536]"
  std::string describe() const;
  bool operator==(const TensorInfo&) const = default;
};

/// "[576, 1536]"
std::string describe_shape(const std::vector<int64_t>& shape);

/// A view; the bytes are not aligned for the dtype by promise (safetensors aligns the data start to 8 only).
struct TensorView {
  TensorInfo info;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner = nullptr;  // of bytes that were made for this view, to be kept with it
};

}  // namespace lathe
