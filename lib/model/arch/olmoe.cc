// OLMoE (arXiv 2409.02060): small experts, and RMSNorm over all heads' channels of q and of k.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kOlmoe = {
    .model_type = "olmoe",
    .description = "OLMoE (experts), with q/k norm over all heads",
    .qkv_bias = BiasRule::configured,
    .o_bias = BiasRule::configured,
    .qk_norm = QkNorm::all_heads,
    .qkv_clip = true,
    .default_eps = 1e-5,
    .experts = {.used = true, .width_key = "intermediate_size"},
};

}  // namespace lathe
