// GPTQ: rounding with second-order error feedback (Frantar et al., arXiv 2210.17323).
//
// Problem. Round W[out, in] to a grid so that the layer's output error on the calibration inputs is small:
// minimise ||(W - Q) X^T||^2 = tr((W - Q) H (W - Q)^T), H = X^T X. Rows are independent problems with one H.
//
// Method. Optimal Brain Quantization (section 3.1, equation 2) rounds one weight at a time and moves all
// weights of the row that are not rounded yet to the minimum of the loss, given that choice: for weight q,
//
//     delta = -(w_q - quant(w_q)) / [H^-1]_qq * (H^-1)_q,:
//
// with H^-1 of the weights that remain. GPTQ (section 3.3) takes the same order for all rows, so that one
// sequence of inverses serves all of them; these are rows of one triangular factor, H^-1 = U^T U (step 3:
// [H^-1 of the remaining]_q,: = U_qq U_q,:). Algorithm 1, for column j:
//
//     Q_j = quant(W_j);  E_j = (W_j - Q_j) / U_jj;  W_k -= E_j U_jk  for k > j,
//
// where updates of columns beyond a block of `block_size` are saved up and done by one GEMM (step 2).
// Damping: H + damping * mean(diag H) * I.
//
// Order of the columns (act_order). An error is made up for by the columns after it, so those with a large
// diag(H) come first: `desc`. With static_groups, a group is what it was (neighbours of a row), its grid is
// chosen from the original weights, and nothing but the codes changes. Without, a group is what is rounded
// one after the other: better grids, but a consumer then needs the group of every column (g_idx,
// QuantizedTensor::group_index), which many refuse. `gar` (arXiv 2505.14638) reorders groups and the columns
// within each: no g_idx, and grids may still be chosen when a group is reached, from the weights as updated
// by then (the paper's section 4, "Additional Experiments": static_groups: false), which fits them better.
//
// Grids. The range of each group by weight_range.h: by default the shrunk [min, max] with the least weighted
// squared error. Rounding weight j by e adds e^2 H_jj to the loss where nothing makes up for it, and
// e^2 / [H^-1]_jj where all other weights do (equation 2's loss); `importance` chooses between diag(H) and
// 1 / diag(H^-1). The second is nearer to what this algorithm does, and on single layers of SmolLM2 (4 bits,
// group 64) it leaves 6 % less output error; but the whole model ends nearer to the original with the first
// (mean KL 0.110 against 0.132), which is therefore the default.
//
// Floating-point grids. Nothing above asks for equal steps: quant() is then the nearest number of the format
// times the scale (FP8, NVFP4, MX). What groups share is fixed before: NVFP4's global scale, over all linears
// of the input, FP8's scale of the tensor or of a block of rows. With static_groups: false groups of a row
// are chosen on the way under that global scale; E4M3 ends at 448 times it, beyond which updated weights are
// clipped. No format has group indices for such grids, so groups are not regrouped.
//
// Matching the reference (match_reference). X comes from layers that are quantised already, so W X^T is
// itself off what the unquantised model computes, W X_ref^T. The weights nearest to that under the damped H
// are
//
//     W* = W + a W (X_ref - X)^T X H^-1,  a = 1,
//
// and since ||(Q - W*) X^T||^2 differs from ||Q X^T - W X_ref^T||^2 by a constant (up to damping), rounding
// W* is all there is to do. GPTAQ (arXiv 2504.02692) has that objective and a smaller share of it (alpha,
// 0.25 in its code); it adds the correction column by column in the loop, where a column's part is left to
// the columns after it; here all columns take part before any is rounded, and grids fit what is rounded.
//
// Defaults. On SmolLM2 (4 bits, group 64, asymmetric, 128 x 512 tokens) damping 0.01 with 40 steps down to
// half of a range leaves a mean KL of 0.077; 40 steps down to a fifth and damping 0.1, 0.05, 0.02: 0.088,
// 0.083, 0.081; act_order gar 0.089. match_reference: 32 x 512 tokens, 0 / 0.25 / 0.5 / 1: 0.086, 0.068,
// 0.066, 0.076; the shipped recipes of 4 bits take half of the way, the option's default is GPTQ itself.
//
// What differs from the paper and its code:
//   - U comes from one Cholesky factorisation in reverse order and one triangular inverse
//     (inverse_factor.h), not from two factorisations and an inverse;
//   - a failing factorisation climbs a ladder whose steps stand in the report;
//   - dead columns (diag(H) = 0): as in the paper's code, H_jj becomes non-zero and W_j becomes 0, before
//     grids are chosen: their codes are the zero point, and no range is spent on them. H_jj is the mean of
//     the others, there 1, which could outweigh all that is real; damping's mean leaves them out so, too;
//   - where grids are chosen on the way, they see all updates that a group has got; in the paper's code not
//     those from the same block;
//   - scales are rounded to their stored type before codes are chosen;
//   - linears that read one input are solved with one factor, stacked where they have one scheme.
//
// Cost. n^3 FLOPs * 2/3 for U, r n^2 for the updates, r rows of all linears; 8 r n^2 to match the reference.
// Memory: scratch_bytes().
//
// Numerics. FP32, as the factor of a damped H needs no more (condition <= 1 + n/damping); FP64 sums of the
// loss. gptq_reference.h is the same in FP64, step by step: ranges and the move to the reference included.
#include "algorithms/gptq.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "algorithms/column_order.h"
#include "algorithms/gptq_columns.h"
#include "algorithms/grid_choice.h"
#include "algorithms/hessian.h"
#include "algorithms/linear_stack.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/permute.h"
#include "lib/numeric/quadratic_form.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

