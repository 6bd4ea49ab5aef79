// What stands in a GGUF file beside tensors: keys with typed values. Version 3, little-endian:
//   "GGUF", u32 version, u64 tensors, u64 keys;
//   each key: string, u32 type, value; a string is u64 length + bytes, an array u32 type, u64 count + values;
//   each tensor: string name, u32 dimensions, u64 sizes (the contiguous one first), u32 type, u64 offset;
//   padding to the alignment (32, or the key general.alignment); the tensors' bytes, each padded likewise.
// Source: GGUF's specification (ggml/docs/gguf.md).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lathe {

inline constexpr uint32_t kGgufVersion = 3;
inline constexpr uint64_t kGgufAlignment = 32;

/// The number of a value's type in a file.
enum class GgufKind : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// One byte in a file; std::vector<bool> is no vector.
enum class GgufBool : uint8_t { no = 0, yes = 1 };

/// The index of the alternative is the GgufKind. Arrays of arrays are read by nobody (llama.cpp refuses
/// them).
using GgufArray =
    std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                 std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>, std::vector<GgufBool>,
                 std::vector<std::string>, std::monostate, std::vector<uint64_t>, std::vector<int64_t>,
                 std::vector<double>>;
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, GgufBool,
                               std::string, GgufArray, uint64_t, int64_t, double>;

/// In the order of the file.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

inline GgufKind kind_of(const GgufValue& value) { return static_cast<GgufKind>(value.index()); }
/// "u32", "string", "array", ...
std::string_view name_of(GgufKind kind);
/// For people: a number or text as it is (cut after 60 bytes), "array of 32000 string".
std::string describe(const GgufValue& value);

inline uint64_t align_up(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace lathe
