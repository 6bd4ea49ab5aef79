#include "apps/quantize/reporting.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>

#include "apps/quantize/output_check.h"
#include "lib/base/file.h"
#include "lib/base/process_memory.h"
#include "lib/base/scratch_file.h"
#include "lib/model/cached_attention.h"
#include "lib/numeric/grid_reach.h"
#include "lib/report/model_card.h"
#include "lib/tensor/device.h"
#include "lib/tensor/device_memory.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

int64_t parameter_count(const Checkpoint& checkpoint) {
  int64_t count = 0;
  for (const auto& [name, info] : checkpoint.tensors()) count += info.numel();
  return count;
}

Report::Totals totals_of(const Plan& plan, int64_t parameters) {
  Report::Totals totals;
  totals.bytes_before = plan.input_bytes;
  totals.bytes_after = plan.outputs.front().bytes;
  for (const PlannedLinear& linear : plan.quantized()) totals.quantized_weights += linear.out * linear.in;
  totals.bits_per_quantized_weight = plan.bits_per_weight(plan.outputs.front());
  totals.bits_per_parameter = 8.0 * static_cast<double>(totals.bytes_after) / static_cast<double>(parameters);
  return totals;
}

std::string scheme_of(const QuantizedTensor& tensor) {
  return with_input(tensor.scheme.describe(),
                    tensor.input ? std::optional(tensor.input->scheme) : std::nullopt);
}

/// Are all of its scales below the least normal number of their type, or at it, as those are that would be 0?
bool has_small_scales(const QuantizedTensor& tensor) {
  const double least_normal = tensor.scale_dtype == DType::F16 ? 0x1p-14 : 0x1p-126;
  return tensor.scales.defined() && tensor.scales.max().item<double>() <= least_normal;
}

std::optional<Report::Scales> scales_of(const QuantizedTensor& tensor) {
  if (!tensor.scales.defined() || tensor.scales.numel() == 0) return std::nullopt;
  const double all = tensor.global_scale.defined() ? tensor.global_scale.item<double>() : 1;
  const auto [least, largest] = at::aminmax(tensor.scales);
  return Report::Scales{all * least.item<double>(), all * tensor.scales.median().item<double>(),
                        all * largest.item<double>()};
}

Report::Histogram histogram_of(const WeightHistogram& counted, const QuantizedTensor& tensor) {
  Report::Histogram histogram{counted.limit, counted.before, counted.after};
  if (const auto reach = grid_reach(tensor))
    histogram.clip = Report::Clip{reach->least, reach->median, reach->largest};
  return histogram;
}

/// Of a grid that calibration fixed for the tensor; tokens' and groups' own grow with what they hold.
std::optional<double> input_limit(const QuantizedTensor& tensor) {
  if (!tensor.input || tensor.input->scheme.dynamic) return std::nullopt;
  const ActivationScheme& scheme = tensor.input->scheme;
  const double scale = tensor.input->scale;
  if (const FloatGridType* const grid = scheme.float_grid()) return scale * grid->number.largest;
  return scale * std::max(scheme.qmax() - tensor.input->zero_point, tensor.input->zero_point - scheme.qmin());
}

/// What the format made of the solver's result.
void take_over(const Rounding& rounding, Report::LinearRow& row) {
  row.importance_weighted_error = rounding.importance_weighted_error;
  row.bits_per_weight = rounding.bits_per_weight;  // codes that went in as they are take a scale a block, too
  if (rounding.type.empty()) return;
  row.scheme = rounding.type;
  row.weight_relative_mse = rounding.weight_relative_mse;
  row.output_relative_error = rounding.output_relative_error;
  row.scales.reset();
  if (const auto& made = rounding.scales; made && made->total() > 0)
    row.scales = Report::Scales{made->least, made->median(), made->largest};
  row.histogram.reset();
  if (const auto& made = rounding.histogram)
    row.histogram = Report::Histogram{made->limit, made->before, made->after};
  if (!rounding.note.empty()) row.events.push_back(rounding.note);
}

