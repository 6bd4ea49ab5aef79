// GPUs that models are served on, as data: data/gpus.json, which the program carries.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct GpuGeneration {
  std::string name;  // "Ada"
  std::vector<std::string>
      native;  // formats that its tensor cores multiply: "FP16", "INT8", "FP8", "NVFP4", ...
  std::string source;

  bool computes(std::string_view format) const;
};

struct Gpu {
  std::string name;           // "RTX 4000 Ada"
  std::string kind;           // "consumer", "workstation" or "datacenter"
  std::string generation;     // of gpu_generations()
  uint64_t memory = 0;        // bytes, 10^9 for each GB that it is sold with
  double bytes_a_second = 0;  // of its memory
  std::string source;
};

const std::vector<GpuGeneration>& gpu_generations();
const std::vector<Gpu>& gpus();
/// InternalError for one that the table has not.
const GpuGeneration& find_generation(std::string_view name);
/// By its name, whatever the case, with or without the maker's names, blanks and hyphens: "nvidia h100-sxm".
/// UserError listing those that fit where several do ("A100"), and all where none does.
const Gpu& find_gpu(std::string_view name);

}  // namespace lathe
