#include "lib/kernels/ggml_quant.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/numeric/ggml_block.h"

namespace lathe::kernels {
namespace {

constexpr double kLargestHalf = 65504;
constexpr int64_t kGrainValues = 1 << 14;

void check(const std::string& name, const at::Tensor& weight, GgmlType type, const at::Tensor& importance) {
  LATHE_ASSERT(
      weight.dim() == 2 && weight.scalar_type() == at::kFloat && weight.is_contiguous() && weight.is_cpu(),
      "{}: expected contiguous FP32 [out, in] on the CPU", name);
  LATHE_ASSERT(traits(type).made, "{}: {} is read alone", name, traits(type).name);
  if (!divides(type, weight.size(1)))
    user_error("{}: rows of {} values can't be cut into {} blocks of {}", name, weight.size(1),
               traits(type).name, traits(type).length);
  const double largest = weight.numel() == 0 ? 0.0 : weight.abs().max().item<double>();
  if (!std::isfinite(largest)) user_error("{}: holds a weight that is not finite", name);
  if (largest > kLargestHalf && type != GgmlType::F32 && type != GgmlType::BF16)
    user_error("{}: holds a weight of magnitude {}; {} has F16 scales, up to {}", name, largest,
               traits(type).name, kLargestHalf);
  if (!importance.defined()) return;
  LATHE_ASSERT(importance.dim() == 1 && importance.size(0) == weight.size(1) &&
                   importance.scalar_type() == at::kFloat && importance.is_cpu(),
               "{}: expected importances FP32 [{}] on the CPU", name, weight.size(1));
  if (!importance.ge(0).logical_and(importance.isfinite()).all().item<bool>())
    user_error("{}: its importances (imatrix) hold a value that is negative or not finite", name);
}

/// Mean 1, so that sums neither overflow nor vanish; all alike where all are 0.
at::Tensor normalised(const at::Tensor& importance) {
  const double mean = importance.to(at::kDouble).mean().item<double>();
  if (!(mean > 0)) return {};
  return importance.to(at::kDouble).div(mean).to(at::kFloat).contiguous();
}

at::Tensor plain_numbers(const at::Tensor& weight, GgmlType type) {
  const auto stored = type == GgmlType::F32 ? at::kFloat : type == GgmlType::F16 ? at::kHalf : at::kBFloat16;
  return weight.to(stored).contiguous().view(at::kByte).clone();
}

}  // namespace

at::Tensor quantize_ggml(const std::string& name, const at::Tensor& weight, GgmlType type,
                         const at::Tensor& importance) {
  check(name, weight, type, importance);
  if (traits(type).length == 1) return plain_numbers(weight, type);
  const at::Tensor shares = importance.defined() ? normalised(importance) : at::Tensor();
  at::Tensor blocks = at::empty({weight.size(0), row_bytes(type, weight.size(1))}, at::kByte);
  cpu::quantize_ggml(weight.data_ptr<float>(), shares.defined() ? shares.data_ptr<float>() : nullptr,
                     weight.size(0), weight.size(1), type, blocks.data_ptr<uint8_t>());
  return blocks;
}

at::Tensor dequantize_ggml(const at::Tensor& blocks, GgmlType type, int64_t columns) {
  LATHE_ASSERT(blocks.dim() == 2 && blocks.scalar_type() == at::kByte && blocks.is_contiguous() &&
                   blocks.size(1) == row_bytes(type, columns),
               "expected Byte [out, {}], contiguous", row_bytes(type, columns));
  at::Tensor result = at::empty({blocks.size(0), columns}, at::kFloat);
  const auto* bytes = reinterpret_cast<const std::byte*>(blocks.data_ptr<uint8_t>());
  float* const values = result.data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, kGrainValues / std::max<int64_t>(1, columns));
  at::parallel_for(0, blocks.size(0), grain, [&](int64_t begin, int64_t end) {
    decode_ggml(type, bytes + begin * blocks.size(1), (end - begin) * columns, values + begin * columns);
  });
  return result;
}

}  // namespace lathe::kernels