/// By role, in order of first appearance: what an output holds of each linear.
std::vector<Report::ScaleHistogram> scale_histograms(const std::vector<Report::LinearRow>& rows,
                                                     const std::map<std::string, ScaleCounts>& solved,
                                                     const std::map<std::string, Rounding>& roundings) {
  std::vector<std::string> roles;
  std::map<std::string, ScaleCounts> sums;
  for (const Report::LinearRow& row : rows) {
    const auto made = roundings.find(row.name);
    const auto counted = solved.find(row.name);
    const bool anew = made != roundings.end() && !made->second.type.empty();
    if (anew ? !made->second.scales.has_value() : counted == solved.end()) continue;
    if (!sums.contains(row.role)) roles.push_back(row.role);
    sums[row.role].add(anew ? *made->second.scales : counted->second);
  }
  std::vector<Report::ScaleHistogram> histograms;
  for (const std::string& role : roles) {
    const ScaleCounts& sum = sums.at(role);
    if (sum.counts.empty()) continue;  // all are 0
    histograms.push_back({role, sum.least, sum.median(), sum.largest, sum.zeros, sum.first, sum.counts});
  }
  return histograms;
}

/// Empty where no scale clips a share that is worth one.
std::string overflow_warning(const std::map<std::string, InputOverflow>& overflows) {
  const auto share = [](const auto& linear) { return linear.second.share(); };
  const auto many =
      std::ranges::count_if(overflows, [&](const auto& linear) { return share(linear) > kOverflowShare; });
  if (many == 0) return "";
  const auto most = std::ranges::max_element(overflows, {}, share);
  return fmt::format(
      "static scales of {} of {} inputs clip more than {:g} % of the evaluation text's values, {} {:.2g} %: "
      "calibrate on text more like it, use observer minmax or mse, or dynamic scales",
      many, overflows.size(), 100 * kOverflowShare, most->first, 100 * share(*most));
}

double mean_bits(const std::vector<Report::LinearRow>& rows, const std::vector<PlannedLinear>& linears) {
  std::map<std::string, double> sizes;
  for (const PlannedLinear& linear : linears)
    sizes[linear.name] = static_cast<double>(linear.out * linear.in);
  double bits = 0, weights = 0;
  for (const Report::LinearRow& row : rows) {
    bits += sizes.at(row.name) * row.bits_per_weight;
    weights += sizes.at(row.name);
  }
  return bits / weights;
}

/// The exponent of the fold that a linear's input went through; an expert's rows of mlp_in come from the norm
/// that all share.
const double* ratio_of(const std::map<Input, double>& ratios, const Input& input) {
  auto found = ratios.find(input);
  if (found == ratios.end() && input.slot == Slot::mlp_in) found = ratios.find({input.slot, std::nullopt});
  return found == ratios.end() ? nullptr : &found->second;
}

}  // namespace

Report::Model report_model(const Recipe& recipe, const ModelFolder& model) {
  const ModelConfig& config = model.graph.config;
  return {recipe.model.string(), config.model_type, std::string(name_of(config.dtype)),
          config.hidden_size == 0 ? 0 : static_cast<int64_t>(model.graph.blocks.size()),
          parameter_count(*model.checkpoint)};
}

Report::Environment report_environment(c10::Device device, DType compute) {
  return {LATHE_VERSION,           "g++ " __VERSION__,
          describe_device(device), std::string(name_of(compute)),
          at::get_num_threads(),   describe_matrix_products()};
}

Report::Memory report_memory(const Recipe& recipe, const MemoryPlan& memory) {
  const StreamStorage& storage = memory.storage;
  return {.limit_ram = recipe.limits.ram,
          .limit_vram = recipe.limits.vram,
          .limit_disk = recipe.limits.disk,
          .planned_ram = memory.peak.ram,
          .planned_vram = memory.peak.vram,
          .planned_disk = memory.peak.disk,
          .hidden_states = std::string(name_of(storage.hidden.placement)),
          .inner_values = storage.inner ? std::string(name_of(*storage.inner)) : "recomputed",
          .evaluation_states = {},
          .micro_batch = storage.micro_batch,
          .peak_vram = 0,
          .peak_disk = 0};
}

