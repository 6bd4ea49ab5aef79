#include "lib/eval/drawn_labels.h"

#include <ATen/ATen.h>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/eval/head_pieces.h"
#include "lib/eval/logit_sums.h"

namespace lathe {
namespace {

/// Probabilities sum up to one but for rounding; what is drawn stays below that.
constexpr double kBelowRounding = 1 - 1e-5;

}  // namespace

at::Tensor drawn_label_gradient(const EvalInput& model, const at::Tensor& states, const at::Tensor& uniform,
                                c10::Device device) {
  LATHE_ASSERT(
      states.dim() == 3 && states.size(0) == 1 && uniform.dim() == 1 && uniform.size(0) == states.size(1),
      "one number for each position");
  const int64_t vocabulary = model.graph->config.vocab_size, length = states.size(1);
  PiecedHead head(model, "model", device);
  head.open();
  const HeadPieces pieces = head_pieces(vocabulary, states.size(2), device);
  const auto for_each_piece = [&](auto&& look) {
    for (const RowRange tokens : cut_rows(vocabulary, pieces.tokens)) {
      head.load(tokens);
      for (const RowRange slice : cut_rows(length, pieces.positions)) {
        throw_if_cancelled();
        look(tokens, slice, head.logits(states.narrow(1, slice.first, slice.count)));
      }
    }
  };
  LogitSums sums(at::full({length}, -1, at::TensorOptions().dtype(at::kLong).device(device)));
  for_each_piece([&](RowRange tokens, RowRange slice, const at::Tensor& logits) {
    sums.add(logits, {slice.first, tokens.first});
  });
  const at::Tensor log_sum = sums.log_sum();
  const at::Tensor drawn = (uniform * kBelowRounding).to(device);
  const at::Tensor before = at::zeros_like(log_sum);  // of the tokens of earlier pieces
  const at::Tensor normed = at::zeros_like(states);
  for_each_piece([&](RowRange, RowRange slice, const at::Tensor& logits) {
    const at::Tensor seen = before.narrow(0, slice.first, slice.count);
    const at::Tensor threshold = drawn.narrow(0, slice.first, slice.count);
    const at::Tensor p = (logits - log_sum.narrow(0, slice.first, slice.count).unsqueeze(1)).exp();
    const at::Tensor reached = p.cumsum(1).add_(seen.unsqueeze(1));
    const at::Tensor beyond = reached.gt(threshold.unsqueeze(1));
    // Here the label is one of this piece's tokens, and the first that is beyond.
    const at::Tensor here = beyond.select(1, -1).logical_and(seen.le(threshold));
    const at::Tensor label = beyond.to(at::kByte).argmax(1, /*keepdim=*/true);
    at::Tensor gradient = p.to(at::kFloat);
    gradient.scatter_add_(1, label, here.to(at::kFloat).neg().unsqueeze(1));
    seen.copy_(reached.select(1, -1));
    normed.narrow(1, slice.first, slice.count).add_(head.normed_gradient(logits, gradient));
  });
  return head.states_gradient(states, normed);
}

}  // namespace lathe
