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
  std::string note = {};  // what to know before serving quantised weights there; empty: nothing

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

/// A KV cache below 16 bits that a server computes with.
struct ServedCache {
  int bits = 8;
  std::string type, server;              // "FP8", "vLLM"
  std::string how;                       // the server's switch, and what it needs
  std::vector<std::string> generations;  // of gpu_generations()
  std::string source;

  /// On a GPU; on one that isn't known (null), somewhere.
  bool runs_on(const Gpu* gpu) const;
};

const std::vector<GpuGeneration>& gpu_generations();
/// Of the same bits those first that are the first choice.
const std::vector<ServedCache>& served_caches();
const std::vector<Gpu>& gpus();
/// InternalError for one that the table has not.
const GpuGeneration& find_generation(std::string_view name);
/// By its name, whatever the case, with or without the maker's names, blanks and hyphens: "nvidia h100-sxm".
/// UserError listing those that fit where several do ("A100"), and all where none does.
const Gpu& find_gpu(std::string_view name);

}  // namespace lathe
