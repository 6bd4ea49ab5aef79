#include "lib/eval/pieced_head.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "lib/base/error.h"
#include "lib/model/block_gradient.h"
#include "lib/model/forward.h"
#include "lib/tensor/aten.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {

std::string head_weight(const ModelGraph& graph) {
  return (graph.config.tie_word_embeddings ? graph.embedding : graph.lm_head().name) + ".weight";
}

void PiecedHead::open() {
  norm_ = tensor(graph_.final_norm().name + ".weight");
  if (graph_.lm_head().bias) bias_ = tensor(graph_.lm_head().name + ".bias");
  input_ = weights_.input_quantizer(graph_.lm_head().name);
  // Rows of a packed head would each time be cut from all of it.
  const std::string name = head_weight(graph_);
  if (!weights_.looks_rows_up(name)) whole_ = tensor(name);
}

void PiecedHead::load(RowRange tokens) {
  rows_ = whole_.defined()
              ? whole_.narrow(0, tokens.first, tokens.count)
              : weights_.load_rows(head_weight(graph_), at::arange(tokens.first, tokens.first + tokens.count))
                    .to(device_);
  if (bias_.defined()) row_bias_ = bias_.narrow(0, tokens.first, tokens.count);
}

at::Tensor PiecedHead::logits(const at::Tensor& states) const {
  at::Tensor values = head(graph_, norm_, rows_, row_bias_, states, input_ ? &*input_ : nullptr)[0];
  if (!all_finite(values)) {
    throw CheckFailed(
        fmt::format("the {}'s logits are not finite; its weights overflow or are damaged", role_));
  }
  return values;
}

at::Tensor PiecedHead::normed_gradient(const at::Tensor& logits, const at::Tensor& gradient) const {
  at::Tensor uncapped = gradient;
  if (const auto& cap = graph_.config.final_softcap)  // of cap * tanh(x / cap): 1 - tanh^2
    uncapped = gradient * (1 - (logits / *cap).square());
  return matrix_product(uncapped, rows_).unsqueeze(0);
}

at::Tensor PiecedHead::states_gradient(const at::Tensor& states, const at::Tensor& normed_gradient) const {
  return rms_norm_gradient(states, norm_, graph_.config.rms_norm_eps, graph_.final_norm().one_plus,
                           normed_gradient);
}

}  // namespace lathe
