#include "lib/tensor/device_memory.h"

#include <c10/core/CachingDeviceAllocator.h>

namespace lathe {

std::optional<uint64_t> free_device_memory(c10::Device device) {
  if (device.is_cpu()) return std::nullopt;
  return c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).first;
}

uint64_t peak_device_memory(c10::Device device) {
  if (device.is_cpu()) return 0;
  c10::DeviceAllocator* allocator = c10::getDeviceAllocator(device.type());
  if (!allocator->initialized()) return 0;
  const auto stats = allocator->getDeviceStats(device.index());
  return static_cast<uint64_t>(stats.reserved_bytes[0].peak);  // 0: the sum over small and large pools
}

}  // namespace lathe
