#include "formats/targets/gptq_reader.h"

#include <ATen/ATen.h>

#include "formats/targets/code_words.h"
#include "formats/targets/float_reader.h"
#include "lib/base/error.h"

namespace lathe {

GptqReader::GptqReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph),
      config_(parse_gptq_config(checkpoint->config().at("quantization_config"), where())) {
  for (const Linear& linear : graph.linears()) {
    std::optional<Scheme> scheme = config_.scheme_of(linear.name, where());
    if (linear.role == LinearRole::lm_head && !config_.lm_head) scheme = std::nullopt;
    if (!scheme) check_floating(linear, {".qweight", ".qzeros", ".scales", ".g_idx"});
    if (!scheme || !checkpoint->contains(linear.name + ".qweight")) continue;
    const PlannedLinear found = planned(linear, *scheme);
    if (const auto reason = gptq_layout_refuses(found)) {
      user_error("{}: '{}' can't be read as {}: {}", checkpoint->folder().string(), linear.name,
                 scheme->describe(), *reason);
    }
    add(found, gptq_layout(found), ".g_idx");
  }
}

/// Char [out, G].
at::Tensor GptqReader::read_zeros(const PlannedLinear& linear) const {
  const std::string name = linear.name + ".qzeros";
  const auto zeros =
      unpack_gptq_zeros(words(name), linear.scheme.bits, linear.out, config_.version, config_.borrow);
  release(name);
  if (!zeros) {
    user_error(
        "{}: a zero point has all bits set, which in checkpoint_format gptq is 0 to some readers and 2^{} to "
        "others; make the artefact with checkpoint_format gptq_v2",
        describe_tensor(checkpoint(), name), linear.scheme.bits);
  }
  return *zeros;
}

/// Int [in]; undefined where groups are neighbours.
at::Tensor GptqReader::read_group_index(const PlannedLinear& linear) const {
  const std::string name = linear.name + ".g_idx";
  if (!checkpoint().contains(name)) return {};
  const at::Tensor index = words(name).clone();
  release(name);
  const int64_t groups = linear.scheme.groups(linear.in), length = linear.scheme.group_length(linear.in);
  const bool within = index.ge(0).logical_and(index < groups).all().item<bool>();
  if (!within || !index.to(at::kLong).bincount({}, groups).eq(length).all().item<bool>()) {
    user_error("{}: expected each of the groups 0 to {} {} times", describe_tensor(checkpoint(), name),
               groups - 1, length);
  }
  return index.diff().ge(0).all().item<bool>() ? at::Tensor() : index;
}

QuantizedTensor GptqReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  QuantizedTensor tensor{.scheme = linear.scheme,
                         .scale_dtype = linear.scale_dtype,
                         .codes = {},
                         .scales = positive_scales(name + ".scales").t().contiguous(),
                         .zero_points = read_zeros(linear),
                         .group_index = read_group_index(linear)};
  if (linear.scheme.symmetric) {
    const at::Tensor bad = tensor.zero_points != 0;
    if (bad.any().item<bool>()) {
      user_error(
          "{}: `sym` is true, but the zero point at {} (output, group) is not that of symmetric weights",
          describe_tensor(checkpoint(), name + ".qzeros"), first_index(bad));
    }
    tensor.zero_points = at::Tensor();
  }
  tensor.codes = unpack_gptq_words(words(name + ".qweight"), linear.scheme.bits);
  release(name + ".qweight");
  return tensor;
}

}  // namespace lathe
