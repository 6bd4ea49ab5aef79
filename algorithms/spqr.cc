// SpQR: a sparse-quantised representation (Dettmers et al., arXiv 2306.03078).
//
// Problem. At 3 to 4 bits, a few weights cost most of the layer's output error: those that stretch their
// group's grid, and those whose error the columns after them can't make up for. Short groups (16) give finer
// grids, but their scales and zeros would cost two bits a weight.
//
// Method. Weights keep 16 bits where it pays (outliers, in compressed rows), scales and zeros are themselves
// codes of 3 bits, 16 rows sharing one grid (section 4.2, "bilevel quantization"), and the rest is rounded
// with GPTQ's error feedback (gptq.cc). Algorithm 1, for each group of columns when its first one is reached:
//
//     outliers:        for each weight, fit the group's grid without it; it is an outlier where the error of
//                      the others, (W_j - Q_j)^2 / U_jj^2 summed, falls by more than tau (section 4.1:
//                      leave-one-out; e^2 / U_jj^2 is the loss that remains when all later columns make up
//                      for an error e, U the upper Cholesky factor of H^-1)
//     fit_statistics:  fit the grid to the others, s = (max - min) / (2^b - 1), z = -min / s, a real number;
//                      round s and z of 16 rows to a grid of their own
//     columns:         Q_j = quant(W_j); E_j = (W_j - Q_j) / U_jj, 0 for outliers; W_k -= E_j U_jk for k > j
//
// Columns are taken by falling diag(H) (act_order), and groups are what is rounded one after the other
// (QuantizedTensor::group_index; the format stores a permutation of the inputs).
//
// Which weights are kept (`outliers`):
//   - leave_one_out: those that the algorithm above marks;
//   - refined: the paper's code. Grids are fitted without the marked weights, and then every weight whose
//     error on its grid loses more than tau is kept: a marked one that the grid serves well costs nothing,
//     and one that feedback has pushed off the grid is found;
//   - error: the same with grids that span all weights (simplified_outliers in the paper's code).
// tau is given as a share of weights (`density`: for each linear from the quantile of the leave-one-out gains
// before anything is rounded, bisected until a sample of rows keeps the share to a tenth), as the share that
// costs so much at the most (`cost`), or as in the paper's code in parts of
// mean_j(var(W_j) / U_jj^2) (`threshold`).
//
// What differs from the paper and its code:
//   - leaving out a weight changes a grid only where it is the least or the largest of its group: three fits
//     a group instead of one a weight;
//   - ranges reach to 0 (the paper's fit_statistics sets outliers to 0, so that they do in groups that have
//     one; its code fills in the others' mean): a zero then never leaves the grid, where it would spoil those
//     of 15 other rows. Constant and empty groups come out exact; the paper's code gives them the range
//     [-1, 1];
//   - the second level is computed in FP16, as the consumer computes it, before codes are chosen;
//   - an outlier's value is what its code's value lacks of the weight, for the consumer adds it. The paper's
//     code stores the weight itself beside the code nearest to 0, whose value isn't 0 where the zero is no
//     integer;
//   - grids see all updates of earlier groups, and damping climbs a ladder;
//   - dead columns (H_jj = 0) are GPTQ's (gptq.cc): H_jj becomes the mean of the others. The paper's code
//     counts them in damping's mean and then sets H_jj = 1, so that which weights are kept hangs on the unit
//     of the inputs, and sorts them last.
//
// Cost. GPTQ's (2/3 n^3 + r n^2), and 4 roundings of each weight for the marks, as many again for the
// density's quantile. Outliers cost 32 bits each and 32 a row.
//
// Numerics. FP32; spqr_reference.h is algorithm 1 in FP64, line by line. NaN and infinite weights are
// refused.
#include "algorithms/spqr.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "algorithms/column_order.h"
#include "algorithms/hessian.h"
#include "algorithms/linear_stack.h"
#include "algorithms/spqr_columns.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/kernels/device/spqr_group.cuh"
#include "lib/kernels/permute.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

struct SpqrOptions {
  OutlierRule rule;
  std::string select;  // which of the next three decides
  double cost, density, threshold, damping;
  ActOrder order;
  int64_t block_size;
};

OutlierRule rule_of(const std::string& word) {
  if (word == "leave_one_out") return OutlierRule::leave_one_out;
  return word == "error" ? OutlierRule::error : OutlierRule::refined;
}

