#include "apps/quantize/read_back.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <vector>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/model/forward.h"
#include "lib/tensor/aten.h"

namespace lathe {

std::string hash_of(const QuantizedTensor& tensor) {
  std::vector<at::Tensor> parts = {tensor.codes, tensor.scales, tensor.zero_points, tensor.group_index,
                                   tensor.values};
  if (tensor.global_scale.defined()) parts.push_back(tensor.global_scale);
  if (tensor.second_level) {
    const SecondLevel& level = *tensor.second_level;
    parts.insert(parts.end(), {level.scale_codes, level.zero_codes, level.scale_scales, level.scale_zeros,
                               level.zero_scales, level.zero_zeros});
  }
  if (tensor.outliers) {
    const Outliers& outliers = *tensor.outliers;
    parts.insert(parts.end(), {outliers.row_offsets, outliers.columns, outliers.values});
  }
  std::string text;
  for (const at::Tensor& part : parts) {
    text += part.defined() ? content_hash(bytes_of(part.contiguous())) : "-";
  }
  if (tensor.input && tensor.input->scheme.calibrated())
    text += fmt::format(" {} {}", tensor.input->scale, tensor.input->zero_point);
  return text;
}

void WrittenTensors::note(const ModelGraph& graph, const BlockOutcome& outcome) {
  for (const LinearOutcome& linear : outcome.linears) note(linear);
  if (outcome.kv_cache) note(attention_module(graph.blocks[outcome.index]), *outcome.kv_cache);
}

void WrittenTensors::note(const LinearOutcome& linear) { note(linear.linear->name, linear.quantized); }

void WrittenTensors::note(const std::string& linear, const QuantizedTensor& tensor) {
  hashes_[linear] = hash_of(tensor);
}

void WrittenTensors::compare(const ModelFolder& artifact) const {
  for (const auto& [name, hash] : hashes_) {
    throw_if_cancelled();
    if (!artifact.schemes.contains(name)) {
      throw CheckFailed(fmt::format("{}: was quantised, but the artefact doesn't hold it as such", name));
    }
    if (hash_of(artifact.read_quantized(name)) != hash) {
      throw CheckFailed(fmt::format("{}: what stands on disk differs from what the solver meant", name));
    }
  }
  for (const auto& [name, meant] : caches_) {
    const auto found = artifact.weights->kv_cache(name);
    if (!found || found->scheme != meant.scheme || found->k_scale != meant.k_scale ||
        found->v_scale != meant.v_scale) {
      throw CheckFailed(fmt::format("{}: the scales of its KV cache on disk are not those meant", name));
    }
  }
}

}  // namespace lathe
