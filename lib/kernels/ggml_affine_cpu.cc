// Blocks with one scale and one minimum: Q4_1 and Q5_1.
#include "lib/kernels/ggml_search.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::ggml {
namespace {

LATHE_INLINE void affine(const SubBlocks& from, const Uniform& grid, const Factors& factors,
                         GgmlBlock* blocks) {
  Batch<32> v;
  gather(from, v);
  const Affine fit = fit_affine(v, grid, affine_sums(v), factors, false);
  float scales[kLanes], minima[kLanes];
  store(fit.scale, scales);
  store(fit.minimum, minima);
  for (int b = 0; b < kLanes; ++b) {
    blocks[b].d = stored_half(scales[b]);
    blocks[b].dmin = stored_half(minima[b]);
    scales[b] = from_half(blocks[b].d);
    minima[b] = from_half(blocks[b].dmin);
  }
  assign(v, grid, load(scales), load(minima), 1, blocks);
}

}  // namespace

LATHE_CLONES void search_q4_1(const SubBlocks& from, GgmlBlock* blocks) {
  affine(from, Uniform{0, 15, 0}, {0.9f, 1.5f, 14}, blocks);
}
LATHE_CLONES void search_q5_1(const SubBlocks& from, GgmlBlock* blocks) {
  affine(from, Uniform{0, 31, 0}, {0.97f, 1.12f, 14}, blocks);
}

}  // namespace lathe::kernels::ggml