Report::Calibration report_calibration(const CalibrationSet& set) {
  Report::Calibration calibration;
  for (const SourceCounts& source : set.sources) {
    calibration.files.push_back(source.path);
    calibration.documents += source.documents;
    calibration.tokens += source.tokens;
  }
  calibration.usable_rows = set.usable;
  calibration.rows = set.ids.size(0);
  calibration.seq_len = set.ids.size(1);
  calibration.ids_hash = ids_hash(set.ids, set.lengths, set.token_weights);
  return calibration;
}

RunReport::RunReport(const Recipe& recipe, const Plan& plan, const ModelFolder& model, c10::Device device,
                     DType compute)
    : recipe_(recipe), plan_(plan), device_(device) {
  report_.model = report_model(recipe, model);
  report_.environment = report_environment(device, compute);
  report_.totals = totals_of(plan, report_.model.parameters);
  report_.recipe = recipe.to_json();
  for (const LinearPlan* linear : plan.linears())
    if (!linear->quantized) report_.kept.push_back({linear->linear->name, linear->reason});
}

void RunReport::set_memory(const MemoryPlan& memory) { report_.memory = report_memory(recipe_, memory); }

void RunReport::set_memory(const MemoryBytes& planned) {
  report_.memory.limit_ram = recipe_.limits.ram;
  report_.memory.limit_vram = recipe_.limits.vram;
  report_.memory.limit_disk = recipe_.limits.disk;
  report_.memory.planned_ram = planned.ram;
  report_.memory.planned_vram = planned.vram;
  report_.memory.planned_disk = planned.disk;
}

void RunReport::add_warnings(const std::vector<std::string>& warnings) {
  report_.warnings.insert(report_.warnings.end(), warnings.begin(), warnings.end());
}

void RunReport::set_eval_memory(const EvalMemory& memory) {
  Report::Memory& report = report_.memory;
  report.planned_ram = std::max(report.planned_ram, memory.peak.ram);
  report.planned_vram = std::max(report.planned_vram, memory.peak.vram);
  report.planned_disk = std::max(report.planned_disk, memory.peak.disk);
  report.evaluation_states = name_of(memory.storage.placement);
}

void RunReport::set_text(const RunText& text) {
  report_.calibration = report_calibration(text.calibration);
  report_.warnings.insert(report_.warnings.end(), text.warnings.begin(), text.warnings.end());
}

void RunReport::add_block(const BlockOutcome& outcome) {
  add_experts(outcome);
  add_inputs(outcome);
  add_spreads(outcome);
  count_bits(outcome);
  if (outcome.kv_cache) {
    const KvCacheQuantizer& cache = *outcome.kv_cache;
    Report::KvCacheRow row{static_cast<int64_t>(outcome.index), cache.scheme.describe(), std::nullopt,
                           std::nullopt};
    if (!cache.scheme.low_bit()) {
      row.k_scale = std::ranges::max(cache.k_scales);
      row.v_scale = std::ranges::max(cache.v_scales);
    }
    report_.kv_cache.push_back(row);
  }
  std::map<Input, double> ratios;
  for (const FoldOutcome& fold : outcome.folds) {
    const std::string& transform = recipe_.transforms.at(fold.transform).name;
    report_.folds.push_back({transform, fold.edge->producer, name_of(fold.edge->input), fold.applied,
                             fold.ratio, fold.loss_before, fold.loss_after, fold.note});
    if (fold.applied) ratios[fold.edge->input] = fold.ratio;
  }
  for (const LinearOutcome& result : outcome.linears) {
    const Linear& linear = *result.linear;
    if (has_small_scales(result.quantized)) small_scales_.insert(linear.name);
    if (auto counts = count_scales(result.quantized)) scales_[linear.name] = *std::move(counts);
    Report::LinearRow row{.block = static_cast<int64_t>(outcome.index),
                          .name = linear.name,
                          .role = std::string(name_of(linear.role)),
                          .scheme = scheme_of(result.quantized),
                          .solver = {},
                          .bits_per_weight = result.quantized.bits_per_weight(),
                          .weight_relative_mse = result.distortion.weight_relative_mse,
                          .output_relative_error = result.distortion.output_relative_error,
                          .output_tokens = result.output_tokens,
                          .tokens = result.tokens,
                          .ratio = {},
                          .clipped = result.clipped,
                          .outliers = result.quantized.outliers ? result.quantized.outliers->count() : 0,
                          .input_limit = input_limit(result.quantized),
                          .scales = scales_of(result.quantized),
                          .histogram = histogram_of(result.histogram, result.quantized),
                          .seconds = result.seconds,
                          .events = result.events};
    if (const double* ratio = ratio_of(ratios, linear.input)) row.ratio = *ratio;
    for (const LinearPlan& planned : plan_.part(outcome.index)) {
      if (planned.linear->name == linear.name) row.solver = recipe_.rules[planned.rule].solver.name;
    }
    report_.linears.push_back(std::move(row));
  }
}

