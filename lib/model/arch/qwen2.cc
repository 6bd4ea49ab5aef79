// Qwen2 (arXiv 2407.10671) and Qwen2.5 (arXiv 2412.15115): biases on q, k and v only.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kQwen2 = {
    .model_type = "qwen2",
    .description = "Qwen2 and Qwen2.5, with biases on q, k and v",
    .qkv_bias = BiasRule::always,
    .window = WindowRule::from_layer,
    .default_window = 4096,
};

}  // namespace lathe
