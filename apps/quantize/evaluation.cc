#include "apps/quantize/evaluation.h"

#include <optional>
#include <utility>

namespace lathe {

EvalResult evaluate_with_progress(const ModelFolder& model, const ModelFolder* reference,
                                  const at::Tensor& ids, c10::Device device, DType compute,
                                  const HiddenStorage& storage, Progress& progress, EvalDetails* details) {
  std::optional<EvalInput> against;
  if (reference != nullptr) against = EvalInput{&reference->graph, reference->weights.get()};
  bool begun = false;
  const auto show = [&](int64_t done, int64_t total) {
    if (!std::exchange(begun, true)) progress.begin("evaluate", total);
    progress.advance(done, 0, "");
  };
  const EvalResult result =
      evaluate({&model.graph, model.weights.get()}, against, ids, device, show, storage, compute, details);
  progress.end();
  return result;
}

}  // namespace lathe
