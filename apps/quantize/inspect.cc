#include "apps/quantize/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/quantize/inspect_gguf.h"
#include "formats/consumers/consumers.h"
#include "formats/layouts/layout_folder.h"
#include "formats/safetensors/safetensors_header.h"
#include "formats/targets/gguf_folder.h"
#include "formats/targets/model_folder.h"
#include "formats/targets/packed_reader.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"
#include "lib/model/fused_linears.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

/// Linears of one scheme, and what they take on disk with scales and zero points.
struct SchemeTotals {
  int64_t linears = 0;
  int64_t weights = 0;
  uint64_t bytes = 0;
};

/// What can be said about a folder beyond its tensors.
struct ModelFacts {
  std::string family;   // "llama", as config.json says
  std::string trouble;  // why Lathe can't run it; empty where it can
  bool quantized = false;
  std::string kv_cache;                          // "fp8 (e4m3) per tensor"; empty: in floating point
  std::map<std::string, SchemeTotals> schemes;   // by Scheme::describe()
  std::map<std::string, std::string> scheme_of;  // by linear name
  std::vector<ConsumerVerdict> consumers;
  int64_t floating_parameters = 0;  // of tensors that belong to no quantised linear
};

/// Is this tensor a part of the linear ("<linear>.weight_packed", ".dense_weights", ...)? Biases are not.
bool belongs_to(const std::string& tensor, const std::string& linear) {
  return tensor.starts_with(linear + ".") && tensor != linear + ".bias";
}

std::string scheme_text(const ModelFolder& model, const std::string& linear) {
  const auto scheme = model.schemes.find(linear);
  if (scheme == model.schemes.end()) return "floating point";
  const auto input = model.activations.find(linear);
  return with_input(scheme->second.describe(),
                    input == model.activations.end() ? std::nullopt : std::optional(input->second));
}

void add_schemes(const ModelFolder& model, ModelFacts& facts) {
  const auto& tensors = model.checkpoint->tensors();
  for (const Linear& linear : model.graph.linears()) {
    if (!model.schemes.contains(linear.name)) continue;
    const std::string text = scheme_text(model, linear.name);
    SchemeTotals& totals = facts.schemes[text];
    facts.scheme_of[linear.name] = text;
    totals.linears += 1;
    totals.weights += linear.out * linear.in;
    const std::string prefix = linear.name + ".";
    for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
      if (belongs_to(it->first, linear.name)) totals.bytes += it->second.nbytes();
    }
  }
}

/// What the plan calls the format: GEMV's order of codes has AWQ's quant_method, and other readers; so has
/// the second version of GPTQ's zero points.
std::string format_of(const nlohmann::json& quantization) {
  const auto method = quantization.at("quant_method").get<std::string>();
  const auto is = [&](const char* key, std::initializer_list<const char*> words) {
    const auto value = quantization.find(key);
    return value != quantization.end() && std::ranges::find(words, *value) != words.end();
  };
  if (method == "awq" && is("version", {"gemv", "GEMV"})) return "awq-gemv";
  const bool second = is("format", {"gptq_v2"}) || is("checkpoint_format", {"gptq_v2"});
  return method == "gptq" && second ? "gptq-v2" : method;
}

/// What the servers make of it.
std::vector<ConsumerVerdict> judge_folder(const ModelFolder& model) {
  const nlohmann::json& config = model.checkpoint->config();
  const auto found = config.find("quantization_config");
  if (found == config.end() || !found->contains("quant_method")) return {};
  const auto reorders = found->find("desc_act");
  const bool reordered = reorders != found->end() && reorders->is_boolean() && reorders->get<bool>();
  std::vector<PlannedLinear> linears;
  for (const Linear& linear : model.graph.linears()) {
    const auto scheme = model.schemes.find(linear.name);
    if (scheme == model.schemes.end()) continue;
    PlannedLinear planned;
    planned.name = linear.name;
    planned.out = linear.out;
    planned.in = linear.in;
    planned.scheme = scheme->second;
    planned.role = linear.role;
    planned.expert = linear.input.expert.has_value();
    planned.bias = linear.bias;
    planned.group_index = reordered && planned.scheme.group_size != -1;
    const auto input = model.activations.find(linear.name);
    if (input != model.activations.end()) planned.activations = input->second;
    linears.push_back(std::move(planned));
  }
  const auto& heads = model.graph.config;
  const auto scheme_of = [&](const Linear& linear) { return scheme_text(model, linear.name); };
  auto verdicts =
      judge_consumers(format_of(*found), linears, {heads.num_heads, heads.num_kv_heads, heads.head_dim},
                      half_fused(model.graph.blocks, scheme_of).value_or(""));
  if (!model.checkpoint->quantization_place().ends_with("quantization_config")) {  // an older export
    for (ConsumerVerdict& verdict : verdicts) {
      if (verdict.consumer != "transformers") continue;
      verdict.kernel.clear();
      verdict.problem = "it looks in config.json alone, which says nothing of a quantisation";
    }
  }
  return verdicts;
}

