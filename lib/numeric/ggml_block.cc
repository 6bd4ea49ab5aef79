#include "lib/numeric/ggml_block.h"

#include <c10/util/Half.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "lib/base/error.h"
#include "lib/numeric/ggml_layouts.h"

namespace lathe {
namespace {

struct Layout {
  ggml::Unpack unpack;
  ggml::Pack pack;
};

Layout layout_of(GgmlType type) {
  using namespace ggml;
  switch (type) {
    using enum GgmlType;
    case Q8_0:
      return {unpack_q8_0, pack_q8_0};
    case Q4_0:
    case IQ4_NL:
      return {unpack_q4_0, pack_q4_0};
    case Q4_1:
      return {unpack_q4_1, pack_q4_1};
    case Q5_0:
      return {unpack_q5_0, pack_q5_0};
    case Q5_1:
      return {unpack_q5_1, pack_q5_1};
    case Q2_K:
      return {unpack_q2_k, pack_q2_k};
    case Q3_K:
      return {unpack_q3_k, pack_q3_k};
    case Q4_K:
      return {unpack_q4_k, pack_q4_k};
    case Q5_K:
      return {unpack_q5_k, pack_q5_k};
    case Q6_K:
      return {unpack_q6_k, pack_q6_k};
    case IQ4_XS:
      return {unpack_iq4_xs, pack_iq4_xs};
    case TQ1_0:
      return {unpack_tq1_0, pack_tq1_0};
    case TQ2_0:
      return {unpack_tq2_0, pack_tq2_0};
    case MXFP4:
      return {unpack_mxfp4, pack_mxfp4};
    default:
      break;
  }
  internal_error("{} has no blocks that are taken apart", traits(type).name);
}

/// Null for a type that is taken apart.
ggml::Decode decoder_of(GgmlType type) {
  using namespace ggml;
  switch (type) {
    using enum GgmlType;
    case IQ1_S:
      return decode_iq1_s;
    case IQ1_M:
      return decode_iq1_m;
    case IQ2_XXS:
      return decode_iq2_xxs;
    case IQ2_XS:
      return decode_iq2_xs;
    case IQ2_S:
      return decode_iq2_s;
    case IQ3_XXS:
      return decode_iq3_xxs;
    case IQ3_S:
      return decode_iq3_s;
    case NVFP4:
      return decode_nvfp4;
    case Q1_0:
      return decode_q1_0;
    default:
      return nullptr;
  }
}

/// 2, 4 or 8 little-endian bytes, which need not be aligned.
template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

float plain_number(GgmlType type, const std::byte* bytes) {
  if (type == GgmlType::F32) return load<float>(bytes);
  const auto bits = load<uint16_t>(bytes);
  return type == GgmlType::F16 ? from_half(bits) : std::bit_cast<float>(uint32_t{bits} << 16);
}

}  // namespace

float from_half(uint16_t bits) { return c10::detail::fp16_ieee_to_fp32_value(bits); }
uint16_t to_half(float value) { return c10::detail::fp16_ieee_from_fp32_value(value); }

void unpack(GgmlType type, const uint8_t* bytes, GgmlBlock& block) { layout_of(type).unpack(bytes, block); }
void pack(GgmlType type, const GgmlBlock& block, uint8_t* bytes) { layout_of(type).pack(block, bytes); }

void values(GgmlType type, const GgmlBlock& block, float* out) {
  const GgmlTraits& format = traits(type);
  const int8_t* const table = ggml_levels(type);
  const float d = type == GgmlType::MXFP4 ? std::ldexp(1.0f, block.d - 128) : from_half(block.d);
  const float dmin = format.has_min ? from_half(block.dmin) : 0.0f;
  for (int64_t g = 0; g < format.length / format.group; ++g) {
    const bool sub_scaled = format.scale_levels > 0;
    const float scale = sub_scaled ? d * static_cast<float>(block.scales[g] - format.scale_offset) : d;
    const float minimum = sub_scaled ? dmin * static_cast<float>(block.mins[g]) : dmin;
    for (int64_t i = g * format.group; i < (g + 1) * format.group; ++i) {
      const int level = table != nullptr ? table[block.codes[i]] : block.codes[i] - format.offset;
      const float product = scale * static_cast<float>(level);
      out[i] = format.has_min ? product - minimum : product;
    }
  }
}

void decode_ggml(GgmlType type, const std::byte* bytes, int64_t count, float* out) {
  const GgmlTraits& format = traits(type);
  LATHE_ASSERT(count % format.length == 0, "{} values in blocks of {}", count, format.length);
  if (format.length == 1) {
    for (int64_t i = 0; i < count; ++i) out[i] = plain_number(type, bytes + i * format.bytes);
    return;
  }
  if (const ggml::Decode decode = decoder_of(type)) {
    for (int64_t i = 0; i < count; i += format.length, bytes += format.bytes)
      decode(reinterpret_cast<const uint8_t*>(bytes), out + i);
    return;
  }
  const Layout layout = layout_of(type);
  GgmlBlock block;
  for (int64_t i = 0; i < count; i += format.length, bytes += format.bytes) {
    layout.unpack(reinterpret_cast<const uint8_t*>(bytes), block);
    values(type, block, out + i);
  }
}

}  // namespace lathe
