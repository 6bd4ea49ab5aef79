#include "formats/targets/float_reader.h"

#include <ATen/ATen.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {

namespace {

TensorView float_view(const Checkpoint& checkpoint, const std::string& name) {
  const TensorView view = checkpoint.view(name);
  const DType dtype = view.info.dtype;
  if (dtype != DType::F16 && dtype != DType::BF16 && dtype != DType::F32) {
    user_error("{}: expected F16, BF16 or F32, found {}; convert the checkpoint to one of them",
               describe_tensor(checkpoint, name), name_of(dtype));
  }
  return view;
}

// NaN and infinity both survive a sum, which costs one pass and no memory; a finite sum that overflows is
// looked into.
void check_finite(const at::Tensor& values, const Checkpoint& checkpoint, const std::string& name) {
  if (std::isfinite(values.sum().item<float>())) return;
  const at::Tensor bad = at::isfinite(values).logical_not();
  if (!bad.any().item<bool>()) return;
  const at::Tensor first = values.masked_select(bad)[0];
  user_error(
      "{}: the value at {} is {}; the checkpoint is damaged or overflowed its dtype: fetch or make it again",
      describe_tensor(checkpoint, name), first_index(bad),
      std::isnan(first.item<float>()) ? "NaN" : "infinite");
}

at::Tensor checked_copy(const Checkpoint& checkpoint, const std::string& name, at::ScalarType type,
                        const TensorView& view) {
  at::Tensor values = borrow(view).to(type, /*non_blocking=*/false, /*copy=*/true);
  check_finite(values, checkpoint, name);
  return values;
}

}  // namespace

at::Tensor read_float_tensor(const Checkpoint& checkpoint, const std::string& name) {
  return checked_copy(checkpoint, name, at::kFloat, float_view(checkpoint, name));
}

at::Tensor read_stored_tensor(const Checkpoint& checkpoint, const std::string& name) {
  const TensorView view = float_view(checkpoint, name);
  return checked_copy(checkpoint, name, to_scalar_type(view.info.dtype), view);
}

std::string describe_tensor(const Checkpoint& checkpoint, const std::string& name) {
  return fmt::format("{}: tensor '{}'", (checkpoint.folder() / checkpoint.file_of(name)).string(), name);
}

std::string first_index(const at::Tensor& mask) {
  const int64_t flat = mask.flatten().to(at::kByte).argmax().item<int64_t>();
  std::vector<int64_t> index(static_cast<size_t>(mask.dim()));
  int64_t rest = flat;
  for (size_t axis = index.size(); axis-- > 0;) {
    index[axis] = rest % mask.size(static_cast<int64_t>(axis));
    rest /= mask.size(static_cast<int64_t>(axis));
  }
  return describe_shape(index);
}

}  // namespace lathe