struct GptqOptions {
  ActOrder act_order;
  bool static_groups, offered_range, inverse_importance;
  double damping, match_reference;
  int64_t block_size;
  RangeChoice range;
};

ActOrder act_order_of(const std::string& word) {
  if (word == "desc") return ActOrder::desc;
  return word == "gar" ? ActOrder::gar : ActOrder::none;
}

/// Linears of one scheme, solved as one matrix.
class Stack {
 public:
  Stack(LinearStack linears, const InputStats& stats, Hessian& hessian, const GptqOptions& options)
      : linears_(std::move(linears)),
        stats_(stats),
        hessian_(hessian),
        options_(options),
        scheme_(linears_.front()->scheme),
        scale_dtype_(linears_.front()->scale_dtype),
        in_(linears_.front()->weight.size(1)),
        length_(scheme_.group_length(in_)) {}

  std::vector<SolveResult> solve() {
    const int64_t key = options_.act_order == ActOrder::gar ? length_ : 0;
    order_ = column_order(options_.act_order, hessian_.diagonal(), length_);
    const DampedFactor& factor = hessian_.factor(key, order_);
    importance_ = importance(factor.upper);
    const at::Tensor weight = stacked_weights();
    if (options_.match_reference > 0) move_to_reference(weight, factor.upper);
    const kernels::GroupParams params = original_grids(weight);
    kernels::permute_columns(weight, order_);
    ColumnProblem problem{.weight = weight,
                          .factor = factor.upper,
                          .column_group = column_groups(),
                          .scheme = scheme_,
                          .params = params,
                          .grid = {},
                          .block_size = options_.block_size};
    if (!options_.static_groups) {
      problem.grid = [this, &params](const at::Tensor& weights, int64_t first) {
        return grid(weights, first, params.global);
      };
    }
    const RoundedColumns rounded = round_columns(std::move(problem));
    check_loss(rounded);
    return results(rounded, hessian_.events(factor));
  }

 private:
  bool regrouped() const {
    return options_.act_order == ActOrder::desc && !options_.static_groups && length_ < in_;
  }

  /// Float [in], in the checkpoint's order: by what a rounding error's square is weighted in a search.
  at::Tensor importance(const at::Tensor& upper) const {
    if (!options_.inverse_importance) return hessian_.diagonal();
    const at::Tensor inverse = upper.square().sum(0);  // diag(H^-1), H^-1 = U^T U
    return inverse.reciprocal_().index_select(0, inverse_order(order_));
  }

  /// Int [in]: the group of each column in the order of rounding.
  at::Tensor column_groups() const {
    const at::Tensor place = regrouped() ? at::arange(in_, order_.options()) : order_;
    return place.div(length_, "floor").to(at::kInt);
  }

  at::Tensor stacked_weights() const {
    std::vector<at::Tensor> weights;
    for (const LinearProblem* linear : linears_) weights.push_back(linear->weight);
    at::Tensor weight = at::cat(weights).contiguous();
    if (linears_.size() == 1) weight = weight.clone();
    if (hessian_.dead_count() > 0) weight.masked_fill_(hessian_.dead(), 0);
    return weight;
  }

  /// W += match_reference * W (X_ref - X)^T X H^-1, H^-1 = U^T U of the columns in the order of rounding.
  void move_to_reference(const at::Tensor& weight, const at::Tensor& upper) const {
    const at::Tensor place = inverse_order(order_);
    const int64_t step = rows_per_chunk(weight);
    for (int64_t row = 0; row < weight.size(0); row += step) {
      throw_if_cancelled();
      const at::Tensor rows = weight.slice(0, row, row + step);
      const at::Tensor missed = matrix_product(rows, stats_.cross_gram);
      add_matrix_product(missed, rows, stats_.gram, -1);
      if (hessian_.dead_count() > 0) missed.masked_fill_(hessian_.dead(), 0);
      kernels::permute_columns(missed, order_);
      const at::Tensor move = matrix_product(matrix_product(missed, upper.t()), upper);
      kernels::permute_columns(move, place);
      rows.add_(move, options_.match_reference);
    }
  }

