#include "formats/targets/awq_reader.h"

#include <ATen/ATen.h>

#include "formats/targets/float_reader.h"
#include "lib/base/error.h"

namespace lathe {

AwqReader::AwqReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph),
      config_(parse_awq_config(checkpoint->config().at("quantization_config"), where())) {
  for (const Linear& linear : graph.linears()) {
    const bool skipped = linear.role == LinearRole::lm_head || config_.skips(linear.name);
    if (skipped) check_floating(linear, {".qweight", ".qzeros", ".scales"});
    if (skipped || !checkpoint->contains(linear.name + ".qweight")) continue;
    const PlannedLinear found = planned(linear, config_.scheme);
    if (const auto reason = awq_layout_refuses(found, config_.version)) {
      user_error("{}: '{}' can't be read as {}: {}", checkpoint->folder().string(), linear.name,
                 config_.scheme.describe(), *reason);
    }
    add(found, awq_layout(found, config_.version));
  }
}

QuantizedTensor AwqReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  const int64_t groups = linear.scheme.groups(linear.in);
  const bool gemm = config_.version == AwqVersion::gemm;
  // GEMV's rows are padded with scales of 0.
  const at::Tensor scales =
      gemm ? positive_scales(name + ".scales").t().contiguous() : positive_scales(name + ".scales", groups);
  QuantizedTensor tensor{.scheme = linear.scheme,
                         .scale_dtype = linear.scale_dtype,
                         .codes = {},
                         .scales = scales,
                         .zero_points = unpack_awq_zeros(words(name + ".qzeros"), groups, config_.version)};
  if (linear.scheme.symmetric) {
    const at::Tensor bad = tensor.zero_points != 0;
    if (bad.any().item<bool>()) {
      user_error(
          "{}: weights are symmetric by quantization_config, but the zero point at {} (output, group) is not",
          describe_tensor(checkpoint(), name + ".qzeros"), first_index(bad));
    }
    tensor.zero_points = at::Tensor();
  }
  tensor.codes = unpack_awq_codes(words(name + ".qweight"), config_.version);
  for (const char* part : {".qweight", ".qzeros"}) release(name + part);
  return tensor;
}

}  // namespace lathe
