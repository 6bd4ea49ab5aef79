// Linears of a family that Lathe doesn't know, which servers stack by their names alone.
#pragma once

#include "recipes/plan.h"

namespace lathe {

/// q_proj, k_proj and v_proj of one module, gate_proj and up_proj of one, and each of these and down_proj of
/// all experts of one (module.experts.N) become one linear in vLLM, SGLang and TensorRT-LLM. UserError where
/// such linears would have several schemes, or a scale of the whole tensor, of which the stack has one:
/// without the family's table each is quantised by itself.
void check_fused_by_name(const Plan& plan);

}  // namespace lathe
