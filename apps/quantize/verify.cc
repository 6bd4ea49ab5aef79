#include "apps/quantize/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "apps/quantize/gguf_artifact.h"
#include "apps/quantize/manifest.h"
#include "apps/quantize/output_check.h"
#include "apps/quantize/request_checks.h"
#include "formats/gguf/gguf_file.h"
#include "formats/safetensors/json_text.h"
#include "formats/targets/dequantised_folder.h"
#include "formats/targets/gguf_folder.h"
#include "formats/targets/packed_reader.h"
#include "formats/verify/artefact.h"
#include "formats/verify/gguf_model.h"
#include "formats/verify/shards.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"
#include "lib/base/terminal.h"
#include "lib/model/weights_graph.h"
#include "recipes/algorithm_checks.h"
#include "recipes/plan.h"
#include "recipes/recipe.h"

namespace lathe {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr uint64_t kMaxDocument = uint64_t{1} << 30;

std::string model_type_of(const fs::path& folder) {
  const json config = read_json_object(folder / "config.json", kMaxDocument);
  const json type = config.value("model_type", json());
  return type.is_string() ? type.get<std::string>() : "";
}

ModelFolder open_reference(const fs::path& folder) {
  const std::string type = model_type_of(folder);
  if (!find_gguf_model(folder) && !is_known_family(type)) return open_unknown_model(folder, type).folder;
  ModelFolder model = open_model_folder(folder);
  return model.quantized && can_start_a_run(model) ? dequantised_folder(std::move(model)) : std::move(model);
}

class FolderCheck {
 public:
  FolderCheck(fs::path folder, const ModelFolder* reference)
      : folder_(std::move(folder)), reference_(reference) {
    verdict_.folder = folder_.string();
  }

  Verdict run() {
    std::optional<fs::path> gguf;
    try {
      gguf = find_gguf_model(folder_);
      if (!gguf) take(check::files, check_shards(folder_));
    } catch (const UserError& error) {
      take(check::layout, {{check::layout, folder_.filename().string(), "a whole GGUF file", error.what()}});
    }
    const bool whole = verdict_.verified.findings.empty();
    check_manifest_file();
    check_report();
    if (whole) open_and_check(gguf);
    return std::move(verdict_);
  }

 private:
  void take(const char* check, const Findings& findings) {
    verdict_.checks.insert(check);
    Findings& all = verdict_.verified.findings;
    all.insert(all.end(), findings.begin(), findings.end());
  }
  void note(std::string text) { verdict_.notes.push_back(std::move(text)); }

  fs::path home() const { return fs::is_directory(folder_) ? folder_ : folder_.parent_path(); }

  void check_manifest_file() {
    std::error_code ignored;
    if (!fs::exists(home() / "manifest.json", ignored)) {
      if (fs::exists(home() / "report.json", ignored))
        return take(check::manifest, {{check::manifest, "manifest.json", "the manifest of a run", "none"}});
      return note("no manifest.json: nothing says what its files and tensors were, nor by which recipe");
    }
    try {
      manifest_ = read_json_object(home() / "manifest.json", kMaxDocument);
      const Findings findings = check_manifest(home(), manifest_);
      bytes_known_ = findings.empty() && manifest_.contains("tensors");
      take(check::manifest, findings);
      if (!manifest_.value("recipe", json()).is_null())
        recipe_ = parse_recipe(manifest_.at("recipe").dump(), (home() / "manifest.json").string(), {},
                               registered_vocabulary());
    } catch (const UserError& error) {
      take(check::manifest,
           {{check::manifest, "manifest.json", "a manifest that can be read", error.what()}});
    }
  }

  /// What the run itself said.
  void check_report() {
    std::error_code ignored;
    if (!recipe_ || !fs::exists(home() / "report.json", ignored)) return;
    try {
      const json report = read_json_object(home() / "report.json", kMaxDocument);
      Findings findings;
      for (const json& row : report.value("linears", json::array())) {
        for (const json& event : row.at("events")) {
          if (const auto finding = check_fallback(*recipe_, row.at("name"), event))
            findings.push_back(*finding);
        }
      }
      take(check::fallbacks, findings);
      const json verification = report.value("verification", json());
      if (!verification.is_object()) return;
      for (const json& row : verification.value("failed", json::array())) {
        if (row.at("check") == check::divergence)
          take(check::divergence, {{check::divergence, row.at("name"), row.at("expected"), row.at("found")}});
      }
    } catch (const json::exception& error) {
      take(check::manifest, {{check::manifest, "report.json", "a run's report", error.what()}});
    } catch (const UserError& error) {
      take(check::manifest, {{check::manifest, "report.json", "a run's report", error.what()}});
    }
  }

