#include "apps/quantize/safetensors_artifact.h"

#include <ATen/ATen.h>

#include <set>

#include "apps/quantize/carried_values.h"
#include "apps/quantize/output_check.h"
#include "formats/targets/kv_cache_file.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

void write_json(const std::filesystem::path& file, const nlohmann::json& content) {
  write_file(file, content.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace

SafetensorsArtifact::SafetensorsArtifact(const Plan& plan, const OutputPlan& output, const ModelFolder& model,
                                         std::map<std::string, TensorInfo> tensors,
                                         std::filesystem::path folder, uint64_t shard_size)
    : ArtifactWriter(plan, output, model, std::move(folder)),
      tensors_(std::move(tensors)),
      shards_(plan_shards(output.tensors, shard_size), folder_) {}

void SafetensorsArtifact::copy(const std::string& name) {
  const Checkpoint& source = *model_.checkpoint;
  const TensorView view = source.view(name);
  shards_.write(name, view.bytes, [&](std::span<const std::byte> piece) {
    check_carried_values(source, name, view, piece);
    source.release(name, piece);
  });
}

void SafetensorsArtifact::write_outside_blocks() {
  const std::string head = plan_.lm_head.quantized ? plan_.lm_head.linear->name + ".weight" : "";
  for (const std::string& name : names_outside_blocks(model_.graph, tensors_))
    if (name != head) copy(name);
}

void SafetensorsArtifact::pack(const LinearOutcome& linear) {
  if (linear.quantized.outliers) outliers_[linear.linear->name] = linear.quantized.outliers->count();
  const char* const shared = linear.quantized.scheme.type == "int" ? output_.target->shared_maximum : nullptr;
  for (const auto& [name, tensor] : output_.target->pack(linear.linear->name, linear.quantized)) {
    if (shared == nullptr || !name.ends_with(shared)) {
      shards_.write(name, bytes_of(tensor));
      continue;
    }
    SharedScale& scale = shared_[name_of(linear.linear->input)];
    scale.largest = scale.largest.defined() ? at::maximum(scale.largest, tensor) : tensor;
    scale.names.push_back(name);
  }
}

/// Of the block whose linears have all been packed.
void SafetensorsArtifact::write_shared() {
  for (const auto& [input, scale] : shared_)
    for (const std::string& name : scale.names) shards_.write(name, bytes_of(scale.largest));
  shared_.clear();
}

void SafetensorsArtifact::write_rest(size_t block, const std::map<std::string, at::Tensor>& changed) {
  write_shared();
  std::set<std::string> replaced;
  for (const LinearPlan& plan : plan_.blocks[block]) {
    if (plan.quantized) replaced.insert(plan.linear->name + ".weight");
  }
  const std::string prefix = model_.graph.blocks[block].prefix + ".";
  for (auto it = tensors_.lower_bound(prefix); it != tensors_.end() && it->first.starts_with(prefix); ++it) {
    const auto& [name, info] = *it;
    if (replaced.contains(name)) continue;
    const auto found = changed.find(name);
    if (found == changed.end()) {
      copy(name);
    } else {
      shards_.write(name, bytes_of(found->second.to(to_scalar_type(info.dtype)).contiguous()));
    }
  }
}

void SafetensorsArtifact::write_kv_cache(const std::string& attention, const KvCacheQuantizer& quantizer) {
  if (quantizer.scheme.low_bit()) {
    cache_[attention] = quantizer;
    return;
  }
  for (const auto& [name, tensor] : output_.target->kv_cache->pack(attention, quantizer))
    shards_.write(name, bytes_of(tensor));
}

void SafetensorsArtifact::finish_weights() {
  LATHE_ASSERT(shared_.empty(), "{} of a head wait for the others of its block", shared_.size());
  shards_.finish();
  nlohmann::json config = model_.checkpoint->config();
  config["quantization_config"] = planned_quantization(plan_, output_, model_.graph, outliers_);
  write_json(folder_ / "config.json", config);
  if (plan_.kv_cache && plan_.kv_cache->low_bit())
    write_kv_cache_file(folder_, {*plan_.kv_cache, cache_}, model_.graph, *model_.weights);
  if (output_.target->side_files == nullptr) return;
  for (const auto& [name, content] : output_.target->side_files(config.at("quantization_config")))
    write_json(folder_ / name, content);
}

Findings SafetensorsArtifact::check_weights(const WrittenTensors& written, bool folds) const {
  return check_written(folder_, plan_, output_, model_, written, folds);
}

Findings SafetensorsArtifact::differing_weights(const WrittenTensors& written) const {
  return written.compare(open_model_folder(folder_, model_.graph));
}

}  // namespace lathe
