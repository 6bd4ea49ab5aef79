#include "apps/quantize/gguf_losses.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "formats/gguf/gguf_file.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/kernels/ggml_quant.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

std::string hash_of_values(const at::Tensor& values) { return content_hash(bytes_of(values.contiguous())); }

/// `difference` and `weight`: FP32 [rows, columns].
RoundingSums sums_of(const at::Tensor& difference, const at::Tensor& weight, const at::Tensor& importance) {
  const at::Tensor error = difference.square().sum(0, false, at::kDouble);
  const at::Tensor reference = weight.square().sum(0, false, at::kDouble);
  RoundingSums sums;
  sums.error = error.sum().item<double>();
  sums.reference = reference.sum().item<double>();
  if (!importance.defined()) return sums;
  const at::Tensor shares = importance.to(at::kDouble);
  sums.weighted_error = error.dot(shares).item<double>();
  sums.weighted_reference = reference.dot(shares).item<double>();
  return sums;
}

}  // namespace

void RoundingSums::add(const RoundingSums& other) {
  error += other.error;
  reference += other.reference;
  weighted_error += other.weighted_error;
  weighted_reference += other.weighted_reference;
}

std::optional<double> RoundingSums::weighted() const {
  return weighted_reference > 0 ? std::optional(weighted_error / weighted_reference) : std::nullopt;
}

RoundingSums GgufLosses::add(const GgufOutputTensor& tensor, const at::Tensor& blocks,
                             const at::Tensor& weight, const at::Tensor& importance, const at::Tensor& rows) {
  const int64_t columns = tensor.rule.shape[1];
  const int64_t step = std::max<int64_t>(1, kGgufPieceValues / columns);
  RoundingSums sums;
  for (int64_t first = 0; first < blocks.size(0); first += step) {
    throw_if_cancelled();
    const int64_t count = std::min(step, blocks.size(0) - first);
    at::Tensor made = kernels::dequantize_ggml(blocks.narrow(0, first, count), tensor.type, columns);
    pieces_[{tensor.rule.gguf, tensor.rule.expert}].push_back(
        {rows.narrow(0, first, count), hash_of_values(made)});
    if (!weight.defined()) continue;
    const at::Tensor given = weight.narrow(0, first, count);
    sums.add(sums_of(made.sub_(given), given, importance));
  }
  sums_[tensor.rule.gguf].add(sums);
  return sums;
}

void GgufLosses::add_vector(const GgufOutputTensor& tensor, const at::Tensor& values) {
  sums_[tensor.rule.gguf];
  if (!tensor.rule.hf.empty())
    pieces_[{tensor.rule.gguf, tensor.rule.expert}].push_back({{}, hash_of_values(values)});
}

Findings GgufLosses::compare(const ModelFolder& stored) const {
  Findings findings;
  // The file's family may spell its tensors otherwise than the checkpoint's (Gemma 3 without its eyes).
  std::map<Place, std::string> names;
  for (const GgufTensorRule& rule : gguf_tensors(stored.graph)) names[{rule.gguf, rule.expert}] = rule.hf;
  for (const auto& [place, pieces] : pieces_) {
    const std::string& name = names.at(place);
    for (const Piece& piece : pieces) {
      throw_if_cancelled();
      const at::Tensor values =
          piece.rows.defined() ? stored.weights->load_rows(name, piece.rows) : stored.weights->load(name);
      if (hash_of_values(values) == piece.hash) continue;
      findings.push_back({check::meant, fmt::format("{} ({})", place.first, name), "what was written",
                          "something else on disk"});
      break;
    }
  }
  return findings;
}

std::vector<Report::TensorRow> GgufLosses::rows(const GgufOutput& output) const {
  std::vector<Report::TensorRow> rows;
  for (const GgufOutputTensor& tensor : output.tensors) {
    const auto sums = sums_.find(tensor.rule.gguf);
    if (tensor.rule.expert > 0 || sums == sums_.end()) continue;
    const std::vector<int64_t> shape = tensor.rule.file_shape();
    rows.push_back({tensor.rule.gguf, std::string(traits(tensor.type).name), shape,
                    bits_per_weight(tensor.type), sums->second.relative(), sums->second.weighted()});
  }
  return rows;
}

}  // namespace lathe