  void open_and_check(const std::optional<fs::path>& gguf) {
    try {
      if (gguf) return check_gguf(open_gguf_model(*gguf));
      const bool known = is_known_family(model_type_of(folder_));
      if (!known && reference_ == nullptr)
        return note("a family that Lathe doesn't know: --reference tells what its tensors are");
      const ModelFolder artefact =
          known ? open_model_folder(folder_) : open_model_folder(folder_, reference_->graph);
      if (!artefact.quantized)
        user_error("{}: is in floating point: there is nothing quantised to verify", folder_.string());
      verdict_.checks.insert(check::layout);
      check_plan(artefact);
      take_tensors(verify_artefact(artefact, against()));
    } catch (const UserError& error) {
      take(check::layout, {{check::layout, folder_.filename().string(),
                            "tensors that go with the configuration", error.what()}});
    }
  }

  VerifyAgainst against() const {
    VerifyAgainst against;
    against.reference = reference_;
    against.folds = !recipe_ || moves_scales(*recipe_);
    against.codes_in_blocks = codes_in_blocks_;
    against.bytes_known = bytes_known_;
    return against;
  }

  void take_tensors(Verified verified) {
    for (const char* name : {check::unpacked, check::numbers, check::duplicates})
      verdict_.checks.insert(name);
    if (reference_ != nullptr) {
      for (const char* name :
           {check::accounted, check::kept, check::folded, check::flattened, check::distance})
        verdict_.checks.insert(name);
    } else {
      note("no --reference: nothing is compared with the model that it was made of");
    }
    verdict_.verified.linears = verified.linears;
    verdict_.verified.kept = verified.kept;
    verdict_.verified.distances = std::move(verified.distances);
    Findings& all = verdict_.verified.findings;
    all.insert(all.end(), verified.findings.begin(), verified.findings.end());
  }

  bool converted() const { return manifest_.is_object() && manifest_.contains("converted"); }

  /// The plan that the manifest's recipe makes of the model, once more.
  void check_plan(const ModelFolder& artefact) {
    if (!recipe_ || converted()) return;
    const auto& graph = reference_ != nullptr ? reference_->graph : artefact.graph;
    const auto tensors =
        reference_ != nullptr ? reference_->checkpoint->tensors() : artefact.packed->unpacked_tensors();
    const Plan plan = make_plan(*recipe_, graph, tensors);
    const OutputPlan* const output = output_of(artefact, plan, graph);
    if (output == nullptr)
      return take(check::config,
                  {{check::config, folder_.filename().string(), "an output of its recipe", "none"}});
    take(check::config, check_output(artefact, plan, *output, graph, reference_));
  }

  void check_gguf(const ModelFolder& artefact) {
    verdict_.checks.insert(check::layout);
    if (recipe_ && !converted() && reference_ != nullptr) check_gguf_plan(artefact);
    take_tensors(verify_gguf(artefact, against()));
  }

  /// The types that the recipe's mix gives each tensor.
  void check_gguf_plan(const ModelFolder& artefact) {
    const Plan plan = make_plan(*recipe_, reference_->graph, reference_->checkpoint->tensors());
    std::optional<Findings> fewest;
    for (const OutputPlan& output : plan.outputs) {
      if (!output.gguf) continue;
      Findings findings;
      for (const GgufOutputTensor& planned : output.gguf->tensors) {
        const GgufTensor* const found = artefact.gguf->tensor(planned.rule.gguf);
        if (found == nullptr) {
          findings.push_back(
              {check::layout, planned.rule.gguf, std::string(traits(planned.type).name), "no such tensor"});
        } else if (found->type != planned.type) {
          findings.push_back({check::layout, planned.rule.gguf, std::string(traits(planned.type).name),
                              std::string(traits(found->type).name)});
        }
      }
      if (fewest && findings.size() >= fewest->size()) continue;
      fewest = findings;
      codes_in_blocks_ = codes_in_blocks(plan, *output.gguf);
    }
    if (fewest) take(check::layout, *fewest);
  }

