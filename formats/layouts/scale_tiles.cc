#include "formats/layouts/scale_tiles.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "lib/base/error.h"

namespace lathe::layouts {
namespace {

std::optional<std::string> refuses(const PlannedLinear& linear) {
  return fmt::format(
      "NVFP4 and MX scale tiles hold E4M3 or E8M0 scales of 16 or 32 numbers, which {} has none of; "
      "use `marlin`, `machete` or `trtllm` for integers",
      linear.scheme.describe());
}

[[noreturn]] void nothing_fits(const PlannedLinear& linear) {
  internal_error("{}: nvfp4-swizzled holds no {}", linear.name, linear.scheme.describe());
}

}  // namespace

KernelLayout scale_tiles_layout() {
  return {
      .name = "nvfp4-swizzled",
      .summary = "block scales of NVFP4 and MX in 128 x 4 tiles (no integer scheme has such scales)",
      .kernel = "cuBLASLt and CUTLASS block-scaled GEMM",
      .gpus = "NVIDIA, compute capability 10.0 and higher (Blackwell)",
      .permutation = "tiles of 128 rows by 4 columns: 32 rows of 16 bytes, four rows 32 apart side by side",
      .source = "CUTLASS SfAtom; vllm 0.32: nvfp4_utils.py (swizzle_blockscale)",
      .refuses = refuses,
      .tensors = [](const PlannedLinear& linear) -> std::vector<PlannedTensor> { nothing_fits(linear); },
      .pack = [](const PlannedLinear& linear, const QuantizedTensor&) -> std::vector<at::Tensor> {
        nothing_fits(linear);
      },
      .unpack = [](const PlannedLinear& linear, const std::vector<at::Tensor>&) -> QuantizedTensor {
        nothing_fits(linear);
      },
      .notes = [](const PlannedLinear& linear) -> nlohmann::json { nothing_fits(linear); }};
}

}  // namespace lathe::layouts
