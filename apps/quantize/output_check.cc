#include "apps/quantize/output_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "algorithms/solver_fallback.h"
#include "formats/safetensors/json_text.h"
#include "formats/verify/artefact.h"
#include "formats/verify/shards.h"
#include "lib/base/error.h"
#include "lib/base/file.h"

namespace lathe {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr uint64_t kMaxSideFile = uint64_t{64} << 20;

/// Where two documents differ, by the differing value's place:
/// "quantization_config.config_groups.group_0...".
void compare_json(const json& expected, const json& found, const std::string& place, Findings& findings) {
  if (expected == found) return;
  if (expected.is_object() && found.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      if (found.contains(key)) {
        compare_json(value, found.at(key), place + "." + key, findings);
      } else {
        findings.push_back({check::config, place + "." + key, quote_text(value.dump()), "no such key"});
      }
    }
    for (const auto& [key, value] : found.items()) {
      if (!expected.contains(key))
        findings.push_back({check::config, place + "." + key, "no such key", quote_text(value.dump())});
    }
    return;
  }
  const size_t before = findings.size();
  if (expected.is_array() && found.is_array()) {  // lists of names: which are too many, which are missing
    for (const json& value : expected) {
      if (std::ranges::find(found, value) == found.end())
        findings.push_back({check::config, place, "it to hold " + quote_text(value.dump()), "it doesn't"});
    }
    for (const json& value : found) {
      if (std::ranges::find(expected, value) == expected.end())
        findings.push_back({check::config, place, "it not to hold " + quote_text(value.dump()), "it does"});
    }
    if (findings.size() > before) return;
  }
  findings.push_back({check::config, place, quote_text(expected.dump()), quote_text(found.dump())});
}

/// Outliers of each linear, as the length of what holds them says (SpQR).
std::map<std::string, int64_t> stored_outliers(const ModelFolder& artefact) {
  std::map<std::string, int64_t> counts;
  for (const auto& [linear, scheme] : artefact.schemes) {
    const auto found = artefact.checkpoint->tensors().find(linear + ".col_vals");
    if (found != artefact.checkpoint->tensors().end()) counts[linear] = found->second.numel();
  }
  return counts;
}

/// The planned tensors and no others. Without a reference nobody knows the type of tensors that were kept.
void check_tensors_planned(const ModelFolder& artefact, const OutputPlan& output, Findings& findings) {
  const auto& tensors = artefact.checkpoint->tensors();
  std::map<std::string, const PlannedTensor*> planned;
  for (const PlannedTensor& tensor : output.tensors) {
    planned[tensor.name] = &tensor;
    const auto found = tensors.find(tensor.name);
    if (found == tensors.end()) {
      findings.push_back({check::layout, tensor.name, tensor.info.describe(), "no such tensor"});
    } else if (found->second != tensor.info && !tensor.open) {
      findings.push_back({check::layout, tensor.name, tensor.info.describe(), found->second.describe()});
    }
  }
  for (const auto& [name, info] : tensors) {
    if (!planned.contains(name)) findings.push_back({check::layout, name, "no such tensor", info.describe()});
  }
}

bool same_bytes(const fs::path& a, const fs::path& b) {
  const MappedFile left = MappedFile::open(a), right = MappedFile::open(b);
  return std::ranges::equal(left.bytes(), right.bytes());
}

/// The model's other files came along as they are; cards and reports are written anew.
void check_carried_files(const ModelFolder& artefact, const ModelFolder& reference, Findings& findings) {
  const Checkpoint& model = *reference.checkpoint;
  static const std::set<std::string> own = {
      "README.md",         "report.json",          "report.md",           "report.html", "manifest.json",
      "quant_config.json", "hf_quant_config.json", "quantize_config.json"};
  for (const fs::path& file : model.side_files()) {
    const fs::path place = file.lexically_relative(model.folder());
    if (own.contains(place.string())) continue;
    std::error_code ignored;
    const fs::path copy = artefact.checkpoint->folder() / place;
    if (!fs::is_regular_file(copy, ignored)) {
      findings.push_back({check::files, place.string(), "the model's file", "none"});
    } else if (!same_bytes(file, copy)) {
      findings.push_back({check::files, place.string(), "the model's bytes", "others"});
    }
  }
}

}  // namespace

