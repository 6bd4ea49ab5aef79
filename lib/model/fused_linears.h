// Linears that engines stack into one weight, and so read by one scheme: those of one input, and one kind of
// weight of all experts (formats.md, 0.3). What is half-fused fails to load or loads wrong.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/model/graph.h"

namespace lathe {

/// What the linear is stacked with in its block: the same text for all of a stack. Router and shared expert's
/// gate stay apart from what reads the same input.
std::string fused_with(const Linear& linear);

/// The stacks of two linears or more, in forward order.
std::vector<std::vector<const Linear*>> fused_stacks(const Block& block);

/// The first stack in which two linears differ: "q_proj is int4, k_proj floating point: ..."; nothing where
/// each stack has one scheme. `scheme_of`: for people, and equal where schemes are.
std::optional<std::string> half_fused(const std::vector<Block>& blocks,
                                      const std::function<std::string(const Linear&)>& scheme_of);

}  // namespace lathe