  /// Of all groups as they stand in the checkpoint, which also shows whether the weights have grids at all.
  kernels::GroupParams original_grids(const at::Tensor& weight) const {
    std::vector<LinearProblem> problems;
    int64_t row = 0;
    for (const LinearProblem* linear : linears_) {
      problems.push_back(*linear);
      problems.back().weight = weight.slice(0, row, row + linear->weight.size(0));
      if (!options_.offered_range) problems.back().range.reset();
      row += linear->weight.size(0);
    }
    const RangeChoice extent;  // what is chosen on the way needs the room only
    GridChoice choice(problems, options_.static_groups ? options_.range : extent, importance_);
    std::vector<GroupGrids> grids;
    std::vector<at::Tensor> scales, zeros;
    for (const LinearProblem& problem : problems) {
      grids.push_back(choice.of(problem));
      scales.push_back(grids.back().params.scales);
      zeros.push_back(grids.back().params.zero_points);
    }
    check_grids(problems, grids);
    return {at::cat(scales), scheme_.symmetric ? at::Tensor() : at::cat(zeros), grids.front().params.global};
  }

  kernels::GroupParams grid(const at::Tensor& weights, int64_t first, const at::Tensor& global) const {
    const at::Tensor importance = importance_.index_select(0, order_.slice(0, first, first + length_));
    const GroupRange range = weight_range(weights, scheme_, scale_dtype_, options_.range,
                                          linears_.front()->name, importance, global);
    return kernels::group_params(range, scheme_, scale_dtype_, global);
  }

  /// Errors that were fed back beyond FP32's range, or grids that they stretched beyond the scales' type.
  void check_loss(const RoundedColumns& rounded) const {
    const at::Tensor good =
        at::isfinite(rounded.loss).logical_and_(at::isfinite(rounded.params.scales).all(1)).cpu();
    if (good.all().item<bool>()) return;
    const auto [linear, row] = row_of(linears_, good.logical_not().nonzero()[0].item<int64_t>());
    user_error(
        "{}: row {}: weights up to {:g} are too large to make up for each other's rounding errors in FP32 "
        "with {} scales; raise `damping`, or use solver rtn for it",
        linear->name, row, linear->weight[row].abs().max().item<float>(), name_of(scale_dtype_));
  }

  std::vector<SolveResult> results(const RoundedColumns& rounded,
                                   const std::vector<std::string>& events) const {
    const at::Tensor place = inverse_order(order_), codes = rounded.codes;
    kernels::permute_columns(codes, place);
    std::vector<SolveResult> results;
    int64_t row = 0;
    for (const LinearProblem* linear : linears_) {
      const int64_t end = row + linear->weight.size(0);
      const auto part = [&](const at::Tensor& all) {
        return all.defined() ? all.slice(0, row, end).clone() : all;
      };
      const at::Tensor scales = kernels::one_row_each(part(rounded.params.scales), scheme_);
      SolveResult result{QuantizedTensor{scheme_, scheme_.scale_type(scale_dtype_), part(codes), scales,
                                         part(rounded.params.zero_points)},
                         events};
      result.quantized.global_scale = rounded.params.global;
      if (regrouped()) result.quantized.group_index = place.div(length_, "floor").to(at::kInt);
      results.push_back(std::move(result));
      row = end;
    }
    return results;
  }

  LinearStack linears_;
  const InputStats& stats_;
  Hessian& hessian_;
  const GptqOptions& options_;
  Scheme scheme_;
  DType scale_dtype_;
  int64_t in_, length_;
  at::Tensor order_, importance_;
};

class Gptq final : public Solver {
 public:
  explicit Gptq(const Options& options)
      : options_{.act_order = act_order_of(options.word("act_order")),
                 .static_groups = options.flag("static_groups"),
                 .offered_range = options.flag("offered_range"),
                 .inverse_importance = options.word("importance") == "inverse",
                 .damping = options.number("damping"),
                 .match_reference = options.number("match_reference"),
                 .block_size = options.integer("block_size"),
                 .range = range_choice(options)} {
    if (options_.offered_range && !options_.static_groups) {
      user_error(
          "gptq: offered_range: true needs static_groups: true, for a transform offers ranges of the groups "
          "as they stand in the checkpoint");
    }
  }

  StatSet needs() const override { return {.gram = true, .cross_gram = options_.match_reference > 0}; }

