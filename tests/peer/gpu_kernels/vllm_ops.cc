// vLLM's operators that read what Lathe writes, declared as its csrc/torch_bindings.cpp does (0.32), without
// the hundreds beside them.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

using torch::stable::Tensor;

Tensor gptq_gemm(Tensor a, Tensor b_q_weight, Tensor b_gptq_qzeros, Tensor b_gptq_scales, bool use_exllama,
                 bool use_v2_format, int64_t bit);
void gptq_shuffle(Tensor q_weight, int64_t bit);
Tensor awq_gemm(Tensor in_feats, Tensor kernel, Tensor scaling_factors, Tensor zeros, int64_t split_k_iters);

STABLE_TORCH_LIBRARY_FRAGMENT(_C, ops) {
  // The first three register their implementations themselves.
  ops.def(
      "marlin_gemm(Tensor a, Tensor? c_or_none, Tensor b_q_weight, Tensor? b_bias_or_none, Tensor b_scales, "
      "Tensor? a_scales, "
      "Tensor? global_scale, Tensor? b_zeros_or_none, Tensor workspace, int b_type_id, SymInt size_m, SymInt "
      "size_n, SymInt size_k, "
      "bool use_atomic_add, bool use_fp32_reduce, bool is_zp_float) -> Tensor");
  ops.def(
      "gptq_marlin_repack(Tensor b_q_weight, SymInt size_k, SymInt size_n, int num_bits, bool is_a_8bit) -> "
      "Tensor");
  ops.def(
      "awq_marlin_repack(Tensor b_q_weight, SymInt size_k, SymInt size_n, int num_bits, bool is_a_8bit) -> "
      "Tensor");
  ops.def(
      "gptq_gemm(Tensor a, Tensor b_q_weight, Tensor b_gptq_qzeros, Tensor b_gptq_scales, bool use_exllama, "
      "bool use_v2_format, int bit) "
      "-> Tensor");
  ops.def("gptq_shuffle(Tensor! q_weight, int bit) -> ()");
  ops.def(
      "awq_gemm(Tensor _in_feats, Tensor _kernel, Tensor _scaling_factors, Tensor _zeros, SymInt "
      "split_k_iters) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(_C, CUDA, ops) {
  ops.impl("gptq_gemm", TORCH_BOX(&gptq_gemm));
  ops.impl("gptq_shuffle", TORCH_BOX(&gptq_shuffle));
  ops.impl("awq_gemm", TORCH_BOX(&awq_gemm));
}
