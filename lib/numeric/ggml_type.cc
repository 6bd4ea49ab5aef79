#include "lib/numeric/ggml_type.h"

#include <algorithm>
#include <array>

namespace lathe {
namespace {

using enum GgmlType;

constexpr GgmlTraits read_alone(GgmlType type, std::string_view name, uint32_t id, int64_t length,
                                int64_t bytes) {
  return {.type = type, .name = name, .id = id, .length = length, .bytes = bytes, .made = false};
}

constexpr std::array<GgmlTraits, 27> kTypes = {{
    // type, name, id, length, bytes, group, levels, offset, scale_levels, scale_offset, has_min
    {F32, "F32", 0, 1, 4},
    {F16, "F16", 1, 1, 2},
    {BF16, "BF16", 30, 1, 2},
    {Q8_0, "Q8_0", 8, 32, 34, 32, 256, 128},
    {Q4_0, "Q4_0", 2, 32, 18, 32, 16, 8},
    {Q4_1, "Q4_1", 3, 32, 20, 32, 16, 0, 0, 0, true},
    {Q5_0, "Q5_0", 6, 32, 22, 32, 32, 16},
    {Q5_1, "Q5_1", 7, 32, 24, 32, 32, 0, 0, 0, true},
    {Q2_K, "Q2_K", 10, 256, 84, 16, 4, 0, 16, 0, true},
    {Q3_K, "Q3_K", 11, 256, 110, 16, 8, 4, 64, 32},
    {Q4_K, "Q4_K", 12, 256, 144, 32, 16, 0, 64, 0, true},
    {Q5_K, "Q5_K", 13, 256, 176, 32, 32, 0, 64, 0, true},
    {Q6_K, "Q6_K", 14, 256, 210, 16, 64, 32, 256, 128},
    {IQ4_NL, "IQ4_NL", 20, 32, 18, 32, 16},
    {IQ4_XS, "IQ4_XS", 23, 256, 136, 32, 16, 0, 64, 32},
    {TQ1_0, "TQ1_0", 34, 256, 54, 256, 3, 1},
    {TQ2_0, "TQ2_0", 35, 256, 66, 256, 4, 1},
    {MXFP4, "MXFP4", 39, 32, 17, 32, 16},
    read_alone(IQ1_S, "IQ1_S", 19, 256, 50),
    read_alone(IQ1_M, "IQ1_M", 29, 256, 56),
    read_alone(IQ2_XXS, "IQ2_XXS", 16, 256, 66),
    read_alone(IQ2_XS, "IQ2_XS", 17, 256, 74),
    read_alone(IQ2_S, "IQ2_S", 22, 256, 82),
    read_alone(IQ3_XXS, "IQ3_XXS", 18, 256, 98),
    read_alone(IQ3_S, "IQ3_S", 21, 256, 110),
    read_alone(NVFP4, "NVFP4", 40, 64, 36),
    read_alone(Q1_0, "Q1_0", 41, 128, 18),
}};

}  // namespace

std::span<const GgmlTraits> ggml_types() { return kTypes; }

const GgmlTraits& traits(GgmlType type) { return kTypes[static_cast<size_t>(type)]; }

std::optional<GgmlType> parse_ggml_type(std::string_view name) {
  const auto row = std::ranges::find(kTypes, name, &GgmlTraits::name);
  return row == kTypes.end() ? std::nullopt : std::optional(row->type);
}

std::optional<GgmlType> ggml_type_of_id(uint32_t id) {
  const auto row = std::ranges::find(kTypes, id, &GgmlTraits::id);
  return row == kTypes.end() ? std::nullopt : std::optional(row->type);
}

const int8_t* ggml_levels(GgmlType type) {
  if (type == IQ4_NL || type == IQ4_XS) return kIq4Levels.data();
  return type == MXFP4 ? kMxfp4Levels.data() : nullptr;
}

double bits_per_weight(GgmlType type) {
  return 8.0 * static_cast<double>(traits(type).bytes) / static_cast<double>(traits(type).length);
}

}  // namespace lathe