/// The linear that a tensor is a part of, if that linear is quantised.
std::string owner_of(const ModelFacts& facts, const std::string& tensor) {
  const size_t dot = tensor.rfind('.');
  if (dot == std::string::npos) return {};
  const std::string linear = tensor.substr(0, dot);
  return facts.scheme_of.contains(linear) && belongs_to(tensor, linear) ? linear : std::string();
}

ModelFacts gather_facts(const std::filesystem::path& folder, const Checkpoint& checkpoint) {
  ModelFacts facts;
  const auto& config = checkpoint.config();
  const auto type = config.is_object() ? config.find("model_type") : config.end();
  facts.family =
      config.is_object() && type != config.end() && type->is_string() ? type->get<std::string>() : "unknown";
  try {
    const ModelFolder model = open_model_folder(folder);
    facts.quantized = model.quantized;
    add_schemes(model, facts);
    if (model.kv_cache) facts.kv_cache = model.kv_cache->describe();
    facts.consumers = judge_folder(model);
  } catch (const UserError& error) {
    facts.trouble = error.what();
  }
  for (const auto& [name, info] : checkpoint.tensors()) {
    if (owner_of(facts, name).empty()) facts.floating_parameters += info.numel();
  }
  return facts;
}

int64_t parameters(const ModelFacts& facts) {
  int64_t count = facts.floating_parameters;
  for (const auto& [name, totals] : facts.schemes) count += totals.weights;
  return count;
}

double bits_each(uint64_t bytes, int64_t weights) {
  return weights == 0 ? 0.0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
}

ordered_json describe_json(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                           const ModelFacts& facts) {
  ordered_json result = {{"folder", folder.string()}, {"model_type", facts.family}};
  result["supported"] = facts.trouble.empty();
  if (!facts.trouble.empty()) result["reason"] = facts.trouble;
  result["quantized"] = facts.quantized;
  result["tensor_count"] = checkpoint.tensors().size();
  result["bytes"] = checkpoint.total_bytes();
  // What a foreign quantisation packs into a tensor is unknown, and so is the number of weights.
  if (facts.trouble.empty()) {
    result["parameters"] = parameters(facts);
    result["bits_per_weight"] = bits_each(checkpoint.total_bytes(), parameters(facts));
  }
  result["schemes"] = ordered_json::array();
  for (const auto& [name, totals] : facts.schemes) {
    result["schemes"].push_back({{"scheme", name},
                                 {"linears", totals.linears},
                                 {"weights", totals.weights},
                                 {"bytes", totals.bytes},
                                 {"bits_per_weight", bits_each(totals.bytes, totals.weights)}});
  }
  if (!facts.kv_cache.empty()) result["kv_cache"] = facts.kv_cache;
  result["consumers"] = ordered_json::array();
  for (const ConsumerVerdict& verdict : facts.consumers) {
    result["consumers"].push_back({{"consumer", verdict.consumer},
                                   {"kernel", verdict.kernel},
                                   {"linears", verdict.linears},
                                   {"tensor_parallel", verdict.tensor_parallel},
                                   {"problem", verdict.problem},
                                   {"source", verdict.source},
                                   {"text", verdict.describe()}});
  }
  result["tensors"] = ordered_json::array();
  for (const auto& [name, info] : checkpoint.tensors()) {
    ordered_json row = {
        {"name", name}, {"dtype", name_of(info.dtype)}, {"shape", info.shape}, {"bytes", info.nbytes()}};
    row["file"] = checkpoint.file_of(name);
    const std::string linear = owner_of(facts, name);
    if (!linear.empty()) row["scheme"] = facts.scheme_of.at(linear);
    result["tensors"].push_back(std::move(row));
  }
  return result;
}

