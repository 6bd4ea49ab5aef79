#include "apps/quantize/layout_writer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "apps/quantize/read_back.h"
#include "formats/safetensors/safetensors_header.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Tensors of all safetensors files of a folder, mapped.
class LayoutFolder {
 public:
  explicit LayoutFolder(const fs::path& folder) : folder_(folder) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      files_.push_back(MappedFile::open(entry.path()));
      const auto bytes = files_.back().bytes();
      for (StoredTensor& stored : parse_safetensors_header(bytes, entry.path().string()).tensors) {
        const auto part = bytes.subspan(stored.begin, stored.end - stored.begin);
        tensors_[stored.name] = {std::move(stored.info), part};
      }
    }
  }

  /// UserError where it is missing or not as planned.
  at::Tensor read(const PlannedTensor& planned) const {
    const auto found = tensors_.find(planned.name);
    if (found == tensors_.end()) user_error("{}: tensor '{}' is missing", folder_.string(), planned.name);
    const TensorInfo& info = found->second.info;
    if (info.dtype != planned.info.dtype || info.shape != planned.info.shape)
      user_error("{}: tensor '{}' is not of the layout's type and shape", folder_.string(), planned.name);
    return borrow(found->second);
  }

 private:
  fs::path folder_;
  std::vector<MappedFile> files_;
  std::map<std::string, TensorView> tensors_;
};

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
  const LayoutFolder stored(folder_);
  for (const auto& [name, hash] : hashes_) {
    throw_if_cancelled();
    const PlannedLinear& linear = linears_.at(name);
    std::vector<at::Tensor> contents;
    for (const PlannedTensor& tensor : layout_->tensors(linear)) contents.push_back(stored.read(tensor));
    if (hash_of(layout_->unpack(linear, contents)) != hash) {
      throw CheckFailed(
          fmt::format("{}: layout {} on disk differs from what the solver meant", name, layout_->name));
    }
  }
}

}  // namespace lathe
