#include "apps/quantize/artifact.h"

#include <ATen/ATen.h>

#include <set>

#include "apps/quantize/carried_values.h"
#include "lib/base/file.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

void write_json(const std::filesystem::path& file, const nlohmann::json& content) {
  write_file(file, content.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

/// Files that say how a folder's weights are stored or were made: each artefact has its own or none.
/// (GPTQModel believes quantize_config.json before config.json.)
bool is_about_an_artefact(const std::string& name) {
  static const std::set<std::string> names = {"quantize_config.json", "quant_config.json", "report.json",
                                              "report.md", "manifest.json"};
  return names.contains(name);
}

}  // namespace

ArtifactWriter::ArtifactWriter(const Plan& plan, const OutputPlan& output, const ModelGraph& graph,
                               const Checkpoint& source, std::map<std::string, TensorInfo> tensors,
                               std::filesystem::path folder, uint64_t shard_size)
    : plan_(plan),
      output_(output),
      graph_(graph),
      source_(source),
      tensors_(std::move(tensors)),
      folder_(std::move(folder)),
      shards_(plan_shards(output.tensors, shard_size), folder_) {}

void ArtifactWriter::copy(const std::string& name) {
  const TensorView view = source_.view(name);
  shards_.write(name, view.bytes, [&](std::span<const std::byte> piece) {
    check_carried_values(name, view.info.dtype, piece);
    source_.release(name, piece);
  });
}

void ArtifactWriter::write_outside_blocks() {
  for (const std::string& name : names_outside_blocks(graph_, tensors_)) copy(name);
}

void ArtifactWriter::write_block(const BlockOutcome& outcome) {
  for (const LinearOutcome& linear : outcome.linears) write_linear(linear);
  write_rest(outcome.index, outcome.changed);
}

void ArtifactWriter::write_linear(const LinearOutcome& linear) {
  if (linear.quantized.outliers) outliers_[linear.linear->name] = linear.quantized.outliers->count();
  for (const auto& [name, tensor] : output_.target->pack(linear.linear->name, linear.quantized)) {
    shards_.write(name, bytes_of(tensor));
  }
  for (LayoutWriter& layout : layouts_) layout.write(linear.linear->name, linear.quantized);
}

void ArtifactWriter::verify_layouts() const {
  for (const LayoutWriter& layout : layouts_) layout.verify();
}

void ArtifactWriter::write_rest(size_t block, const std::map<std::string, at::Tensor>& changed) {
  std::set<std::string> replaced;
  for (const LinearPlan& plan : plan_.blocks[block]) {
    if (plan.quantized) replaced.insert(plan.linear->name + ".weight");
  }
  const std::string prefix = graph_.blocks[block].prefix + ".";
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

void ArtifactWriter::finish() {
  shards_.finish();
  nlohmann::json config = source_.config();
  std::vector<PlannedLinear> quantized = plan_.quantized();
  for (PlannedLinear& linear : quantized) {
    if (const auto kept = outliers_.find(linear.name); kept != outliers_.end())
      linear.outliers = kept->second;
  }
  config["quantization_config"] = output_.target->quantization_config(quantized, plan_.floating(graph_));
  write_json(folder_ / "config.json", config);
  if (output_.target->side_files != nullptr) {
    for (const auto& [name, content] : output_.target->side_files(config.at("quantization_config")))
      write_json(folder_ / name, content);
  }
  for (const auto& file : source_.side_files()) {
    if (!is_about_an_artefact(file.filename().string())) copy_file_durably(file, folder_ / file.filename());
  }
  for (LayoutWriter& layout : layouts_) layout.finish();
}

ArtifactWriters open_writers(const Recipe& recipe, const Plan& plan, const ModelFolder& model,
                             const std::filesystem::path& folder) {
  ArtifactWriters writers;
  for (const OutputPlan& output : plan.outputs) {
    const std::filesystem::path place = output.subfolder.empty() ? folder : folder / output.subfolder;
    std::filesystem::create_directories(place);
    writers.push_back(std::make_unique<ArtifactWriter>(plan, output, model.graph, *model.checkpoint,
                                                       model.checkpoint->tensors(), place,
                                                       recipe.output.shard_size));
    writers.back()->write_outside_blocks();
  }
  std::vector<LayoutWriter> layouts;
  for (const LayoutPlan& layout : plan.layouts)
    layouts.emplace_back(plan, layout, folder / "layouts" / layout.layout->name, recipe.output.shard_size);
  writers.front()->add_layouts(std::move(layouts));
  return writers;
}

}  // namespace lathe
