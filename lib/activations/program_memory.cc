#include "lib/activations/program_memory.h"

#include "lib/tensor/block_allocator.h"

namespace lathe {
namespace {

/// Of tensors that are gone, what the allocator keeps for the next ones.
constexpr auto kKept = static_cast<uint64_t>(kKeptBytes);
/// libtorch_cuda with cuBLAS and cuDNN in the process (480 MB without a driver; with 900 MiB planned, a run
/// on an H200 exceeded its limit).
constexpr uint64_t kCudaLibraries = uint64_t{1110} << 20;
/// What the driver counts beside the allocator's memory: the context, and the modules that are loaded when a
/// kernel is first called. At least 750 MiB on an H200 (tests/e2e/gpu_memory_limits.sh holds the whole
/// against the driver's figure).
constexpr uint64_t kCudaContext = uint64_t{1000} << 20;

}  // namespace

MemoryBytes program_memory(uint64_t base_ram, c10::Device device) {
  if (device.is_cpu()) return {base_ram + kKept, 0, 0};
  return {base_ram + kKept + kCudaLibraries, kCudaContext, 0};
}

}  // namespace lathe
