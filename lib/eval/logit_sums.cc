// Perplexity takes log p(x) = z(x) - L with L = log sum exp z, the divergence
//
//   KL(q || p) = sum_x q(x) (log q(x) - log p(x)) = sum_x q(x) (z_q(x) - z_p(x)) - L_q + L_p.
//
// Each is a sum over the vocabulary of exp(z - m), m the largest logit, plain or times a factor. Whoever
// knows m only of the tokens so far multiplies the sums by exp(m_old - m_new) when it grows (Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3). So a head passes by once, in
// pieces of its rows, and neither it nor the logits of a position ever stand in memory as a whole.
//
// Numerics: logits and exponentials are FP32, a piece's sums pairwise in FP32, all that is kept from piece to
// piece double. An exponential's error e, a few 1e-7 of it, moves KL by e times the spread of z_q - z_p, and
// each L by at most e. Log-probabilities in FP32 would carry 5e-7 each, as they are about 10.
#include "lib/eval/logit_sums.h"

#include <ATen/ATen.h>

#include <limits>

#include "lib/base/error.h"

namespace lathe {

LogitSums::LogitSums(const at::Tensor& targets)
    : targets_(targets),
      top_(at::full(targets.sizes(), -std::numeric_limits<double>::infinity(),
                    targets.options().dtype(at::kFloat))),
      best_(at::zeros_like(targets)),
      sum_(at::zeros(targets.sizes(), targets.options().dtype(at::kDouble))),
      chosen_(at::zeros(targets.sizes(), targets.options().dtype(at::kFloat))) {
  LATHE_ASSERT(targets.dim() == 1 && targets.scalar_type() == at::kLong, "targets: Long [positions]");
}

LogitSums::Added LogitSums::add(const at::Tensor& logits, LogitPlace place) {
  const int64_t count = logits.size(0), tokens = logits.size(1);
  const auto here = [&](const at::Tensor& all) { return all.narrow(0, place.position, count); };
  const auto [largest, where] = logits.max(1);
  at::Tensor top = here(top_), best = here(best_), sum = here(sum_), chosen = here(chosen_);
  best.copy_(at::where(largest.gt(top), where + place.token, best));
  const at::Tensor grown = at::maximum(top, largest);
  Added added{(logits - grown.unsqueeze(1)).exp_(), (top - grown).to(at::kDouble).exp_()};
  sum.mul_(added.earlier).add_(added.exponentials.sum(1));
  top.copy_(grown);
  const at::Tensor target = here(targets_) - place.token;
  const at::Tensor inside = target.ge(0).logical_and_(target.lt(tokens));
  const at::Tensor picked = logits.gather(1, target.clamp(0, tokens - 1).unsqueeze(1)).squeeze(1);
  chosen.copy_(at::where(inside, picked, chosen));
  return added;
}

at::Tensor LogitSums::log_sum() const { return sum_.log().add_(top_); }

at::Tensor LogitSums::best_probability() const { return sum_.reciprocal(); }

at::Tensor LogitSums::target_probability() const {
  return log_sum().neg_().add_(chosen_).exp_().masked_fill_(targets_.lt(0), 0);
}

double LogitSums::negative_log_likelihood() const {
  return log_sum().sub_(chosen_).masked_select(targets_.ge(0)).sum().item<double>();
}

DivergenceSums::DivergenceSums(const at::Tensor& targets)
    : model_(targets), reference_(targets), weighted_(at::zeros_like(reference_.sum())) {}

void DivergenceSums::add(const at::Tensor& model, const at::Tensor& reference, LogitPlace place) {
  model_.add(model, place);
  const LogitSums::Added added = reference_.add(reference, place);
  const at::Tensor differences = (reference - model).mul_(added.exponentials);
  weighted_.narrow(0, place.position, reference.size(0)).mul_(added.earlier).add_(differences.sum(1));
}

at::Tensor DivergenceSums::divergence() const {
  return (weighted_ / reference_.sum()).sub_(reference_.log_sum()).add_(model_.log_sum());
}

}  // namespace lathe
