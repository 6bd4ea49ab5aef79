#include "lib/model/weight_source.h"

#include <ATen/ATen.h>

namespace lathe {

at::Tensor WeightSource::load_rows(const std::string& name, const at::Tensor& rows) const {
  return load(name).index_select(0, rows);
}

}  // namespace lathe