void check_linear(const LinearProblem& linear, const InputStats& stats) {
  LATHE_ASSERT(stats.gram.defined() && stats.gram.size(0) == linear.weight.size(1),
               "{}: SpQR got no Gram matrix of its input", linear.name);
  if (const auto problem = linear.scheme.problem(linear.weight.size(0), linear.weight.size(1))) {
    user_error("{}: {}", linear.name, *problem);
  }
  if (linear.weight.size(0) % linear.scheme.scale_grid->rows != 0) {
    user_error("{}: scale_group {} does not divide its {} rows; use a divisor, or add it to `ignore`",
               linear.name, linear.scheme.scale_grid->rows, linear.weight.size(0));
  }
  if (all_finite(linear.weight)) return;
  const at::Tensor first = at::isfinite(linear.weight).logical_not_().nonzero()[0].cpu();
  user_error("{}: row {}, column {} of the weight is a NaN or an infinity; the checkpoint is damaged",
             linear.name, first[0].item<int64_t>(), first[1].item<int64_t>());
}

/// Thresholds are looked for until the share of outliers is as near to the one wanted.
constexpr double kDensityTolerance = 0.1;

/// The share of a linear's weights that can be outliers for `cost` times what it takes without them: 32 bits
/// each, and 32 a row for the offsets, which is much of a narrow one. 0 where the offsets alone cost more.
double affordable_density(double cost, const Scheme& scheme, int64_t rows, int64_t width) {
  const double bits = cost * scheme.bits_per_weight(rows, width) - 32.0 / static_cast<double>(width);
  return std::max(bits / 32 / (1 + kDensityTolerance), 0.0);
}

/// Linears of one input and one scheme, rounded as one matrix.
class SpqrStack {
 public:
  SpqrStack(LinearStack linears, Hessian& hessian, const SpqrOptions& options)
      : linears_(std::move(linears)),
        hessian_(hessian),
        options_(options),
        scheme_(linears_.front()->scheme),
        order_(column_order(options.order, hessian.diagonal(), scheme_.group_size)),
        factor_(hessian.factor(0, order_)) {}

  /// Thresholds that are tried at the most, each on so many of a linear's rows.
  static constexpr int kDensitySteps = 8;
  static double sampled_rows(int64_t rows, const Scheme& scheme) {
    const int64_t block = scheme.scale_grid->rows, blocks = rows / block, step = sample_step(blocks);
    return static_cast<double>(ceil_div(blocks - step / 2, step) * block);
  }

  std::vector<SolveResult> solve() {
    at::Tensor weight = stacked_weights();
    const at::Tensor thresholds = at::empty({weight.size(0)}, weight.options());
    int64_t row = 0;
    for (const LinearProblem* linear : linears_) {
      const int64_t end = row + linear->weight.size(0);
      thresholds.slice(0, row, end).fill_(threshold(weight.slice(0, row, end)));
      row = end;
    }
    return results(spqr_columns(problem(std::move(weight), thresholds)));
  }

 private:
  SpqrProblem problem(at::Tensor weight, const at::Tensor& thresholds) const {
    return {.weight = std::move(weight),
            .factor = factor_.upper,
            .scheme = scheme_,
            .rule = options_.rule,
            .thresholds = thresholds,
            .block_size = options_.block_size};
  }

  /// A copy of all rows, columns in the order of rounding.
  at::Tensor stacked_weights() const {
    int64_t rows = 0;
    for (const LinearProblem* linear : linears_) rows += linear->weight.size(0);
    at::Tensor weight = at::empty({rows, order_.numel()}, linears_.front()->weight.options());
    rows = 0;
    for (const LinearProblem* linear : linears_) {
      weight.slice(0, rows, rows + linear->weight.size(0)).copy_(linear->weight);
      rows += linear->weight.size(0);
    }
    kernels::permute_columns(weight, order_);
    if (hessian_.dead_count() > 0) weight.masked_fill_(hessian_.dead().index_select(0, order_), 0);
    return weight;
  }

  double threshold(const at::Tensor& weight) const {
    if (options_.select == "threshold") return options_.threshold * spqr_loss_scale(weight, factor_.upper);
    const double density = options_.select == "density"
                               ? options_.density
                               : affordable_density(options_.cost, scheme_, weight.size(0), weight.size(1));
    if (density == 0) return HUGE_VAL;
    return threshold_for_density(weight, density);
  }

  /// Bisects for the threshold on a sample of rows, in ratios, from where the leave-one-out gains before any
  /// rounding put it.
  double threshold_for_density(const at::Tensor& weight, double density) const {
    double threshold = spqr_threshold(weight, factor_.upper, scheme_, density);
    double low = 0, high = HUGE_VAL, best = threshold, best_off = HUGE_VAL;
    for (int step = 0; step < kDensitySteps && std::isfinite(threshold) && threshold > 0; ++step) {
      const double kept = sampled_density(weight, threshold), off = std::abs(kept / density - 1);
      if (off < best_off) best = threshold, best_off = off;
      if (off <= kDensityTolerance) break;
      (kept > density ? low : high) = threshold;
      if (low > 0 && std::isfinite(high)) {
        threshold = std::sqrt(low * high);
      } else {
        threshold = low > 0 ? 2 * low : high / 2;
      }
    }
    return best;
  }

