// Blocks with one scale and one minimum: Q4_1 and Q5_1.
#include "lib/kernels/ggml_search.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::ggml {
namespace {

/// Lane by lane the half next to the value, or one `aside` of it.
LATHE_INLINE Lanes halves(const Lanes& values, int aside) {
  float lanes[kLanes];
  store(values, lanes);
  for (float& lane : lanes) {
    const int bits = stored_half(lane);
    const int magnitude = std::clamp((bits & 0x7fff) + aside, 0, kLargestHalf);
    lane = from_half(static_cast<uint16_t>((bits & 0x8000) | magnitude));
  }
  return load(lanes);
}

/// Rounds both to halves: the scale to one of the three nearest, the minimum after it, to what suits the
/// rounded scale. A step of the scale is worth up to 31 levels, so rounding each by itself would cost more
/// than need be.
LATHE_INLINE Affine round_to_halves(const Batch<32>& v, const Uniform& grid, const AffineSums& fixed,
                                    const Affine& fit) {
  Affine best;
  for (const int aside : {0, -1, 1}) {
    Affine tried;
    tried.scale = halves(fit.scale, aside);
    const LevelSums sums = level_sums(v, grid, inverse_of(tried.scale), fit.minimum);
    tried.minimum = halves(ratio(tried.scale * sums.l - fixed.x, fixed.w), 0);
    tried.error = error_of(v, grid, tried.scale, tried.minimum);
    if (aside == 0) best = tried;
    best.take_if_better(tried);
  }
  return best;
}

LATHE_INLINE void affine(const SubBlocks& from, const Uniform& grid, const Factors& factors,
                         GgmlBlock* blocks) {
  Batch<32> v;
  gather(from, v);
  const AffineSums fixed = affine_sums(v);
  const Affine fit = round_to_halves(v, grid, fixed, fit_affine(v, grid, fixed, factors, false));
  float scales[kLanes], minima[kLanes];
  store(fit.scale, scales);
  store(fit.minimum, minima);
  for (int b = 0; b < kLanes; ++b) {
    blocks[b].d = stored_half(scales[b]);
    blocks[b].dmin = stored_half(minima[b]);
  }
  assign(v, grid, fit.scale, fit.minimum, 1, blocks);
}

}  // namespace

LATHE_CLONES void search_q4_1(const SubBlocks& from, GgmlBlock* blocks) {
  affine(from, Uniform{0, 15, 0}, {0.94f, 1.3f, 10, 2}, blocks);
}
LATHE_CLONES void search_q5_1(const SubBlocks& from, GgmlBlock* blocks) {
  affine(from, Uniform{0, 31, 0}, {0.97f, 1.12f, 10, 2}, blocks);
}

}  // namespace lathe::kernels::ggml
