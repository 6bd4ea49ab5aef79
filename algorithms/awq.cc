// AWQ: activation-aware weight quantisation (Lin et al., arXiv 2306.00978).
//
// Problem. Rounding errors of weights matter in proportion to the inputs they meet. A few input channels are
// much larger than the others; their weight columns deserve finer steps, but all columns of a group share one
// scale.
//
// Scales (paper, section 3.2, equations 2 to 5). Multiply column j of W by s_j > 1 before rounding and divide
// the input by it: the step stays nearly the same, the error on column j shrinks by s_j. The division is
// folded into what produces the input (a norm's weight, or the rows of the linear before). The paper searches
// s = mean|x|^r over r in [0, 1], as the authors' llm-awq does. We search, as AutoAWQ does ("duo scaling"),
//
//     s_j = mean|x_j|^r / (v_j^(1-r) + 1e-4),   r = i/grid, i = 0..grid-1,   then s / sqrt(max s * min s),
//
// where v_j is the mean over rows of |W_ij| relative to the largest magnitude in its group: columns that
// already use their group's range gain nothing from a larger scale. duo_scaling: false gives the paper's s =
// mean|x|^r.
//
// The grid's best exponent may be refined by a golden-section search between its two neighbours (refine).
//
// Objective. Equation 4 minimises ||Q(W s)(X / s) - W X||^2 by running the layer for every candidate. With dW
// = Q(W s)/s - W this equals tr(dW H dW^T), H = X^T X / tokens, which doesn't grow with the number of tokens
// (lib/numeric/quadratic_form.h). All consumers of the input count, each with its own scheme: q, k and v
// together; gate and up together.
//
// Clipping (llm-awq's auto_clip). After folding, shrink each group's range where that lowers the group's own
// output error: clip_search.h. q_proj and k_proj (and a fused qkv_proj) are left alone, because the product
// q k^T is not seen by the objective, unless clip_qk.
//
// What differs from the paper's code:
//   - the loss is that of the linears that read the input; llm-awq runs the attention or
//   MLP block behind a norm's readers (o_proj and down_proj alone, as here);
//   - all tokens count, in clipping too (there: 512 of them);
//   - no scaling at all (s = 1) is a candidate, so a fold is never worse than plain rounding by this
//   objective;
//   - channels that never carry a signal, or that no consumer reads, keep s = 1 and stay out of the
//   normalisation;
//   - shared KV heads: the scale of v -> o is searched, too; the columns of all query heads that read one KV
//   head carry one
//     scale, from the mean of their statistics;
//   - clipping tries steps of max_shrink/clip_grid (0.025), there 1/n_grid (0.05).
//
// Cost. r * n^2 FMAs a candidate and half of it by symmetry, r = rows of all consumers: 21 half GEMMs;
// dequantised weights exist for a chunk of rows at a time. On a GPU all candidates are queued and the host
// waits once for an edge; the CPU gives a candidate up once it is worse than the best.
//
// Numerics. The loss: FP32 products, FP64 sums (lib/numeric/quadratic_form.h). mean|x| is summed in FP64.
// Scales are FP32, at least 1e-4 before they are normalised (llm-awq's clamp); weights times them are rounded
// with a group's scale in its stored type. A candidate whose loss is not finite (a scale overflowed its
// type) is passed over. awq_reference.h is the search in FP64, by running the layer.
#include "algorithms/awq.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "algorithms/clip_search.h"
#include "algorithms/golden_section.h"
#include "algorithms/rounding_loss.h"
#include "algorithms/scale_edge.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

/// The mean over all consumers' rows of |w| relative to the largest magnitude in its group, [in].
at::Tensor relative_magnitudes(const std::vector<LinearProblem>& linears) {
  at::Tensor sum =
      at::zeros({linears.front().weight.size(1)}, linears.front().weight.options().dtype(at::kDouble));
  int64_t rows = 0;
  for (const LinearProblem& linear : linears) {
    const int64_t groups = linear.scheme.groups(linear.weight.size(1));
    const int64_t step = rows_per_chunk(linear.weight);
    for (int64_t row = 0; row < linear.weight.size(0); row += step) {
      const at::Tensor chunk = linear.weight.slice(0, row, row + step);
      at::Tensor magnitudes = chunk.abs().view({chunk.size(0), groups, -1});
      magnitudes.div_(magnitudes.amax(-1, true).clamp_min_(std::numeric_limits<float>::min()));
      sum += magnitudes.view(chunk.sizes()).sum(0);
    }
    rows += linear.weight.size(0);
  }
  return (sum / static_cast<double>(rows)).to(at::kFloat);
}

