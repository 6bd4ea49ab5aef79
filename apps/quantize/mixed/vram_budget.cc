#include "apps/quantize/mixed/vram_budget.h"

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "recipes/served_model.h"

namespace lathe {

Budget sized_budget(const Recipe& recipe, const ModelFolder& model, uint64_t least) {
  Budget budget = *recipe.budget;
  if (!budget.vram) return budget;
  const ServedModel served = served_model(model.graph, model.checkpoint->tensors());
  const int bits = recipe.kv_cache ? recipe.kv_cache->bits : 16;
  const int64_t room = room_for_weights(served, *budget.vram, budget.context, budget.batch, bits);
  if (room < static_cast<int64_t>(least)) {
    const uint64_t memory = least_memory(served, least, budget.context, budget.batch, bits);
    user_error(
        "{}: budget.vram: {} ({} bytes) can't be kept: the least possible with these candidates is {} ({} "
        "bytes), of which {:.0f} % hold weights of {}, a KV cache of {} ({} x {} tokens, {} bits) and "
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
