#include "lib/tensor/device.h"

#include <ATen/ATen.h>
#include <dlfcn.h>

#include <charconv>
#include <optional>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// Opens libtorch_cuda once, so that ATen's CUDA dispatch keys get their kernels. Returns why it could not,
/// or nothing.
const std::optional<std::string>& load_cuda() {
  static const std::optional<std::string> failure = []() -> std::optional<std::string> {
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      const char* reason = dlerror();
      return std::string("libtorch's CUDA library can't be opened: ") +
             (reason != nullptr ? reason : "unknown reason");
    }
    if (!at::globalContext().hasCUDA()) return "no NVIDIA driver or GPU was found on this machine";
    return std::nullopt;
  }();
  return failure;
}

/// A CUDA device, with half-precision products summed in FP32 even where cuBLAS splits a sum over blocks
/// (ATen's default is to add those parts in half precision). FP32 products are FP32's, not TF32's, by ATen's
/// default.
c10::Device cuda_device(int index) {
  at::globalContext().setAllowFP16ReductionCuBLAS(false);
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

int cuda_device_count() {
  return load_cuda() ? 0 : static_cast<int>(at::detail::getCUDAHooks().deviceCount());
}

}  // namespace

c10::Device resolve_device(std::string_view text) {
  if (text == "cpu") return c10::Device(c10::kCPU);
  if (text == "auto") return cuda_device_count() > 0 ? cuda_device(0) : c10::Device(c10::kCPU);
  int index = 0;
  const bool plain = text == "cuda";
  const bool numbered = text.starts_with("cuda:");
  if (numbered) {
    const std::string_view digits = text.substr(5);
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (code != std::errc() || end != digits.data() + digits.size() || index < 0) {
      user_error("device '{}': expected a number after 'cuda:'", text);
    }
  }
  if (!plain && !numbered) user_error("device '{}': expected auto, cpu, cuda or cuda:N", text);
  if (load_cuda()) user_error("device '{}': {}; use --device cpu", text, *load_cuda());
  if (index >= cuda_device_count()) {
    user_error("device '{}': this machine has {} CUDA device(s), numbered from 0", text, cuda_device_count());
  }
  return cuda_device(index);
}

std::string describe_device(const c10::Device& device) { return device.str(); }

}  // namespace lathe
