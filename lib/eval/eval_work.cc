#include "lib/eval/eval_work.h"

namespace lathe {

EvalWork eval_work(const ModelGraph& model, const ModelGraph* reference, int64_t rows, int64_t ctx) {
  EvalWork work;
  for (const ModelGraph* graph : {&model, reference}) {
    if (graph == nullptr) continue;
    for (const Block& block : graph->blocks) work.forward += block_work(graph->config, block, rows, ctx);
    const double logits =
        static_cast<double>(rows) * static_cast<double>(ctx) * static_cast<double>(graph->config.vocab_size);
    work.head += 2 * logits * static_cast<double>(graph->config.hidden_size);
    work.probabilities += logits;
  }
  return work;
}

}  // namespace lathe
