// The linears of a block's MLP: gate, up and down, once or for each expert.
#include <fmt/format.h>

#include "lib/model/arch/decoder.h"

namespace lathe {
namespace {

std::string joined(std::string_view prefix, std::string_view name) {
  return fmt::format("{}.{}", prefix, name);
}

Linear plain(std::string name, LinearRole role, Slot slot, int64_t out, int64_t in, bool bias = false) {
  return {.name = std::move(name),
          .role = role,
          .input = {slot, std::nullopt},
          .out = out,
          .in = in,
          .bias = bias};
}

std::vector<Linear> dense_mlp(const DecoderFamily& family, const ModelConfig& config, const std::string& mlp,
                              int64_t width) {
  const int64_t hidden = config.hidden_size;
  const bool bias = has_bias(family.mlp_bias, config.mlp_bias);
  const Linear down =
      plain(joined(mlp, "down_proj"), LinearRole::down_proj, Slot::mlp_mid, hidden, width, bias);
  if (family.fused) {
    return {
        plain(joined(mlp, "gate_up_proj"), LinearRole::gate_up_proj, Slot::mlp_in, 2 * width, hidden, bias),
        down};
  }
  return {plain(joined(mlp, "gate_proj"), LinearRole::gate_proj, Slot::mlp_in, width, hidden, bias),
          plain(joined(mlp, "up_proj"), LinearRole::up_proj, Slot::mlp_in, width, hidden, bias), down};
}

/// gate, up and down of one routed expert, with the place in the stacked tensors where they may stand.
std::vector<Linear> expert_mlp(const ExpertsRule& rule, const ModelConfig& config, const std::string& prefix,
                               int64_t expert) {
  const int64_t hidden = config.hidden_size, width = config.experts->width, count = config.experts->count;
  const std::string stem = fmt::format("{}.{}.{}", prefix, rule.part, expert);
  const std::string stacked = joined(prefix, rule.stacked);
  const StoredRows gate{joined(stacked, "gate_up_proj"), {count, 2 * width, hidden}, expert * 2 * width};
  const StoredRows up{gate.tensor, gate.shape, gate.first_row + width};
  const StoredRows down{joined(stacked, "down_proj"), {count, hidden, width}, expert * hidden};
  return {{.name = joined(stem, rule.gate),
           .role = LinearRole::gate_proj,
           .input = {Slot::mlp_in, expert},
           .out = width,
           .in = hidden,
           .stored = gate},
          {.name = joined(stem, rule.up),
           .role = LinearRole::up_proj,
           .input = {Slot::mlp_in, expert},
           .out = width,
           .in = hidden,
           .stored = up},
          {.name = joined(stem, rule.down),
           .role = LinearRole::down_proj,
           .input = {Slot::mlp_mid, expert},
           .out = hidden,
           .in = width,
           .stored = down}};
}

std::vector<Linear> sparse_mlp(const DecoderFamily& family, const ModelConfig& config,
                               const std::string& prefix) {
  const ExpertsRule& rule = family.experts;
  const int64_t hidden = config.hidden_size, count = config.experts->count;
  std::vector<Linear> linears;
  const auto append = [&](std::vector<Linear> more) {
    linears.insert(linears.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  };
  Linear router = plain(joined(prefix, rule.router), LinearRole::router, Slot::mlp_in, count, hidden);
  if (rule.stacked_router != rule.router) {
    router.stored = {joined(prefix, rule.stacked_router) + ".weight", {count, hidden}, 0};
  }
  append({std::move(router)});
  if (config.experts->shared_width > 0) {
    append(
        {plain(joined(prefix, rule.shared_gate), LinearRole::shared_expert_gate, Slot::mlp_in, 1, hidden)});
    std::vector<Linear> shared =
        dense_mlp(family, config, joined(prefix, rule.shared_part), config.experts->shared_width);
    for (Linear& linear : shared) linear.shared_expert = true;
    append(std::move(shared));
  }
  for (int64_t expert = 0; expert < count; ++expert) append(expert_mlp(rule, config, prefix, expert));
  return linears;
}

}  // namespace

std::vector<Linear> mlp_linears(const DecoderFamily& family, const ModelConfig& config, const Block& block) {
  if (block.experts) return sparse_mlp(family, config, block.prefix);
  return dense_mlp(family, config, joined(block.prefix, family.names.mlp), config.intermediate_size);
}

}  // namespace lathe
