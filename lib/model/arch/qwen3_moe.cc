// Qwen3-30B-A3B and Qwen3-235B-A22B (arXiv 2505.09388): Qwen3 with routed experts, none shared.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kQwen3Moe = {
    .model_type = "qwen3_moe",
    .description = "Qwen3-MoE (experts), with q/k norm",
    .qkv_bias = BiasRule::configured,
    .o_bias = BiasRule::configured,
    .qk_norm = QkNorm::per_head,
    .window = WindowRule::all_if_used,
    .default_window = 4096,
    .experts = {.used = true, .some_layers = true},
};

}  // namespace lathe
