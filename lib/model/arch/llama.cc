// Llama 1 (arXiv 2302.13971), 2 and 3.x (arXiv 2407.21783), and what uses their code: SmolLM2, TinyLlama, Yi,
// ...
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kLlama = {
    .model_type = "llama",
    .description = "Llama 1, 2 and 3.x, SmolLM2 and others of their shape",
    .qkv_bias = BiasRule::configured,
    .o_bias = BiasRule::configured,
    .mlp_bias = BiasRule::configured,
};

}  // namespace lathe
