#include <fmt/format.h>

#include <cmath>

#include "lib/report/report.h"

namespace lathe {
namespace {

using nlohmann::json;

json or_null(const std::optional<double>& value) { return value ? json(*value) : json(nullptr); }

json scales_json(const std::optional<Report::Scales>& scales) {
  if (!scales) return nullptr;
  return {{"least", scales->least}, {"median", scales->median}, {"largest", scales->largest}};
}

json clip_json(const std::optional<Report::Clip>& clip) {
  if (!clip) return nullptr;
  return {{"least", clip->least}, {"median", clip->median}, {"largest", clip->largest}};
}

json histogram_json(const std::optional<Report::Histogram>& histogram) {
  if (!histogram) return nullptr;
  return {{"limit", histogram->limit},
          {"before", histogram->before},
          {"after", histogram->after},
          {"clip", clip_json(histogram->clip)}};
}

json overflow_json(const std::optional<Report::Overflow>& overflow) {
  if (!overflow) return nullptr;
  return {{"values", overflow->values}, {"overflowed", overflow->overflowed}, {"share", overflow->share}};
}

json linear_json(const Report::LinearRow& row) {
  return {{"name", row.name},
          {"block", row.block},
          {"role", row.role},
          {"scheme", row.scheme},
          {"solver", row.solver},
          {"bits_per_weight", row.bits_per_weight},
          {"weight_error", row.weight_relative_mse},
          {"output_error", or_null(row.output_relative_error)},
          {"output_error_tokens", row.output_tokens},
          {"tokens", row.tokens},
          {"importance_weighted_error", or_null(row.importance_weighted_error)},
          {"ratio", or_null(row.ratio)},
          {"clipped", row.clipped},
          {"outliers", row.outliers},
          {"input_limit", or_null(row.input_limit)},
          {"input_overflow", overflow_json(row.input_overflow)},
          {"scales", scales_json(row.scales)},
          {"histogram", histogram_json(row.histogram)},
          {"seconds", row.seconds},
          {"events", row.events}};
}

json scale_histogram_json(const Report::ScaleHistogram& row) {
  return {{"role", row.role},   {"least", row.least}, {"median", row.median}, {"largest", row.largest},
          {"zeros", row.zeros}, {"first", row.first}, {"counts", row.counts}};
}

json tensor_json(const Report::TensorRow& row) {
  return {{"name", row.name},
          {"type", row.type},
          {"shape", row.shape},
          {"bits_per_weight", row.bits_per_weight},
          {"weight_error", row.weight_relative_mse},
          {"importance_weighted_error", or_null(row.importance_weighted_error)}};
}

json fold_json(const Report::FoldRow& row) {
  return {{"transform", row.transform},   {"producer", row.producer}, {"slot", row.slot},
          {"applied", row.applied},       {"ratio", row.ratio},       {"loss_before", row.loss_before},
          {"loss_after", row.loss_after}, {"note", row.note}};
}

json experts_json(const Report::ExpertsRow& row) {
  return {{"block", row.block}, {"tokens", row.tokens}, {"below_floor", row.below_floor}};
}

json kv_cache_json(const Report::KvCacheRow& row) {
  const auto scale = [](const std::optional<double>& value) { return value ? json(*value) : json(); };
  return {{"block", row.block},
          {"scheme", row.scheme},
          {"k_scale", scale(row.k_scale)},
          {"v_scale", scale(row.v_scale)}};
}

json input_json(const Report::InputRow& row) {
  return {{"block", row.block},
          {"input", row.input},
          {"tokens", row.tokens},
          {"width", row.width},
          {"abs_max", row.abs_max},
          {"abs_max_mean", row.abs_max_mean},
          {"abs_p9999", row.abs_p9999},
          {"mean_abs", row.mean_abs},
          {"kurtosis", row.kurtosis},
          {"outlier_channels", row.outlier_channels},
          {"outlier_share", row.outlier_share},
          {"channel_kurtosis", row.channel_kurtosis},
          {"channel_spread", row.channel_spread},
          {"token_abs_max", row.token_abs_max},
          {"token_spread", row.token_spread}};
}

json input_histogram_json(const Report::InputHistogram& row) {
  return {{"block", row.block},
          {"input", row.input},
          {"limit", row.limit},
          {"counts", row.counts},
          {"clip", or_null(row.clip)}};
}

json kept_json(const Report::KeptRow& row) { return {{"name", row.name}, {"reason", row.reason}}; }

json failed_json(const Report::FailedCheck& row) {
  return {{"check", row.check}, {"name", row.place}, {"expected", row.expected}, {"found", row.found}};
}

json stage_json(const std::pair<std::string, double>& stage) {
  return {{"name", stage.first}, {"seconds", stage.second}};
}

json calibration_json(const Report::Calibration& calibration) {
  return {{"files", calibration.files},      {"documents", calibration.documents},
          {"tokens", calibration.tokens},    {"usable_rows", calibration.usable_rows},
          {"rows", calibration.rows},        {"seq_len", calibration.seq_len},
          {"ids_hash", calibration.ids_hash}};
}

json bytes_or_null(const std::optional<uint64_t>& bytes) { return bytes ? json(*bytes) : json(nullptr); }

/// Bytes. `peak` is measured, `planned` the most that was expected.
json memory_json(const Report& report) {
  const Report::Memory& memory = report.memory;
  return {{"limits",
           {{"ram", bytes_or_null(memory.limit_ram)},
            {"vram", bytes_or_null(memory.limit_vram)},
            {"disk", bytes_or_null(memory.limit_disk)}}},
          {"planned",
           {{"ram", memory.planned_ram}, {"vram", memory.planned_vram}, {"disk", memory.planned_disk}}},
          {"peak", {{"ram", report.peak_rss}, {"vram", memory.peak_vram}, {"disk", memory.peak_disk}}},
          {"hidden_states", memory.hidden_states},
          {"inner_values", memory.inner_values},
          {"evaluation_states", memory.evaluation_states},
          {"micro_batch", memory.micro_batch}};
}

json evaluation_json(const std::optional<Report::Evaluation>& evaluation) {
  if (!evaluation) return nullptr;
  return {{"text", evaluation->text},
          {"ctx", evaluation->ctx},
          {"tokens", evaluation->tokens},
          {"perplexity_before", evaluation->perplexity_before},
          {"perplexity_after", evaluation->perplexity_after},
          {"kl_mean", evaluation->kl_mean},
          {"kl_median", evaluation->kl_median},
          {"kl_p99", evaluation->kl_p99},
          {"same_top", evaluation->same_top}};
}

json totals_json(const Report& report) {
  const Report::Totals& totals = report.totals;
  double seconds = 0;
  for (const auto& stage : report.stages) seconds += stage.second;
  const double parameters = static_cast<double>(report.model.parameters);
  return {
      {"bytes_before", totals.bytes_before},
      {"bytes_after", totals.bytes_after},
      {"quantized_weights", totals.quantized_weights},
      {"quantized_share", parameters > 0 ? static_cast<double>(totals.quantized_weights) / parameters : 0.0},
      {"bits_per_quantized_weight", totals.bits_per_quantized_weight},
      {"outliers", totals.outliers},
      {"outlier_bytes", totals.outlier_bytes},
      {"bits_per_parameter", totals.bits_per_parameter},
      {"peak_rss_bytes", report.peak_rss},
      {"seconds", seconds}};
}

template <class Row>
json rows_json(const std::vector<Row>& rows, json (*convert)(const Row&)) {
  json list = json::array();
  for (const Row& row : rows) list.push_back(convert(row));
  return list;
}

/// Replaces every number that is not finite by null and names it: "linears[3].seconds (the row's name) is
/// ...".
void null_not_finite(json& value, const std::string& path, std::string row, std::vector<std::string>& found) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    found.push_back(fmt::format("{}{} is not a finite number ({})", path, row.empty() ? "" : " (" + row + ")",
                                value.get<double>()));
    value = nullptr;
  } else if (value.is_object()) {
    for (const char* key : {"name", "producer"}) {
      if (value.contains(key) && value[key].is_string()) row = value[key].get<std::string>();
    }
    for (auto& [key, child] : value.items()) {
      null_not_finite(child, path.empty() ? key : path + "." + key, row, found);
    }
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i)
      null_not_finite(value[i], fmt::format("{}[{}]", path, i), row, found);
  }
}

}  // namespace

