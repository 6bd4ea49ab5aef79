// The search for ggml's blocks on the CPU: threads over batches of 16 sub-blocks.
//
// Problem. A block stands for scale * level - minimum in each sub-block of 16 or 32 values, where scale and
// minimum are themselves codes of 4, 6 or 8 bits times the super-block's d and dmin, which are halves. Wanted
// are all of them and the levels, so that sum_i w_i (x_i - value_i)^2 is least, w the importances.
//
// Search (our own; ggml's weights also depend on |x|, which is not the error that counts):
//  1. Each sub-block by itself, in real numbers: candidates for the grid's span give levels, the levels give
//  scale
//     and minimum by least squares, the best is refined (fit_scale, fit_affine).
//  2. d and dmin: the same fit, of the sub-blocks' scales (and minima) to the grid of their codes, weighted
//  by what
//     a scale's error costs, sum w l^2 (fit_step). They are rounded to halves now; nothing after assumes
//     more.
//  3. Scale codes and minimum codes: the rounded ones and their neighbours, by the true error of the final
//  numbers
//     with the levels rounded again.
//  4. d and dmin again, by least squares over the whole super-block for the codes found; 3 once more, and
//  kept
//     where the sum falls.
//
// Cost: some 20 to 40 passes over a batch, which stays in the first-level cache. 16 sub-blocks are searched
// at once, one in each lane, so a pass has no sum across lanes and no branch; what is left over at the end is
// filled with zeros.
//
// Numerics: FP32 without contraction, a sub-block's sums in the order of its values: the same bytes on every
// CPU, for any thread count and whatever stands beside a block.
#include "lib/kernels/ggml_quant.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <utility>

#include "lib/kernels/ggml_search.h"

namespace lathe::kernels::cpu {
namespace {

using namespace ggml;

constexpr int64_t kGrainValues = 1 << 13;
constexpr int kLongest = 256;  // values of a sub-block

Search search_of(GgmlType type) {
  switch (type) {
    using enum GgmlType;
    case Q8_0:
      return search_q8_0;
    case Q4_0:
      return search_q4_0;
    case Q4_1:
      return search_q4_1;
    case Q5_0:
      return search_q5_0;
    case Q5_1:
      return search_q5_1;
    case Q2_K:
      return search_q2_k;
    case Q3_K:
      return search_q3_k;
    case Q4_K:
      return search_q4_k;
    case Q5_K:
      return search_q5_k;
    case Q6_K:
      return search_q6_k;
    case IQ4_NL:
      return search_iq4_nl;
    case IQ4_XS:
      return search_iq4_xs;
    case TQ1_0:
    case TQ2_0:
      return search_ternary;
    case MXFP4:
      return search_mxfp4;
    default:
      break;
  }
  return nullptr;
}

/// A matrix as a sequence of blocks.
struct Blocks {
  const float* weight;
  const float* importance;  // null: 1
  int64_t columns;
  GgmlTraits format;
  std::array<float, kLongest> zeros{}, ones{};

  Blocks(const float* values, const float* shares, int64_t width, GgmlType type)
      : weight(values), importance(shares), columns(width), format(traits(type)) {
    ones.fill(1);
  }

  int64_t per_batch() const { return kLanes * format.group / format.length; }

  /// Where no input ever was, all columns of the block count alike.
  const float* importances_of(int64_t block) const {
    if (importance == nullptr) return nullptr;
    const float* const shares = importance + block * format.length % columns;
    const bool unused = std::all_of(shares, shares + format.length, [](float share) { return share == 0; });
    return unused ? nullptr : shares;
  }

  SubBlocks sub_blocks(int64_t first, int64_t count) const {
    SubBlocks result;
    const int64_t groups = format.length / format.group;
    for (int64_t b = 0; b < kLanes; b += groups) {
      const int64_t block = first + b / groups;
      const float* const shares = b / groups < count ? importances_of(block) : nullptr;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * format.group;
        result.x[b + g] = b / groups < count ? weight + block * format.length + at : zeros.data();
        result.w[b + g] = shares != nullptr ? shares + at : ones.data();
      }
    }
    return result;
  }
};

}  // namespace

void quantize_ggml(const float* weight, const float* importance, int64_t rows, int64_t columns, GgmlType type,
                   uint8_t* out) {
  const Blocks matrix(weight, importance, columns, type);
  const Search search = search_of(type);
  const int64_t total = rows * columns / matrix.format.length, per_batch = matrix.per_batch();
  const int64_t batches = (total + per_batch - 1) / per_batch;
  at::parallel_for(0, batches, kGrainValues / (kLanes * matrix.format.group) + 1,
                   [&](int64_t begin, int64_t end) {
                     std::array<GgmlBlock, kLanes> found;
                     for (int64_t batch = begin; batch < end; ++batch) {
                       const int64_t first = batch * per_batch, count = std::min(per_batch, total - first);
                       search(matrix.sub_blocks(first, count), found.data());
                       for (int64_t b = 0; b < count; ++b)
                         pack(type, found[static_cast<size_t>(b)], out + (first + b) * matrix.format.bytes);
                     }
                   });
}

}  // namespace lathe::kernels::cpu
