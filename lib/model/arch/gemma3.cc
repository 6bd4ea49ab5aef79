// Gemma 3 (arXiv 2503.19786): as Gemma 2, with q/k norms in place of the attention's soft-capping, five local
// layers to a global one, and rotary parameters of their own for local layers. From 4B on the language model
// is a part of one that sees images.
#include "lib/model/arch/families.h"

namespace lathe {
namespace {

constexpr DecoderFamily text() {
  return {
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
}

// Checkpoints on the Hub have the names of transformers before 4.52, which its later releases still write.
constexpr SpellingChange kSpellings[] = {{"language_model.model.", "model.language_model."},
                                         {"language_model.lm_head.", "lm_head."},
                                         {"vision_tower.", "model.vision_tower."},
                                         {"multi_modal_projector.", "model.multi_modal_projector."}};
constexpr std::string_view kUntouched[] = {"re:.*vision_tower.*", "re:.*multi_modal_projector.*"};

constexpr DecoderFamily multimodal() {
  DecoderFamily family = text();
  family.model_type = "gemma3";
  family.description = "Gemma 3 with a vision tower, which is kept as it is; the text part is quantised";
  family.final_softcap = false;  // transformers' head of this class has none
  family.sizes = {.vocab = 262208,
                  .hidden = 2304,
                  .intermediate = 9216,
                  .layers = 26,
                  .heads = 8,
                  .kv_heads = 4,
                  .max_position = 131072};
  family.nesting = {.config_key = "text_config",
                    .head = "ForConditionalGeneration",
                    .spellings = kSpellings,
                    .untouched = kUntouched};
  family.names.embedding = "model.language_model.embed_tokens";
  family.names.blocks = "model.language_model.layers";
  family.names.final_norm = "model.language_model.norm";
  return family;
}

}  // namespace

constinit const DecoderFamily kGemma3Text = text();
constinit const DecoderFamily kGemma3 = multimodal();

}  // namespace lathe