  /// The share of outliers at a threshold, of blocks of rows spread over the weight.
  double sampled_density(const at::Tensor& weight, double threshold) const {
    const int64_t block = scheme_.scale_grid->rows, blocks = weight.size(0) / block;
    const int64_t step = sample_step(blocks);
    const at::Tensor some =
        weight.view({blocks, block, -1}).slice(0, step / 2, blocks, step).reshape({-1, weight.size(1)});
    const SpqrColumns rounded =
        spqr_columns(problem(some.clone(), at::full({some.size(0)}, threshold, some.options())));
    return rounded.kept.ne(0).sum().item<double>() / static_cast<double>(some.numel());
  }

  void check(const SpqrColumns& rounded) const {
    const at::Tensor sound = at::isfinite(rounded.loss)
                                 .logical_and(at::isfinite(rounded.scales).all(1))
                                 .logical_and(at::isfinite(rounded.zeros).all(1))
                                 .logical_and(rounded.kept.amax(1) < kLargestHalf)
                                 .logical_and(rounded.kept.amin(1) > -kLargestHalf)
                                 .cpu();
    if (sound.all().item<bool>()) return;
    const auto [linear, row] = row_of(linears_, sound.logical_not().nonzero()[0].item<int64_t>());
    user_error(
        "{}: row {}: weights up to {:g} need scales or outliers beyond FP16, in which SpQR stores both; "
        "leave "
        "this linear out with `ignore`, or use another solver for it",
        linear->name, row, linear->weight[row].abs().max().item<float>());
  }

  std::vector<SolveResult> results(const SpqrColumns& rounded) const {
    check(rounded);
    const at::Tensor place = inverse_order(order_), codes = rounded.codes.view(at::kChar);
    kernels::permute_columns(codes, place);
    kernels::permute_columns(rounded.kept, place);
    codes.add_(scheme_.qmin());  // in 8 bits, where those beyond 127 come back
    std::vector<SolveResult> results;
    int64_t row = 0;
    for (const LinearProblem* linear : linears_) {
      const int64_t end = row + linear->weight.size(0), block = scheme_.scale_grid->rows;
      const auto rows = [&](const at::Tensor& all) { return all.slice(0, row, end).clone(); };
      const auto blocks = [&](const at::Tensor& all) {
        return all.slice(0, row / block, end / block).clone();
      };
      SolveResult result{QuantizedTensor{scheme_, DType::F16, {}, {}, {}}, hessian_.events(factor_)};
      QuantizedTensor& tensor = result.quantized;
      tensor.codes = rows(codes);
      tensor.scales = rows(rounded.scales);
      tensor.zero_points = rows(rounded.zeros).add_(scheme_.qmin());
      const SecondLevel& level = rounded.level;
      tensor.second_level = {rows(level.scale_codes),   rows(level.zero_codes),    blocks(level.scale_scales),
                             blocks(level.scale_zeros), blocks(level.zero_scales), blocks(level.zero_zeros)};
      tensor.outliers = outliers_of(rounded.kept.slice(0, row, end));
      if (regrouped()) tensor.group_index = place.div(scheme_.group_size, "floor").to(at::kInt);
      results.push_back(std::move(result));
      row = end;
    }
    return results;
  }

  /// Are groups other columns than neighbours?
  bool regrouped() const {
    const at::Tensor group = order_.div(scheme_.group_size, "floor");
    return !group.slice(0, 1).ge(group.slice(0, 0, -1)).all().item<bool>();
  }

  static constexpr int64_t kSampledBlocks = 8;
  static constexpr float kLargestHalf = 65504;
  /// One of so many blocks of rows is sampled.
  static int64_t sample_step(int64_t blocks) { return std::max<int64_t>(blocks / kSampledBlocks, 1); }

  LinearStack linears_;
  Hessian& hessian_;
  const SpqrOptions& options_;
  Scheme scheme_;
  at::Tensor order_;
  const DampedFactor& factor_;
};

class Spqr final : public Solver {
 public:
  explicit Spqr(const Options& options)
      : options_{.rule = rule_of(options.word("outliers")),
                 .select = options.word("select"),
                 .cost = options.number("cost"),
                 .density = options.number("density"),
                 .threshold = options.number("threshold"),
                 .damping = options.number("damping"),
                 .order = options.word("act_order") == "desc" ? ActOrder::desc : ActOrder::none,
                 .block_size = options.integer("block_size")} {}

