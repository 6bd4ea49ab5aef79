#include "lib/model/compute_dtype.h"

#include "lib/base/error.h"

namespace lathe {

DType resolve_compute_dtype(std::string_view text, c10::Device device, DType checkpoint) {
  if (text == "f32") return DType::F32;
  if (text == "bf16") return DType::BF16;
  if (text == "f16") return DType::F16;
  if (text != "auto") user_error("compute dtype '{}': expected auto, f32, bf16 or f16", text);
  const bool half = checkpoint == DType::BF16 || checkpoint == DType::F16;
  return half && !device.is_cpu() ? checkpoint : DType::F32;
}

}  // namespace lathe
