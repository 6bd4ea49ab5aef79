#include "algorithms/gram_place.h"

#include <ATen/ATen.h>

#include <utility>

#include "algorithms/column_order.h"
#include "lib/base/process_memory.h"
#include "lib/kernels/permute.h"

namespace lathe {
namespace {

const at::Tensor& in_order(const at::Tensor& gram, const at::Tensor& order) {
  kernels::permute_both_ways(gram, order);
  return gram;
}

}  // namespace

GramPlace::GramPlace(at::Tensor& gram, const at::Tensor& order, const std::filesystem::path& work)
    : gram_(gram), order_(order), diagonal_(gram.diagonal().clone()), file_(in_order(gram, order), work) {}

at::Tensor GramPlace::matrix() {
  if (!fresh_) file_.read(gram_);
  fresh_ = false;
  return gram_;
}

void GramPlace::leave() {
  gram_.reset();
  release_free_memory();
  fresh_ = false;
}

at::Tensor GramPlace::take(at::Tensor matrix) { return gram_ = std::move(matrix); }

void GramPlace::give_back() {
  if (!fresh_) file_.read(gram_);
  fresh_ = true;
  kernels::permute_both_ways(gram_, inverse_order(order_));
}

}  // namespace lathe
