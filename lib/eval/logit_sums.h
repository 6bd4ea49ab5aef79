// What perplexity and divergence need of logits, gathered over pieces of the vocabulary.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

namespace lathe {

/// Where a piece of logits stands: positions from `position` on, tokens of the vocabulary from `token` on.
struct LogitPlace {
  int64_t position = 0, token = 0;
};

/// One model's: for each position the most likely token, the logarithm of the sum of exponentials, and the
/// logit of the token that follows. Pieces may come in any order of positions, the vocabulary's from its
/// start; each pair of position and token once.
class LogitSums {
 public:
  /// targets: Long [positions], the token that follows each position, -1 where that does not count.
  explicit LogitSums(const at::Tensor& targets);

  /// Of a piece that was added: exp(logit - top) with the largest logit so far [n, tokens] FP32, and what
  /// sums over earlier pieces have to be multiplied with to stand beside them, double [n].
  struct Added {
    at::Tensor exponentials, earlier;
  };
  /// logits: FP32 [n, tokens], finite.
  Added add(const at::Tensor& logits, LogitPlace place);

  /// log sum exp, double [positions].
  at::Tensor log_sum() const;
  /// sum exp(logit - top), double [positions].
  const at::Tensor& sum() const { return sum_; }
  /// The most likely token, Long [positions]; the first of equals.
  const at::Tensor& best() const { return best_; }
  /// Of the most likely token, double [positions].
  at::Tensor best_probability() const;
  /// Of the target, double [positions]; 0 where it doesn't count.
  at::Tensor target_probability() const;
  /// -log p of the targets that count, summed.
  double negative_log_likelihood() const;

 private:
  at::Tensor targets_, top_, best_, sum_, chosen_;
};

/// A model's and a reference's on the same positions, and KL(reference || model) of each, nats.
class DivergenceSums {
 public:
  explicit DivergenceSums(const at::Tensor& targets);
  /// Both FP32 [n, tokens], finite.
  void add(const at::Tensor& model, const at::Tensor& reference, LogitPlace place);

  const LogitSums& model() const { return model_; }
  const LogitSums& reference() const { return reference_; }
  /// Double [positions]. Exactly 0 where the logits are the same.
  at::Tensor divergence() const;

 private:
  LogitSums model_, reference_;
  at::Tensor weighted_;  // sum of exp(reference - top) * (reference - model)
};

}  // namespace lathe
