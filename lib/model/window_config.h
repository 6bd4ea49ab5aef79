// config.json's part about sliding windows.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "lib/model/arch/decoder.h"
#include "lib/model/json_fields.h"

namespace lathe {

/// Sets sliding_window and layer_slides by the family's rule, as transformers 5.17 reads the same keys.
/// UserError for a window below 1, and for layer_types of the wrong length, with unknown words, or that ask
/// for a window where there is none. `json` is what `fields` reads: null and absence differ here.
void parse_window_config(const JsonFields& fields, const nlohmann::json& json, const DecoderFamily& family,
                         ModelConfig& config);

}  // namespace lathe
