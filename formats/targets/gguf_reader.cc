#include "formats/targets/gguf_reader.h"

#include <ATen/ATen.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/numeric/ggml_block.h"

namespace lathe {
namespace {

/// Bits of a type whose blocks are d * (code - offset); 0 for others.
int grid_bits(GgmlType type) {
  if (type == GgmlType::Q4_0) return 4;
  if (type == GgmlType::Q5_0) return 5;
  return type == GgmlType::Q8_0 ? 8 : 0;
}

}  // namespace

GgufReader::GgufReader(std::shared_ptr<const GgufFile> file, const ModelGraph& graph,
                       std::map<std::string, TensorInfo> tensors)
    : file_(std::move(file)), tensors_(std::move(tensors)) {
  for (GgufTensorRule& rule : gguf_tensors(graph)) {
    if (rule.linear.empty() || !rule.is_matrix()) continue;
    const GgmlType type = file_->tensor(rule.gguf)->type;
    const int bits = grid_bits(type);
    if (bits == 0) continue;
    schemes_[rule.linear] = {.bits = bits, .group_size = traits(type).length};
    rules_[rule.linear] = std::move(rule);
  }
}

QuantizedTensor GgufReader::read(const std::string& linear) const {
  const GgufTensorRule& rule = rules_.at(linear);
  const GgufTensor& tensor = *file_->tensor(rule.gguf);
  const GgmlTraits& format = traits(tensor.type);
  const int64_t rows = rule.shape[0], columns = rule.shape[1];
  QuantizedTensor result;
  result.scheme = schemes_.at(linear);
  result.codes = at::empty({rows, columns}, at::kChar);
  result.scales = at::empty({rows, columns / format.length}, at::kFloat);
  auto* code = result.codes.data_ptr<int8_t>();
  auto* scale = result.scales.data_ptr<float>();
  const auto* bytes = reinterpret_cast<const uint8_t*>(tensor.bytes.data()) +
                      rule.first_row() * row_bytes(tensor.type, columns);
  GgmlBlock block;
  for (int64_t b = 0; b < result.scales.numel(); ++b, bytes += format.bytes) {
    unpack(tensor.type, bytes, block);
    float d = from_half(block.d);
    if (!std::isfinite(d) || d < 0) {
      user_error(
          "{}: tensor '{}': block {} has the scale {:g}: no grid of another format has a scale below 0",
          file_->path().string(), rule.gguf, b, d);
    }
    for (int64_t i = 0; i < format.length; ++i) {
      const int level = d == 0 ? 0 : block.codes[static_cast<size_t>(i)] - format.offset;
      *code++ = static_cast<int8_t>(level);
    }
    *scale++ = d == 0 ? 1.0f : d;  // a block of zeros: any scale is right
  }
  file_->release(tensor, tensor.bytes);
  if (rule.heads > 0) {
    const at::Tensor order = halved_rows(rows, rule.heads);
    result.codes = result.codes.index_select(0, order);
    result.scales = result.scales.index_select(0, order);
  }
  return result;
}

}  // namespace lathe
