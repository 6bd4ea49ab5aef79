#include "lib/tensor/deferred_checks.h"

#include <ATen/ATen.h>

namespace lathe {

void DeferredChecks::read() {
  const auto checks = std::exchange(checks_, {});
  if (checks.empty()) return;
  std::vector<at::Tensor> queued;
  for (const auto& [found, look] : checks) queued.push_back(found.reshape({1}).to(at::kLong));
  const at::Tensor all = at::cat(queued).cpu();
  const int64_t* value = all.const_data_ptr<int64_t>();
  for (const auto& [found, look] : checks) look(*value++);
}

}  // namespace lathe
