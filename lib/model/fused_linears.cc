#include "lib/model/fused_linears.h"

#include <fmt/format.h>

#include <map>
#include <utility>

namespace lathe {

std::string fused_with(const Linear& linear) {
  if (linear.role == LinearRole::router || linear.role == LinearRole::shared_expert_gate) return linear.name;
  return fmt::format("{}{}", name_of(linear.input.slot), linear.input.expert ? " of experts" : "");
}

std::vector<std::vector<const Linear*>> fused_stacks(const Block& block) {
  std::map<std::string, size_t> places;
  std::vector<std::vector<const Linear*>> stacks;
  for (const Linear& linear : block.linears) {
    const auto [place, is_new] = places.emplace(fused_with(linear), stacks.size());
    if (is_new) stacks.emplace_back();
    stacks[place->second].push_back(&linear);
  }
  std::erase_if(stacks, [](const auto& stack) { return stack.size() < 2; });
  return stacks;
}

std::optional<std::string> half_fused(const std::vector<Block>& blocks,
                                      const std::function<std::string(const Linear&)>& scheme_of) {
  for (const Block& block : blocks) {
    std::map<std::string, std::pair<const Linear*, std::string>> first;
    for (const Linear& linear : block.linears) {
      const std::string scheme = scheme_of(linear);
      const auto& [other, expected] = first.try_emplace(fused_with(linear), &linear, scheme).first->second;
      if (scheme == expected) continue;
      return fmt::format(
          "'{}' is {}, '{}' {}: linears that read one input, and the experts of a block, are "
          "stacked into one weight, with one scheme",
          other->name, expected, linear.name, scheme);
    }
  }
  return std::nullopt;
}

}  // namespace lathe
