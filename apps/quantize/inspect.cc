#include "apps/quantize/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

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
  std::map<std::string, SchemeTotals> schemes;   // by Scheme::describe()
  std::map<std::string, std::string> scheme_of;  // by linear name
  int64_t floating_parameters = 0;               // of tensors that belong to no quantised linear
};

/// Is this tensor a part of the linear ("<linear>.weight_packed", ".dense_weights", ...)? Biases are not.
bool belongs_to(const std::string& tensor, const std::string& linear) {
  return tensor.starts_with(linear + ".") && tensor != linear + ".bias";
}

void add_schemes(const ModelFolder& model, ModelFacts& facts) {
  const auto& tensors = model.checkpoint->tensors();
  for (const Block& block : model.graph.blocks) {
    for (const Linear& linear : block.linears) {
      const auto scheme = model.schemes.find(linear.name);
      if (scheme == model.schemes.end()) continue;
      const auto input = model.activations.find(linear.name);
      const std::string text =
          with_input(scheme->second.describe(),
                     input == model.activations.end() ? std::nullopt : std::optional(input->second));
      SchemeTotals& totals = facts.schemes[text];
      facts.scheme_of[linear.name] = text;
      totals.linears += 1;
      totals.weights += linear.out * linear.in;
      const std::string prefix = linear.name + ".";
      for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix);
           ++it) {
        if (belongs_to(it->first, linear.name)) totals.bytes += it->second.nbytes();
      }
    }
  }
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

std::string describe_text(const ordered_json& facts) {
  size_t name_width = 4, shape_width = 5;
  for (const ordered_json& row : facts["tensors"]) {
    name_width = std::max(name_width, row["name"].get_ref<const std::string&>().size());
    shape_width = std::max(shape_width, describe_shape(row["shape"].get<std::vector<int64_t>>()).size());
  }
  std::string text = fmt::format("{:<{}}  {:<8}  {:<{}}  {:>12}\n", "name", name_width, "dtype", "shape",
                                 shape_width, "bytes");
  for (const ordered_json& row : facts["tensors"]) {
    text +=
        fmt::format("{:<{}}  {:<8}  {:<{}}  {:>12}\n", row["name"].get<std::string>(), name_width,
                    row["dtype"].get<std::string>(), describe_shape(row["shape"].get<std::vector<int64_t>>()),
                    shape_width, row["bytes"].get<uint64_t>());
  }
  text += fmt::format("\n{}: {} tensors, {}\n", facts["folder"].get<std::string>(),
                      facts["tensor_count"].get<size_t>(), human_bytes(facts["bytes"].get<uint64_t>()));
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
  if (facts.contains("parameters")) {
    text += fmt::format("in all: {} parameters, {:.3f} bits/weight\n", facts["parameters"].get<int64_t>(),
                        facts["bits_per_weight"].get<double>());
  }
  return text;
}

}  // namespace

std::string inspect_folder(const InspectRequest& request) {
  const Checkpoint checkpoint = Checkpoint::open(request.folder);
  const ModelFacts facts = gather_facts(request.folder, checkpoint);
  const ordered_json described = describe_json(request.folder, checkpoint, facts);
  // Names in a file may be any bytes: replaced rather than refused, so that the rest can be seen.
  if (request.json) return described.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  return describe_text(described);
}

}  // namespace lathe
