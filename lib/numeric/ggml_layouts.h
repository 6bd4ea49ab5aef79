// The bit layouts of ggml's blocks, one pair of functions for each type; ggml_block.cc has the table.
#pragma once

#include "lib/numeric/ggml_block.h"

namespace lathe::ggml {

using Unpack = void (*)(const uint8_t* bytes, GgmlBlock& block);
using Pack = void (*)(const GgmlBlock& block, uint8_t* bytes);

inline uint16_t read_half(const uint8_t* bytes) { return static_cast<uint16_t>(bytes[0] | bytes[1] << 8); }
inline void write_half(uint16_t bits, uint8_t* bytes) {
  bytes[0] = static_cast<uint8_t>(bits);
  bytes[1] = static_cast<uint8_t>(bits >> 8);
}

// ggml_legacy.cc: blocks of 32.
void unpack_q8_0(const uint8_t*, GgmlBlock&);
void pack_q8_0(const GgmlBlock&, uint8_t*);
void unpack_q4_0(const uint8_t*, GgmlBlock&);  // and IQ4_NL
void pack_q4_0(const GgmlBlock&, uint8_t*);
void unpack_q4_1(const uint8_t*, GgmlBlock&);
void pack_q4_1(const GgmlBlock&, uint8_t*);
void unpack_q5_0(const uint8_t*, GgmlBlock&);
void pack_q5_0(const GgmlBlock&, uint8_t*);
void unpack_q5_1(const uint8_t*, GgmlBlock&);
void pack_q5_1(const GgmlBlock&, uint8_t*);
void unpack_mxfp4(const uint8_t*, GgmlBlock&);
void pack_mxfp4(const GgmlBlock&, uint8_t*);

// ggml_k.cc: super-blocks of 256.
void unpack_q2_k(const uint8_t*, GgmlBlock&);
void pack_q2_k(const GgmlBlock&, uint8_t*);
void unpack_q3_k(const uint8_t*, GgmlBlock&);
void pack_q3_k(const GgmlBlock&, uint8_t*);
void unpack_q4_k(const uint8_t*, GgmlBlock&);
void pack_q4_k(const GgmlBlock&, uint8_t*);
void unpack_q5_k(const uint8_t*, GgmlBlock&);
void pack_q5_k(const GgmlBlock&, uint8_t*);
void unpack_q6_k(const uint8_t*, GgmlBlock&);
void pack_q6_k(const GgmlBlock&, uint8_t*);

// ggml_iq.cc: IQ4_XS and the ternary types.
void unpack_iq4_xs(const uint8_t*, GgmlBlock&);
void pack_iq4_xs(const GgmlBlock&, uint8_t*);
void unpack_tq1_0(const uint8_t*, GgmlBlock&);
void pack_tq1_0(const GgmlBlock&, uint8_t*);
void unpack_tq2_0(const uint8_t*, GgmlBlock&);
void pack_tq2_0(const GgmlBlock&, uint8_t*);

// ggml_codebook.cc: what is read alone, straight to its values.
using Decode = void (*)(const uint8_t* bytes, float* out);
void decode_iq1_s(const uint8_t*, float*);
void decode_iq1_m(const uint8_t*, float*);
void decode_iq2_xxs(const uint8_t*, float*);
void decode_iq2_xs(const uint8_t*, float*);
void decode_iq2_s(const uint8_t*, float*);
void decode_iq3_xxs(const uint8_t*, float*);
void decode_iq3_s(const uint8_t*, float*);
void decode_nvfp4(const uint8_t*, float*);
void decode_q1_0(const uint8_t*, float*);

}  // namespace lathe::ggml
