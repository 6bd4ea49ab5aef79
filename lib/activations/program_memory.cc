#include "lib/activations/program_memory.h"

namespace lathe {
namespace {

/// glibc gives back single pieces of 32 MiB and more at once; the rest after every input (BlockPass).
constexpr uint64_t kHeapSlack = uint64_t{32} << 20;
/// libtorch_cuda with cuBLAS and cuDNN in the process (480 MB without a driver), and a context on the device.
constexpr uint64_t kCudaLibraries = uint64_t{900} << 20, kCudaContext = uint64_t{700} << 20;

}  // namespace

MemoryBytes program_memory(uint64_t base_ram, c10::Device device) {
  if (device.is_cpu()) return {base_ram + kHeapSlack, 0, 0};
  return {base_ram + kHeapSlack + kCudaLibraries, kCudaContext, 0};
}

}  // namespace lathe
