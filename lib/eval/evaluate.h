// Perplexity of one model, and the KL divergence of a second one to it, on the same token rows. Streams block
// by block, and the heads by pieces of the vocabulary: memory is one block of a model at a time, and each
// model's hidden states of all rows, which stand where the caller says.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "lib/activations/activation_store.h"
#include "lib/eval/head_pieces.h"
#include "lib/eval/pieced_head.h"
#include "lib/numeric/input_overflow.h"

namespace lathe {

struct EvalResult {
  int64_t tokens = 0;     // predicted tokens: rows * (ctx - 1)
  double perplexity = 0;  // exp(mean negative log-likelihood), tokens 2..ctx of each row
  double bits_per_token = 0;
  struct Divergence {  // KL(reference || model) of the logits at every position, nats
    double mean = 0, median = 0, p99 = 0;
    double same_top = 0;  // share of positions with the same most likely token
    double reference_perplexity = 0;
  };
  std::optional<Divergence> divergence;
  /// Of the model's inputs with a static scale, by linear: how much of them it clips. The head isn't among
  /// them.
  std::map<std::string, InputOverflow> overflows = {};
};

/// What a model says at each position, row after row, on the CPU.
struct EvalPositions {
  at::Tensor best;              // Long [rows * ctx]: its most likely token
  at::Tensor probability;       // Double [rows * ctx]: of that token
  at::Tensor next_probability;  // Double [rows * ctx]: of the token that follows; 0 after a row's last one
};
struct EvalDetails {
  EvalPositions model, reference;  // of none: undefined
  at::Tensor divergence;           // Double [rows * ctx], KL(reference || model), nats; likewise
};

/// The pieces in which the heads of a model and its reference pass by.
HeadPieces eval_head_pieces(const EvalInput& model, const std::optional<EvalInput>& reference,
                            c10::Device device);

/// ids: Long [rows, ctx]. `reference` may be empty, and may differ from the model in anything but its
/// vocabulary. `progress(done, total)` counts blocks of work, the heads as one; it may be empty. Looks for
/// cancellation between chunks. `storage` changes nothing but where hidden states stand. compute: dtype of
/// the blocks' products; the head's are FP32. `details`: filled where it isn't null. UserError for token ids
/// outside the vocabulary and for vocabularies that differ; CheckFailed where logits are not finite.
EvalResult evaluate(const EvalInput& model, const std::optional<EvalInput>& reference, const at::Tensor& ids,
                    c10::Device device, const std::function<void(int64_t, int64_t)>& progress,
                    const HiddenStorage& storage = {}, DType compute = DType::F32,
                    EvalDetails* details = nullptr);

}  // namespace lathe
