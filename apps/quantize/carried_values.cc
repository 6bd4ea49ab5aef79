#include "apps/quantize/carried_values.h"

#include <ATen/ATen.h>

#include "formats/targets/float_reader.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

bool is_looked_at(DType dtype) {
  return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32 || dtype == DType::F64;
}

}  // namespace

void check_carried_values(const Checkpoint& checkpoint, const std::string& name, const TensorView& view,
                          std::span<const std::byte> piece) {
  const DType dtype = view.info.dtype;
  if (!is_looked_at(dtype) || piece.empty()) return;
  const auto count = static_cast<int64_t>(piece.size() / traits(dtype).bytes);
  const at::Tensor values = borrow({{dtype, {count}}, piece});
  if (all_finite(values)) return;
  const bool parameter = name.ends_with("weight") || name.ends_with("bias");
  const at::Tensor bad = parameter ? at::isfinite(values).logical_not() : values.isnan();
  const auto first = bad.to(at::kByte).argmax().item<int64_t>();
  if (!bad[first].item<bool>()) return;
  const auto before = (piece.data() - view.bytes.data()) / static_cast<int64_t>(traits(dtype).bytes);
  user_error("{}: element {} is {}; the checkpoint is damaged: fetch or make it again",
             describe_tensor(checkpoint, name), before + first,
             values[first].isnan().item<bool>() ? "NaN" : "infinite");
}

}  // namespace lathe
