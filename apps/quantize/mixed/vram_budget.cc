#include "apps/quantize/mixed/vram_budget.h"

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/cached_attention.h"
#include "recipes/served_model.h"

namespace lathe {

Budget sized_budget(const Recipe& recipe, const ModelFolder& model, uint64_t least) {
  Budget budget = *recipe.budget;
  if (!budget.vram) return budget;
  const ServedModel served = served_model(model.graph, model.checkpoint->tensors());
  // Ranges, outliers and tokens that stay in FP16 are counted.
  const double bits =
      recipe.kv_cache ? kv_cache_bits(*recipe.kv_cache, kv_cache_shape(model.graph.config), budget.context)
                      : 16;
  const int64_t room = room_for_weights(served, *budget.vram, budget.context, budget.batch, bits);
  if (room < static_cast<int64_t>(least)) {
    const uint64_t memory = least_memory(served, least, budget.context, budget.batch, bits);
    user_error(
        "{}: budget.vram: {} ({} bytes) can't be kept: the least possible with these candidates is {} ({} "
        "bytes), of which {:.0f} % hold weights of {}, a KV cache of {} ({} x {} tokens, {:.3g} bits) and "
        "activations "
        "of {}",
        budget.where, human_bytes(*budget.vram), *budget.vram, human_bytes(memory), memory,
        100 * kServerShare, human_bytes(least),
        human_bytes(kv_cache_bytes(served, budget.context, budget.batch, bits)), budget.batch, budget.context,
        bits, human_bytes(activation_bytes(served, budget.context, budget.batch)));
  }
  budget.vram.reset();
  budget.size = static_cast<uint64_t>(room);
  return budget;
}

}  // namespace lathe
