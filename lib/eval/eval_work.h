// What an evaluation takes, counted from the graphs.
#pragma once

#include "lib/model/forward_work.h"

namespace lathe {

struct EvalWork {
  ForwardWork forward;       // of all models
  double head = 0;           // FLOPs of their logits: 2 x tokens x vocabulary x width
  double probabilities = 0;  // logits whose exponentials are summed

  double flops() const { return forward.flops() + head; }
};

/// Of rows [rows, ctx] through a model, and a reference where it isn't null.
EvalWork eval_work(const ModelGraph& model, const ModelGraph* reference, int64_t rows, int64_t ctx);

}  // namespace lathe
