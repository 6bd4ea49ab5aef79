// config.json's part about mixtures of experts.
#pragma once

#include "lib/model/arch/decoder.h"
#include "lib/model/json_fields.h"

namespace lathe {

/// Sets config.experts. Their number may be spelt num_experts or num_local_experts, as transformers 5 does.
/// UserError for a missing or impossible size, more experts for a token than there are, two spellings that
/// contradict each other, and a model without any sparse layer. A layer is sparse unless mlp_only_layers
/// names it or decoder_sparse_step skips it.
void parse_experts_config(const JsonFields& fields, const ExpertsRule& rule, ModelConfig& config);

}  // namespace lathe
