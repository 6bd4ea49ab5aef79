#include "algorithms/scale_edge.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "lib/base/error.h"

namespace lathe {

at::Tensor share_over_heads(const at::Tensor& channels, const ScaleEdge& edge, Share share) {
  if (edge.repeat <= 1) return channels;
  LATHE_ASSERT(edge.head_dim > 0 && channels.numel() % (edge.repeat * edge.head_dim) == 0,
               "scale edge {}: {} channels are not heads of {} repeated {} times", edge.producer,
               channels.numel(), edge.head_dim, edge.repeat);
  const at::Tensor heads = channels.view({-1, edge.repeat, edge.head_dim});
  const at::Tensor shared = share == Share::mean ? heads.mean(1, /*keepdim=*/true) : heads.amax(1, true);
  return shared.expand_as(heads).reshape({-1});
}

void check_problem(const LinearProblem& linear, const InputStats& stats) {
  const int64_t in = linear.weight.size(1);
  if (const auto problem = linear.scheme.problem(in)) user_error("{}: {}", linear.name, *problem);
  LATHE_ASSERT(stats.gram.defined() && stats.gram.size(0) == in, "{}: no Gram matrix of its input",
               linear.name);
}

SharedInputProblem prepared(const SharedInputProblem& problem) {
  SharedInputProblem result = problem;
  for (LinearProblem& linear : result.linears) {
    check_problem(linear, *problem.stats);
    linear.weight = linear.weight.contiguous();
  }
  return result;
}

std::string InnerEdges::left_out(Slot slot, std::string_view transform) const {
  const bool off = (slot == Slot::attention_out && !attention_out_) || (slot == Slot::mlp_mid && !mlp_mid_);
  return off ? fmt::format("{}'s option {} is off", transform, name_of(slot)) : "";
}

void check_unscaled_loss(double loss, const SharedInputProblem& problem) {
  if (std::isfinite(loss)) return;
  const LinearProblem* worst = nullptr;
  double most = 0;
  for (const LinearProblem& linear : problem.linears) {
    const double largest = linear.weight.abs().max().item<double>();  // NaN where there is one
    if (worst == nullptr || std::isnan(largest) || largest > most) worst = &linear, most = largest;
    if (std::isnan(largest)) break;
  }
  const at::Tensor rows = worst->weight.abs().amax(1);
  const int64_t row = rows.argmax().item<int64_t>();  // a NaN comes first
  user_error(
      "{}: row {}: weights up to {:g} give a rounding error that is not finite: they hold a NaN or an "
      "infinity, or need a scale beyond {} (output.scale_dtype BF16 reaches further)",
      worst->name, row, rows[row].item<float>(), name_of(worst->scale_dtype));
}

}  // namespace lathe
