#include "calib/driver/inner_values.h"

#include <ATen/ATen.h>

#include <utility>

namespace lathe {

InnerValues::InnerValues(const ModelConfig& config, const Block& block, const BlockWeights& weights,
                         const RopeTables& rope, ActivationStore* store)
    : config_(config), block_(block), weights_(weights), rope_(rope), store_(store) {}

void InnerValues::begin(Slot slot, int64_t width, Make make) {
  end();
  make_ = std::move(make);
  if (store_ != nullptr) {
    store_->set_width(width);
    return;
  }
  original_ = weights_;
  for (const Linear* reader : block_.reading(slot)) original_->drop_weight(*reader);
}

at::Tensor InnerValues::make(RowRange rows, const at::Tensor& hidden) {
  at::Tensor values = make_again(hidden);
  if (store_ != nullptr) {
    store_->write(rows, values);
    kept_ = true;
  }
  return values;
}

at::Tensor InnerValues::make_again(const at::Tensor& hidden) const {
  return make_(BlockForward(config_, block_, original_ ? *original_ : weights_, rope_), hidden);
}

at::Tensor InnerValues::use(RowRange rows, const at::Tensor& hidden) {
  at::Tensor values = kept_ ? store_->read(rows) : make_again(hidden);
  for (const at::Tensor& scales : divisors_) values.div_(scales);
  return values;
}

at::Tensor InnerValues::peek(RowRange rows, const at::Tensor& hidden) const {
  at::Tensor values = kept_ ? store_->read(rows) : make_again(hidden);
  for (const at::Tensor& scales : divisors_) values = (values / scales).to(values.scalar_type());
  return values;
}

void InnerValues::end() {
  kept_ = false;
  original_.reset();
  divisors_.clear();
}

}  // namespace lathe
