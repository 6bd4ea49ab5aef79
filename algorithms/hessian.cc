#include "algorithms/hessian.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {

Hessian::Hessian(const std::string& linear, const at::Tensor& gram, double damping,
                 const std::optional<LentGram>& lent)
    : diagonal_(gram.diagonal().clone()), damping_(damping), lent_(lent) {
  if (!lent_) gram_ = gram;  // else whoever lends it holds it alone
  if (!all_finite(gram)) {
    user_error("{}: the Gram matrix of its input holds a NaN or an infinity; no Hessian can be made of it",
               linear);
  }
  dead_ = diagonal_ <= 0;
  dead_count_ = dead_.sum().item<int64_t>();
  if (dead_count_ > 0) revive();
}

const DampedFactor& Hessian::factor(int64_t key, const at::Tensor& order) {
  const auto found = factors_.find(key);
  if (found != factors_.end()) return found->second;
  const Uncorrelated uncorrelated = dead_count_ > 0 ? Uncorrelated{dead_, diagonal_} : Uncorrelated{};
  if (!lent_)
    return factors_.emplace(key, damped_inverse_factor(gram_, order, damping_, uncorrelated)).first->second;
  give_back();
  place_.emplace(*lent_->gram, order, lent_->work);
  return factors_.emplace(key, damped_inverse_factor(*place_, damping_, uncorrelated)).first->second;
}

void Hessian::give_back() {
  factors_.clear();
  if (place_) place_->give_back();
  place_.reset();
}

std::vector<std::string> Hessian::events(const DampedFactor& factor) const {
  std::vector<std::string> events = factor.events;
  if (dead_count_ > 0) {
    events.push_back(fmt::format(
        "{} of {} input channels carried no signal in the calibration data: their weights became 0",
        dead_count_, diagonal_.numel()));
  }
  return events;
}

void Hessian::revive() {
  const at::Tensor live = diagonal_.masked_fill(dead_, 0);
  const int64_t count = diagonal_.numel() - dead_count_;
  const double mean = count == 0 ? 1 : live.sum(at::kDouble).item<double>() / static_cast<double>(count);
  diagonal_ = live.masked_fill_(dead_, mean);
}

}  // namespace lathe
