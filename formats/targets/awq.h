// AWQ's two layouts of 4-bit weights with zero points. For a linear m with W[out, in] and G groups in a row:
//
// GEMM (AutoAWQ, GPTQModel, transformers, vLLM, SGLang):
//   m.qweight  I32 [in, out / 8]   nibble s of word c: output 8c + order[s], order = 0 2 4 6 1 3 5 7
//   m.qzeros   I32 [G, out / 8]    zero points in the same order
//   m.scales   F16 or BF16 [G, out]
// GEMV (AutoAWQ, GPTQModel; on GPUs only), with z words of zero points a row:
//   m.qweight  I32 [out, in / 8]   nibbles in their order
//   m.qzeros   I32 [out, z]        after G of them, zeros
//   m.scales   F16 or BF16 [out, 8 z]
// z = ceil(ceil(G / 8) / k) k, k being 1 for groups of 128 and more, 2 for 64, 4 for 32.
//
// Codes and zero points are counted from 0: w = scale * (code - zero). There are no group indices and no
// version without zero points that consumers agree on (zero_point: false is no type of vLLM's Marlin), so
// symmetric weights are stored with zero points of 8, which is exactly what they are; `meta.symmetric` in the
// configuration says that all are.
// Sources: AutoAWQ 0.2.9 awq/modules/linear/{gemm,gemv}.py, vLLM 0.32 quantization/auto_awq.py.
#pragma once

#include "formats/targets/target.h"

namespace lathe {

enum class AwqVersion { gemm, gemv };

inline constexpr int kAwqBits = 4;

/// "gemm" or "gemv": the value of `version`.
const char* name_of(AwqVersion version);

/// The rows of the registry named "awq" and "awq-gemv".
Target awq_target();
Target awq_gemv_target();

/// Why the layout, whoever reads it, can't hold a linear; nothing if it can.
std::optional<std::string> awq_layout_refuses(const PlannedLinear& linear, AwqVersion version);
std::vector<PlannedTensor> awq_layout(const PlannedLinear& linear, AwqVersion version);

/// qweight -> Char [out, in], and qzeros -> Char [out, G].
at::Tensor unpack_awq_codes(const at::Tensor& qweight, AwqVersion version);
at::Tensor unpack_awq_zeros(const at::Tensor& qzeros, int64_t groups, AwqVersion version);

}  // namespace lathe
