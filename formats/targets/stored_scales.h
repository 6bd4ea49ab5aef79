// Scales on their way to a file.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "lib/tensor/dtype.h"

namespace lathe {

/// `scales` (Float) in the type they are stored in: CPU, contiguous. InternalError naming `linear` where the
/// type can't hold one of them: what is stored is what was computed with.
at::Tensor stored_scales(const std::string& linear, const at::Tensor& scales, DType dtype);

/// The static scale of a linear's input, [1], likewise. UserError naming `linear` where the type, that of the
/// weight's scales, can't hold it: other tools' artefacts may have two types.
at::Tensor stored_input_scale(const std::string& linear, float scale, DType dtype);

}  // namespace lathe
