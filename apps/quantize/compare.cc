#include "apps/quantize/compare.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "apps/quantize/evaluation.h"
#include "apps/quantize/memory.h"
#include "apps/quantize/run_text.h"
#include "formats/gguf/gguf_file.h"
#include "formats/safetensors/json_text.h"
#include "formats/verify/artefact.h"
#include "formats/verify/gguf_model.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/partial.h"
#include "lib/base/strings.h"
#include "lib/model/compute_dtype.h"
#include "lib/tensor/device.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::literals::operator""_json_pointer;

constexpr uint64_t kMaxReportBytes = uint64_t{1} << 30;
constexpr int64_t kContextTokens = 24;  // of an example
constexpr int64_t kApart = 32;          // tokens between two of them

uint64_t weight_bytes(const ModelFolder& model) {
  if (model.gguf == nullptr) return model.checkpoint->total_bytes();
  uint64_t bytes = 0;
  for (const GgufTensor& tensor : model.gguf->tensors()) bytes += tensor.bytes.size();
  return bytes;
}

int64_t parameters_of(const ModelGraph& graph) {
  int64_t count = 0;
  for (const auto& [name, shape] : graph.expected_tensors()) {
    int64_t values = 1;
    for (const int64_t size : shape) values *= size;
    count += values;
  }
  return count;
}

ComparedArtefact describe(const fs::path& path, const ModelFolder& model) {
  ComparedArtefact artefact{.name = path.string(), .bytes = weight_bytes(model), .result = std::nullopt};
  artefact.bits_per_weight =
      8.0 * static_cast<double>(artefact.bytes) / static_cast<double>(parameters_of(model.graph));
  const fs::path report = model.tokenizer_folder() / "report.json";
  std::error_code ignored;
  if ((model.quantized || model.gguf != nullptr) && fs::is_regular_file(report, ignored))
    artefact.report = read_report(report);
  return artefact;
}

/// What an artefact's manifest.json says of its tensors and config.json; null without one.
nlohmann::json contents_of(const ModelFolder& model) {
  const fs::path file = model.tokenizer_folder() / "manifest.json";
  std::error_code ignored;
  return fs::is_regular_file(file, ignored) ? read_contents(file) : nlohmann::json();
}

/// Finds an earlier artefact that is the last of `artefacts`; `contents`: of all, as contents_of().
void find_same(const std::vector<ModelFolder>& models, const std::vector<nlohmann::json>& contents,
               std::vector<ComparedArtefact>& artefacts) {
  const auto path = [&](size_t k) {
    return models[k].gguf != nullptr ? models[k].gguf->path() : models[k].checkpoint->folder();
  };
  const size_t last = artefacts.size() - 1;
  for (size_t i = 0; i < last && !artefacts[last].same_as; ++i) {
    std::error_code ignored;
    const bool same_path = fs::equivalent(path(i), path(last), ignored);
    if (!same_path && (contents[i].is_null() || contents[i] != contents[last])) continue;
    artefacts[last].same_as = i;
    artefacts[last].same_by = same_path ? "paths" : "manifests";
  }
}

/// As ComparedArtefact::report has them where no run wrote one.
nlohmann::json measured_errors(const ModelFolder& artefact, const ModelFolder& reference) {
  VerifyAgainst against;
  against.reference = &reference;
  const auto distances =
      (artefact.gguf != nullptr ? verify_gguf(artefact, against) : verify_artefact(artefact, against))
          .distances;
  nlohmann::json rows = nlohmann::json::array();
  for (const Linear& linear : artefact.graph.linears()) {
    const auto found = distances.find(linear.name);
    if (found == distances.end()) continue;
    rows.push_back(
        {{"name", linear.name}, {"role", name_of(linear.role)}, {"weight_error", found->second.relative}});
  }
  return {{"linears", rows}};
}

void check_vocabularies(const std::vector<ModelFolder>& models, const CompareRequest& request) {
  for (size_t i = 1; i < models.size(); ++i) {
    const int64_t first = models.front().graph.config.vocab_size, other = models[i].graph.config.vocab_size;
    if (first != other)
      user_error(
          "{}: expected a vocabulary of {} tokens as that of {}, found {}: they are no artefacts of one "
          "model",
          request.artefacts[i].string(), first, request.artefacts.front().string(), other);
  }
}

/// Before anything is computed.
void check_junit_place(const CompareRequest& request) {
  if (!request.junit) return;
  std::error_code ignored;
  const fs::path folder = request.junit->has_parent_path() ? request.junit->parent_path() : ".";
  if (!fs::is_directory(folder, ignored) || fs::is_directory(*request.junit, ignored))
    user_error("--junit {}: expected the path of a file in a folder that is there", request.junit->string());
}

