#include "lib/activations/program_memory.h"

namespace lathe {
namespace {

/// glibc gives back single pieces of 32 MiB and more at once; the rest after every input (BlockPass).
constexpr uint64_t kHeapSlack = uint64_t{32} << 20;
/// libtorch_cuda with cuBLAS and cuDNN in the process (480 MB without a driver; with 900 MiB planned, a run
/// on an H200 exceeded its limit).
constexpr uint64_t kCudaLibraries = uint64_t{1100} << 20;
/// What the driver counts beside the allocator's memory: the context, and the modules that are loaded when a
/// kernel is first called. At least 750 MiB on an H200 (tests/e2e/gpu_memory_limits.sh holds the whole
/// against the driver's figure).
constexpr uint64_t kCudaContext = uint64_t{1000} << 20;

}  // namespace

MemoryBytes program_memory(uint64_t base_ram, c10::Device device) {
  if (device.is_cpu()) return {base_ram + kHeapSlack, 0, 0};
  return {base_ram + kHeapSlack + kCudaLibraries, kCudaContext, 0};
}

}  // namespace lathe
