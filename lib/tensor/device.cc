#include "lib/tensor/device.h"

#include <ATen/ATen.h>
#include <dlfcn.h>

#include <array>
#include <charconv>
#include <fstream>
#include <optional>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// What the driver itself counts. Asked before libtorch's CUDA library is opened, which takes 200 MB of
/// memory for nothing where there is no GPU.
int driver_devices() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return 0;
  const auto initialise = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto count_devices = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  int count = 0;
  if (initialise == nullptr || count_devices == nullptr || initialise(0) != 0 || count_devices(&count) != 0)
    return 0;
  return count;  // the library stays open: libtorch needs it, too
}

/// Opens libtorch_cuda once, so that ATen's CUDA dispatch keys get their kernels. Returns why it could not,
/// or nothing.
const std::optional<std::string>& load_cuda() {
  static const std::optional<std::string> failure = []() -> std::optional<std::string> {
    if (driver_devices() == 0) return "no NVIDIA driver or GPU was found on this machine";
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

std::string processor_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t value = line.find(": ");
    if (line.starts_with("model name") && value != std::string::npos) return line.substr(value + 2);
  }
  return "unknown";
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

std::string device_model(const c10::Device& device) {
  if (device.is_cpu()) return processor_model();
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return "unknown";
  const auto get = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
  const auto get_name = reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, "cuDeviceGetName"));
  std::array<char, 256> name{};
  int number = 0;
  const bool named = get != nullptr && get_name != nullptr && get(&number, device.index()) == 0 &&
                     get_name(name.data(), static_cast<int>(name.size()) - 1, number) == 0;
  return named ? name.data() : "unknown";
}

std::string describe_device(const c10::Device& device) { return device.str(); }

}  // namespace lathe