/// The one-parameter family of scales that is searched.
class ScaleFamily {
 public:
  ScaleFamily(const ScaleEdge& edge, const SharedInputProblem& problem, bool duo)
      : inputs_(share_over_heads(problem.stats->mean_abs, edge, Share::mean)) {
    const at::Tensor weights = share_over_heads(relative_magnitudes(problem.linears), edge, Share::mean);
    alive_ = (inputs_ > 0).logical_and_(weights > 0);
    if (duo) weights_ = weights;
  }

  /// Bool scalar on the device: false where no channel is scaled.
  at::Tensor any() const { return alive_.any(); }

  /// FP32 [in], > 0, 1 for dead channels; the largest times the smallest of the others is 1.
  at::Tensor at_ratio(double ratio) const {
    at::Tensor scales = inputs_.pow(ratio);
    if (weights_.defined()) scales = scales / (weights_.pow(1 - ratio) + 1e-4);
    scales = scales.clamp_min_(1e-4);
    // Not masked_select(): how many channels it gives is a number that the host would wait for.
    const at::Tensor dead = alive_.logical_not();
    const at::Tensor largest = scales.masked_fill(dead, 0).max();
    const at::Tensor smallest = scales.masked_fill(dead, std::numeric_limits<float>::infinity()).min();
    scales = scales / (largest * smallest).sqrt();
    return scales.masked_fill_(dead, 1);
  }

 private:
  at::Tensor inputs_, weights_, alive_;
};

class Awq final : public Transform {
 public:
  explicit Awq(const Options& options)
      : grid_(options.integer("grid")),
        refine_(options.integer("refine")),
        duo_scaling_(options.flag("duo_scaling")),
        clip_(options.flag("clip")),
        clip_qk_(options.flag("clip_qk")),
        clip_grid_{options.integer("clip_grid"), options.number("max_shrink")},
        inner_edges_(options) {}

  StatSet needs() const override { return {.gram = true, .mean_abs = true}; }
  FoldDecision fold(const ScaleEdge& edge, const SharedInputProblem& problem) const override;
  std::optional<GroupRange> range(const LinearProblem& linear, const InputStats& stats) const override;
  bool offers_ranges() const override { return clip_; }
  Work fold_work(const ScaleEdge& edge, int64_t rows, int64_t width) const override;
  Work range_work(LinearRole role, const Scheme& scheme, int64_t out, int64_t in) const override;

 private:
  bool clips(LinearRole role) const;
  void refine(const RoundingLoss& loss, const ScaleFamily& family, FoldDecision& decision) const;

  int64_t grid_, refine_;
  bool duo_scaling_, clip_, clip_qk_;
  ClipGrid clip_grid_;
  InnerEdges inner_edges_;
};

/// What the search needs to know on the host.
struct Losses {
  double unscaled = 0;
  bool any_channel = false;  // is there one to scale?
  std::vector<double> scaled;
};

/// On the CPU, where a value costs nothing to look at, a candidate is given up once it is worse than the best
/// so far, and none is tried where that can't help.
Losses losses_one_by_one(const RoundingLoss& loss, const ScaleFamily& family,
                         const std::vector<double>& ratios) {
  Losses losses{loss.up_to(std::numeric_limits<double>::infinity(), {}), family.any().item<bool>(), {}};
  if (!std::isfinite(losses.unscaled) || !losses.any_channel) return losses;
  double best = losses.unscaled;
  for (const double ratio : ratios) {
    losses.scaled.push_back(loss.up_to(best, family.at_ratio(ratio)));
    if (losses.scaled.back() < best) best = losses.scaled.back();
  }
  return losses;
}

/// On a GPU everything is queued, and waited for once.
Losses losses_together(const RoundingLoss& loss, const ScaleFamily& family,
                       const std::vector<double>& ratios) {
  std::vector<at::Tensor> queued = {loss.on_device({}), family.any().to(at::kDouble)};
  for (const double ratio : ratios) queued.push_back(loss.on_device(family.at_ratio(ratio)));
  const at::Tensor found = at::stack(queued).cpu();
  const double* const values = found.const_data_ptr<double>();
  return {values[0], values[1] != 0, {values + 2, values + found.numel()}};
}

