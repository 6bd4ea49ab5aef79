// Which device computes: --device auto|cpu|cuda[:N].
#pragma once

#include <c10/core/Device.h>

#include <string>
#include <string_view>

namespace lathe {

/// Parses and resolves a device. `auto` is the first CUDA device that works, else the CPU.
/// UserError for an unknown spelling, for CUDA in a build without it, and where no (such) GPU is present.
c10::Device resolve_device(std::string_view text);

/// "cpu" or "cuda:0".
std::string describe_device(const c10::Device& device);

/// What is sold under: "NVIDIA H200" as the driver has it, or the processor's name as the system has it;
/// "unknown" where neither says.
std::string device_model(const c10::Device& device);

}  // namespace lathe
