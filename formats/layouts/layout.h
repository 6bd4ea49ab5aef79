// A kernel layout: a linear's codes, scales and zero points in the order in which one GEMM kernel reads them,
// so that a server needs no repacking when it loads them. Layouts go beside a checkpoint (`layouts/<name>`),
// never in its place: everything that is no quantised linear stands there only. Rows in registry.cc.
#pragma once

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "formats/targets/target.h"

namespace lathe {

struct KernelLayout {
  std::string name, summary;
  std::string kernel;       // which one reads it: library and function
  std::string gpus;         // generations by compute capability
  std::string permutation;  // in words: what stands where, and where that is written down
  std::string source;       // the peer's file and function that makes or reads it

  /// Why the layout can't hold the linear, with the kernel's rule; nothing if it can.
  std::function<std::optional<std::string>(const PlannedLinear&)> refuses;
  /// What it is stored as; names begin with the linear's.
  std::function<std::vector<PlannedTensor>(const PlannedLinear&)> tensors;
  /// Their contents in the order of tensors(), contiguous, on the CPU. The quantised tensor is on the CPU.
  std::function<std::vector<at::Tensor>(const PlannedLinear&, const QuantizedTensor&)> pack;
  /// The inverse, bit for bit: contents in the order of tensors(). InternalError for what no packer wrote.
  std::function<QuantizedTensor(const PlannedLinear&, const std::vector<at::Tensor>&)> unpack;
  /// Of layout.json's entry of the linear: what one must know beyond shapes and types.
  std::function<nlohmann::json(const PlannedLinear&)> notes;
};

const std::vector<KernelLayout>& kernel_layouts();
/// Null for an unknown name.
const KernelLayout* find_kernel_layout(const std::string& name);

}  // namespace lathe
