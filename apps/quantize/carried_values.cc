#include "apps/quantize/carried_values.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

bool is_looked_at(DType dtype) {
  return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32 || dtype == DType::F64;
}

}  // namespace

void check_carried_values(const std::string& name, DType dtype, std::span<const std::byte> piece) {
  if (!is_looked_at(dtype) || piece.empty()) return;
  const auto count = static_cast<int64_t>(piece.size() / traits(dtype).bytes);
  const at::Tensor values = borrow({{dtype, {count}}, piece});
  if (all_finite(values)) return;
  const bool parameter = name.ends_with("weight") || name.ends_with("bias");
  if (!parameter && !values.isnan().any().item<bool>()) return;
  user_error("tensor '{}' holds a NaN{}; the checkpoint is damaged", name,
             parameter ? " or an infinity" : "");
}

}  // namespace lathe
