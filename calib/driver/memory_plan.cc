#include "calib/driver/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <tuple>

#include "calib/driver/block_memory.h"
#include "calib/driver/kv_cache_fit.h"
#include "calib/driver/stream.h"
#include "lib/activations/block_size.h"
#include "lib/activations/program_memory.h"
#include "lib/base/strings.h"
#include "lib/model/cached_attention.h"

namespace lathe {
namespace {

constexpr uint64_t kLeanSlack = 300'000'000;
constexpr uint64_t kLeastExpertStatistics = uint64_t{1} << 20;

/// One way to run.
struct Way {
  StreamStorage storage;
  MemoryBytes peak;
  std::vector<std::pair<std::string, uint64_t>> parts;
};

/// Where activations may stand, fastest first. On a CPU a file (cached by the system while there is room) is
/// cheaper than to compute attention, gate and up twice; on a GPU it is the other way round.
std::vector<StreamStorage> placements(const MemoryRequest& request) {
  using P = Placement;
  using Inner = std::optional<Placement>;
  const bool cpu = request.job->device.is_cpu();
  const std::vector<std::pair<P, Inner>> pairs =
      cpu ? std::vector<std::pair<P, Inner>>{{P::device, P::device},
                                             {P::device, P::disk},
                                             {P::device, std::nullopt},
                                             {P::disk, P::disk},
                                             {P::disk, std::nullopt}}
          : std::vector<std::pair<P, Inner>>{{P::device, P::device},
                                             {P::device, std::nullopt},
                                             {P::host, std::nullopt},
                                             {P::disk, std::nullopt}};
  const int64_t width = std::max(inner_width(*request.job->graph), request.job->graph->config.hidden_size);
  std::vector<StreamStorage> result;
  for (const auto& [hidden, inner] : pairs) {
    const bool moves = hidden != P::device || (inner && *inner != P::device);
    const int64_t large = moves ? large_transfer(request.length, width, request.job->device) : 0;
    result.push_back({.hidden = {.placement = hidden, .transfer_rows = large, .work = {}},
                      .micro_batch = 0,
                      .inner = inner});
    // The same with the smallest transfers, where the larger ones don't fit.
    if (large > chunk_rows(request.length, request.job->device)) {
      result.push_back({.hidden = {.placement = hidden, .transfer_rows = 0, .work = {}},
                        .micro_batch = 0,
                        .inner = inner});
    }
  }
  return result;
}

/// Bytes of experts' statistics at a time, fastest first: with fewer there are more sweeps, each with a norm
/// of all tokens. Those of one expert are collected in any case.
struct ExpertShares {
  std::vector<uint64_t> cheap, dear;
};

ExpertShares expert_shares(const ModelGraph& graph) {
  const bool experts =
      std::ranges::any_of(graph.blocks, [](const Block& b) { return b.experts.has_value(); });
  if (!experts) return {{kMostExpertStatistics}, {}};
  ExpertShares shares;
  for (uint64_t bytes = kMostExpertStatistics; bytes >= kLeastExpertStatistics; bytes /= 2)
    (bytes >= kMostExpertStatistics / 8 ? shares.cheap : shares.dear).push_back(bytes);
  return shares;
}

/// Each of the storages with each share, the storages first.
std::vector<StreamStorage> with_shares(const std::vector<StreamStorage>& storages,
                                       const std::vector<uint64_t>& shares) {
  std::vector<StreamStorage> result;
  for (const StreamStorage& storage : storages) {
    for (const uint64_t share : shares) {
      result.push_back(storage);
      result.back().expert_statistics = share;
    }
  }
  return result;
}

/// The placements with each share of experts: a moderate one costs less than to keep activations elsewhere, a
/// small one more.
std::vector<StreamStorage> shared_placements(const MemoryRequest& request) {
  const ExpertShares shares = expert_shares(*request.job->graph);
  const std::vector<StreamStorage> places = placements(request);
  std::vector<StreamStorage> result = with_shares(places, shares.cheap);
  std::ranges::copy(with_shares(places, shares.dear), std::back_inserter(result));
  return result;
}

/// The placements with each micro-batch. A smaller one costs next to nothing on a CPU, less than to keep
/// activations elsewhere. Where it may change the last bits of a result, it is the last resort. To read no
/// block ahead costs a CPU less still.
std::vector<StreamStorage> storages(const MemoryRequest& request) {
  const std::vector<int64_t> sizes = micro_batches(request.length, request.job->device);
  std::vector<StreamStorage> result;
  const auto add = [&](StreamStorage storage, int64_t size) {
    storage.micro_batch = size;
    result.push_back(storage);
    if (!request.job->device.is_cpu()) return;
    storage.read_ahead = false;
    result.push_back(storage);
  };
  const std::vector<StreamStorage> places = shared_placements(request);
  if (micro_batch_rounds(*request.job)) {
    for (const int64_t size : sizes) {
      for (const StreamStorage& place : places) add(place, size);
    }
  } else {
    for (const StreamStorage& place : places) {
      for (const int64_t size : sizes) add(place, size);
    }
  }
  return result;
}

/// Those, and on a CPU at last the same with sparing solvers.
std::vector<StreamStorage> with_sparing(std::vector<StreamStorage> storages, const MemoryRequest& request) {
  if (!request.job->device.is_cpu()) return storages;
  const size_t count = storages.size();
  for (size_t i = 0; i < count; ++i) {
    storages.push_back(storages[i]);
    storages.back().sparing = true;
  }
  return storages;
}

/// What a block takes by micro-batch, whether values are made twice, and the experts' statistics at a time.
class KnownMemories {
 public:
  KnownMemories(const MemoryRequest& request, const BlockMemories& blocks)
      : request_(request), blocks_(blocks) {}
  const BlockMemory& of(const StreamStorage& storage) {
    const SamplePlan plan{request_.samples, request_.length,           storage.micro_batch,
                          !storage.inner,   storage.expert_statistics, storage.sparing};
    const auto [found, added] =
        known_.try_emplace({plan.micro_batch, plan.remade, plan.expert_statistics, plan.sparing});
    if (added) found->second = blocks_.most(plan);
    return found->second;
  }

