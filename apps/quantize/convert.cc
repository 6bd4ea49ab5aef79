#include "apps/quantize/convert.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "apps/quantize/artifact.h"
#include "apps/quantize/gguf_artifact.h"
#include "apps/quantize/layout_writer.h"
#include "apps/quantize/manifest.h"
#include "apps/quantize/progress.h"
#include "apps/quantize/read_back.h"
#include "apps/quantize/real_zeros.h"
#include "apps/quantize/request_checks.h"
#include "formats/layouts/layout_folder.h"
#include "formats/layouts/layout_model.h"
#include "formats/safetensors/json_text.h"
#include "formats/targets/gguf_folder.h"
#include "formats/targets/gguf_reader.h"
#include "formats/targets/packed_reader.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"
#include "lib/model/forward.h"
#include "lib/model/fused_linears.h"
#include "lib/report/model_card.h"
#include "lib/report/report.h"
#include "recipes/plan.h"
#include "recipes/plan_outputs.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxReportBytes = uint64_t{1} << 30;

/// What is converted, and what to call its format.
struct Artefact {
  ModelFolder model;
  std::string format;  // "gguf", config.json's quant_method, or a layout's name
};

/// A linear's codes as the plan has them: with integers where real zero points are some, and where others
/// need zero points, with those that symmetric codes have.
QuantizedTensor read_as(const ModelFolder& model, const LinearPlan& linear) {
  QuantizedTensor tensor = fit_zeros(model.read_quantized(linear.linear->name), linear.scheme);
  if (tensor.scheme.symmetric && !linear.scheme.symmetric) {
    tensor.scheme.symmetric = false;
    tensor.zero_points = at::zeros(tensor.scales.sizes(), at::kChar);
  }
  return tensor;
}

/// Blocks of GGUF with negative scales become asymmetric codes, tensor by tensor as they come: one scheme for
/// all of one width, for consumers fuse some of them.
void unify_zero_points(const ModelFolder& model, Plan& plan) {
  if (model.gguf == nullptr) return;
  std::set<int> asymmetric;
  for (const auto& block : plan.blocks) {
    for (const LinearPlan& linear : block)
      if (linear.quantized && !linear.scheme.symmetric) asymmetric.insert(linear.scheme.bits);
  }
  for (auto& block : plan.blocks) {
    for (LinearPlan& linear : block) {
      if (linear.scheme.type == "int" && asymmetric.contains(linear.scheme.bits))
        linear.scheme.symmetric = false;
    }
  }
}

/// A linear of the artefact as it stands there. Reading it is the way to know whether its groups are in an
/// order of their own.
LinearPlan plan_linear(const ModelFolder& model, const Linear& linear, std::optional<DType>& scale_dtype,
                       RealZeros& zeros) {
  LinearPlan plan;
  plan.linear = &linear;
  plan.reason = "in floating point in the artefact";
  if (!model.schemes.contains(linear.name)) return plan;
  throw_if_cancelled();
  const QuantizedTensor tensor = model.read_quantized(linear.name);
  plan.quantized = true;
  plan.scheme = tensor.scheme;
  plan.group_index = tensor.group_index.defined();
  if (tensor.input) plan.activations = tensor.input->scheme;
  zeros.note(model.checkpoint->folder().string(), linear.name, tensor);
  // Block scales are what their grid has them be; other scales have one type in all of an artefact.
  if (plan.scheme.scale_type(DType::F16) != DType::F16) return plan;
  if (scale_dtype && *scale_dtype != tensor.scale_dtype) {
    user_error("{}: the scales of '{}' are {}, those before it {}: expected one type for all",
               model.checkpoint->folder().string(), linear.name, name_of(tensor.scale_dtype),
               name_of(*scale_dtype));
  }
  scale_dtype = tensor.scale_dtype;
  return plan;
}

/// What is quantised in the artefact, in schemes of the destination's.
Plan plan_artefact(const ModelFolder& model, const Destination& to) {
  Plan plan;
  std::optional<DType> scale_dtype;
  RealZeros zeros;
  for (const Block& block : model.graph.blocks) {
    auto& linears = plan.blocks.emplace_back();
    for (const Linear& linear : block.linears)
      linears.push_back(plan_linear(model, linear, scale_dtype, zeros));
  }
  plan.lm_head = plan_linear(model, model.graph.lm_head(), scale_dtype, zeros);
  unify_zero_points(model, plan);
  if (plan.quantized().empty()) user_error("{}: no linear is quantised", model.checkpoint->folder().string());
  plan.scale_dtype = scale_dtype.value_or(DType::F16);
  zeros.fit(plan, to);
  plan.kv_cache = model.kv_cache;
  for (const auto& [name, info] : model.checkpoint->tensors()) plan.input_bytes += info.nbytes();
  return plan;
}