/// Linears of an output that kept less than half of what they did are named, whatever the model makes of it.
std::vector<std::string> RunReport::loss_warnings(const Report& report, const ArtifactWriter& writer) const {
  constexpr double kLost = 0.5;  // of the squared output, or of the squared weights where none was measured
  const auto loss = [](const Report::LinearRow& row) {
    return row.output_relative_error.value_or(row.weight_relative_mse);
  };
  const auto rounded_by_format = [&](const Report::LinearRow& row) {
    const auto rounding = writer.roundings().find(row.name);
    return rounding != writer.roundings().end() && !rounding->second.type.empty();
  };
  std::vector<const Report::LinearRow*> lost, small;
  for (const Report::LinearRow& row : report.linears) {
    if (loss(row) <= kLost) continue;
    lost.push_back(&row);
    if (!rounded_by_format(row) && small_scales_.contains(row.name)) small.push_back(&row);
  }
  std::vector<std::string> warnings;
  if (lost.empty()) return warnings;
  const auto worst = std::ranges::max_element(lost, {}, [&](const auto* row) { return loss(*row); });
  warnings.push_back(
      fmt::format("{} of {} linears lost more than half of what they put out to rounding, {} {:.3g} of it: "
                  "give them {}",
                  lost.size(), report.linears.size(), (*worst)->name, loss(**worst),
                  rounded_by_format(**worst) ? "a type of more bits, or BF16 (output.gguf_tensor_types)"
                                             : "more bits, smaller groups or another solver"));
  if (small.empty()) return warnings;
  warnings.push_back(fmt::format(
      "{} of them have weights too small for scales in {} ({}{}): output.scale_dtype BF16 reaches further",
      small.size(), name_of(plan_.scale_dtype), small.front()->name, small.size() > 1 ? " first" : ""));
  return warnings;
}

/// The plan's numbers are those of the schemes; what a solver kept beside them is known now.
void RunReport::count_bits(const BlockOutcome& outcome) {
  Report::Totals& totals = report_.totals;
  for (const LinearOutcome& linear : outcome.linears) {
    const QuantizedTensor& tensor = linear.quantized;
    const double beside =
        tensor.bits_per_weight() - tensor.scheme.bits_per_weight(tensor.rows(), tensor.cols());
    totals.bits_per_quantized_weight += beside * static_cast<double>(tensor.rows() * tensor.cols()) /
                                        static_cast<double>(totals.quantized_weights);
    if (!tensor.outliers) continue;
    totals.outliers += tensor.outliers->count();
    totals.outlier_bytes += tensor.outliers->bytes();
  }
}

void RunReport::set_written(uint64_t bytes) {
  report_.totals.bytes_after = bytes;
  report_.totals.bits_per_parameter =
      8.0 * static_cast<double>(bytes) / static_cast<double>(report_.model.parameters);
}

void RunReport::add_experts(const BlockOutcome& outcome) {
  if (outcome.expert_tokens.empty()) return;
  const int64_t floor = std::max<int64_t>(recipe_.calibration.experts.min_tokens, 1);
  const auto below = std::count_if(outcome.expert_tokens.begin(), outcome.expert_tokens.end(),
                                   [&](int64_t tokens) { return tokens < floor; });
  report_.experts.push_back({static_cast<int64_t>(outcome.index), outcome.expert_tokens, below});
}

