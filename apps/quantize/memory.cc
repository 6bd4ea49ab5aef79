#include "apps/quantize/memory.h"

#include <ATen/core/Tensor.h>

#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/base/scratch_file.h"
#include "lib/tensor/device_memory.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

/// What the process takes between this moment and the first block, beside texts: code that is touched for the
/// first time, MKL's buffers, the tokenizer, the output's plan.
constexpr uint64_t kProgramBytes = uint64_t{24} << 20;
/// A text, mapped while it is read, and its tokens: 8 bytes for each, of about 4 bytes of text.
constexpr uint64_t kTextCopies = 3;

MachineMemory machine_memory(c10::Device device, const fs::path& work) {
  MachineMemory machine{available_memory(), free_device_memory(device), free_disk_bytes(work)};
  if (machine.ram) *machine.ram += resident_bytes();  // what this process holds is its own already
  return machine;
}

uint64_t text_bytes(const Recipe& recipe) {
  uint64_t bytes = 0;
  std::error_code ignored;
  const auto add = [&](const fs::path& file) {
    const uintmax_t size = fs::file_size(file, ignored);
    if (!ignored) bytes += kTextCopies * size;
  };
  for (const DataSource& source : recipe.calibration.data) add(source.path);
  if (recipe.evaluate) add(recipe.evaluate->text);
  return bytes;
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

MemoryPlan plan_run_memory(const Recipe& recipe, const CalibrationJob& job, const fs::path& work) {
  MemoryPlan plan = plan_memory({.job = &job,
                                 .samples = recipe.calibration.samples,
                                 .length = recipe.calibration.seq_len,
                                 .limits = recipe.limits,
                                 .machine = machine_memory(job.device, work),
                                 .base_ram = resident_bytes() + kProgramBytes + text_bytes(recipe)});
  plan.storage.hidden.work = work;
  return plan;
}

EvalMemory plan_eval_memory(const ModelFolder& model, const ModelFolder* reference, const at::Tensor& rows,
                            const MemoryLimits& limits, c10::Device device, const fs::path& work) {
  EvalMemory memory = plan_eval_memory({.model = &model.graph,
                                        .reference = reference == nullptr ? nullptr : &reference->graph,
                                        .rows = rows.size(0),
                                        .ctx = rows.size(1),
                                        .device = device,
                                        .limits = limits,
                                        .machine = machine_memory(device, work),
                                        .base_ram = resident_bytes() + kProgramBytes});
  memory.storage.work = work;
  return memory;
}

}  // namespace lathe
