#include "apps/quantize/read_back.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/model/forward.h"
#include "lib/tensor/aten.h"

namespace lathe {

namespace {

/// As numbers, and undefined where all are 0: one format has integers, another reals, a third none.
at::Tensor plain_zeros(const at::Tensor& zeros) {
  if (!zeros.defined() || !zeros.ne(0).any().item<bool>()) return {};
  return zeros.to(at::kFloat);
}

}  // namespace

std::string hash_of(const QuantizedTensor& tensor) {
  std::vector<at::Tensor> parts = {tensor.codes, tensor.scales, plain_zeros(tensor.zero_points),
                                   tensor.group_index, tensor.values};
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
  if (tensor.scheme.hadamard > 0) text += fmt::format(" hadamard {}", tensor.scheme.hadamard);
  return text;
}

void WrittenTensors::note(const ModelGraph& graph, const BlockOutcome& outcome) {
  for (const LinearOutcome& linear : outcome.linears) note(linear);
  for (const auto& [name, values] : outcome.changed)
    folded_[name] = content_hash(bytes_of(values.contiguous()));
  if (outcome.kv_cache) note(attention_module(graph.blocks[outcome.index]), *outcome.kv_cache);
}

void WrittenTensors::note(const LinearOutcome& linear) { note(linear.linear->name, linear.quantized); }

void WrittenTensors::note(const std::string& linear, const QuantizedTensor& tensor) {
  hashes_[linear] = hash_of(tensor);
}

bool WrittenTensors::is_meant(const std::string& linear, const QuantizedTensor& tensor) const {
  const auto found = hashes_.find(linear);
  return found != hashes_.end() && found->second == hash_of(tensor);
}

std::optional<bool> WrittenTensors::is_meant_fold(const std::string& tensor,
                                                  const std::function<at::Tensor()>& values) const {
  const auto found = folded_.find(tensor);
  if (found == folded_.end()) return std::nullopt;
  const at::Tensor stored = values();
  return stored.defined() && found->second == content_hash(bytes_of(stored.contiguous()));
}

Findings WrittenTensors::compare_rest(const ModelFolder& artifact) const {
  Findings findings;
  for (const auto& [name, hash] : hashes_) {
    if (!artifact.schemes.contains(name))
      findings.push_back(
          {check::meant, name, "a quantised linear", "none: the artefact doesn't hold it as such"});
  }
  for (const auto& [name, meant] : caches_) {
    std::optional<KvCacheQuantizer> found;
    try {
      found = artifact.weights->kv_cache(name);
    } catch (const UserError& error) {
      findings.push_back({check::meant, name, "the scales of its KV cache", error.what()});
      continue;
    }
    if (!found || !same_quantizer(*found, meant))
      findings.push_back({check::meant, name, "the scales of its KV cache that were meant", "others"});
  }
  return findings;
}

Findings WrittenTensors::compare(const ModelFolder& artifact) const {
  Findings findings = compare_rest(artifact);
  for (const auto& [name, hash] : hashes_) {
    throw_if_cancelled();
    if (!artifact.schemes.contains(name)) continue;
    std::string found = "something else on disk";
    try {
      if (is_meant(name, artifact.read_quantized(name))) continue;
    } catch (const UserError& error) {
      found = error.what();
    }
    findings.push_back({check::meant, name, "what the solver meant", found});
  }
  return findings;
}

void require_none(const Findings& findings) {
  if (findings.empty()) return;
  std::string text = findings.front().text();
  constexpr size_t kNamed = 16;
  for (size_t i = 1; i < std::min(findings.size(), kNamed); ++i)
    text += (i == 1 ? "; also " : ", ") + findings[i].place;
  if (findings.size() > kNamed) text += fmt::format(", and {} more", findings.size() - kNamed);
  throw CheckFailed(text);
}

}  // namespace lathe
