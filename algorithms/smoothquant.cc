// SmoothQuant: activations that round well, by moving their outliers into the weights (Xiao et al., arXiv
// 2211.10438).
//
// Problem. Where activations are quantised too (W8A8), one scale stands for all channels of a token: the
// product is an integer GEMM, which can't scale its inner dimension. A few channels are 10 to 100 times
// larger than the rest (the paper's section 3) and leave the others a handful of levels. Weights are easy:
// each output channel has its own scale, and their values are even.
//
// Scales (section 4, equations 3 and 4). X W^T = (X / s)(W s)^T, the division folded into what produces the
// input. With
//
//     s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)
//
// channel j's difficulty is shared between the two: at alpha = 0.5 both have the same largest magnitude,
// sqrt(max|X_j| max|W_j|). max|W_j| is over all consumers of the input. The paper takes 0.5 for OPT and
// BLOOM, 0.75 for GLM, 0.8 and more for LLaMA-like models.
//
// alpha: auto searches alpha for every edge, over 0, 1/grid, ..., 1 and no scaling at all, where the paper
// has a grid search over the whole model (section 4, "migration strength"). With Y = X W^T and both rounded,
//
//     Yhat - Y = X~ E_w^T + E_x W~^T + E_x E_w^T,      X~ = X / s, W~ = W s,
//
// the expected squared norm for a token is, without the last term (a product of two small errors, 2^-16 of
// Y at 8 bits),
//
//     tr(dW H dW^T) + E[step^2] / 12 * sum_j |W_j|^2 s_j^2,      dW = E_w / s, H = X^T X / tokens:
//
// the weights' part exactly (rounding_loss.h), the activations' by a model of the step (activation_loss.h,
// with its derivation). Consumers whose input stays in floating point count with the first term only, so that
// auto does something sensible for weight-only schemes, too.
//
// Edges. The paper smooths what reads a norm: q, k, v and gate, up (its section 4, "applying SmoothQuant to
// Transformer blocks"). attention_out (v -> o, with the columns of all query heads that read one KV head
// carrying one scale, from the largest of their statistics) and mlp_mid (up -> down) are options.
//
// What differs from the authors' code: channels that are always 0, or that no consumer reads, keep s = 1;
// alpha: auto; the two optional edges. The same: scales are at least 1e-5, and not normalised.
//
// Cost. Maxima, one or two losses for a fixed alpha; grid + 2 of them for auto, each half a GEMM of the
// consumers' rows with H. On a GPU all candidates are queued and waited for once.
//
// Numerics. Equation 4 in FP32; s at least 1e-5, as the authors' code has it, and 1 where a channel is always
// 0, so that X / s is finite. Losses: FP32 products, FP64 sums (lib/numeric/quadratic_form.h).
// smoothquant_reference.h is the same in FP64.
#include "algorithms/smoothquant.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "algorithms/activation_loss.h"
#include "algorithms/rounding_loss.h"
#include "algorithms/scale_edge.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr double kSmallestScale = 1e-5;  // the authors'
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// max|W_j| over all consumers, [in].
at::Tensor largest_weights(const std::vector<LinearProblem>& linears) {
  at::Tensor largest;
  for (const LinearProblem& linear : linears) {
    const auto [low, high] = at::aminmax(linear.weight, 0);
    const at::Tensor own = at::maximum(-low, high);
    largest = largest.defined() ? at::maximum(largest, own) : own;
  }
  return largest;
}

/// Equation 4.
class Migration {
 public:
  Migration(const ScaleEdge& edge, const SharedInputProblem& problem)
      : inputs_(share_over_heads(largest_magnitudes(problem.stats->min_max), edge, Share::largest)),
        weights_(share_over_heads(largest_weights(problem.linears), edge, Share::largest)),
        dead_((inputs_ > 0).logical_and(weights_ > 0).logical_not()) {}

  /// Bool scalar on the device: false where no channel is scaled.
  at::Tensor any() const { return dead_.logical_not().any(); }

  /// FP32 [in], > 0, 1 for dead channels.
  at::Tensor at_alpha(double alpha) const {
    const at::Tensor scales = inputs_.pow(alpha) / weights_.pow(1 - alpha);
    return scales.clamp_min(kSmallestScale).masked_fill_(dead_, 1);
  }

 private:
  at::Tensor inputs_, weights_, dead_;
};

/// The weights' and the activations' rounding error together.
class Loss {
 public:
  explicit Loss(const SharedInputProblem& problem)
      : weights_(problem.linears, problem.stats->gram), activations_(problem.linears, *problem.stats) {}

  at::Tensor on_device(const at::Tensor& scales) const {
    return weights_.on_device(scales) + activations_.on_device(scales);
  }
  /// Gives up beyond `limit`, as RoundingLoss does.
  double up_to(double limit, const at::Tensor& scales) const {
    const double activations = activations_.on_device(scales).item<double>();
    if (!(activations <= limit)) return activations;
    return weights_.up_to(limit - activations, scales) + activations;
  }

 private:
  RoundingLoss weights_;
  ActivationLoss activations_;
};

