#include "apps/quantize/memory.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/base/scratch_file.h"
#include "lib/tensor/device_memory.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

/// What the process takes between this moment and the first block, beside data: code that is touched for the
/// first time, MKL's buffers, the output's plan.
constexpr uint64_t kProgramBytes = uint64_t{24} << 20;
/// What the end of a run takes beyond that where a GGUF file's tensors outside the blocks are written and
/// checked: pieces of 4 MiB in FP32, and what the allocators keep between them (with a vocabulary of 200,000
/// 65 MiB in all, kProgramBytes included). Of other formats what is kept is checked by 1 MiB.
constexpr uint64_t kGgufFinishBytes = uint64_t{56} << 20;
/// Of a weight of the largest linear, while it is checked: its codes by two ways, where they differ, and the
/// file's pages.
constexpr uint64_t kCheckBytes = 4;
/// What may stand beside the driver in memory is so small a part of what there is, so that the driver, which
/// plans with the rest, keeps its speed.
constexpr uint64_t kShare = 4;

MachineMemory machine_memory(c10::Device device, const fs::path& work) {
  MachineMemory machine{available_memory(), free_device_memory(device), free_disk_bytes(work)};
  if (machine.ram) *machine.ram += resident_bytes();  // what this process holds is its own already
  return machine;
}

/// Of what is held now, so that two runs of one recipe plan the same.
uint64_t rounded_up(uint64_t bytes) { return (bytes + kRunsDiffer - 1) / kRunsDiffer * kRunsDiffer; }

uint64_t base_ram() {
  release_free_memory();
  return rounded_up(resident_bytes()) + kProgramBytes;
}

}  // namespace

fs::path work_folder(const std::optional<fs::path>& asked, const fs::path& beside) {
  if (asked) {
    ScratchFile(*asked, 0);  // UserError where it takes no files
    return *asked;
  }
  std::error_code ignored;
  fs::path folder = fs::absolute(beside, ignored).lexically_normal();
  while (!fs::is_directory(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  return folder;
}

void warn_limits(const MemoryLimits& limits, c10::Device device, std::vector<std::string>& warnings) {
  if (!limits.vram || !device.is_cpu()) return;
  warnings.emplace_back(
      "--max-vram (limits.vram) limits nothing: the run is on the CPU, whose memory is limited by --max-ram");
}

uint64_t finish_bytes(const Plan& plan) {
  const bool gguf = std::ranges::any_of(plan.outputs, [](const OutputPlan& o) { return o.gguf.has_value(); });
  int64_t largest = 0;
  for (const LinearPlan* linear : plan.linears())
    if (linear->quantized) largest = std::max(largest, linear->linear->out * linear->linear->in);
  return std::max(gguf ? kGgufFinishBytes : 0, kCheckBytes * static_cast<uint64_t>(largest));
}

MemoryPlan plan_run_memory(const MemoryLimits& limits, const CalibrationJob& job, const fs::path& work,
                           uint64_t journal, uint64_t finish, const MemoryBytes& beside) {
  const uint64_t base = base_ram();
  MemoryPlan plan = plan_memory({.job = &job,
                                 .samples = job.ids.size(0),
                                 .length = job.ids.size(1),
                                 .limits = limits,
                                 .machine = machine_memory(job.device, work),
                                 .base_ram = base,
                                 .other_ram = std::max(rounded_up(peak_rss_bytes()), base + finish),
                                 .journal = journal,
                                 .beside = beside});
  plan.storage.hidden.work = work;
  return plan;
}

MemoryBytes plan_weights_memory(const MemoryLimits& limits, int64_t weights, c10::Device device,
                                uint64_t journal, uint64_t finish) {
  // FP32 as read, contiguous, the error's two chunks, the codes and what packs them (32 bits for each,
  // twice).
  constexpr uint64_t kBytesPerWeight = 4 + 4 + 4 + 1 + 8;
  constexpr uint64_t kWriterBytes = uint64_t{16}
                                    << 20;  // pieces of tensors that are copied, headers, the report
  const uint64_t at_once = kBytesPerWeight * static_cast<uint64_t>(weights);
  MemoryBytes peak{base_ram() + std::max(kWriterBytes + at_once, finish), device.is_cuda() ? at_once : 0,
                   journal};
  choose_way({peak}, limits, "quantisation");
  return peak;
}

HiddenStorage place_beside(int64_t samples, int64_t length, int64_t width, c10::Device device,
                           const fs::path& work, const MemoryLimits& limits, bool in_memory,
                           MemoryBytes& taken) {
  HiddenStorage storage{
      .placement = Placement::disk, .transfer_rows = large_transfer(length, width, device), .work = work};
  const uint64_t bytes = static_cast<uint64_t>(samples * length * width) * sizeof(float);
  const auto fits = [&](const std::optional<uint64_t>& limit, const std::optional<uint64_t>& there) {
    const auto room = limit ? limit : there;
    return in_memory && (!room || bytes <= *room / kShare);
  };
  if (device.is_cuda() && fits(limits.vram, free_device_memory(device))) {
    storage.placement = Placement::device;
  } else if (fits(limits.ram, available_memory())) {
    storage.placement = device.is_cpu() ? Placement::device : Placement::host;
  }
  taken = taken + bytes_of_store(store_spec(storage, samples, length, width, device));
  return storage;
}

nlohmann::json bytes_json(const MemoryBytes& bytes) {
  return {{"ram", bytes.ram}, {"vram", bytes.vram}, {"disk", bytes.disk}};
}

EvalMemory plan_eval_memory(const ModelFolder& model, const ModelFolder* reference, const at::Tensor& rows,
                            const MemoryLimits& limits, c10::Device device, const fs::path& work) {
  std::optional<EvalInput> against;
  if (reference != nullptr) against = EvalInput{&reference->graph, reference->weights.get()};
  EvalMemory memory = plan_eval_memory({.model = {&model.graph, model.weights.get()},
                                        .reference = against,
                                        .rows = rows.size(0),
                                        .ctx = rows.size(1),
                                        .device = device,
                                        .limits = limits,
                                        .machine = machine_memory(device, work),
                                        .base_ram = base_ram()});
  memory.storage.work = work;
  return memory;
}

}  // namespace lathe
