// A GGUF file, looked at from outside: what verify_artefact() does for folders in safetensors.
#pragma once

#include "formats/verify/artefact.h"
#include "lib/numeric/ggml_type.h"

namespace lathe {

/// Every tensor's blocks decoded twice, by the kernels and by the scalar definition of each type
/// (lib/numeric/ggml_block.h): the same, and finite; no two matrices alike; none besides the model's. With a
/// reference: keys that say the same of the model, each of its tensors there or of a part that llama.cpp has
/// no place for, values within what their blocks predict. `artefact`: as open_gguf_model() gives it.
Verified verify_gguf(const ModelFolder& artefact, const VerifyAgainst& against);

/// A matrix in blocks of the type, for check_weight().
StoredWeight stored_blocks(const std::string& name, GgmlType type, int64_t rows, int64_t columns,
                           MatrixRows values);

}  // namespace lathe