/// A line a tensor, and one for all.
std::string tensor_table(const ordered_json& facts) {
  size_t name_width = 4, shape_width = 5;
  for (const ordered_json& row : facts["tensors"]) {
    name_width = std::max(name_width, row["name"].get_ref<const std::string&>().size());
    shape_width = std::max(shape_width, describe_shape(row["shape"].get<std::vector<int64_t>>()).size());
  }
  std::string text = fmt::format("{:<{}}  {:<8}  {:<{}}  {:>12}  scheme\n", "name", name_width, "dtype",
                                 "shape", shape_width, "bytes");
  for (const ordered_json& row : facts["tensors"]) {
    text +=
        fmt::format("{:<{}}  {:<8}  {:<{}}  {:>12}  {}\n", row["name"].get<std::string>(), name_width,
                    row["dtype"].get<std::string>(), describe_shape(row["shape"].get<std::vector<int64_t>>()),
                    shape_width, row["bytes"].get<uint64_t>(), row.value("scheme", "-"));
  }
  text += fmt::format("\n{}: {} tensors, {}\n", facts["folder"].get<std::string>(),
                      facts["tensor_count"].get<size_t>(), human_bytes(facts["bytes"].get<uint64_t>()));
  return text;
}

std::string describe_text(const ordered_json& facts) {
  std::string text = tensor_table(facts);
  text += fmt::format("family: {}{}\n", facts["model_type"].get<std::string>(),
                      facts["supported"].get<bool>()
                          ? ""
                          : " (Lathe can't run this: " + facts["reason"].get<std::string>() + ")");
  for (const ordered_json& row : facts["schemes"]) {
    text += fmt::format("scheme: {}: {} linears, {} weights, {}, {:.3f} bits/weight\n",
                        row["scheme"].get<std::string>(), row["linears"].get<int64_t>(),
                        row["weights"].get<int64_t>(), human_bytes(row["bytes"].get<uint64_t>()),
                        row["bits_per_weight"].get<double>());
  }
  if (facts.contains("kv_cache")) text += fmt::format("KV cache: {}\n", facts["kv_cache"].get<std::string>());
  for (const ordered_json& row : facts["consumers"])
    text += fmt::format("consumer: {}\n", row["text"].get<std::string>());
  if (facts.contains("parameters")) {
    text += fmt::format("in all: {} parameters, {:.3f} bits/weight\n", facts["parameters"].get<int64_t>(),
                        facts["bits_per_weight"].get<double>());
  }
  return text + "headers alone were read: `quantize eval`, `convert` and `verify` look at values\n";
}

/// The schemes of a model folder's linears, by linear; nothing where it isn't one that Lathe reads.
std::map<std::string, std::string> schemes_beside(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(folder / "config.json", ignored)) return {};
  try {
    return gather_facts(folder, Checkpoint::open(folder)).scheme_of;
  } catch (const UserError&) {  // the file may be sound in a folder that isn't
    return {};
  }
}

/// Of each scheme, what the listed tensors hold of it.
void count_schemes(ordered_json& described) {
  std::map<std::string, std::pair<std::set<std::string>, uint64_t>> schemes;  // linears, bytes
  for (const ordered_json& row : described["tensors"]) {
    if (!row.contains("scheme")) continue;
    auto& [linears, bytes] = schemes[row["scheme"].get<std::string>()];
    const std::string& name = row["name"].get_ref<const std::string&>();
    linears.insert(name.substr(0, name.rfind('.')));
    bytes += row["bytes"].get<uint64_t>();
  }
  described["schemes"] = ordered_json::array();
  for (const auto& [scheme, parts] : schemes)
    described["schemes"].push_back(
        {{"scheme", scheme}, {"linears", parts.first.size()}, {"bytes", parts.second}});
}