void RunReport::add_inputs(const BlockOutcome& outcome) {
  for (const auto& [input, seen] : outcome.inputs) {
    report_.activations.push_back({.block = static_cast<int64_t>(outcome.index),
                                   .input = std::string(name_of(input)),
                                   .tokens = seen.tokens,
                                   .width = seen.width,
                                   .abs_max = seen.abs_max,
                                   .abs_max_mean = seen.abs_max_mean,
                                   .abs_p9999 = seen.abs_p9999,
                                   .mean_abs = seen.mean_abs,
                                   .kurtosis = seen.kurtosis,
                                   .outlier_channels = seen.outlier_channels,
                                   .outlier_share = seen.outlier_share,
                                   .channel_kurtosis = seen.channel_kurtosis,
                                   .channel_spread = seen.channel_spread,
                                   .token_abs_max = seen.token_abs_max,
                                   .token_spread = seen.token_spread});
  }
}

void RunReport::add_spreads(const BlockOutcome& outcome) {
  for (const auto& [input, histogram] : outcome.spreads) {
    Report::InputHistogram row{.block = static_cast<int64_t>(outcome.index),
                               .input = std::string(name_of(input)),
                               .limit = histogram.limit,
                               .counts = histogram.counts};
    for (const LinearOutcome& linear : outcome.linears)
      if (linear.linear->input == input && !row.clip) row.clip = input_limit(linear.quantized);
    report_.input_histograms.push_back(std::move(row));
  }
}

/// What it clips of text that it wasn't chosen on is what a static scale loses in service.
void RunReport::add_overflows(const std::map<std::string, InputOverflow>& overflows) {
  for (Report::LinearRow& row : report_.linears) {
    const auto found = overflows.find(row.name);
    if (found == overflows.end()) continue;
    const InputOverflow& counted = found->second;
    row.input_overflow = Report::Overflow{counted.values, counted.overflowed, counted.share()};
  }
  if (const std::string warning = overflow_warning(overflows); !warning.empty())
    report_.warnings.push_back(warning);
}

void RunReport::set_evaluation(const EvalResult& result) {
  add_overflows(result.overflows);
  report_.evaluation = {.text = recipe_.evaluate->text.string(),
                        .ctx = recipe_.evaluate->ctx,
                        .tokens = result.tokens,
                        .perplexity_before = result.divergence->reference_perplexity,
                        .perplexity_after = result.perplexity,
                        .kl_mean = result.divergence->mean,
                        .kl_median = result.divergence->median,
                        .kl_p99 = result.divergence->p99,
                        .same_top = result.divergence->same_top};
}

void RunReport::set_verification(const Findings& findings) {
  report_.failed_checks.emplace();
  for (const Finding& finding : findings)
    report_.failed_checks->push_back({finding.check, finding.place, finding.expected, finding.found});
}

Findings RunReport::fallbacks() const {
  Findings findings;
  for (const Report::LinearRow& row : report_.linears) {
    for (const std::string& event : row.events) {
      if (const auto finding = check_fallback(recipe_, row.name, event)) findings.push_back(*finding);
    }
  }
  return findings;
}

Report RunReport::report_of(const ArtifactWriter& writer) const {
  Report report = report_;
  report.totals.bytes_after = writer.bytes();
  report.totals.bits_per_parameter =
      8.0 * static_cast<double>(writer.bytes()) / static_cast<double>(report.model.parameters);
  report.tensors = writer.tensor_rows();
  const std::vector<std::string>& about_output = writer.output().warnings;
  report.warnings.insert(report.warnings.begin(), about_output.begin(), about_output.end());
  const std::vector<PlannedLinear> quantized = plan_.quantized();
  std::map<std::string, double> stored;
  for (const PlannedLinear& linear : quantized) {
    if (const auto bits = writer.output().stored_bits(linear)) stored[linear.name] = *bits;
  }
  for (Report::LinearRow& row : report.linears) {
    if (const auto bits = stored.find(row.name); bits != stored.end()) row.bits_per_weight = bits->second;
    const auto rounding = writer.roundings().find(row.name);
    if (rounding != writer.roundings().end()) take_over(rounding->second, row);
  }
  const std::vector<std::string> about_loss = loss_warnings(report, writer);
  report.warnings.insert(report.warnings.end(), about_loss.begin(), about_loss.end());
  report.scale_histograms = scale_histograms(report.linears, scales_, writer.roundings());
  if (!writer.roundings().empty() || !stored.empty())
    report.totals.bits_per_quantized_weight = mean_bits(report.linears, quantized);
  return report;
}

