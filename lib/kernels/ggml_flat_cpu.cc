// Blocks with one scale: Q8_0, Q4_0, Q5_0, IQ4_NL, the ternary types and MXFP4.
#include <cmath>

#include "lib/kernels/ggml_search.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::ggml {
namespace {

template <int n, class Grid>
LATHE_INLINE void flat(const SubBlocks& from, const Grid& grid, const Factors& factors, GgmlBlock* blocks) {
  Batch<n> v;
  gather(from, v);
  float scales[kLanes];
  store(fit_scale(v, grid, factors).scale(), scales);
  for (int b = 0; b < kLanes; ++b) {
    blocks[b].d = stored_half(scales[b]);
    scales[b] = from_half(blocks[b].d);
  }
  assign(v, grid, load(scales), Lanes{}, 1, blocks);
}

/// A power of two: the largest magnitude's, or one binary place more or less. Values are brought near 1
/// first, so that no square is lost.
LATHE_INLINE void power_of_two(const SubBlocks& from, const Table<kMxfp4Levels>& grid, GgmlBlock* blocks) {
  constexpr int kBias = 128, kTiny = -100;
  constexpr int kTopLevel = 3;  // levels are twice E2M1's values: the largest, 12, lies in [2^3, 2^4)
  Batch<32> v;
  gather(from, v);
  Lanes magnitude{};
  for (const Lanes& x : v.x) magnitude = larger(magnitude, larger(x, -x));
  float largest[kLanes], units[kLanes], steps[kLanes];
  int exponents[kLanes];
  store(magnitude, largest);
  for (int b = 0; b < kLanes; ++b) {
    exponents[b] = largest[b] > 0 ? std::max(std::ilogb(largest[b]), kTiny) : 0;
    units[b] = std::ldexp(1.0f, -exponents[b]);
  }
  for (Lanes& x : v.x) x *= load(units);
  Lanes best{}, step{};
  for (int place = -1; place <= 1; ++place) {
    const Lanes tried = splat(std::ldexp(1.0f, place - kTopLevel));
    const Lanes error = error_of(v, grid, tried, Lanes{});
    const auto better = place == -1 ? error == error : error < best;
    best = better ? error : best;
    step = better ? tried : step;
  }
  store(step, steps);
  for (int b = 0; b < kLanes; ++b)
    blocks[b].d = static_cast<uint16_t>(largest[b] > 0 ? kBias + exponents[b] + std::ilogb(steps[b]) : 0);
  assign(v, grid, step, Lanes{}, 1, blocks);
}

}  // namespace

LATHE_CLONES void search_q8_0(const SubBlocks& from, GgmlBlock* blocks) {
  // -128 is left out: kernels that multiply magnitudes by signs can't negate it.
  flat<32>(from, Uniform{-127, 127, 128}, {0.97f, 1.0f, 4}, blocks);
}
LATHE_CLONES void search_q4_0(const SubBlocks& from, GgmlBlock* blocks) {
  flat<32>(from, Uniform{-8, 7, 8}, {0.7f, 1.6f, 12}, blocks);
}
LATHE_CLONES void search_q5_0(const SubBlocks& from, GgmlBlock* blocks) {
  flat<32>(from, Uniform{-16, 15, 16}, {0.84f, 1.4f, 12}, blocks);
}
LATHE_CLONES void search_iq4_nl(const SubBlocks& from, GgmlBlock* blocks) {
  flat<32>(from, Table<kIq4Levels>{}, {0.72f, 1.5f, 10}, blocks);
}
LATHE_CLONES void search_ternary(const SubBlocks& from, GgmlBlock* blocks) {
  flat<256>(from, Uniform{-1, 1, 1}, {0.6f, 6.0f, 40}, blocks);
}
LATHE_CLONES void search_mxfp4(const SubBlocks& from, GgmlBlock* blocks) {
  power_of_two(from, Table<kMxfp4Levels>{}, blocks);
}

}  // namespace lathe::kernels::ggml
