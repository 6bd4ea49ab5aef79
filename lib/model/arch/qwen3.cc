// Qwen3 (arXiv 2505.09388): no fixed biases, RMSNorm on each head of q and k, head_dim independent of the
// width.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kQwen3 = {
    .model_type = "qwen3",
    .description = "Qwen3 (dense), with q/k norm",
    .qkv_bias = BiasRule::configured,
    .o_bias = BiasRule::configured,
    .qk_norm = QkNorm::per_head,
    .window = WindowRule::from_layer,
    .default_window = 4096,
    .default_head_dim = 128,
};

}  // namespace lathe
