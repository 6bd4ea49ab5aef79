// Clipping by the output error: auto_clip of llm-awq, the code of AWQ's authors (Lin et al., arXiv
// 2306.00978, which mentions weight clipping without an equation).
//
// Problem. weight_range.h weighs a clipped weight against finer steps by the weights alone, or by each
// input's power. What counts is the layer's output, and inputs of a group are correlated: errors of two
// columns may add up or cancel.
//
// Method. For one row and group g, d_g = Q_f(w_g) - w_g the error with both ends of the range times f, the
// group's own part of the output error is
//
//     E[(d_g x_g)^2] = d_g H_gg d_g^T,   H_gg the group's block on the diagonal of H = X^T X / tokens,
//
// and f is the factor with the least of it, among 1 - max_shrink i / steps, and on symmetric grids a few
// that are larger than 1. Products between groups, d_g H_gk d_k^T, are left out, there as here: with them the
// choices of all groups of a row would hang together.
//
// What differs from llm-awq: the sum over all tokens, from H, in place of 512 of them run through every
// candidate; and both ends of a range times f, where llm-awq cuts the weights at max|w| f on either side and
// takes the range of what is left.
//
// Cost. rows * in * group FMAs for each of the factors, as one batched GEMM over all groups: group / tokens
// of what running tokens takes. Memory: a chunk of rows at a time.
//
// Numerics. FP32 products and sums; scales rounded to their stored type before errors are measured. The full
// range is the first candidate, and one has to be below it to replace it, so that ties and NaN keep it.
#include "algorithms/clip_search.h"

#include <ATen/ATen.h>

#include "algorithms/tensor_scale.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/device/group_search.cuh"
#include "lib/kernels/group_grid.h"
#include "lib/kernels/group_quant.h"
#include "lib/kernels/group_search.h"
#include "lib/numeric/quadratic_form.h"

namespace lathe {
namespace {

/// [groups, length, length]: the blocks on H's diagonal.
at::Tensor diagonal_blocks(const at::Tensor& gram, int64_t groups, int64_t length) {
  return gram.reshape({groups, length, groups, length}).diagonal(0, 0, 2).permute({2, 0, 1}).contiguous();
}

/// Some rows of a matrix with their groups made rows, group by group: [groups * rows, length]. In that order
/// all groups that share a block of H are one matrix, and the kernels see one group a row.
class ChunkSearch {
 public:
  ChunkSearch(const at::Tensor& rows, const at::Tensor& blocks, Scheme scheme, DType scale_dtype,
              const at::Tensor& global)
      : blocks_(blocks),
        scheme_(scheme),
        scale_dtype_(scale_dtype),
        global_(global),
        groups_(blocks.size(0)),
        rows_(rows.size(0)) {
    scheme_.group_size = blocks.size(1);
    values_ = rows.view({rows_, groups_, -1}).transpose(0, 1).contiguous().view({groups_ * rows_, -1});
    full_ = kernels::group_min_max(values_, scheme_);
    widest_ = device::widest_factor(kernels::grid_of(scheme_, scale_dtype_));
  }

  GroupRange best(const ClipGrid& grid) const {
    at::Tensor best = losses(full_), factors = at::ones_like(full_.lo);
    for (int64_t step = -device::steps_up(widest_, grid.steps, grid.max_shrink); step <= grid.steps; ++step) {
      const double factor = device::range_factor(step, grid.steps, grid.max_shrink, widest_);
      const at::Tensor found = losses({full_.lo * factor, full_.hi * factor});
      const at::Tensor better = found < best;
      best = at::where(better, found, best);
      factors.masked_fill_(better.view(factors.sizes()), factor);
    }
    return {by_row(full_.lo * factors), by_row(full_.hi * factors)};
  }

 private:
  /// d H_gg d^T for each group, [groups, rows].
  at::Tensor losses(const GroupRange& range) const {
    const kernels::GroupParams params = kernels::group_params(range, scheme_, scale_dtype_, global_);
    at::Tensor delta = kernels::group_fake_quantize(values_, params, scheme_);
    delta = delta.sub_(values_).view({groups_, rows_, -1});
    return at::bmm(delta, blocks_).mul_(delta).sum(-1);
  }

  at::Tensor by_row(const at::Tensor& per_group) const { return per_group.view({groups_, rows_}).t(); }

  const at::Tensor& blocks_;
  Scheme scheme_;
  DType scale_dtype_;
  at::Tensor global_;
  int64_t groups_, rows_;
  at::Tensor values_;
  GroupRange full_;
  double widest_ = 1;
};

}  // namespace

GroupRange search_clip(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype,
                       const at::Tensor& gram, const ClipGrid& grid) {
  const int64_t in = weight.size(1);
  LATHE_ASSERT(!scheme.shares_rows(), "clip search: {} has rows that share scales", scheme.describe());
  LATHE_ASSERT(gram.dim() == 2 && gram.size(0) == in && gram.size(1) == in,
               "clip search: the Gram matrix has {} rows for {}", gram.size(0), in);
  const at::Tensor blocks = diagonal_blocks(gram, scheme.groups(in), scheme.group_length(in));
  GroupRange range{at::empty({weight.size(0), scheme.groups(in)}, weight.options()), {}};
  range.hi = at::empty_like(range.lo);
  // The linear's own: those that share one with others get it from the solver, and codes of scales that are
  // next to the ones found here at most.
  const at::Tensor global = global_for(scheme, weight.abs().max());
  const int64_t step = rows_per_chunk(weight);
  for (int64_t row = 0; row < weight.size(0); row += step) {
    throw_if_cancelled();
    const GroupRange best =
        ChunkSearch(weight.slice(0, row, row + step), blocks, scheme, scale_dtype, global).best(grid);
    range.lo.slice(0, row, row + step).copy_(best.lo);
    range.hi.slice(0, row, row + step).copy_(best.hi);
  }
  return range;
}

Work clip_work(const Scheme& scheme, int64_t out, int64_t in, const ClipGrid& grid) {
  const auto factors = static_cast<double>(kernels::searched_ranges(scheme, grid.steps, grid.max_shrink));
  const double weights = factors * static_cast<double>(out) * static_cast<double>(in);
  return {.products = 2 * weights * static_cast<double>(scheme.group_length(in)), .roundings = weights};
}

}  // namespace lathe
