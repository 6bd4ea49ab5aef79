// Linears of a family that Lathe doesn't know, which servers stack by their names alone.
#pragma once

#include "recipes/plan.h"

namespace lathe {

/// q_proj, k_proj and v_proj of one module, gate_proj and up_proj of one, and each of these and down_proj of
/// all experts of one (module.experts.N) become one linear in vLLM, SGLang and TensorRT-LLM. UserError where
/// such linears would have several schemes, or where two rules quantise those that share a scale.
void check_fused_by_name(const Plan& plan);

/// Linears of equal words here read one input and become one linear: a scale of the whole tensor is one for
/// all of them (formats.md, 0.3). Experts share none with each other. Empty: the linear shares with none.
std::string sharing_by_name(const Linear& linear);

}  // namespace lathe
