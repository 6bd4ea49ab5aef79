#include "lib/activations/block_size.h"

#include <algorithm>
#include <vector>

#include "lib/model/attention.h"

namespace lathe {
namespace {

constexpr uint64_t kFloat = 4;

}  // namespace

uint64_t weights_in(const Linear& linear) {
  return static_cast<uint64_t>(linear.out) * static_cast<uint64_t>(linear.in);
}

uint64_t block_bytes(const Block& block) {
  uint64_t values = 0;
  for (const Norm* norm : block.norms()) values += static_cast<uint64_t>(norm->width);
  for (const Linear& linear : block.linears)
    values += weights_in(linear) + (linear.bias ? static_cast<uint64_t>(linear.out) : 0);
  return values * kFloat;
}

uint64_t largest_block_bytes(const ModelGraph& graph) {
  uint64_t bytes = 0;
  for (const Block& block : graph.blocks) bytes = std::max(bytes, block_bytes(block));
  return bytes;
}

namespace {

/// The rows that a chunk sends to one expert, at most all: what it reads, gate, up and their product, what it
/// puts out, twice (before and after the routing's weights), and the sum over experts.
uint64_t expert_bytes(const Block& block, int64_t tokens) {
  if (!block.experts) return 0;
  const Linear& down = *block.find(LinearRole::down_proj, 0);
  const uint64_t values = 5 * static_cast<uint64_t>(down.out) + 3 * static_cast<uint64_t>(down.in);
  return values * static_cast<uint64_t>(tokens) * kFloat;
}

}  // namespace

uint64_t forward_bytes(const Block& block, int64_t tokens) {
  const auto part = [&](Slot in, Slot out, uint64_t projections) {
    const std::vector<const Linear*> readers = block.reading(in), next = block.reading(out);
    uint64_t values = 0;
    for (const Linear* linear : readers) values += projections * static_cast<uint64_t>(linear->out);
    if (!readers.empty()) values += 3 * static_cast<uint64_t>(readers.front()->in);
    if (!next.empty()) values += static_cast<uint64_t>(next.front()->in);
    return values * static_cast<uint64_t>(tokens) * kFloat;
  };
  const AttentionRule rule{block.attention_scale, block.sliding_window, block.attention_softcap};
  const uint64_t attention =
      part(Slot::attention_in, Slot::attention_out, 2) + attention_scratch_bytes(rule, tokens);
  return std::max({attention, part(Slot::mlp_in, Slot::mlp_mid, 1), part(Slot::head_in, Slot::head_in, 0),
                   expert_bytes(block, tokens)});
}

}  // namespace lathe