/// Losses without scales and at each alpha. On the CPU a candidate that is worse than the best is given up;
/// on a GPU all are queued, and waited for once.
struct Losses {
  double unscaled = 0;
  std::vector<double> scaled;
};

Losses losses_of(const Loss& loss, const Migration& migration, const std::vector<double>& alphas,
                 bool on_cpu) {
  Losses losses;
  if (on_cpu) {
    double best = losses.unscaled = loss.up_to(kInfinity, {});
    for (const double alpha : alphas) {
      const double limit = alphas.size() == 1 ? kInfinity : best;  // a fixed alpha's is reported
      losses.scaled.push_back(loss.up_to(limit, migration.at_alpha(alpha)));
      if (losses.scaled.back() < best) best = losses.scaled.back();
    }
    return losses;
  }
  std::vector<at::Tensor> queued = {loss.on_device({})};
  for (const double alpha : alphas) queued.push_back(loss.on_device(migration.at_alpha(alpha)));
  const at::Tensor found = at::stack(queued).cpu();
  const double* const values = found.const_data_ptr<double>();
  return {values[0], {values + 1, values + found.numel()}};
}

class SmoothQuant final : public Transform {
 public:
  explicit SmoothQuant(const Options& options) : inner_edges_(options) {
    search_ = options.is_word("alpha");
    if (!search_) alphas_ = {options.number("alpha")};
    const int64_t grid = options.integer("grid");
    for (int64_t i = 0; search_ && i <= grid; ++i) {
      alphas_.push_back(static_cast<double>(i) / static_cast<double>(grid));
    }
  }

  StatSet needs() const override { return {.gram = true, .min_max = true}; }
  FoldDecision fold(const ScaleEdge& edge, const SharedInputProblem& problem) const override;
  std::optional<GroupRange> range(const LinearProblem&, const InputStats&) const override {
    return std::nullopt;
  }
  Work fold_work(const ScaleEdge& edge, int64_t rows, int64_t width) const override {
    if (!inner_edges_.left_out(edge.input.slot, "smoothquant").empty()) return {};
    return search_work(static_cast<int64_t>(alphas_.size()) + 1, rows, width);
  }

 private:
  void choose(const Losses& losses, FoldDecision& decision) const;

  InnerEdges inner_edges_;
  bool search_ = false;
  std::vector<double> alphas_;
};

/// The best alpha of a search, or the given one; a note where none is of use.
void SmoothQuant::choose(const Losses& losses, FoldDecision& decision) const {
  if (!search_) {
    decision.ratio = alphas_.front();
    decision.loss_after = losses.scaled.front();
    if (std::isfinite(decision.loss_after)) return;
    decision.loss_after = losses.unscaled;
    decision.note = fmt::format("alpha {} needs scales of weights beyond their type", decision.ratio);
    return;
  }
  for (size_t i = 0; i < alphas_.size(); ++i) {
    if (!(losses.scaled[i] < decision.loss_after)) continue;  // also where it is NaN
    decision.ratio = alphas_[i];
    decision.loss_after = losses.scaled[i];
  }
  if (!(decision.loss_after < decision.loss_before)) decision.note = "no alpha rounds better than no scaling";
}

FoldDecision SmoothQuant::fold(const ScaleEdge& edge, const SharedInputProblem& problem) const {
  LATHE_ASSERT(problem.stats != nullptr && problem.stats->min_max.defined(),
               "SmoothQuant got no statistics for {}", edge.producer);
  FoldDecision decision;
  decision.note = inner_edges_.left_out(edge.input.slot, "smoothquant");
  if (problem.linears.empty()) decision.note = "no linear that reads this input is quantised";
  if (!decision.note.empty()) return decision;
  const SharedInputProblem ready = prepared(problem);
  const Migration migration(edge, ready);
  if (!migration.any().item<bool>()) {
    decision.note = "no channel of this input carries a signal that a quantised linear reads";
    return decision;
  }
  const Losses losses = losses_of(Loss(ready), migration, alphas_, problem.stats->gram.is_cpu());
  check_unscaled_loss(losses.unscaled, ready);
  decision.loss_before = decision.loss_after = losses.unscaled;
  choose(losses, decision);
  if (decision.note.empty()) decision.scales = migration.at_alpha(decision.ratio);
  return decision;
}

}  // namespace

const std::vector<OptionSpec>& smoothquant_options() {
  static const std::vector<OptionSpec> options = {
      {"alpha",
       0.5,
       "how much of a channel's difficulty moves into the weights: 0 to 1; auto: searched for each edge",
       0,
       1,
       {"auto"}},
      {"grid",
       int64_t{20},
       "steps of the search for alpha: 0, 1/grid, ..., 1",
       1,
       100,
       {},
       {"alpha", "auto"}},
      {"attention_out", false, "smooth o_proj's input, too (v_proj -> o_proj)", 0, 0, {}},
      {"mlp_mid", false, "smooth down_proj's input, too (up_proj -> down_proj)", 0, 0, {}},
  };
  return options;
}

std::unique_ptr<Transform> make_smoothquant(const Options& options) {
  return std::make_unique<SmoothQuant>(options);
}

}  // namespace lathe
