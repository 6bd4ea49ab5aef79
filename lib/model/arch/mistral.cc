// Mistral 7B (arXiv 2310.06825): Llama with grouped-query attention and, in its first version, a sliding
// window.
#include "lib/model/arch/families.h"

namespace lathe {

constinit const DecoderFamily kMistral = {
    .model_type = "mistral",
    .description = "Mistral 7B, Nemo and Small, with or without a sliding window",
    .window = WindowRule::all_layers,
    .default_window = 4096,
};

}  // namespace lathe
