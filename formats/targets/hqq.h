// What the hqq library (0.2.8) loads: the encoded state dict of HQQLinear, for a linear m with W[out, in], b
// bits and groups of g values along an axis.
//
// Codes count from 0. They are arranged with a group a row (axis 1, [out * in / g, g]) or a column (axis 0,
// [g, out * in / g]) and packed along the *first* dimension of that matrix of R rows, its first part in the
// high bits (hqq/core/bitpack.py):
//   m.W_q    U8 [R b / 8, columns] for 8, 4, 2 and 1 bits (5 and 6 bits take a byte each, as 8 does): with n
//   = 8 / b,
//            byte r = q[r] << 8 - b | q[r + R / n] << 8 - 2 b | ...; I32 [ceil(R / 10), columns] for 3 bits,
//            where rows past R are 0: word r = q[r] << 27 | q[r + ceil(R / 10)] << 24 | ...
//   m.scale, m.zero    T [groups, 1], axis 0: [1, groups]; w = (q - zero) * scale; T the type that is
//   computed in. An integer grid's zero points stand there as numbers, a symmetric one's as 2^(b-1).
//   m.shape  I64 [2]   out, in; m.nbits, m.group_size, m.axis   I32 [];  m.packing "4bit_u8",
//   "3bit_32", ..., m.unpack_view_dtype "torch.uint8", m.compute_dtype "torch.float16"   U8, the characters;
//   flags U8 []: see kFlags in hqq.cc
// Source: hqq/core/quantize.py (HQQLinear.state_dict, load_state_dict), utils.py (encode_safetensor_type).
#pragma once

#include <string>

#include "formats/targets/target.h"

namespace lathe {

/// The row of the registry named "hqq".
Target hqq_target();

/// How the codes of one bit width are packed.
struct HqqPacking {
  const char* name;  // "4bit_u8"
  int fields;        // of one word
  int field_bits;    // of one field
  bool words;        // 32-bit words; else bytes
};
/// bits: 1 to 8 but 7.
HqqPacking hqq_packing(int bits);

/// Char [out, in] -> the packed matrix; and back.
at::Tensor hqq_pack(const at::Tensor& codes, const Scheme& scheme);
at::Tensor hqq_unpack(const at::Tensor& packed, const Scheme& scheme, int64_t out, int64_t in);

/// The tensors of a linear, without their contents.
std::vector<PlannedTensor> hqq_layout(const PlannedLinear& linear);
/// Those whose contents the scheme decides: all but W_q, scale and zero.
std::vector<std::pair<std::string, at::Tensor>> hqq_facts(const PlannedLinear& linear);

}  // namespace lathe
