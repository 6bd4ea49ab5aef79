// Gemma 2 (arXiv 2408.00118): norms that multiply by 1 + weight before and after attention and MLP,
// embeddings times sqrt(hidden_size), soft-capped attention scores and logits, a sliding window in every
// other layer.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kGemma2 = {
    .model_type = "gemma2",
    .description = "Gemma 2, with soft-capping and alternating sliding windows",
    .qkv_bias = BiasRule::configured,
    .o_bias = BiasRule::configured,
    .norms_one_plus = true,
    .scaled_embedding = true,
    .query_scalar = true,
    .attention_softcap = true,
    .final_softcap = true,
    .default_attention_softcap = 50.0,
    .default_final_softcap = 30.0,
    .window = WindowRule::all_but_every_n,
    .default_window = 4096,
    .default_window_period = 2,
    .default_head_dim = 256,
    .activation_key = "hidden_activation",
    .default_activation = "gelu_pytorch_tanh",
    .tied_by_default = true,
    .names = {.mlp_norm = "pre_feedforward_layernorm",
              .attention_out_norm = "post_attention_layernorm",
              .mlp_out_norm = "post_feedforward_layernorm"},
};

}  // namespace lathe