/// Not for GGUF, whose readers take each tensor by its own type.
void check_fused(const ModelFolder& model, const Plan& plan, const std::string& to) {
  std::map<const Linear*, std::string> schemes;
  for (const LinearPlan* linear : plan.linears())
    schemes[linear->linear] = linear->quantized ? linear->describe() : "floating point";
  const auto problem =
      half_fused(model.graph.blocks, [&](const Linear& linear) { return schemes.at(&linear); });
  if (!problem) return;
  user_error("{}: {} by the engines that read {}; quantise the model anew, or convert to gguf:...",
             model.checkpoint->folder().string(), *problem, to);
}

void write_tensors(const ModelFolder& model, const Plan& plan, ArtifactWriter& writer,
                   WrittenTensors& written, Progress& progress) {
  progress.begin("convert", static_cast<int64_t>(plan.parts()));
  writer.write_outside_blocks();
  for (size_t b = 0; b < plan.parts(); ++b) {
    for (const LinearPlan& linear : plan.part(b)) {
      if (!linear.quantized) continue;
      throw_if_cancelled();
      LinearOutcome outcome;
      outcome.linear = linear.linear;
      outcome.quantized = read_as(model, linear);
      writer.write_linear(outcome);
      written.note(outcome);
    }
    progress.advance(static_cast<int64_t>(b) + 1, 0, "");
    if (b == plan.blocks.size()) break;  // the head
    writer.write_rest(b, {});
    const std::string attention = attention_module(model.graph.blocks[b]);
    if (const auto cache = model.weights->kv_cache(attention)) {
      writer.write_kv_cache(attention, *cache);
      written.note(attention, *cache);
    }
  }
  writer.finish();
  progress.end();
}

/// One of the artefact's own files about itself with a word about the conversion, or, where it came without,
/// that word.
json write_about(const Artefact& artefact, const Target& target, const std::filesystem::path& folder,
                 const char* file, int schema) {
  const auto from = artefact.model.tokenizer_folder() / file;
  std::error_code ignored;
  json content = {{"schema", schema}, {"lathe", LATHE_VERSION}};
  if (std::filesystem::is_regular_file(from, ignored)) content = read_json_object(from, kMaxReportBytes);
  if (file == std::string_view("manifest.json")) {
    const FileHashes hashes = hash_files(folder);
    content["tensors"] = hash_tensors(folder);
    content["files"] = hashes.files;
    content["reports"] = hashes.reports;
  }
  content["converted"] = {{"from", artefact.format}, {"to", target.name}, {"lathe", LATHE_VERSION}};
  write_file(folder / file, content.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
  return content;
}

/// Words that stand among the tags of a card for the format that it describes.
std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const Target& target : targets()) names.push_back(target.name);
  return names;
}

void write_report(const Artefact& artefact, const Plan& plan, const Target& target,
                  const std::filesystem::path& folder) {
  const json report = write_about(artefact, target, folder, "report.json", Report::kSchema);
  std::string text = fmt::format(
      "# Converted to {}\n\nEvery code, scale and zero point is that of the artefact that this one was made "
      "from; report.json is that artefact's, where it had one.\n\n",
      target.name);
  for (const std::string& warning : plan.output_warnings()) text += fmt::format("- Warning: {}\n", warning);
  const OutputPlan& output = plan.outputs.front();
  const std::string how = with_file_name(how_to_load(plan, output, artefact.model.graph), folder);
  write_file(folder / "report.md", text + "\n## How to load\n\n" + how);
  const std::vector<std::string> consumers = consumer_lines(plan, output, artefact.model.graph);
  if (report.contains("linears"))  // else there was none
    write_file(folder / "report.html", report_page(report, how, consumers));
  const std::filesystem::path card = folder / "README.md";
  const std::string base = std::filesystem::exists(card) ? read_text_file(card) : std::string();
  write_file(card, converted_card({target.name, how, consumers, format_names()}, base));
  write_about(artefact, target, folder, "manifest.json", kManifestSchema);
}

/// The request with the format's own name. UserError listing formats and layouts for an unknown one.
ConvertRequest with_known_format(ConvertRequest request) {
  request.to = canonical_format(request.to);
  const std::string& name = request.to;
  std::vector<std::string> formats, layouts;
  for (const Target& target : targets()) formats.push_back(target.name);
  for (const KernelLayout& layout : kernel_layouts()) layouts.push_back(layout.name);
  std::vector<std::string> all = formats;
  all.insert(all.end(), layouts.begin(), layouts.end());
  if (std::ranges::find(all, name) != all.end()) return request;
  user_error("unknown output format '{}'; known: {}; kernel layouts: {}{}", name, join_words(formats),
             join_words(layouts), suggested_format(name, all));
}