  fs::path folder_;
  const ModelFolder* reference_;
  json manifest_;
  std::optional<Recipe> recipe_;
  bool bytes_known_ = false;
  std::map<std::string, Scheme> codes_in_blocks_;  // of a GGUF file
  Verdict verdict_;
};

/// A folder of weights of its own, or a file of them; whether they are sound is for later.
bool is_artefact(const fs::path& path) {
  std::error_code ignored;
  if (path.extension() == ".gguf" || fs::exists(path / "config.json", ignored)) return true;
  for (const auto& entry : fs::directory_iterator(path, ignored))
    if (entry.path().extension() == ".gguf") return true;
  return false;
}

/// The folder, or, where a run wrote several formats, those below it.
std::vector<fs::path> artefacts_in(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) user_error("{}: does not exist", folder.string());
  if (is_artefact(folder)) return {folder};
  std::vector<fs::path> below;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const fs::path& path = entry.path();
    if (entry.is_directory(ignored) && is_artefact(path)) below.push_back(path);
  }
  std::ranges::sort(below);
  if (below.empty())
    user_error("{}: expected an artefact: a folder with config.json, or a GGUF file", folder.string());
  return below;
}

json to_json(const Verdict& verdict) {
  json findings = json::array(), distances = json::object();
  for (const Finding& finding : verdict.verified.findings)
    findings.push_back({{"check", finding.check},
                        {"name", finding.place},
                        {"expected", finding.expected},
                        {"found", finding.found}});
  for (const auto& [name, distance] : verdict.verified.distances)
    distances[name] = {{"weight_error", distance.relative},
                       {"of_predicted", distance.of_predicted},
                       {"worst_group", distance.worst_group}};
  return {{"folder", verdict.folder},      {"passed", verdict.verified.findings.empty()},
          {"checks", verdict.checks},      {"linears", verdict.verified.linears},
          {"kept", verdict.verified.kept}, {"failed", findings},
          {"distances", distances},        {"notes", verdict.notes}};
}

std::string to_text(const Verdict& verdict) {
  std::string text = fmt::format("{}\n", verdict.folder);
  for (const std::string& note : verdict.notes) text += fmt::format("  note: {}\n", note);
  for (const Finding& finding : verdict.verified.findings)
    text += fmt::format("  failed: {}\n", one_line(finding.text()));
  const std::vector<std::string> checks(verdict.checks.begin(), verdict.checks.end());
  text += fmt::format("  {} linears and {} other tensors; checks: {}\n", verdict.verified.linears,
                      verdict.verified.kept, join_words(checks));
  return text + (verdict.verified.findings.empty()
                     ? "  every one held\n"
                     : fmt::format("  {} failed\n", verdict.verified.findings.size()));
}

}  // namespace

Verdict verify_folder(const fs::path& folder, const ModelFolder* reference) {
  return FolderCheck(folder, reference).run();
}

void run_verify(const VerifyRequest& request) {
  std::optional<ModelFolder> reference;
  const std::vector<fs::path> folders = artefacts_in(request.folder);
  if (request.reference) {
    reference = open_reference(*request.reference);
    if (reference->quantized || reference->packed != nullptr)
      user_error("{}: --reference is the floating-point model, and this one is quantised",
                 request.reference->string());
  }
  json all = json::array();
  std::string text;
  size_t failed = 0;
  for (const fs::path& folder : folders) {
    const Verdict verdict = verify_folder(folder, reference ? &*reference : nullptr);
    failed += verdict.verified.findings.size();
    all.push_back(to_json(verdict));
    text += to_text(verdict);
  }
  if (request.json)
    text = (all.size() == 1 ? all[0] : all).dump(2, ' ', false, json::error_handler_t::replace) + "\n";
  fmt::print("{}", text);
  if (failed > 0) throw CheckFailed(fmt::format("{}: {} checks failed", request.folder.string(), failed));
}

}  // namespace lathe
