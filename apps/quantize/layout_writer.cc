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

void LayoutWriter::verify() const {
  const LayoutFolder stored = LayoutFolder::open(folder_);
  for (const auto& [name, hash] : hashes_) {
    throw_if_cancelled();
    const PlannedLinear& linear = linears_.at(name);
    if (hash_of(layout_->unpack(linear, stored.read(linear))) != hash) {
      throw CheckFailed(
          fmt::format("{}: layout {} on disk differs from what the solver meant", name, layout_->name));
    }
  }
}

}  // namespace lathe