json planned_quantization(const Plan& plan, const OutputPlan& output, const ModelGraph& graph,
                          const std::map<std::string, int64_t>& outliers) {
  std::vector<PlannedLinear> quantized = plan.quantized();
  for (PlannedLinear& linear : quantized) {
    if (const auto kept = outliers.find(linear.name); kept != outliers.end()) linear.outliers = kept->second;
  }
  json config = output.target->quantization_config(quantized, plan.floating(graph));
  if (plan.kv_cache && !plan.kv_cache->low_bit()) output.target->kv_cache->describe(*plan.kv_cache, config);
  return config;
}

const OutputPlan* output_of(const ModelFolder& artefact, const Plan& plan, const ModelGraph& graph) {
  const json found = artefact.checkpoint->config().value("quantization_config", json());
  const OutputPlan* best = nullptr;
  size_t fewest = 0;
  for (const OutputPlan& output : plan.outputs) {
    if (output.gguf) continue;
    Findings differences;
    compare_json(planned_quantization(plan, output, graph, stored_outliers(artefact)), found, "",
                 differences);
    if (best != nullptr && differences.size() >= fewest) continue;
    best = &output;
    fewest = differences.size();
  }
  return best;
}

Findings check_output(const ModelFolder& artefact, const Plan& plan, const OutputPlan& output,
                      const ModelGraph& graph, const ModelFolder* reference) {
  Findings findings;
  check_tensors_planned(artefact, output, findings);
  const fs::path& folder = artefact.checkpoint->folder();
  json config = artefact.checkpoint->config();
  const json expected = planned_quantization(plan, output, graph, stored_outliers(artefact));
  compare_json(expected, config.value("quantization_config", json()), "config.json: quantization_config",
               findings);
  const auto described = [](const auto& cache) { return cache ? cache->describe() : "in floating point"; };
  if (artefact.kv_cache != plan.kv_cache)
    findings.push_back({check::config, "KV cache", described(plan.kv_cache), described(artefact.kv_cache)});
  if (reference != nullptr) {
    config.erase("quantization_config");
    json model = reference->checkpoint->config();
    model.erase("quantization_config");
    compare_json(model, config, "config.json", findings);
    check_carried_files(artefact, *reference, findings);
  }
  if (output.target->side_files == nullptr) return findings;
  for (const auto& [name, content] : output.target->side_files(expected)) {
    try {
      compare_json(content, read_json_object(folder / name, kMaxSideFile), name, findings);
    } catch (const UserError& error) {
      findings.push_back({check::config, name, "the format's own configuration", error.what()});
    }
  }
  return findings;
}

Findings check_written(const fs::path& folder, const Plan& plan, const OutputPlan& output,
                       const ModelFolder& model, const WrittenTensors& written, bool folds) {
  Findings findings = check_shards(folder);
  if (!findings.empty()) return findings;  // nothing behind them can be relied on
  VerifyAgainst against;
  against.reference = &model;
  against.folds = folds;
  against.fold_channels = false;
  against.meant = [&](const std::string& linear, const QuantizedTensor& tensor) {
    return written.is_meant(linear, tensor);
  };
  against.meant_fold = [&](const std::string& tensor, const std::function<at::Tensor()>& values) {
    return written.is_meant_fold(tensor, values);
  };
  const auto take = [&](const Findings& more) { findings.insert(findings.end(), more.begin(), more.end()); };
  try {
    const ModelFolder artefact = open_model_folder(folder, model.graph);
    if (artefact.packed == nullptr) user_error("{}: has no quantization_config", folder.string());
    take(check_output(artefact, plan, output, model.graph, &model));
    take(verify_artefact(artefact, against).findings);
    take(written.compare_rest(artefact));
  } catch (const UserError& error) {
    take({{check::layout, folder.filename().string(), "tensors that go with the configuration",
           error.what()}});
  }
  return findings;
}

std::optional<Finding> check_fallback(const Recipe& recipe, const std::string& linear,
                                      const std::string& event) {
  const auto fallback = fallback_of(event);
  const auto& allowed = recipe.verify.fallbacks;
  if (!fallback || std::ranges::find(allowed, *fallback) != allowed.end()) return std::nullopt;
  return Finding{
      check::fallbacks, linear,
      fmt::format("its solver to do as asked, or leave by verify.fallbacks: [{}]", name_of(*fallback)),
      event};
}

}  // namespace lathe
