#include "lib/model/forward_work.h"

#include <algorithm>

namespace lathe {
namespace {

constexpr Slot kSlots[] = {Slot::attention_in, Slot::attention_out, Slot::mlp_in, Slot::mlp_mid};

}  // namespace

double seen_pairs(int64_t length, std::optional<int64_t> window) {
  const int64_t seen = window ? std::min(*window, length) : length;
  // The first `seen` tokens see one more each, the others as many.
  return static_cast<double>(seen) * static_cast<double>(seen + 1) / 2 +
         static_cast<double>(length - seen) * static_cast<double>(seen);
}

double tokens_of(const Block& block, const Linear& linear, double tokens) {
  if (!linear.input.expert) return tokens;
  return tokens * static_cast<double>(block.experts->per_token) / static_cast<double>(block.experts->count);
}

double slot_products(const Block& block, Slot slot, double tokens) {
  double flops = 0;
  for (const Linear& linear : block.linears) {
    if (linear.input.slot != slot) continue;
    flops += 2 * tokens_of(block, linear, tokens) * static_cast<double>(linear.out) *
             static_cast<double>(linear.in);
  }
  return flops;
}

double attention_work(const ModelConfig& config, const Block& block, int64_t samples, int64_t length) {
  return 4 * static_cast<double>(config.num_heads * config.head_dim) * static_cast<double>(samples) *
         seen_pairs(length, block.sliding_window);
}

ForwardWork block_work(const ModelConfig& config, const Block& block, int64_t samples, int64_t length) {
  const double tokens = static_cast<double>(samples) * static_cast<double>(length);
  ForwardWork work{.attention = attention_work(config, block, samples, length)};
  for (const Slot slot : kSlots) work.products += slot_products(block, slot, tokens);
  double gated = 0;  // values of a token that come out of a gate
  for (const Linear& linear : block.linears) {
    if (linear.role == LinearRole::down_proj)
      gated += static_cast<double>(linear.in) * tokens_of(block, linear, 1);
  }
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto turned = static_cast<double>((config.num_heads + config.num_kv_heads) * config.head_dim);
  const double norms =
      2 + (block.attention_out_norm.name.empty() ? 0 : 1) + (block.mlp_out_norm.name.empty() ? 0 : 1);
  const double head_norms = block.q_norm.name.empty() ? 0 : turned;
  work.values = tokens * ((norms + 2) * hidden + turned + head_norms + gated);  // two sums of residuals
  return work;
}

}  // namespace lathe
