// Inputs that are rotated in Hadamard blocks, as compressed-tensors says it: a scheme of transform_config,
// and the matrix as a parameter of a module beside each linear. Sources: compressed_tensors/transform
// (transform_config.py, transform_scheme.py, factory/hadamard.py); vllm 0.32,
// compressed_tensors/transform/linear.py and module.py.
#pragma once

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>

#include "formats/targets/compressed_tensors_config.h"

namespace lathe {

/// The name of the scheme in what Lathe writes.
inline constexpr const char* kRotation = "hadamard";

/// ".hadamard_input.weight" of scheme "hadamard": what a linear's name goes on with for the matrix.
std::string rotation_suffix(const std::string& scheme);

/// Sylvester's matrix of that order: Float [block, block] of +1 and -1.
at::Tensor rotation_signs(int64_t block);

/// The value of transform_config. Nothing where it says nothing. UserError, beginning with `where`, for
/// anything but one scheme of deterministic Hadamard matrices on inputs and (inversely) on the columns of the
/// weights of the same linears: in blocks of head_dim, 16 to 128.
std::optional<CompressedTensorsConfig::Rotation> parse_rotation(const nlohmann::json& config,
                                                                const std::string& where);

}  // namespace lathe