/// Golden sections of the interval around the grid's best point.
void Awq::refine(const RoundingLoss& loss, const ScaleFamily& family, FoldDecision& decision) const {
  const double step = 1.0 / static_cast<double>(grid_);
  const Minimum found = golden_section(
      std::max(decision.ratio - step, 0.0), std::min(decision.ratio + step, 1.0), refine_, [&](double ratio) {
        return loss.up_to(std::numeric_limits<double>::infinity(), family.at_ratio(ratio));
      });
  if (!(found.value < decision.loss_after)) return;
  decision.ratio = found.x;
  decision.loss_after = found.value;
}

FoldDecision Awq::fold(const ScaleEdge& edge, const SharedInputProblem& problem) const {
  LATHE_ASSERT(problem.stats != nullptr && problem.stats->mean_abs.defined(), "AWQ got no statistics for {}",
               edge.producer);
  FoldDecision decision;
  decision.note = inner_edges_.left_out(edge.input.slot, "awq");
  if (problem.linears.empty()) decision.note = "no linear that reads this input is quantised";
  if (!decision.note.empty()) return decision;
  const SharedInputProblem ready = prepared(problem);
  const RoundingLoss loss(ready.linears, problem.stats->gram);
  const ScaleFamily family(edge, ready, duo_scaling_);
  std::vector<double> ratios;
  for (int64_t i = 0; i < grid_; ++i) {
    ratios.push_back(static_cast<double>(i) / static_cast<double>(grid_));
  }
  const Losses losses = problem.stats->gram.is_cpu() ? losses_one_by_one(loss, family, ratios)
                                                     : losses_together(loss, family, ratios);
  decision.loss_before = decision.loss_after = losses.unscaled;
  check_unscaled_loss(losses.unscaled, ready);
  if (!losses.any_channel) {
    decision.note = "no channel of this input carries a signal that a quantised linear reads";
    return decision;
  }
  for (size_t i = 0; i < ratios.size(); ++i) {
    if (!(losses.scaled[i] < decision.loss_after)) continue;  // also where it is NaN
    decision.ratio = ratios[i];
    decision.loss_after = losses.scaled[i];
  }
  if (decision.loss_after < decision.loss_before) {
    refine(loss, family, decision);
    decision.scales = family.at_ratio(decision.ratio);
  } else {
    decision.note = "no scale rounds better than none";
  }
  return decision;
}

bool Awq::clips(LinearRole role) const {
  const bool query_or_key =
      role == LinearRole::q_proj || role == LinearRole::k_proj || role == LinearRole::qkv_proj;
  return clip_ && (clip_qk_ || !query_or_key);
}

Work Awq::fold_work(const ScaleEdge& edge, int64_t rows, int64_t width) const {
  if (!inner_edges_.left_out(edge.input.slot, "awq").empty()) return {};
  return search_work(grid_ + 1 + refine_, rows, width);
}

Work Awq::range_work(LinearRole role, const Scheme& scheme, int64_t out, int64_t in) const {
  return clips(role) ? clip_work(scheme, out, in, clip_grid_) : Work{};
}

std::optional<GroupRange> Awq::range(const LinearProblem& linear, const InputStats& stats) const {
  if (!clips(linear.role)) return std::nullopt;
  check_problem(linear, stats);
  return search_clip(linear.weight.contiguous(), linear.scheme, linear.scale_dtype, stats.gram, clip_grid_);
}

}  // namespace

const std::vector<OptionSpec>& awq_options() {
  static const std::vector<OptionSpec> options = {
      {"grid",
       int64_t{20},
       "candidates of the scale search: exponents 0, 1/grid, 2/grid, ... below 1",
       1,
       100,
       {}},
      {"refine",
       int64_t{0},
       "further candidates around the grid's best exponent, by golden section",
       0,
       30,
       {}},
      {"duo_scaling",
       true,
       "divide by the weights' relative magnitude, too; false: activations only",
       0,
       0,
       {}},
      {"clip", true, "search a smaller weight range for each group", 0, 0, {}},
      {"clip_grid", int64_t{20}, "steps of the clip search", 1, 100, {}, {"clip", "true"}},
      {"max_shrink",
       0.5,
       "largest part of a range that clipping may give up",
       0.01,
       0.95,
       {},
       {"clip", "true"}},
      {"clip_qk", false, "clip q_proj and k_proj (or qkv_proj), too", 0, 0, {}, {"clip", "true"}},
      {"attention_out", true, "scale o_proj's input, too (v_proj -> o_proj)", 0, 0, {}},
      {"mlp_mid", true, "scale down_proj's input, too (up_proj -> down_proj)", 0, 0, {}},
  };
  return options;
}

std::unique_ptr<Transform> make_awq(const Options& options) { return std::make_unique<Awq>(options); }

}  // namespace lathe
