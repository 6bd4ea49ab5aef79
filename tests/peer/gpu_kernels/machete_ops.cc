// Machete's operators, declared as vLLM's csrc/torch_bindings.cpp does (0.32); its machete_pytorch.cu
// registers them.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(_C, ops) {
  ops.def(
      "machete_supported_schedules(ScalarType a_type, int b_type, ScalarType? maybe_group_scales_type, "
      "ScalarType? maybe_group_zeros_type, ScalarType? maybe_channel_scales_type, "
      "ScalarType? maybe_token_scales_type, "
      "ScalarType? maybe_out_type) -> str[]");
  ops.def(
      "machete_mm(Tensor A, Tensor B, int b_type, ScalarType? out_type, Tensor? group_scales, Tensor? "
      "group_zeros, "
      "int? group_size, "
      "Tensor? channel_scales, Tensor? token_scales, str? schedule) -> Tensor");
  ops.def(
      "machete_prepack_B(Tensor B, ScalarType a_type, int b_type, ScalarType? group_scales_type) -> Tensor");
}