std::string scheme_lines(const ordered_json& described) {
  std::string text;
  for (const ordered_json& row : described["schemes"])
    text += fmt::format("scheme: {}: {} linears, {} here\n", row["scheme"].get<std::string>(),
                        row["linears"].get<size_t>(), human_bytes(row["bytes"].get<uint64_t>()));
  return text;
}

void add_tensor(const std::string& name, const TensorInfo& info, ordered_json& described) {
  described["tensors"].push_back(
      {{"name", name}, {"dtype", name_of(info.dtype)}, {"shape", info.shape}, {"bytes", info.nbytes()}});
  described["tensor_count"] = described["tensors"].size();
  described["bytes"] = described["bytes"].get<uint64_t>() + info.nbytes();
}

/// A safetensors file by itself: its tensors, with their schemes where it is a shard of a model's folder.
ordered_json describe_file(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  ordered_json result = {
      {"folder", path.string()}, {"tensors", ordered_json::array()}, {"tensor_count", 0}, {"bytes", 0}};
  ModelFacts facts;
  facts.scheme_of = schemes_beside(path);
  for (const StoredTensor& tensor : parse_safetensors_header(file.bytes(), path.string()).tensors) {
    add_tensor(tensor.name, tensor.info, result);
    const std::string linear = owner_of(facts, tensor.name);
    if (!linear.empty()) result["tensors"].back()["scheme"] = facts.scheme_of.at(linear);
  }
  count_schemes(result);
  return result;
}

/// A kernel layout: its tensors, and what layout.json says they are.
ordered_json describe_layout(const std::filesystem::path& folder) {
  const LayoutFolder stored = LayoutFolder::open(folder);
  const KernelLayout& layout = stored.layout();
  ordered_json result = {{"folder", folder.string()},
                         {"layout", layout.name},
                         {"kernel", layout.kernel},
                         {"gpus", layout.gpus},
                         {"permutation", layout.permutation},
                         {"source", layout.source},
                         {"tensors", ordered_json::array()},
                         {"tensor_count", 0},
                         {"bytes", 0}};
  int64_t weights = 0;
  for (const auto& [name, linear] : stored.linears()) weights += linear.out * linear.in;
  for (const auto& [name, info] : stored.tensors()) {
    add_tensor(name, info, result);
    result["tensors"].back()["file"] = stored.file_of(name);
    const auto linear = stored.linears().find(name.substr(0, name.rfind('.')));
    if (linear != stored.linears().end()) result["tensors"].back()["scheme"] = linear->second.scheme;
  }
  count_schemes(result);
  result["weights"] = weights;
  result["bits_per_weight"] = bits_each(result["bytes"].get<uint64_t>(), weights);
  return result;
}

std::string layout_lines(const ordered_json& described) {
  return fmt::format("layout: {} for {} ({})\norder: {}\n{}in all: {} weights, {:.3f} bits/weight\n",
                     described["layout"].get<std::string>(), described["kernel"].get<std::string>(),
                     described["gpus"].get<std::string>(), described["permutation"].get<std::string>(),
                     scheme_lines(described), described["weights"].get<int64_t>(),
                     described["bits_per_weight"].get<double>());
}

/// Names in a file may be any bytes: replaced rather than refused, so that the rest can be seen.
std::string dumped(const ordered_json& described) {
  return described.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string inspect_folder(const InspectRequest& request) {
  if (const auto file = find_gguf_model(request.folder)) {
    const ordered_json described = describe_gguf(*file);
    return request.json ? dumped(described) : tensor_table(described) + gguf_lines(described);
  }
  if (std::filesystem::is_regular_file(request.folder)) {
    const ordered_json described = describe_file(request.folder);
    return request.json ? dumped(described) : tensor_table(described) + scheme_lines(described);
  }
  if (LayoutFolder::is_one(request.folder)) {
    const ordered_json described = describe_layout(request.folder);
    return request.json ? dumped(described) : tensor_table(described) + layout_lines(described);
  }
  const Checkpoint checkpoint = Checkpoint::open(request.folder);
  const ModelFacts facts = gather_facts(request.folder, checkpoint);
  const ordered_json described = describe_json(request.folder, checkpoint, facts);
  return request.json ? dumped(described) : describe_text(described);
}

}  // namespace lathe
