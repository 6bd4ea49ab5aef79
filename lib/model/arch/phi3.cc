// Phi-3 and Phi-4-mini (arXiv 2404.14219): q, k and v in one weight, gate and up in another; rotation of a
// part of each head's channels, and LongRoPE (arXiv 2402.13753).
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kPhi3 = {
    .model_type = "phi3",
    .description = "Phi-3, Phi-3.5 and Phi-4 (mini), with fused qkv and gate_up",
    .fused = true,
    .window = WindowRule::all_layers,
    .default_eps = 1e-5,
    .rope = {.partial = true, .longrope_only = true, .original_max_position = 4096},
};

}  // namespace lathe
