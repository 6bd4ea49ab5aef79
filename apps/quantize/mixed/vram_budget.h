// A budget of a GPU's memory, as one of the weights' size.
#pragma once

#include <cstdint>

#include "formats/targets/model_folder.h"
#include "recipes/recipe.h"

namespace lathe {

/// A budget of `vram` as one of `size`: what a server has left beside KV cache, in the recipe's kv_cache or
/// 16 bits, and activations. Others as they are. `least`: bytes of the smallest mixture; UserError naming the
/// least memory where that doesn't fit.
Budget sized_budget(const Recipe& recipe, const ModelFolder& model, uint64_t least);

}  // namespace lathe
