#include "lib/activations/embed_samples.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/model/forward.h"

namespace lathe {

void embed_samples(const ModelGraph& graph, const WeightSource& weights, const at::Tensor& ids,
                   c10::Device device, ActivationStore& store) {
  const c10::NoGradGuard no_grad;
  LATHE_ASSERT(ids.dim() == 2 && ids.size(0) == store.rows() && ids.size(1) == store.length(),
               "ids of {} x {} for a store of {} x {}", ids.size(0), ids.size(1), store.rows(),
               store.length());
  for (const RowRange rows : cut_rows(ids.size(0), chunk_rows(ids.size(1), device))) {
    throw_if_cancelled();
    const auto [tokens, place] = at::_unique(ids.narrow(0, rows.first, rows.count), /*sorted=*/true,
                                             /*return_inverse=*/true);
    const at::Tensor table = weights.load_rows(graph.embedding + ".weight", tokens).to(device);
    store.write(rows, embed(graph, table, place.to(device)));
  }
}

}  // namespace lathe