 private:
  const MemoryRequest& request_;
  const BlockMemories& blocks_;
  std::map<std::tuple<int64_t, bool, uint64_t, bool>, BlockMemory> known_;
};

MemoryBytes store_bytes(const MemoryRequest& request, const StreamStorage& storage, Placement placement,
                        int64_t width, DType dtype) {
  HiddenStorage where = storage.hidden;
  where.placement = placement;
  return bytes_of_store(
      stream_spec(where, request.samples, request.length, width, dtype, request.job->device));
}

MemoryBytes times(const MemoryBytes& bytes, uint64_t count) {
  return {bytes.ram * count, bytes.vram * count, bytes.disk * count};
}

/// Of a head that is to be quantised, FP32; else 0.
uint64_t head_bytes(const CalibrationJob& job) {
  return job.tasks.size() > job.graph->blocks.size() ? block_bytes(job.graph->head) : 0;
}

std::string where_text(Placement placement, bool cpu) {
  if (placement == Placement::disk) return "on disk";
  return cpu || placement == Placement::host ? "in memory" : "on the device";
}

/// `width`: inner_width().
Way assess(const MemoryRequest& request, const StreamStorage& storage, const BlockMemory& block,
           int64_t width) {
  const CalibrationJob& job = *request.job;
  const bool cpu = job.device.is_cpu();
  const uint64_t streams = carries_two_streams(job) ? 2 : 1;
  const MemoryBytes hidden = times(
      store_bytes(request, storage, storage.hidden.placement, job.graph->config.hidden_size, DType::F32),
      streams);
  MemoryBytes inner;
  if (storage.inner) {
    inner = times(store_bytes(request, storage, *storage.inner, width, job.compute), streams);
  }
  // The next one is read meanwhile, or when the work on this one is done and its weights are gone.
  const uint64_t next = storage.read_ahead ? block.next : 0;
  const uint64_t blocks = next + block.weights + block.originals;
  const uint64_t work = block.codes + block.statistics + block.scratch;
  const MemoryBytes program = program_memory(request.base_ram, job.device);
  const MemoryBytes computing =
      cpu ? MemoryBytes{blocks + work, 0, 0}
          // Beside the device's: the copy on the way there, and the codes.
          : MemoryBytes{std::max(next, head_bytes(job)) + block.codes, blocks + work, 0};
  const ModelConfig& config = job.graph->config;
  MemoryBytes cache;
  if (job.kv_cache && job.kv_cache->low_bit() && job.kv_cache->calibrated()) {
    const int64_t tokens = request.samples * request.length;
    cache.ram = kv_cache_fit_bytes(kv_cache_shape(config), tokens);
    if (!cpu) cache.vram = kv_cache_sample_bytes(kv_cache_shape(config), tokens);
  }
  const MemoryBytes kept = request.beside + cache + MemoryBytes{0, 0, request.journal + block.files};
  Way way{storage, program + hidden + inner + computing + kept, {}};
  const auto all = [](const MemoryBytes& bytes) { return bytes.ram + bytes.vram + bytes.disk; };
  way.parts = {{"program and text", all(program)},
               {"hidden states " + where_text(storage.hidden.placement, cpu), all(hidden)},
               {storage.read_ahead ? "two blocks' weights" : "a block's weights", blocks},
               {"statistics of an input", block.statistics},
               {"quantised block", block.codes},
               {"work on a chunk or an input", block.scratch}};
  if (storage.inner)
    way.parts.emplace_back("values inside a block " + where_text(*storage.inner, cpu), all(inner));
  if (all(cache) > 0) way.parts.emplace_back("keys and values that a cache is fitted to", all(cache));
  if (block.files > 0) way.parts.emplace_back("a Gram matrix on disk", block.files);
  if (request.journal > 0) way.parts.emplace_back("journal on disk, for --resume", request.journal);
  if (const uint64_t beside = all(request.beside); beside > 0)
    way.parts.emplace_back("what is measured beside", beside);
  std::stable_sort(way.parts.begin(), way.parts.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return way;
}

/// The first way within `lean` bytes of RAM, with solvers that spare nothing (the first `fast` ways) if there
/// is one. Peaks are upper bounds, an eighth above what is measured: where there is no such way, one that
/// much larger. Solvers that need more than the aim allows at any rate don't send the hidden states, which
/// the aim allows, to a file: at last one that holds them beside the least.
size_t lean_way(const std::vector<MemoryBytes>& peaks, size_t fast, MemoryLimits limits, uint64_t lean,
                uint64_t hidden, const std::string& instead) {
  const uint64_t most = limits.ram.value_or(UINT64_MAX);
  const std::vector<MemoryBytes> first_peaks(peaks.begin(),
                                             peaks.begin() + static_cast<std::ptrdiff_t>(fast));
  uint64_t least = most;
  for (const MemoryBytes& peak : peaks) {
    if (peak.disk <= limits.disk.value_or(UINT64_MAX)) least = std::min(least, peak.ram);
  }
  const uint64_t beside = least + hidden;
  const std::pair<const std::vector<MemoryBytes>*, uint64_t> aims[] = {{&first_peaks, lean},
                                                                       {&first_peaks, lean + lean / 8},
                                                                       {&peaks, lean},
                                                                       {&peaks, lean + lean / 8},
                                                                       {&peaks, beside + beside / 8}};
  for (const auto& [ways, ram] : aims) {
    limits.ram = std::min(ram, most);
    if (const auto first = first_way(*ways, limits)) return *first;
  }
  limits.ram = most;
  return choose_way(peaks, limits, "calibration", instead);
}

uint64_t hidden_bytes(const MemoryRequest& request) {
  const auto tokens = static_cast<uint64_t>(request.samples) * static_cast<uint64_t>(request.length);
  return tokens * static_cast<uint64_t>(request.job->graph->config.hidden_size) * 4;
}

uint64_t lean_ram(const MemoryRequest& request, const BlockMemories& blocks) {
  const CalibrationJob& job = *request.job;
  const uint64_t largest = std::max(largest_block_bytes(*job.graph), head_bytes(job));
  return 2 * largest + blocks.gram_bytes() + hidden_bytes(request) + request.beside.ram + kLeanSlack;
}

}  // namespace

uint64_t lean_ram(const MemoryRequest& request) { return lean_ram(request, BlockMemories(*request.job)); }

MemoryPlan plan_memory(const MemoryRequest& request) {
  std::vector<Way> ways;
  std::vector<MemoryBytes> peaks;
  const BlockMemories blocks(*request.job);
  KnownMemories known(request, blocks);
  const int64_t width = inner_width(*request.job->graph);
  const std::vector<StreamStorage> fast = storages(request);
  for (const StreamStorage& storage : with_sparing(fast, request)) {
    ways.push_back(assess(request, storage, known.of(storage), width));
    Way& way = ways.back();
    if (way.peak.ram < request.other_ram) {
      way.parts.emplace_back("more, while data is read and the output checked",
                             request.other_ram - way.peak.ram);
      way.peak.ram = request.other_ram;
    }
    peaks.push_back(way.peak);
  }
  const MemoryLimits limits = effective_limits(request.limits, request.machine);
  std::string instead = "take fewer or shorter samples";
  if (limits.disk && request.journal > *limits.disk) instead += ", or pass --no-journal";
  size_t chosen = choose_way(peaks, limits, "calibration", instead);
  if (!request.limits.ram && request.job->device.is_cpu())
    chosen = lean_way(peaks, fast.size(), limits, lean_ram(request, blocks), hidden_bytes(request), instead);
  Way& way = ways[chosen];
  const bool smaller = way.storage.micro_batch < chunk_rows(request.length, request.job->device);
  return {.storage = std::move(way.storage),
          .peak = way.peak,
          .parts = std::move(way.parts),
          .rounds_anew = smaller && micro_batch_rounds(*request.job)};
}

std::string describe_memory(const MemoryPlan& plan, std::string_view what) {
  std::string text = fmt::format("{:<10} at most {}", what, human_bytes(plan.peak.ram));
  if (plan.peak.vram > 0) text += fmt::format(", {} on the device", human_bytes(plan.peak.vram));
  if (plan.peak.disk > 0) text += fmt::format(", {} of temporary files", human_bytes(plan.peak.disk));
  text += "\n";
  for (const auto& [name, bytes] : plan.parts)
    text += fmt::format("           {:>9}  {}\n", human_bytes(bytes), name);
  if (!plan.storage.read_ahead) text += "           no block is read ahead\n";
  if (plan.storage.sparing) text += "           weights, matrices and factors are held in turn\n";
  if (!plan.storage.inner) text += "           values inside a block are computed twice\n";
  text += fmt::format("           {} sample{} computed together", plan.storage.micro_batch,
                      plan.storage.micro_batch == 1 ? "" : "s");
  text += plan.rounds_anew ? "; without the limits more, and the last bits may differ\n" : "\n";
  return text;
}

}  // namespace lathe
