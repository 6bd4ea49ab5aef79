// Element types as they stand in files. No ATen here, so that readers of headers stay light.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

enum class DType : uint8_t { F64, F32, F16, BF16, F8_E4M3, F8_E5M2, F8_E8M0, I64, I32, I16, I8, U8, BOOL };

/// One row of the traits table.
struct DTypeTraits {
  DType dtype;
  std::string_view name;  // as spelled in a safetensors header
  uint32_t bytes;
  bool floating;
};

const DTypeTraits& traits(DType dtype);
/// Safetensors spelling -> dtype; nothing for an unknown one.
std::optional<DType> parse_dtype(std::string_view name);
inline std::string_view name_of(DType dtype) { return traits(dtype).name; }

}  // namespace lathe
