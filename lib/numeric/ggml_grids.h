// The codebooks of ggml's IQ1, IQ2 and IQ3 types: llama.cpp's constants, packed.
//
// IQ1, IQ2: an entry is eight values, the first in its lowest two bits; IQ3: four, the first in its lowest
// four. Each field counts a short list of levels up: kIq1Levels, ...
#pragma once

#include <array>
#include <cstdint>

namespace lathe::ggml {

extern const std::array<uint16_t, 256> kIq2XxsGrid;
extern const std::array<uint16_t, 512> kIq2XsGrid;
extern const std::array<uint16_t, 1024> kIq2SGrid;
extern const std::array<uint16_t, 256> kIq3XxsGrid;
extern const std::array<uint16_t, 512> kIq3SGrid;
extern const std::array<uint16_t, 2048> kIq1Grid;

inline constexpr std::array<int8_t, 4> kIq1Levels = {-1, 0, 1, 0};  // no field is 3
inline constexpr std::array<int8_t, 4> kIq2Levels = {8, 25, 43, 0};
inline constexpr std::array<int8_t, 8> kIq3XxsLevels = {4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr std::array<int8_t, 8> kIq3SLevels = {1, 3, 5, 7, 9, 11, 13, 15};

}  // namespace lathe::ggml