json to_json(const Report& report) {
  const Report::Model& model = report.model;
  const Report::Environment& environment = report.environment;
  json result = {{"schema", Report::kSchema},
                 {"recipe", report.recipe},
                 {"model",
                  {{"path", model.path},
                   {"family", model.family},
                   {"dtype", model.dtype},
                   {"blocks", model.blocks},
                   {"parameters", model.parameters}}},
                 {"environment",
                  {{"version", environment.version},
                   {"compiler", environment.compiler},
                   {"device", environment.device},
                   {"compute_dtype", environment.compute_dtype},
                   {"threads", environment.threads},
                   {"matrix_products", environment.matrix_products}}},
                 {"calibration", calibration_json(report.calibration)},
                 {"memory", memory_json(report)},
                 {"totals", totals_json(report)},
                 {"evaluation", evaluation_json(report.evaluation)},
                 {"linears", rows_json(report.linears, linear_json)},
                 {"folds", rows_json(report.folds, fold_json)},
                 {"experts", rows_json(report.experts, experts_json)},
                 {"kept", rows_json(report.kept, kept_json)},
                 {"activations", rows_json(report.activations, input_json)},
                 {"input_histograms", rows_json(report.input_histograms, input_histogram_json)},
                 {"scale_histograms", rows_json(report.scale_histograms, scale_histogram_json)},
                 {"budget", report.budget},
                 {"sensitivity", report.sensitivity},
                 {"kv_cache", rows_json(report.kv_cache, kv_cache_json)},
                 {"tensors", rows_json(report.tensors, tensor_json)},
                 {"stages", rows_json(report.stages, stage_json)}};
  result["verification"] = nullptr;
  if (report.failed_checks) {
    result["verification"] = {{"passed", report.failed_checks->empty()},
                              {"failed", rows_json(*report.failed_checks, failed_json)}};
  }
  std::vector<std::string> warnings = report.warnings;
  null_not_finite(result, "", "", warnings);
  result["warnings"] = std::move(warnings);
  return result;
}

std::vector<std::string> all_warnings(const Report& report) {
  return to_json(report).at("warnings").get<std::vector<std::string>>();
}

}  // namespace lathe
