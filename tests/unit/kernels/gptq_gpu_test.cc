// GPTQ's kernels on CUDA against the CPU, bit for bit. Needs a GPU; elsewhere it says why it is skipped.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/kernels/gptq_block.h"
#include "lib/kernels/group_search.h"
#include "lib/tensor/device.h"

namespace lathe::kernels {
namespace {

TEST(GptqBlockGpu, EqualsTheCpuBitForBit) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(1);
  for (const Scheme& scheme : {Scheme{"int", 4, 32, true}, Scheme{"int", 4, 32, false},
                               Scheme::of_floats("mxfp4"), Scheme::of_floats("fp8_e4m3")}) {
    for (const int64_t columns : {1, 31, 64, 100, 128}) {
      const at::Tensor weight = at::randn({77, columns}),
                       column_group = at::randint(3, {columns}).to(at::kInt);
      at::Tensor factor = at::randn({columns, columns}) * 0.1;
      factor.diagonal().abs_().add_(0.5);
      const GroupParams params =
          group_params({at::rand({77, 3}) * -2 - 1, at::rand({77, 3}) * 2 + 1}, scheme, DType::F16);
      const auto solved = [&](c10::Device where, at::ScalarType type) {
        const GroupParams moved{params.scales.to(where),
                                scheme.symmetric ? at::Tensor() : params.zero_points.to(where)};
        const at::Tensor w = weight.to(where, type),
                         codes = at::empty({77, columns}, w.options().dtype(at::kChar)),
                         errors = at::empty_like(w);
        gptq_block(w, factor.to(where, type), moved, column_group.to(where), scheme, codes, errors);
        return std::pair{codes.cpu(), errors.cpu()};
      };
      for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
        const auto [codes, errors] = solved(c10::kCPU, type);
        const auto [other_codes, other_errors] = solved(device, type);
        EXPECT_TRUE(at::equal(codes, other_codes)) << columns;
        EXPECT_TRUE(at::equal(errors, other_errors)) << columns;
      }
    }
  }
}

TEST(GroupSearchGpu, EqualsTheCpuBitForBit) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  at::manual_seed(2);
  for (const bool symmetric : {true, false}) {
    for (const int64_t group : {6, 32, 64, 192, -1}) {
      const Scheme scheme{"int", 3, group, symmetric};
      const at::Tensor weight = at::randn({41, 192}), importance = at::rand({192}) * 5;
      for (const at::Tensor& weights : {importance, at::Tensor()}) {
        const GroupRange cpu = search_range(weight, weights, scheme, DType::F16, 40, 0.8);
        const GroupRange cuda = search_range(
            weight.to(device), weights.defined() ? weights.to(device) : weights, scheme, DType::F16, 40, 0.8);
        EXPECT_TRUE(at::equal(cpu.lo, cuda.lo.cpu()) && at::equal(cpu.hi, cuda.hi.cpu())) << group;
      }
    }
  }
}

}  // namespace
}  // namespace lathe::kernels
