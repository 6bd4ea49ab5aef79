// Mixtral (arXiv 2401.04088): Mistral with 8 experts a block, of which each token uses 2.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kMixtral = {
    .model_type = "mixtral",
    .description = "Mixtral 8x7B and 8x22B (experts)",
    .window = WindowRule::all_layers,
    .default_eps = 1e-5,
    .rope = {.theta = 1e6},
    .experts = {.used = true,
                .width_key = "intermediate_size",
                .always_normalise = true,
                .router = "block_sparse_moe.gate",
                .part = "block_sparse_moe.experts",
                .gate = "w1",
                .up = "w3",
                .down = "w2"},
};

}  // namespace lathe
