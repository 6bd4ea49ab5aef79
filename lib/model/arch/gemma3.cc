// Gemma 3 (arXiv 2503.19786), text: as Gemma 2, with q/k norms in place of the attention's soft-capping, five
// local layers to a global one, and rotary parameters of their own for local layers.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kGemma3 = {
    .model_type = "gemma3_text",
    .description = "Gemma 3 text models, with local and global layers",
    .qkv_bias = BiasRule::configured,
    .o_bias = BiasRule::configured,
    .qk_norm = QkNorm::per_head,
    .norms_one_plus = true,
    .scaled_embedding = true,
    .query_scalar = true,
    .final_softcap = true,
    .window = WindowRule::all_but_every_n,
    .default_window = 4096,
    .default_window_period = 6,
    .window_period_key = "sliding_window_pattern",
    .default_head_dim = 256,
    .activation_key = "hidden_activation",
    .default_activation = "gelu_pytorch_tanh",
    .tied_by_default = true,
    .rope = {.theta = 1e6, .local_theta = 1e4},
    .names = {.mlp_norm = "pre_feedforward_layernorm",
              .attention_out_norm = "post_attention_layernorm",
              .mlp_out_norm = "post_feedforward_layernorm"},
};

}  // namespace lathe
