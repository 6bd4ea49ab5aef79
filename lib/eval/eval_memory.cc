#include "lib/eval/eval_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "lib/activations/block_size.h"
#include "lib/activations/program_memory.h"
#include "lib/base/strings.h"
#include "lib/eval/logit_slice.h"

namespace lathe {
namespace {

/// Tensors of a slice's logits that are alive at a time: each model's logits, their logarithms, and what the
/// divergence is made of.
constexpr uint64_t kSliceCopies = 5;

uint64_t head_bytes(const ModelGraph& graph) {
  return static_cast<uint64_t>(graph.config.vocab_size) * static_cast<uint64_t>(graph.config.hidden_size) * 4;
}

uint64_t chunk_bytes(const ModelGraph& graph, int64_t tokens) {
  uint64_t bytes = 0;
  for (const Block& block : graph.blocks) bytes = std::max(bytes, forward_bytes(block, tokens));
  return bytes;
}

MemoryBytes assess(const EvalMemoryRequest& request, const HiddenStorage& storage) {
  const int64_t tokens = request.ctx * std::min(request.rows, chunk_rows(request.ctx, request.device));
  MemoryBytes stores;
  uint64_t blocks = 0, heads = 0, chunk = 0;
  for (const ModelGraph* graph : {request.model, request.reference}) {
    if (graph == nullptr) continue;
    stores = stores + bytes_of_store(store_spec(storage, request.rows, request.ctx, graph->config.hidden_size,
                                                request.device));
    // One that computes, the next one on its way; one model after the other.
    blocks = std::max(blocks, 2 * largest_block_bytes(*graph));
    heads += head_bytes(*graph);
    chunk = std::max(chunk, chunk_bytes(*graph, tokens));
  }
  const uint64_t scoring = heads + kSliceCopies * 4 * static_cast<uint64_t>(kLogitValues);
  const uint64_t computing = std::max(blocks + chunk, scoring);
  const MemoryBytes program = program_memory(request.base_ram, request.device);
  if (request.device.is_cpu()) return program + stores + MemoryBytes{computing, 0, 0};
  return program + stores + MemoryBytes{std::max(blocks, heads), computing, 0};
}

}  // namespace

EvalMemory plan_eval_memory(const EvalMemoryRequest& request) {
  const MemoryLimits limits = effective_limits(request.limits, request.machine);
  const int64_t width = request.model->config.hidden_size;
  std::vector<HiddenStorage> ways = {{.placement = Placement::device, .transfer_rows = 0, .work = {}}};
  if (!request.device.is_cpu())
    ways.push_back({.placement = Placement::host, .transfer_rows = 0, .work = {}});
  ways.push_back({.placement = Placement::disk,
                  .transfer_rows = large_transfer(request.ctx, width, request.device),
                  .work = {}});
  ways.push_back({.placement = Placement::disk, .transfer_rows = 0, .work = {}});
  std::vector<MemoryBytes> peaks;
  for (const HiddenStorage& way : ways) peaks.push_back(assess(request, way));
  const size_t chosen = choose_way(peaks, limits, "evaluation");
  return {ways[chosen], peaks[chosen]};
}

std::string describe_eval_memory(const EvalMemory& memory) {
  std::string text = fmt::format("evaluation at most {}", human_bytes(memory.peak.ram));
  if (memory.peak.vram > 0) text += fmt::format(", {} on the device", human_bytes(memory.peak.vram));
  if (memory.peak.disk > 0) text += fmt::format(", {} of temporary files", human_bytes(memory.peak.disk));
  return text + "\n";
}

}  // namespace lathe