/// Vectors of codebooks stand for weights, but for no codes of another format.
void check_codes(const ModelFolder& model) {
  for (const auto& [linear, scheme] : model.schemes) {
    if (!scheme.vectors()) continue;
    user_error(
        "{}: '{}' is {}: vectors of a codebook, which no other format has; quantise the weights anew with "
        "--recipe, or take the original model",
        model.checkpoint->folder().string(), linear, scheme.describe());
  }
}

Artefact open_artefact(const ConvertRequest& request) {
  check_output_apart(request.model, request.output);
  if (LayoutFolder::is_one(request.model)) {
    Artefact artefact{open_layout_model(request.model), LayoutFolder::open(request.model).layout().name};
    check_output_apart(artefact.model.checkpoint->folder(), request.output);
    return artefact;
  }
  Artefact artefact{open_model_folder(request.model), "gguf"};
  const ModelFolder& model = artefact.model;
  if (model.gguf != nullptr) check_carried(*model.gguf, model.graph);
  check_codes(model);
  if (model.schemes.empty()) {
    user_error("{}: is in floating point: `quantize --recipe FILE --model DIR` quantises it",
               request.model.string());
  }
  if (model.gguf == nullptr)
    artefact.format = model.checkpoint->config().at("quantization_config").at("quant_method");
  return artefact;
}

void say_converted(const ConvertRequest& request, uint64_t before, uint64_t after) {
  if (request.quiet) return;
  fmt::print("{}: {} -> {}\nwritten to {}\n", request.to, human_bytes(before), human_bytes(after),
             request.output.string());
}

/// The artefact's linears alone, as a kernel reads them: the folder is what a run writes to layouts/<name>.
void convert_to_layout(const ConvertRequest& request, const KernelLayout& layout) {
  const ModelFolder model = open_artefact(request).model;
  Plan plan = plan_artefact(model, {"layout " + layout.name, layout.refuses});
  check_fused(model, plan, layout.name);
  add_layout(plan, layout);
  Progress progress(request.quiet);
  OutputFolder output(request.output, request.overwrite);
  LayoutWriter writer(plan, plan.layouts.front(), output.path(), request.shard_size);
  progress.begin("convert", static_cast<int64_t>(plan.parts()));
  for (size_t b = 0; b < plan.parts(); ++b) {
    for (const LinearPlan& linear : plan.part(b)) {
      if (!linear.quantized) continue;
      throw_if_cancelled();
      writer.write(linear.linear->name, read_as(model, linear));
    }
    progress.advance(static_cast<int64_t>(b) + 1, 0, "");
  }
  writer.finish();
  progress.end();
  require_none(writer.check());
  output.commit();
  say_converted(request, plan.input_bytes, plan.layouts.front().bytes);
}

}  // namespace

void run_convert(const ConvertRequest& asked) {
  const ConvertRequest request = with_known_format(asked);
  if (!request.gguf_pre_tokenizer.empty() && !request.to.starts_with("gguf:")) {
    user_error("--pre-tokenizer {}: is for the formats gguf:... alone, and --to is {}: leave it out",
               quote_text(request.gguf_pre_tokenizer), request.to);
  }
  if (const KernelLayout* layout = find_kernel_layout(request.to)) return convert_to_layout(request, *layout);
  const Target& target = find_target(request.to);
  const Artefact artefact = open_artefact(request);
  const ModelFolder& model = artefact.model;
  const std::map<std::string, TensorInfo> tensors = model.packed->unpacked_tensors();
  Plan plan = plan_artefact(model, {"format " + target.name, target.refuses});
  if (target.gguf == nullptr) check_fused(model, plan, target.name);
  add_output(plan, model.graph, target, tensors, {.weights = false});
  check_gguf_tokenizer(plan, model, request.gguf_pre_tokenizer);
  Progress progress(request.quiet);
  for (const std::string& warning : plan.output_warnings()) progress.line("warning: " + warning);
  OutputFolder output(request.output, request.overwrite);
  WrittenTensors written;
  {
    Recipe recipe;  // what there is of one
    recipe.output.shard_size = request.shard_size;
    recipe.output.gguf_shard_size = request.gguf_shard_size;
    recipe.output.gguf_pre_tokenizer = request.gguf_pre_tokenizer;
    const auto writer = open_writer(plan, plan.outputs.front(), model, tensors, output.path(), recipe);
    write_tensors(model, plan, *writer, written, progress);
    writer->verify(written);
  }
  write_report(artefact, plan, target, output.path());
  output.commit();
  say_converted(request, plan.input_bytes, plan.outputs.front().bytes);
}

}  // namespace lathe
