#include "apps/quantize/artifact.h"

#include <set>

#include "apps/quantize/gguf_artifact.h"
#include "apps/quantize/safetensors_artifact.h"
#include "formats/gguf/gguf_tokenizer.h"
#include "formats/targets/gguf_folder.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/model/forward.h"

namespace lathe {
namespace {

/// Files that say how a folder's weights are stored or were made: each artefact has its own or none.
/// (GPTQModel believes quantize_config.json before config.json.)
bool is_about_an_artefact(const std::string& name) {
  static const std::set<std::string> names = {
      "quantize_config.json", "quant_config.json", "hf_quant_config.json", "report.json", "report.md",
      "report.html",          "manifest.json"};
  return names.contains(name);
}

}  // namespace

void ArtifactWriter::write_block(const BlockOutcome& outcome) {
  for (const LinearOutcome& linear : outcome.linears) write_linear(linear);
  if (outcome.kv_cache)
    write_kv_cache(attention_module(model_.graph.blocks[outcome.index]), *outcome.kv_cache);
  if (outcome.index < model_.graph.blocks.size()) write_rest(outcome.index, outcome.changed);
}

void ArtifactWriter::write_kv_cache(const std::string&, const KvCacheQuantizer&) {
  internal_error("format {} has no place for a KV cache, though the plan found one", target().name);
}

void ArtifactWriter::write_linear(const LinearOutcome& linear) {
  pack(linear);
  for (LayoutWriter& layout : layouts_) layout.write(linear.linear->name, linear.quantized);
}

void ArtifactWriter::finish() {
  finish_weights();
  for (const auto& file : model_.checkpoint->side_files()) {
    const std::filesystem::path place = file.lexically_relative(model_.checkpoint->folder());
    if (is_about_an_artefact(place.string())) continue;
    if (place.has_parent_path()) std::filesystem::create_directories(folder_ / place.parent_path());
    copy_file_durably(file, folder_ / place);
  }
  if (model_.gguf != nullptr) write_gguf_tokenizer();
  for (LayoutWriter& layout : layouts_) layout.finish();
}

/// The tokenizer of a GGUF file: the files that it came with, else what its keys say; nothing where a GGUF
/// file that carries them on is all that is asked for, and they say what Lathe has no tokenizer for.
void ArtifactWriter::write_gguf_tokenizer() const {
  const std::filesystem::path from = model_.tokenizer_folder();
  bool found = false;
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja", "generation_config.json"}) {
    if (!std::filesystem::is_regular_file(from / name)) continue;
    copy_file_durably(from / name, folder_ / name);
    found = found || std::string_view(name).starts_with("tokenizer.");
  }
  if (found) return;
  GgufTokenizer tokenizer;
  try {
    tokenizer = tokenizer_of_gguf(*model_.gguf);
  } catch (const UserError&) {
    if (output_.gguf) return;
    throw;
  }
  write_file(folder_ / "tokenizer.json", tokenizer.tokenizer.dump() + "\n");
  write_file(folder_ / "tokenizer_config.json", tokenizer.tokenizer_config.dump(2) + "\n");
}

std::string ArtifactWriter::how_to_load() const {
  return with_file_name(lathe::how_to_load(plan_, output_, model_.graph), folder_);
}

void ArtifactWriter::verify(const WrittenTensors& written) const {
  Findings findings;
  try {
    findings = differing_weights(written);
  } catch (const UserError& error) {  // not the user's: it was written here
    throw CheckFailed(error.what());
  }
  require_none(findings);
  for (const LayoutWriter& layout : layouts_) require_none(layout.check());
}

Findings ArtifactWriter::check(const WrittenTensors& written, bool folds) const {
  Findings findings;
  try {
    findings = check_weights(written, folds);
    for (const LayoutWriter& layout : layouts_) {
      const Findings more = layout.check();
      findings.insert(findings.end(), more.begin(), more.end());
    }
  } catch (const UserError& error) {
    findings.push_back(
        {check::layout, folder_.filename().string(), "an artefact that can be read", error.what()});
  }
  return findings;
}

std::unique_ptr<ArtifactWriter> open_writer(const Plan& plan, const OutputPlan& output,
                                            const ModelFolder& model,
                                            std::map<std::string, TensorInfo> tensors,
                                            std::filesystem::path folder, const Recipe& recipe) {
  if (output.gguf) return std::make_unique<GgufArtifact>(plan, output, model, std::move(folder), recipe);
  return std::make_unique<SafetensorsArtifact>(plan, output, model, std::move(tensors), std::move(folder),
                                               recipe.output.shard_size);
}

std::vector<FormatRounding> round_ahead(ArtifactWriters& writers, const Linear& linear,
                                        const GivenWeight& given) {
  std::vector<FormatRounding> made;
  for (auto& writer : writers) {
    if (auto one = writer->round_ahead(linear, given)) made.push_back(*std::move(one));
  }
  return made;
}

ArtifactWriters open_writers(const Recipe& recipe, const Plan& plan, const ModelFolder& model,
                             const std::filesystem::path& folder) {
  ArtifactWriters writers;
  for (const OutputPlan& output : plan.outputs) {
    const std::filesystem::path place = output.subfolder.empty() ? folder : folder / output.subfolder;
    std::filesystem::create_directories(place);
    writers.push_back(open_writer(plan, output, model, model.checkpoint->tensors(), place, recipe));
    writers.back()->write_outside_blocks();
  }
  std::vector<LayoutWriter> layouts;
  for (const LayoutPlan& layout : plan.layouts)
    layouts.emplace_back(plan, layout, folder / "layouts" / layout.layout->name, recipe.output.shard_size);
  writers.front()->add_layouts(std::move(layouts));
  return writers;
}

}  // namespace lathe