/// Bytes that are no character by themselves stay as they are.
std::string text_of(const Tokenizer& tokenizer, const at::Tensor& ids) {
  const at::Tensor row = ids.contiguous();
  std::string text;
  for (const std::string& piece :
       tokenizer.texts_of({row.const_data_ptr<int64_t>(), static_cast<size_t>(row.numel())}))
    text += piece;
  return text;
}

/// What of a model's logits goes into examples.
struct Heard {
  std::string name;
  std::optional<size_t> artefact;  // none: the reference
  EvalPositions positions;
  at::Tensor divergence;  // undefined: of the reference, or without one
};

/// The positions at which not all name the same token, those that differ most first: by the divergence from
/// the reference, else by how sure they are of what they name.
std::vector<int64_t> differing(const std::vector<Heard>& heard) {
  const bool against = heard.back().divergence.defined();
  at::Tensor differ = at::zeros_like(heard.front().positions.best, at::kBool);
  at::Tensor weight = at::zeros_like(heard.front().positions.probability);
  for (const Heard& one : heard) {
    differ = differ.logical_or(one.positions.best.ne(heard.front().positions.best));
    // Of the reference there is none; without one nobody has any.
    if (against && !one.divergence.defined()) continue;
    weight = at::maximum(weight, against ? one.divergence : one.positions.probability);
  }
  const at::Tensor places = differ.nonzero().flatten();
  const at::Tensor order = weight.index_select(0, places).argsort(0, /*descending=*/true);
  const at::Tensor sorted = places.index_select(0, order).contiguous();
  const auto* const first = sorted.const_data_ptr<int64_t>();
  return {first, first + sorted.numel()};
}

Disagreement example_at(int64_t place, const at::Tensor& rows, const std::vector<Heard>& heard,
                        const Tokenizer& tokenizer) {
  const int64_t ctx = rows.size(1);
  Disagreement example{.row = place / ctx, .position = place % ctx};
  const at::Tensor row = rows[example.row];
  const int64_t from = std::max<int64_t>(0, example.position + 1 - kContextTokens);
  example.context = text_of(tokenizer, row.slice(0, from, example.position + 1));
  example.next = text_of(tokenizer, row.slice(0, example.position + 1, example.position + 2));
  for (const Heard& one : heard) {
    TokenOpinion opinion{.name = one.name,
                         .artefact = one.artefact,
                         .token = text_of(tokenizer, one.positions.best.slice(0, place, place + 1)),
                         .probability = one.positions.probability[place].item<double>(),
                         .next_probability = one.positions.next_probability[place].item<double>()};
    if (one.divergence.defined()) opinion.kl = one.divergence[place].item<double>();
    example.opinions.push_back(std::move(opinion));
  }
  return example;
}

void add_examples(const std::vector<Heard>& heard, const at::Tensor& rows, const Tokenizer& tokenizer,
                  int64_t wanted, Comparison& comparison) {
  if (heard.size() < 2) return;
  const int64_t ctx = rows.size(1);
  comparison.positions = rows.numel();
  const std::vector<int64_t> places = differing(heard);
  comparison.disagreements = static_cast<int64_t>(places.size());
  std::vector<int64_t> taken;
  for (const int64_t place : places) {
    if (static_cast<int64_t>(taken.size()) >= wanted) break;
    if (place % ctx == ctx - 1) continue;  // nothing follows there to compare with
    const bool near = std::ranges::any_of(
        taken, [&](int64_t other) { return other / ctx == place / ctx && std::abs(other - place) < kApart; });
    if (near) continue;
    taken.push_back(place);
    comparison.examples.push_back(example_at(place, rows, heard, tokenizer));
  }
}

}  // namespace

nlohmann::json read_report(const fs::path& file) { return read_json_object(file, kMaxReportBytes); }

nlohmann::json read_contents(const fs::path& file) {
  const nlohmann::json manifest = read_json_object(file, kMaxReportBytes);
  const auto tensors = manifest.find("tensors");
  if (tensors == manifest.end() || !tensors->is_object() || tensors->empty()) return nullptr;
  const nlohmann::json files = manifest.value("files", nlohmann::json());
  return {*tensors, files.is_object() ? files.value("config.json", nlohmann::json()) : nlohmann::json()};
}

Figures figures_of(const ComparedArtefact& artefact) {
  Figures figures = {{"size", static_cast<double>(artefact.bytes)}, {"bits", artefact.bits_per_weight}};
  if (!artefact.result) return figures;
  figures["ppl"] = artefact.result->perplexity;
  if (const auto& divergence = artefact.result->divergence) {
    figures["ppl_increase"] = artefact.result->perplexity / divergence->reference_perplexity - 1;
    figures["kl"] = divergence->mean;
    figures["kl_median"] = divergence->median;
    figures["kl_p99"] = divergence->p99;
    figures["same_top"] = divergence->same_top;
  }
  return figures;
}

