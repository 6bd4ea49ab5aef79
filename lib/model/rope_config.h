// The rotary embedding's part of config.json.
#pragma once

#include "lib/model/arch/decoder.h"
#include "lib/model/config.h"
#include "lib/model/json_fields.h"

namespace lathe {

/// Sets config.rope and, for families whose layers with a window rotate differently, config.local_rope. Reads
/// rope_theta with rope_scaling (transformers 4), or rope_parameters (5); two sets of parameters are
/// rope_parameters.full_attention and .sliding_attention, or rope_theta with rope_scaling, and
/// rope_local_base_freq. head_dim and max_position are set already. UserError for an unknown type, a missing
/// or impossible parameter, a partial rotation where the family has none, and a type that head_dim can't
/// carry.
void parse_rope_config(const JsonFields& fields, const RopeRule& rule, ModelConfig& config);

/// What cos and sin are multiplied by: YaRN's temperature (arXiv 2309.00071, section 3.4) and LongRoPE's
/// (arXiv 2402.13753, section 3.3); 1 for every other type.
double rope_attention_factor(const RopeConfig& rope);

}  // namespace lathe
