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
// Memory: scratch_bytes(); sparing_bytes() where the Gram matrix's place is lent.
//
// Numerics. FP32, as the factor of a damped H needs no more (condition <= 1 + n/damping); FP64 sums of the
// loss. gptq_reference.h is the same in FP64, step by step: ranges and the move to the reference included.
#include "algorithms/gptq.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

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

/// Have rows scales of their own?
bool rows_apart(const Scheme& scheme) { return !scheme.shares_rows() && !has_tensor_scale(scheme); }

/// Linears of one scheme, solved as one matrix; or where memory is short some of its rows at a time, since
/// given grids and factor rows don't see each other.
class Stack {
 public:
  Stack(LinearStack linears, const SharedInputProblem& problem, Hessian& hessian, const GptqOptions& options)
      : linears_(std::move(linears)),
        stats_(*problem.stats),
        lent_(problem.lent.has_value()),
        hessian_(hessian),
        options_(options),
        scheme_(linears_.front()->scheme),
        scale_dtype_(linears_.front()->scale_dtype),
        in_(linears_.front()->weight.size(1)),
        length_(scheme_.group_length(in_)) {
    for (const LinearProblem* linear : linears_) rows_ += linear->weight.size(0);
  }

  std::vector<SolveResult> solve() {
    const int64_t key = options_.act_order == ActOrder::gar ? length_ : 0;
    order_ = column_order(options_.act_order, hessian_.diagonal(), length_);
    const bool moves = options_.match_reference > 0, in_parts = lent_ && !moves && rows_apart(scheme_);
    if (lent_ && moves) hessian_.give_back();  // an earlier stack's factor may stand in its place
    const at::Tensor whole = in_parts ? at::Tensor() : rows_of(0, rows_);
    const at::Tensor missed = lent_ && moves ? missed_by(whole) : at::Tensor();
    const DampedFactor& factor = hessian_.factor(key, order_);
    importance_ = importance(factor.upper);
    if (moves) move_to_reference(whole, missed, factor.upper);
    const kernels::GroupParams params = in_parts ? grids_by_parts() : original_grids(whole);
    for (const LinearProblem* linear : linears_)
      codes_.push_back(at::empty(linear->weight.sizes(), linear->weight.options().dtype(at::kChar)));
    const int64_t step = in_parts ? part_rows(rows_) : rows_;
    for (int64_t row = 0; row < rows_; row += step) {
      const int64_t end = std::min(rows_, row + step);
      round(in_parts ? rows_of(row, end) : whole, row, params, factor.upper);
    }
    check_loss(params);
    return results(params, hessian_.events(factor));
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

  /// Calls f(linear's place, first row, end) with the rows of each linear that rows [begin, end) consist of.
  template <class F>
  void for_linears(int64_t begin, int64_t end, F&& f) const {
    int64_t first = 0;
    for (size_t k = 0; k < linears_.size(); ++k) {
      const int64_t next = first + linears_[k]->weight.size(0);
      if (std::max(begin, first) < std::min(end, next))
        f(k, std::max(begin, first) - first, std::min(end, next) - first);
      first = next;
    }
  }

  /// A copy of the weights, without those of dead channels.
  at::Tensor rows_of(int64_t begin, int64_t end) const {
    std::vector<at::Tensor> parts;
    for_linears(begin, end, [&](size_t k, int64_t first, int64_t last) {
      parts.push_back(linears_[k]->weight.slice(0, first, last));
    });
    const at::Tensor weight = parts.size() == 1 ? parts[0].clone().contiguous() : at::cat(parts).contiguous();
    if (hessian_.dead_count() > 0) weight.masked_fill_(hessian_.dead(), 0);
    return weight;
  }

  /// W (X_ref - X)^T X of some rows, in the order of rounding.
  at::Tensor missed_by_rows(const at::Tensor& rows) const {
    at::Tensor missed = matrix_product(rows, stats_.cross_gram);
    add_matrix_product(missed, rows, stats_.gram, -1);
    if (hessian_.dead_count() > 0) missed.masked_fill_(hessian_.dead(), 0);
    kernels::permute_columns(missed, order_);
    return missed;
  }

  /// The same of all rows, while the Gram matrix still stands in its place.
  at::Tensor missed_by(const at::Tensor& weight) const {
    at::Tensor missed = at::empty_like(weight);
    const int64_t step = rows_per_chunk(weight);
    for (int64_t row = 0; row < weight.size(0); row += step) {
      throw_if_cancelled();
      missed.slice(0, row, row + step).copy_(missed_by_rows(weight.slice(0, row, row + step)));
    }
    return missed;
  }

  /// W += match_reference * W (X_ref - X)^T X H^-1, H^-1 = U^T U of the columns in the order of rounding.
  /// known: missed_by() of them, or undefined.
  void move_to_reference(const at::Tensor& weight, const at::Tensor& known, const at::Tensor& upper) const {
    const at::Tensor place = inverse_order(order_);
    const int64_t step = rows_per_chunk(weight);
    for (int64_t row = 0; row < weight.size(0); row += step) {
      throw_if_cancelled();
      const at::Tensor rows = weight.slice(0, row, row + step);
      const at::Tensor missed = known.defined() ? known.slice(0, row, row + step) : missed_by_rows(rows);
      const at::Tensor move = matrix_product(matrix_product(missed, upper.t()), upper);
      kernels::permute_columns(move, place);
      rows.add_(move, options_.match_reference);
    }
  }

  /// original_grids() of weights that nobody moves, some rows at a time.
  kernels::GroupParams grids_by_parts() const {
    std::vector<LinearProblem> problems;
    std::vector<GroupGrids> grids;
    for (const LinearProblem* linear : linears_) {
      problems.push_back(*linear);
      grids.push_back(grids_by_parts(*linear));
    }
    check_grids(problems, grids);
    return stacked(grids);
  }

  GroupGrids grids_by_parts(const LinearProblem& linear) const {
    std::vector<at::Tensor> lows, highs, scales, zeros;
    const int64_t rows = linear.weight.size(0), step = part_rows(rows_);
    const std::optional<GroupRange> offered =
        options_.offered_range && linear.range ? std::optional(offered_range(linear)) : std::nullopt;
    for (int64_t row = 0; row < rows; row += step) {
      throw_if_cancelled();
      const int64_t end = std::min(rows, row + step);
      std::vector<LinearProblem> part = {linear};
      part[0].weight = linear.weight.slice(0, row, end);
      if (hessian_.dead_count() > 0) part[0].weight = part[0].weight.masked_fill(hessian_.dead(), 0);
      part[0].range.reset();
      if (offered) part[0].range = GroupRange{offered->lo.slice(0, row, end), offered->hi.slice(0, row, end)};
      const GroupGrids grids = GridChoice(part, first_choice(), importance_).of(part[0]);
      lows.push_back(grids.range.lo);
      highs.push_back(grids.range.hi);
      scales.push_back(grids.params.scales);
      zeros.push_back(grids.params.zero_points);
    }
    return {{at::cat(lows), at::cat(highs)},
            {at::cat(scales), scheme_.symmetric ? at::Tensor() : at::cat(zeros), {}}};
  }

  /// What is chosen on the way needs the room only.
  const RangeChoice& first_choice() const {
    static const RangeChoice extent;
    return options_.static_groups ? options_.range : extent;
  }

  kernels::GroupParams stacked(const std::vector<GroupGrids>& grids) const {
    std::vector<at::Tensor> scales, zeros;
    for (const GroupGrids& each : grids) {
      scales.push_back(each.params.scales);
      zeros.push_back(each.params.zero_points);
    }
    return {at::cat(scales), scheme_.symmetric ? at::Tensor() : at::cat(zeros), grids.front().params.global};
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
    GridChoice choice(problems, first_choice(), importance_);
    std::vector<GroupGrids> grids;
    for (const LinearProblem& problem : problems) grids.push_back(choice.of(problem));
    check_grids(problems, grids);
    return stacked(grids);
  }

  kernels::GroupParams grid(const at::Tensor& weights, int64_t first, const at::Tensor& global) const {
    const at::Tensor importance = importance_.index_select(0, order_.slice(0, first, first + length_));
    const GroupRange range = weight_range(weights, scheme_, scale_dtype_, options_.range,
                                          linears_.front()->name, importance, global);
    return kernels::group_params(range, scheme_, scale_dtype_, global);
  }

  /// Rounds rows from `first` on. weight: used up; params: of all rows.
  void round(const at::Tensor& weight, int64_t first, const kernels::GroupParams& params,
             const at::Tensor& upper) {
    const int64_t end = first + weight.size(0);
    const auto part = [&](const at::Tensor& all) { return all.defined() ? all.slice(0, first, end) : all; };
    kernels::permute_columns(weight, order_);
    ColumnProblem problem{.weight = weight,
                          .factor = upper,
                          .column_group = column_groups(),
                          .scheme = scheme_,
                          .params = {part(params.scales), part(params.zero_points), params.global},
                          .grid = {},
                          .block_size = options_.block_size,
                          .whole = rows_};
    if (!options_.static_groups) {
      problem.grid = [this, &params](const at::Tensor& weights, int64_t column) {
        return grid(weights, column, params.global);
      };
    }
    const RoundedColumns rounded = round_columns(std::move(problem));
    loss_.push_back(rounded.loss);
    kernels::permute_columns(rounded.codes, inverse_order(order_));
    int64_t row = 0;
    for_linears(first, end, [&](size_t k, int64_t begin, int64_t last) {
      codes_[k].slice(0, begin, last).copy_(rounded.codes.slice(0, row, row + last - begin));
      row += last - begin;
    });
  }

  /// Errors that were fed back beyond FP32's range, or grids that they stretched beyond the scales' type.
  void check_loss(const kernels::GroupParams& params) const {
    const at::Tensor good =
        at::isfinite(at::cat(loss_)).logical_and_(at::isfinite(params.scales).all(1)).cpu();
    if (good.all().item<bool>()) return;
    const auto [linear, row] = row_of(linears_, good.logical_not().nonzero()[0].item<int64_t>());
    user_error(
        "{}: row {}: weights up to {:g} are too large to make up for each other's rounding errors in FP32 "
        "with {} scales; raise `damping`, or use solver rtn for it",
        linear->name, row, linear->weight[row].abs().max().item<float>(), name_of(scale_dtype_));
  }

  std::vector<SolveResult> results(const kernels::GroupParams& params,
                                   const std::vector<std::string>& events) {
    std::vector<SolveResult> results;
    int64_t row = 0;
    for (size_t k = 0; k < linears_.size(); ++k) {
      const int64_t end = row + linears_[k]->weight.size(0);
      const auto part = [&](const at::Tensor& all) {
        return all.defined() ? all.slice(0, row, end).clone() : all;
      };
      const at::Tensor scales = kernels::one_row_each(part(params.scales), scheme_);
      SolveResult result{QuantizedTensor{scheme_, scheme_.scale_type(scale_dtype_), std::move(codes_[k]),
                                         scales, part(params.zero_points)},
                         events};
      result.quantized.global_scale = params.global;
      if (regrouped())
        result.quantized.group_index = inverse_order(order_).div(length_, "floor").to(at::kInt);
      results.push_back(std::move(result));
      row = end;
    }
    return results;
  }

  LinearStack linears_;
  const InputStats& stats_;
  bool lent_;
  Hessian& hessian_;
  const GptqOptions& options_;
  Scheme scheme_;
  DType scale_dtype_;
  int64_t in_, length_, rows_ = 0;
  at::Tensor order_, importance_;
  std::vector<at::Tensor> codes_, loss_;  // of each linear; of each part
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

  /// The factor stands in the lent matrix's place. Beside it the weights and codes of some rows; with a move
  /// to the reference, whose products come before the factor, or rows that share scales: of all.
  SparingBytes sparing_bytes(int64_t rows, int64_t width, const Scheme& scheme) const override {
    const auto n = static_cast<uint64_t>(width), r = static_cast<uint64_t>(rows);
    const FactorBytes factor = inverse_factor_in_place_bytes(width);
    const uint64_t squares = options_.inverse_importance ? n * n * 4 : 0;
    if (options_.match_reference > 0 || !rows_apart(scheme))
      return {factor.memory + squares + r * n * (4 + 4 + 1 + 1 + 1), factor.file};
    const auto part = static_cast<uint64_t>(part_rows(rows));
    const uint64_t block = std::min(n, static_cast<uint64_t>(options_.block_size));
    return {std::max({factor.memory, squares, part * (n * (4 + 1) + block * (4 + 8))}), factor.file};
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
    Hessian hessian(linears.front().name, problem.stats->gram, options_.damping, problem.lent);
    std::vector<SolveResult> results = solve_stacked(
        linears, [&](const LinearStack& stack) { return Stack(stack, problem, hessian, options_).solve(); });
    hessian.give_back();
    return results;
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
