#include "calib/data/id_rows.h"

#include <bit>
#include <cstring>

#include "lib/base/error.h"

namespace lathe {
namespace {

template <class Integer>
std::vector<int64_t> widen(const std::byte* bytes, int64_t count) {
  std::vector<int64_t> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i) {
    Integer value;
    std::memcpy(&value, bytes + i * sizeof(Integer), sizeof(Integer));
    ids[i] = static_cast<int64_t>(value);
  }
  return ids;
}

}  // namespace

std::vector<int64_t> read_ids(std::span<const std::byte> bytes, IdFormat format, int64_t count) {
  static_assert(std::endian::native == std::endian::little, "files hold little-endian integers");
  LATHE_ASSERT(count >= 0 && static_cast<uint64_t>(count) <= bytes.size() / static_cast<size_t>(format.bytes),
               "{} ids of {} bytes in {} bytes", count, format.bytes, bytes.size());
  switch (format.bytes * (format.is_signed ? 1 : -1)) {
    case 1:
      return widen<int8_t>(bytes.data(), count);
    case 2:
      return widen<int16_t>(bytes.data(), count);
    case 4:
      return widen<int32_t>(bytes.data(), count);
    case 8:
      return widen<int64_t>(bytes.data(), count);
    case -1:
      return widen<uint8_t>(bytes.data(), count);
    case -2:
      return widen<uint16_t>(bytes.data(), count);
    case -4:
      return widen<uint32_t>(bytes.data(), count);
    case -8:
      return widen<uint64_t>(bytes.data(), count);
    default:
      internal_error("integers of {} bytes", format.bytes);
  }
}

}  // namespace lathe
