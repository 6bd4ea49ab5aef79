#include "lib/eval/eval_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "lib/activations/block_size.h"
#include "lib/activations/program_memory.h"
#include "lib/base/strings.h"
#include "lib/eval/head_pieces.h"
#include "lib/model/cached_attention.h"
#include "lib/model/forward.h"

namespace lathe {
namespace {

/// Tensors of a piece's logits that are alive at a time (LogitSums::add): a model's, and their exponentials,
/// or what they were before the cap.
constexpr uint64_t kLogitCopies = 2;
/// A GPU's allocator keeps freed ones, whatever is done with them, and lays the next ones elsewhere.
constexpr uint64_t kDeviceLogits = 12;
/// Of a piece's hidden states: as they stand, and normed, with what the norm is made of.
constexpr uint64_t kStateCopies = 3;
/// Of a position: two models' sums, and at the end the divergence, its terms and their order.
constexpr uint64_t kPositionBytes = 160;

uint64_t fp32_bytes(int64_t rows, int64_t columns) {
  return static_cast<uint64_t>(rows) * static_cast<uint64_t>(columns) * 4;
}

struct ScoringBytes {
  uint64_t loading = 0;  // in host memory: the rows of a head as they stand in the file, or packed, and FP32
  uint64_t computing = 0;  // where the logits are made
};

ScoringBytes scoring_bytes(const std::vector<EvalInput>& models, const LogitWork& work, c10::Device device) {
  const HeadPieces pieces =
      eval_head_pieces(models[0], models.size() > 1 ? std::optional(models[1]) : std::nullopt, device);
  const int64_t together = device.is_cpu() ? std::min(pieces.positions, work.together) : pieces.positions;
  const uint64_t copies = device.is_cpu() ? work.copies : kDeviceLogits;
  ScoringBytes bytes;
  uint64_t heads = 0, states = 0, whole_heads = 0;
  for (const auto& [graph, weights] : models) {
    const int64_t width = graph->config.hidden_size;
    const uint64_t piece = fp32_bytes(pieces.tokens, width);
    heads += piece;
    states = std::max(states, kStateCopies * fp32_bytes(together, width));
    bytes.loading = std::max(bytes.loading, 2 * piece);
    if (weights == nullptr || weights->looks_rows_up(head_weight(*graph))) continue;
    whole_heads += fp32_bytes(graph->config.vocab_size, width);
    bytes.loading = std::max(bytes.loading, 2 * fp32_bytes(graph->config.vocab_size, width));
  }
  bytes.loading += heads + whole_heads;
  bytes.computing = heads + whole_heads + states + copies * fp32_bytes(together, pieces.tokens) +
                    kPositionBytes * work.positions;
  return bytes;
}

uint64_t chunk_bytes(const EvalInput& model, int64_t tokens, int64_t length) {
  const auto& [graph, weights] = model;
  const ModelConfig& config = graph->config;
  uint64_t bytes = 0;
  for (const Block& block : graph->blocks) {
    const auto cache = weights == nullptr ? std::nullopt : weights->kv_cache(attention_module(block));
    const bool low_bit = cache && cache->scheme.low_bit();
    bytes = std::max(
        bytes,
        forward_bytes(block, tokens) +
            (low_bit ? cached_attention_bytes(kv_cache_shape(config), config.num_heads, tokens, length) : 0));
  }
  return bytes;
}

MemoryBytes assess(const EvalMemoryRequest& request, const HiddenStorage& storage) {
  const int64_t tokens = request.ctx * std::min(request.rows, chunk_rows(request.ctx, request.device));
  MemoryBytes stores;
  uint64_t blocks = 0, chunk = 0;
  std::vector<EvalInput> models = {request.model};
  if (request.reference) models.push_back(*request.reference);
  for (const auto& [graph, weights] : models) {
    stores = stores + bytes_of_store(store_spec(storage, request.rows, request.ctx, graph->config.hidden_size,
                                                request.device));
    // One that computes, the next one on its way; one model after the other.
    blocks = std::max(blocks, 2 * largest_block_bytes(*graph));
    chunk = std::max(chunk, chunk_bytes({graph, weights}, tokens, request.ctx));
  }
  const auto positions = static_cast<uint64_t>(request.rows) * static_cast<uint64_t>(request.ctx);
  const ScoringBytes scoring = scoring_bytes(
      models, {positions, tokens, models.size() > 1 ? kComparedLogits : kLogitCopies}, request.device);
  const uint64_t running = blocks + chunk;
  const MemoryBytes program = program_memory(request.base_ram, request.device);
  if (request.device.is_cpu())
    return program + stores + MemoryBytes{std::max({running, scoring.loading, scoring.computing}), 0, 0};
  return program + stores +
         MemoryBytes{std::max(blocks, scoring.loading), std::max(running, scoring.computing), 0};
}

}  // namespace

MemoryBytes scoring_memory(const std::vector<EvalInput>& heads, const LogitWork& work, c10::Device device) {
  const ScoringBytes bytes = scoring_bytes(heads, work, device);
  if (device.is_cpu()) return {std::max(bytes.loading, bytes.computing), 0, 0};
  return {bytes.loading, bytes.computing, 0};
}

EvalMemory plan_eval_memory(const EvalMemoryRequest& request) {
  const MemoryLimits limits = effective_limits(request.limits, request.machine);
  const int64_t width = request.model.graph->config.hidden_size;
  std::vector<HiddenStorage> ways = {{.placement = Placement::device, .transfer_rows = 0, .work = {}}};
  if (!request.device.is_cpu())
    ways.push_back({.placement = Placement::host, .transfer_rows = 0, .work = {}});
  ways.push_back({.placement = Placement::disk,
                  .transfer_rows = large_transfer(request.ctx, width, request.device),
                  .work = {}});
  ways.push_back({.placement = Placement::disk, .transfer_rows = 0, .work = {}});
  std::vector<MemoryBytes> peaks;
  for (const HiddenStorage& way : ways) peaks.push_back(assess(request, way));
  const size_t chosen = choose_way(peaks, limits, "evaluation",
                                   "score fewer or shorter rows, or none (evaluate: null in a recipe)");
  return {ways[chosen], peaks[chosen]};
}

std::string describe_eval_memory(const EvalMemory& memory) {
  std::string text = fmt::format("evaluation at most {}", human_bytes(memory.peak.ram));
  if (memory.peak.vram > 0) text += fmt::format(", {} on the device", human_bytes(memory.peak.vram));
  if (memory.peak.disk > 0) text += fmt::format(", {} of temporary files", human_bytes(memory.peak.disk));
  return text + "\n";
}

}  // namespace lathe
