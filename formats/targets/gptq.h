// GPTQ as GPTQModel, AutoGPTQ, transformers, vLLM, SGLang and ExLlama read it. For a linear m with W[out,
// in], b bits (2, 3, 4 or 8) and G groups in a row:
//   m.qweight  I32 [in * b / 32, out]   column o: bit stream (bitpack.h) of row o's codes + 2^(b-1)
//   m.qzeros   I32 [G, out * b / 32]    row k: bit stream of the zero points of group k, see below
//   m.scales   F16 or BF16 [G, out]     the model's type
//   m.g_idx    I32 [in]                 group of each input
//   m.bias     as in the floating-point model
// w[o, i] = scales[g_idx[i], o] * (code - zero[g_idx[i], o]), codes and zero points counted from 0.
//
// Version 1 (checkpoint_format "gptq") stores zero - 1, version 2 ("gptq_v2") stores zero. A zero of 0 is
// beyond version 1: GPTQModel subtracts 1 from each field of a whole word, so that 0 borrows from the next
// field, and adds it again when it loads; kernels that add 1 to each field by itself read something else. So
// grids whose codes go into version 1 keep their zero points above 0 (Target::zero_above_lowest), other zero
// points are refused, and version 1 is read where it means one thing. GPTQModel's own loader refuses
// asymmetric files of version 1 that it hasn't written itself (models/loader.py); transformers doesn't.
// Groups in an order of their own (g_idx not rising; desc_act) leave the codes in their natural order.
// Sources: GPTQModel 7.7 (nn_modules/qlinear, utils/model.py), vLLM 0.32 (quantization/auto_gptq.py).
#pragma once

#include "formats/targets/target.h"

namespace lathe {

enum class GptqVersion { v1, v2 };

/// "gptq" or "gptq_v2": the value of checkpoint_format.
const char* checkpoint_format_of(GptqVersion version);

/// The rows of the registry named "gptq" and "gptq-v2".
Target gptq_target();
Target gptq_v2_target();

/// Why the layout, whoever reads it, can't hold a linear; nothing if it can.
std::optional<std::string> gptq_layout_refuses(const PlannedLinear& linear);
std::vector<PlannedTensor> gptq_layout(const PlannedLinear& linear);

/// Char [out, G] -> qzeros. InternalError for a zero point that version 1 can't hold.
at::Tensor pack_gptq_zeros(const at::Tensor& zero_points, int bits, GptqVersion version);

/// How a reader takes fields of version 1 in which all bits are set: they are what is left of a zero of 0.
enum class GptqBorrow { refuse, whole_words };

/// qzeros [G, words] -> Char [out, G]; nothing where version 1 leaves it open what was meant. whole_words is
/// how GPTQModel has it (2, 4 and 8 bits; its 3-bit fields wrap by themselves).
std::optional<at::Tensor> unpack_gptq_zeros(const at::Tensor& qzeros, int bits, int64_t out,
                                            GptqVersion version, GptqBorrow borrow);

}  // namespace lathe
