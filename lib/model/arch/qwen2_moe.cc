// Qwen1.5-MoE and Qwen2-57B-A14B (arXiv 2407.10671): Qwen2 with routed experts and one that all tokens pass
// through, behind a gate of its own.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kQwen2Moe = {
    .model_type = "qwen2_moe",
    .description = "Qwen1.5-MoE and Qwen2-MoE (experts, one of them shared)",
    .qkv_bias = BiasRule::configured,
    .bias_key = "qkv_bias",
    .bias_by_default = true,
    .window = WindowRule::even_below,
    .default_window = 4096,
    .experts = {.used = true, .some_layers = true, .shared = true},
};

}  // namespace lathe
