// The gate's activation functions under the names that config.json uses (transformers' activations.py).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/kernels/transformer_ops.h"

namespace lathe {

bool is_activation(std::string_view name);
/// All names, for messages.
std::vector<std::string> activation_names();
/// InternalError for an unknown name: parse_model_config has refused it.
kernels::Activation find_activation(std::string_view name);

}  // namespace lathe
