// The rotary embedding's part of config.json.
#pragma once

#include "lib/model/config.h"
#include "lib/model/json_fields.h"

namespace lathe {

/// Reads rope_theta with rope_scaling (transformers 4), or rope_parameters (5). UserError for an unknown
/// type, a missing or impossible parameter, partial rotation, and a type that `head_dim` can't carry.
RopeConfig parse_rope_config(const JsonFields& config, int64_t head_dim, int64_t max_position);

}  // namespace lathe
