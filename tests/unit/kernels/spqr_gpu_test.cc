// SpQR's kernel on CUDA against the CPU, bit for bit. Needs a GPU; elsewhere it says why it is skipped.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/kernels/spqr_group.h"
#include "lib/tensor/device.h"

namespace lathe::kernels {
namespace {

/// Codes, errors and kept weights of one group, with or without marked outliers.
std::vector<at::Tensor> solved(const SpqrGroupTensors& host, c10::Device where, at::ScalarType type) {
  const auto moved = [&](const at::Tensor& x) { return x.to(where, type); };
  SpqrGroupTensors group{.weight = moved(host.weight),
                         .factor = moved(host.factor),
                         .scales = moved(host.scales),
                         .zeros = moved(host.zeros),
                         .thresholds = moved(host.thresholds),
                         .marked = host.marked.defined() ? host.marked.to(where) : at::Tensor(),
                         .codes = {},
                         .errors = {},
                         .kept = {}};
  group.codes = at::empty(group.weight.sizes(), group.weight.options().dtype(at::kByte));
  group.errors = at::empty_like(group.weight);
  group.kept = at::zeros_like(group.weight);
  spqr_group(group, 3);
  return {group.codes.cpu(), group.errors.cpu(), group.kept.cpu()};
}

TEST(SpqrGroupGpu, EqualsTheCpuBitForBit) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(1);
  for (const int64_t columns : {1, 16, 31, 128}) {
    at::Tensor factor = (at::randn({columns, columns}) * 0.1).triu();
    factor.diagonal().abs_().add_(0.5);
    SpqrGroupTensors group{.weight = at::randn({77, columns}),
                           .factor = factor,
                           .scales = at::rand({77}) * 0.5 + 0.1,
                           .zeros = at::rand({77}) * 7,
                           .thresholds = at::full({77}, 0.05),
                           .marked = {},
                           .codes = {},
                           .errors = {},
                           .kept = {}};
    for (const at::Tensor& marked : {at::Tensor(), at::rand({77, columns}) < 0.05}) {
      group.marked = marked;
      for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
        const auto cpu = solved(group, c10::kCPU, type), cuda = solved(group, device, type);
        for (size_t i = 0; i < cpu.size(); ++i)
          EXPECT_TRUE(at::equal(cpu[i], cuda[i])) << columns << ", part " << i;
      }
    }
  }
}

}  // namespace
}  // namespace lathe::kernels