void RunReport::write(const ArtifactWriter& writer) {
  report_.peak_rss = peak_rss_bytes();
  report_.memory.peak_vram = peak_device_memory(device_);
  report_.memory.peak_disk = peak_scratch_bytes();
  const Report report = report_of(writer);
  const std::string how_to_load = writer.how_to_load();
  const std::filesystem::path& folder = writer.folder();
  write_file(folder / "report.json",
             to_json(report).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  write_file(folder / "report.md", to_markdown(report, how_to_load));
  write_file(folder / "report.html", to_html(report, how_to_load, writer.consumers()));
  const std::filesystem::path card = folder / "README.md";
  const std::string base = std::filesystem::exists(card) ? read_text_file(card) : std::string();
  write_file(card, model_card(report, writer.target().name, how_to_load, writer.consumers(), base));
}

namespace {

/// What static scales of inputs clip, of all and of the input that loses most; empty where there are none.
std::string overflow_line(const std::map<std::string, InputOverflow>& overflows) {
  if (overflows.empty()) return "";
  InputOverflow all;
  for (const auto& [name, found] : overflows) {
    all.values += found.values;
    all.overflowed += found.overflowed;
  }
  const auto most =
      std::ranges::max_element(overflows, {}, [](const auto& linear) { return linear.second.share(); });
  return fmt::format(
      "clipped     {:.2g} % of the inputs' values by {} static scales, at most {:.2g} % ({})\n",
      100 * all.share(), overflows.size(), 100 * most->second.share(), most->first);
}

}  // namespace

nlohmann::json eval_json(const EvalRequest& request, const ModelFolder& model, const EvalResult& result) {
  nlohmann::json out = {{"model", request.model.string()},
                        {"text", request.text.string()},
                        {"ctx", request.ctx},
                        {"tokens", result.tokens},
                        {"perplexity", result.perplexity},
                        {"bits_per_token", result.bits_per_token}};
  if (result.divergence) {
    const EvalResult::Divergence& d = *result.divergence;
    out["reference"] = request.reference->string();
    out["reference_perplexity"] = d.reference_perplexity;
    out["kl_mean"] = d.mean;
    out["kl_median"] = d.median;
    out["kl_p99"] = d.p99;
    out["same_top"] = d.same_top;
  }
  if (!result.overflows.empty()) {
    nlohmann::json& list = out["input_overflow"] = nlohmann::json::array();
    for (const auto& [name, found] : result.overflows) {
      list.push_back({{"name", name},
                      {"values", found.values},
                      {"overflowed", found.overflowed},
                      {"share", found.share()}});
    }
  }
  if (model.kv_cache) {
    out["kv_cache"] = {
        {"scheme", model.kv_cache->describe()},
        {"bits_per_value", kv_cache_bits(*model.kv_cache, kv_cache_shape(model.graph.config), request.ctx)}};
  }
  return out;
}

std::string eval_text(const EvalRequest& request, const ModelFolder& model, const EvalResult& result) {
  std::string text = fmt::format("perplexity  {:.4f} over {} tokens of {}, {} at a time\n", result.perplexity,
                                 result.tokens, request.text.string(), request.ctx);
  if (result.divergence) {
    const EvalResult::Divergence& d = *result.divergence;
    text += fmt::format("reference   {:.4f} ({})\n", d.reference_perplexity, request.reference->string());
    text +=
        fmt::format("KL          mean {:.6f}, median {:.6f}, 99 % {:.5f} nats\n", d.mean, d.median, d.p99);
    text += fmt::format("same top    {:.2f} %\n", 100 * d.same_top);
  }
  text += overflow_line(result.overflows);
  if (model.kv_cache) {
    text += fmt::format("KV cache    {}; {:.2f} bits a value at {} tokens\n", model.kv_cache->describe(),
                        kv_cache_bits(*model.kv_cache, kv_cache_shape(model.graph.config), request.ctx),
                        request.ctx);
  }
  return text;
}

}  // namespace lathe