  StatSet needs() const override { return {.gram = true}; }

  /// While the factor is made; and while columns are rounded: U, the weights stacked and reordered (what is
  /// kept takes their place), codes and their copies by linear, both of grids (less than a byte a weight in
  /// groups of 16), a block's errors and their squares.
  uint64_t scratch_bytes(int64_t rows, int64_t width) const override {
    const auto n = static_cast<uint64_t>(width), r = static_cast<uint64_t>(rows);
    const uint64_t block = std::min(n, static_cast<uint64_t>(options_.block_size));
    return std::max(Hessian::factor_bytes(width),
                    n * n * 4 + r * n * (4 + 1 + 1 + 1 + 1) + r * block * (4 + 8));
  }

  /// As GPTQ's; each weight is rounded once for its code and four times for its mark. A share of outliers is
  /// looked for on some rows of each linear, which are marked, and rounded whole for each threshold.
  Work work(const std::vector<int64_t>& rows, int64_t width, const Scheme& scheme) const override {
    const double n = static_cast<double>(width);
    double weights = weights_of(rows, width);
    Work work{.products = 0, .factors = Hessian::factor_flops(width), .roundings = 0};
    if (options_.select != "threshold") {
      work.roundings = 4 * weights;
      for (const int64_t count : rows)
        weights += SpqrStack::kDensitySteps * n * SpqrStack::sampled_rows(count, scheme);
    }
    work.products = weights * n;
    work.roundings += 5 * weights;
    return work;
  }

  RangeOffers range_offers() const override { return RangeOffers::unused; }  // it fits its own grids

  bool reorders_groups(const Scheme&) const override { return options_.order != ActOrder::none; }

  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    const std::vector<LinearProblem>& linears = problem.linears;
    for (const LinearProblem& linear : linears) check_linear(linear, *problem.stats);
    Hessian hessian(linears.front().name, problem.stats->gram, options_.damping);
    return solve_stacked(
        linears, [&](const LinearStack& stack) { return SpqrStack(stack, hessian, options_).solve(); });
  }

 private:
  SpqrOptions options_;
};

}  // namespace

std::optional<std::string> spqr_refuses(const Scheme& scheme) {
  if (scheme.floating()) return kNoGrid;
  if (scheme.float_grid() != nullptr) return kIntegersOnly;
  if (!scheme.scale_grid || scheme.symmetric) {
    return "its scales and zero points are codes themselves; give the scheme `scale_bits` (3) and "
           "`symmetric: false`";
  }
  if (scheme.bits < 2) return "bits 1: expected 2 to 8";
  if (scheme.group_size < 1 || scheme.group_size > device::kSpqrColumns) {
    return fmt::format("group_size {}: expected 8 to {}", scheme.group_size, device::kSpqrColumns);
  }
  return std::nullopt;
}

const std::vector<OptionSpec>& spqr_options() {
  static const std::vector<OptionSpec> options = {
      {"outliers",
       std::string("refined"),
       "which weights are kept: those whose leaving out helps their group's grid (leave_one_out, the paper), "
       "those "
       "that lose most on grids fitted without these (refined, the paper's code), or on grids fitted to all "
       "(error)",
       0,
       0,
       {"leave_one_out", "refined", "error"}},
      {"select",
       std::string("cost"),
       "how many: what a share of each linear's size pays for, a share of its weights, or all that lose more "
       "than a threshold",
       0,
       0,
       {"cost", "density", "threshold"}},
      {"cost",
       0.05,
       "select cost: as many as take this share of what each linear takes without them, row offsets counted",
       0,
       1,
       {},
       {"select", "cost"}},
      {"density",
       0.0035,
       "select density: about this share of each linear's weights",
       0,
       0.1,
       {},
       {"select", "density"}},
      {"threshold",
       0.2,
       "select threshold: the paper's tau, in parts of the loss of setting a weight to its column's mean",
       1e-4,
       1e4,
       {},
       {"select", "threshold"}},
      {"act_order",
       std::string("desc"),
       "the order in which columns are grouped and rounded: as they stand, or by falling diag(H)",
       0,
       0,
       {"none", "desc"}},
      {"damping", 0.05, "added to the Hessian's diagonal, in parts of its mean", 0, 10, {}},
      {"block_size", int64_t{128}, "columns between two updates of all later ones", 1, 65536, {}},
  };
  return options;
}

std::unique_ptr<Solver> make_spqr(const Options& options) { return std::make_unique<Spqr>(options); }

}  // namespace lathe