std::vector<CompareCheck> check_artefacts(const std::vector<ComparedArtefact>& artefacts,
                                          const std::vector<FailCondition>& conditions) {
  std::vector<CompareCheck> checks;
  for (const ComparedArtefact& artefact : artefacts) {
    checks.push_back({.artefact = artefact.name, .condition = "evaluated", .failure = artefact.trouble});
    const Figures figures = figures_of(artefact);
    for (const FailCondition& condition : conditions) {
      CompareCheck check{artefact.name, condition.text, "", condition.figure};
      const auto figure = figures.find(condition.figure);
      if (figure != figures.end()) check.value = figure->second;
      if (figure == figures.end()) {
        check.failure = fmt::format("{} is not known", condition.figure);
      } else if (condition.holds(figure->second)) {
        check.failure =
            fmt::format("{} is {}", condition.figure, shown_figure(condition.figure, figure->second));
      }
      checks.push_back(std::move(check));
    }
  }
  return checks;
}

void run_compare(const CompareRequest& request) {
  const Stopwatch watch;
  std::vector<FailCondition> conditions;
  for (const std::string& text : request.fail_if) {
    conditions.push_back(parse_condition(text));
    if (!request.reference && needs_reference(conditions.back().figure))
      user_error("--fail-if '{}': expected --reference DIR, which {} is measured against", text,
                 conditions.back().figure);
  }
  check_junit_place(request);
  std::vector<ModelFolder> models;
  for (const fs::path& path : request.artefacts) models.push_back(open_model_folder(path));
  std::optional<ModelFolder> reference;
  if (request.reference) reference = open_model_folder(*request.reference);
  check_vocabularies(models, request);
  const ModelFolder& whose_text = reference ? *reference : models.front();
  const c10::Device device = resolve_device(request.device);
  const DType compute = resolve_compute_dtype(request.compute_dtype, device, whose_text.graph.config.dtype);
  ModelText reader = open_model_text(whose_text);
  reader.max_ram = request.memory.ram.value_or(0);
  const at::Tensor rows = read_evaluation(request.text, reader, request.ctx, request.rows);
  const auto work = work_folder(request.memory.work, fs::temp_directory_path());
  const MemoryLimits limits{request.memory.ram, request.memory.vram, request.memory.disk};

  Progress progress(request.json || request.quiet);
  std::vector<std::string> warnings;
  warn_limits(limits, device, warnings);
  for (const std::string& warning : warnings) progress.line("warning: " + warning);
  Comparison comparison{
      .text = request.text.string(), .ctx = request.ctx, .tokens = rows.size(0) * (rows.size(1) - 1)};
  if (request.reference) comparison.reference = request.reference->string();
  std::vector<Heard> heard;
  std::vector<nlohmann::json> contents;
  for (size_t i = 0; i < models.size(); ++i) {
    comparison.artefacts.push_back(describe(request.artefacts[i], models[i]));
    ComparedArtefact& artefact = comparison.artefacts.back();
    contents.push_back(contents_of(models[i]));
    find_same(models, contents, comparison.artefacts);
    if (reference && artefact.report.is_null() && (models[i].quantized || models[i].gguf != nullptr)) {
      artefact.report = measured_errors(models[i], *reference);
      artefact.errors_measured = true;
    }
    // A pair at a time, so that it takes no more memory than `eval` of one.
    const ModelFolder* const against = reference ? &*reference : nullptr;
    const EvalMemory memory = plan_eval_memory(models[i], against, rows, limits, device, work);
    progress.line(artefact.name);
    EvalDetails details;
    try {
      artefact.result = evaluate_with_progress(models[i], against, rows, device, compute, memory.storage,
                                               progress, &details);
    } catch (const CheckFailed& failure) {
      artefact.trouble = failure.what();
      continue;
    }
    if (reference && heard.empty()) {
      heard.push_back({"reference", std::nullopt, std::move(details.reference), {}});
      comparison.reference_perplexity = artefact.result->divergence->reference_perplexity;
    }
    heard.push_back({artefact.name, i, std::move(details.model), details.divergence});
  }
  add_examples(heard, rows, *reader.tokenizer, request.examples, comparison);
  comparison.checks = check_artefacts(comparison.artefacts, conditions);
  if (request.junit) replace_file(*request.junit, junit_xml(comparison.checks, watch.seconds()));
  fmt::print(
      "{}",
      request.json
          ? comparison_json(comparison).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
          : comparison_text(comparison));
  const auto failed =
      std::ranges::find_if(comparison.checks, [](const auto& check) { return !check.failure.empty(); });
  if (failed == comparison.checks.end()) return;
  std::fflush(stdout);
  throw CheckFailed(fmt::format(
      "{} of {} checks failed, first {}: {}: {}",
      std::ranges::count_if(comparison.checks, [](const auto& check) { return !check.failure.empty(); }),
      comparison.checks.size(), failed->artefact, failed->condition, failed->failure));
}

}  // namespace lathe
