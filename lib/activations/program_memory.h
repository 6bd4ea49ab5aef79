// What a run takes before it computes anything.
#pragma once

#include <c10/core/Device.h>

#include "lib/activations/memory_budget.h"

namespace lathe {

/// The process as it stands (`base_ram`), what the allocator holds on to between two uses, and on a GPU the
/// libraries and the device's context.
MemoryBytes program_memory(uint64_t base_ram, c10::Device device);

}  // namespace lathe