  /// While the factor is made; and while columns are rounded: U (its squares before, where importance asks
  /// for them), the weights stacked and reordered, codes in both orders, a block's errors.
  uint64_t scratch_bytes(int64_t rows, int64_t width) const override {
    const auto n = static_cast<uint64_t>(width), r = static_cast<uint64_t>(rows);
    const uint64_t block = std::min(n, static_cast<uint64_t>(options_.block_size));
    return std::max(Hessian::factor_bytes(width), n * n * (options_.inverse_importance ? 4 + 4 : 4) +
                                                      r * n * (4 + 4 + 1 + 1 + 1) + r * block * (4 + 8));
  }

  /// The factor; updates of later columns; the move to the reference; grids and codes.
  Work work(const std::vector<int64_t>& rows, int64_t width, const Scheme& scheme) const override {
    const double weights = weights_of(rows, width), n = static_cast<double>(width);
    return {.products = (options_.match_reference > 0 ? 9 : 1) * weights * n,
            .factors = Hessian::factor_flops(width),
            .roundings = (1 + range_roundings(options_.range, scheme)) * weights};
  }

  bool reorders_groups(const Scheme& scheme) const override {
    return options_.act_order == ActOrder::desc && !options_.static_groups && scheme.group_size != -1;
  }

  RangeOffers range_offers() const override {
    return options_.offered_range ? RangeOffers::required : RangeOffers::unused;
  }

  std::optional<std::string> refuses_groups(const Scheme& scheme, int64_t length) const override {
    const auto reason = refuses_order(scheme);
    return reason ? reason : range_refuses(options_.range, length);
  }

  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    const std::vector<LinearProblem>& linears = problem.linears;
    for (const LinearProblem& linear : linears) {
      check_scheme(linear);
      if (const auto reason = refuses_order(linear.scheme)) user_error("{}: {}", linear.name, *reason);
      LATHE_ASSERT(problem.stats->gram.defined() && problem.stats->gram.size(0) == linear.weight.size(1),
                   "{}: GPTQ got no Gram matrix of its input", linear.name);
    }
    Hessian hessian(linears.front().name, problem.stats->gram, options_.damping);
    return solve_stacked(linears, [&](const LinearStack& stack) {
      return Stack(stack, *problem.stats, hessian, options_).solve();
    });
  }

 private:
  /// Why grids of this scheme can't be chosen when, or for the columns, that the options say.
  std::optional<std::string> refuses_order(const Scheme& scheme) const {
    if (options_.static_groups) return std::nullopt;
    if (scheme.shares_rows()) {
      return fmt::format(
          "static_groups: false chooses a row's grids by that row, and those of {} span rows; use "
          "static_groups: true",
          scheme.describe());
    }
    if (scheme.float_grid() == nullptr || !reorders_groups(scheme)) return std::nullopt;
    return fmt::format(
        "act_order desc with static_groups: false regroups columns (g_idx), which no format holds for {}; "
        "use act_order gar, or static_groups: true",
        scheme.describe());
  }

  GptqOptions options_;
};

std::vector<OptionSpec> options_of_gptq() {
  std::vector<OptionSpec> options = {
      {"act_order",
       std::string("desc"),
       "the order in which columns are rounded: as they stand, by falling diag(H) (desc_act), or group by "
       "group (group-aware reordering)",
       0,
       0,
       {"none", "desc", "gar"}},
      {"static_groups",
       true,
       "choose all grids before rounding; false: each group's when it is reached, and with act_order desc "
       "groups are regrouped (g_idx), which compressed-tensors can't hold",
       0,
       0,
       {}},
      {"damping", 0.01, "added to the Hessian's diagonal, in parts of its mean", 0, 1, {}},
      {"match_reference",
       0.0,
       "how far the weights first move to where they give the unquantised model's outputs again, for inputs "
       "as the quantised layers before leave them: 0 not at all, 1 to the least-squares fit; more than 0 "
       "runs the unquantised model beside",
       0,
       1,
       {}},
      {"block_size", int64_t{128}, "columns between two updates of all later ones", 1, 65536, {}},
      {"offered_range",
       false,
       "take the range that a transform offers (AWQ's clip) for the grids, where there is one",
       0,
       0,
       {}},
  };
  for (OptionSpec spec : range_options()) {
    if (spec.name == "range") spec.default_value = std::string("weighted");
    options.push_back(std::move(spec));
  }
  options.push_back(
      {"importance",
       std::string("diagonal"),
       "range weighted: what a column's squared error is weighted by, diag(H) or 1 / diag(H^-1)",
       0,
       0,
       {"diagonal", "inverse"},
       {"range", "weighted"}});
  return options;
}

}  // namespace

const std::vector<OptionSpec>& gptq_options() {
  static const std::vector<OptionSpec> options = options_of_gptq();
  return options;
}

std::unique_ptr<Solver> make_gptq(const Options& options) { return std::make_unique<Gptq>(options); }

}  // namespace lathe
