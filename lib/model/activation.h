// The gate's activation functions under the names that config.json uses (transformers' activations.py).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

namespace lathe {

bool is_activation(std::string_view name);
/// All names, for messages.
std::vector<std::string> activation_names();
/// Elementwise. InternalError for an unknown name: parse_model_config has refused it.
at::Tensor activate(std::string_view name, const at::Tensor& x);

}  // namespace lathe
