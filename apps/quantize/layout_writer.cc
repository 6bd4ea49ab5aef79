#include "apps/quantize/layout_writer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "apps/quantize/read_back.h"
#include "formats/layouts/layout_folder.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json describe_linear(const KernelLayout& layout, const PlannedLinear& linear) {
  json row = layout.notes(linear);
  const Scheme& scheme = linear.scheme;
  row["scheme"] = scheme.describe();
  row["bits"] = scheme.bits;
  row["group_size"] = scheme.group_size;
  row["symmetric"] = scheme.symmetric;
  row["shape"] = {linear.out, linear.in};
  row["act_order"] = linear.group_index;
  for (const PlannedTensor& tensor : layout.tensors(linear)) {
    row["tensors"][tensor.name.substr(linear.name.size() + 1)] = {{"dtype", name_of(tensor.info.dtype)},
                                                                  {"shape", tensor.info.shape}};
  }
  return row;
}

std::map<std::string, PlannedLinear> by_name(const Plan& plan) {
  std::map<std::string, PlannedLinear> linears;
  for (PlannedLinear& linear : plan.quantized()) {
    const std::string name = linear.name;
    linears[name] = std::move(linear);
  }
  return linears;
}

fs::path created(fs::path folder) {
  fs::create_directories(folder);
  return folder;
}

}  // namespace

LayoutWriter::LayoutWriter(const Plan& plan, const LayoutPlan& layout, fs::path folder, uint64_t shard_size)
    : layout_(layout.layout),
      folder_(created(std::move(folder))),
      linears_(by_name(plan)),
      shards_(plan_shards(layout.tensors, shard_size), folder_) {}

void LayoutWriter::write(const std::string& name, const QuantizedTensor& tensor) {
  const PlannedLinear& linear = linears_.at(name);
  hashes_[name] = hash_of(tensor);
  const std::vector<PlannedTensor> planned = layout_->tensors(linear);
  const std::vector<at::Tensor> contents = layout_->pack(linear, tensor);
  LATHE_ASSERT(planned.size() == contents.size(), "{}: {} of {} tensors", layout_->name, contents.size(),
               planned.size());
  for (size_t i = 0; i < planned.size(); ++i) shards_.write(planned[i].name, bytes_of(contents[i]));
}

void LayoutWriter::finish() {
  shards_.finish();
  json result = {{"schema", kLayoutSchema},
                 {"layout", layout_->name},
                 {"kernel", layout_->kernel},
                 {"gpus", layout_->gpus},
                 {"permutation", layout_->permutation},
                 {"source", layout_->source}};
  for (const auto& [name, linear] : linears_) result["linears"][name] = describe_linear(*layout_, linear);
  for (const auto& entry : fs::directory_iterator(folder_)) {
    result["files"][entry.path().filename().string()] = {{"bytes", entry.file_size()},
                                                         {"hash", content_hash_of_file(entry.path())}};
  }
  write_file(folder_ / "layout.json", result.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

/// Does the folder hold of this linear what write() was given? UserError where that can't be read.
bool LayoutWriter::is_as_written(const std::string& name, const LayoutFolder& stored) const {
  const PlannedLinear& linear = linears_.at(name);
  return hash_of(layout_->unpack(linear, stored.read(linear))) == hashes_.at(name);
}

Findings LayoutWriter::check() const {
  Findings findings;
  const auto differs = [&](const std::string& name, const std::string& found) {
    findings.push_back(
        {check::meant, name, fmt::format("what the solver meant, in layout {}", layout_->name), found});
  };
  try {
    const LayoutFolder stored = LayoutFolder::open(folder_);
    for (const auto& [name, hash] : hashes_) {
      throw_if_cancelled();
      try {
        if (!is_as_written(name, stored)) differs(name, "something else on disk");
      } catch (const UserError& error) {
        differs(name, error.what());
      }
    }
  } catch (const UserError& error) {
    findings.push_back(
        {check::layout, fmt::format("layout {}", layout_->name), "a folder that can be read", error.what()});
  }
  return findings;
}

}  // namespace lathe
