#include "apps/quantize/read_back.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

std::string hash_of(const QuantizedTensor& tensor) {
  std::string text =
      content_hash(bytes_of(tensor.codes.contiguous())) + content_hash(bytes_of(tensor.scales.contiguous()));
  if (tensor.zero_points.defined()) text += content_hash(bytes_of(tensor.zero_points.contiguous()));
  return text;
}

}  // namespace

void WrittenTensors::note(const BlockOutcome& outcome) {
  for (const LinearOutcome& linear : outcome.linears) note(linear);
}

void WrittenTensors::note(const LinearOutcome& linear) {
  hashes_[linear.linear->name] = hash_of(linear.quantized);
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
}

}  // namespace lathe
