// The memory of a compute device that is not the CPU.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>

namespace lathe {

/// Bytes of the device that are free now. Nothing for the CPU.
std::optional<uint64_t> free_device_memory(c10::Device device);
/// The most that this process has held there for tensors, its allocator's reserve counted. 0 for the CPU.
uint64_t peak_device_memory(c10::Device device);

}  // namespace lathe
