#include "lib/tensor/dtype.h"

#include <array>

namespace lathe {
namespace {

// In the order of the enumeration.
constexpr std::array<DTypeTraits, 13> kTraits = {{{DType::F64, "F64", 8, true},
                                                  {DType::F32, "F32", 4, true},
                                                  {DType::F16, "F16", 2, true},
                                                  {DType::BF16, "BF16", 2, true},
                                                  {DType::F8_E4M3, "F8_E4M3", 1, true},
                                                  {DType::F8_E5M2, "F8_E5M2", 1, true},
                                                  {DType::F8_E8M0, "F8_E8M0", 1, true},
                                                  {DType::I64, "I64", 8, false},
                                                  {DType::I32, "I32", 4, false},
                                                  {DType::I16, "I16", 2, false},
                                                  {DType::I8, "I8", 1, false},
                                                  {DType::U8, "U8", 1, false},
                                                  {DType::BOOL, "BOOL", 1, false}}};

}  // namespace

const DTypeTraits& traits(DType dtype) { return kTraits[static_cast<size_t>(dtype)]; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (const DTypeTraits& row : kTraits) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

}  // namespace lathe
