#include "lib/kernels/cuda_library.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include "lib/base/error.h"

namespace lathe::kernels {
namespace {

template <class Function>
void find(void* library, const char* name, const std::filesystem::path& path, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr)
    user_error("{}: has no function {}; it is of another build of Lathe", path.string(), name);
}

}  // namespace

void CudaLibrary::check(int code, const char* kernel) const {
  if (code != 0) internal_error("CUDA kernel {}: {} (error {})", kernel, error_text(code), code);
}

CudaLibrary open_cuda_library(const std::filesystem::path& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    user_error("this build has no CUDA kernels ({}); use --device cpu, or build with a CUDA toolkit",
               reason != nullptr ? reason : path.string());
  }
  CudaLibrary found;
  find(library, "lathe_cuda_group_min_max", path, found.group_min_max);
  find(library, "lathe_cuda_group_params", path, found.group_params);
  find(library, "lathe_cuda_group_encode", path, found.group_encode);
  find(library, "lathe_cuda_dequantize", path, found.dequantize);
  find(library, "lathe_cuda_group_fake_quantize", path, found.group_fake_quantize);
  find(library, "lathe_cuda_gptq_block_f32", path, found.gptq_block_f32);
  find(library, "lathe_cuda_gptq_block_f64", path, found.gptq_block_f64);
  find(library, "lathe_cuda_search_ranges", path, found.search_ranges);
  find(library, "lathe_cuda_hqq", path, found.hqq);
  find(library, "lathe_cuda_spqr_group_f32", path, found.spqr_group_f32);
  find(library, "lathe_cuda_spqr_group_f64", path, found.spqr_group_f64);
  find(library, "lathe_cuda_channel_moments", path, found.channel_moments);
  find(library, "lathe_cuda_value_counts", path, found.value_counts);
  find(library, "lathe_cuda_channel_value_counts", path, found.channel_value_counts);
  find(library, "lathe_cuda_row_extent", path, found.row_extent);
  find(library, "lathe_cuda_rms_norm", path, found.rms_norm);
  find(library, "lathe_cuda_rotate_heads", path, found.rotate_heads);
  find(library, "lathe_cuda_gated_product", path, found.gated_product);
  find(library, "lathe_cuda_fake_quantize_input", path, found.fake_quantize_input);
  find(library, "lathe_cuda_pack_codes", path, found.pack_codes);
  find(library, "lathe_cuda_unpack_codes", path, found.unpack_codes);
  find(library, "lathe_cuda_pack_exllama3", path, found.pack_exllama3);
  find(library, "lathe_cuda_unpack_exllama3", path, found.unpack_exllama3);
  find(library, "lathe_cuda_swizzle_scales", path, found.swizzle_scales);
  find(library, "lathe_cuda_unswizzle_scales", path, found.unswizzle_scales);
  find(library, "lathe_cuda_error_text", path, found.error_text);
  return found;
}

const CudaLibrary& cuda_library() {
  static const CudaLibrary library =
      open_cuda_library(std::filesystem::read_symlink("/proc/self/exe").parent_path() / "liblathe_cuda.so");
  return library;
}

LatheCudaQueue current_queue(c10::Device device) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  return {device.index(), guard.getStream(device).native_handle()};
}

}  // namespace lathe::kernels
