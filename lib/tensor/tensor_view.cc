#include "lib/tensor/tensor_view.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lathe {

int64_t TensorInfo::numel() const {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

uint64_t TensorInfo::nbytes() const { return static_cast<uint64_t>(numel()) * traits(dtype).bytes; }

std::string TensorInfo::describe() const {
  return fmt::format("{} {}", name_of(dtype), describe_shape(shape));
}

std::string describe_shape(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace lathe
