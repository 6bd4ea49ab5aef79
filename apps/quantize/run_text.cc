#include "apps/quantize/run_text.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calib/data/data_warnings.h"
#include "calib/data/token_rows.h"
#include "calib/stats/stats_collector.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr double kLargestFirstShare = 0.05;

/// The widest linears that are to be quantised: the sizes of the largest statistics.
ModelNeeds needs_of(const Plan& plan, const ModelConfig& config) {
  ModelNeeds needs{.max_position = config.max_position};
  for (const PlannedLinear& linear : plan.quantized()) {
    int64_t& widest = linear.expert ? needs.widest_expert_input : needs.widest_input;
    widest = std::max(widest, linear.in);
  }
  if (config.experts) {
    needs.expert_share =
        static_cast<double>(config.experts->per_token) / static_cast<double>(config.experts->count);
  }
  return needs;
}

/// The average starts at the first chunk, as PyTorch's does, and takes 300 of them to leave it, by its
/// default constant.
void warn_moving_average(const Recipe& recipe, int64_t tokens, std::vector<std::string>& warnings) {
  const int64_t steps = ceil_div(tokens, StatsCollector::kChunkTokens);
  const auto first_share = [&](const Rule& rule) {
    const bool averages = rule.activations && rule.activations->scheme.calibrated() &&
                          rule.activations->observer.method == ActivationObserver::ema;
    if (!averages) return 0.0;
    return std::pow(1 - rule.activations->observer.averaging_constant, static_cast<double>(steps - 1));
  };
  const auto rule = std::ranges::max_element(recipe.rules, {}, first_share);
  if (rule == recipe.rules.end() || first_share(*rule) < kLargestFirstShare) return;
  warnings.push_back(
      fmt::format("{}: observer ema averages over steps of {} tokens; of {} tokens the first step makes "
                  "{:.0f} % of the range; "
                  "take minmax or percentile, a larger averaging_constant, or more data",
                  rule->where, StatsCollector::kChunkTokens, tokens, 100 * first_share(*rule)));
}

}  // namespace

at::Tensor read_evaluation(const std::filesystem::path& text, const ModelText& reader, int64_t ctx,
                           int64_t count) {
  RowCounts counts;
  const at::Tensor rows = token_rows({{.path = text}}, reader.encoder(), ctx, counts, count);
  if (rows.size(0) == 0) {
    user_error("{}: too short to score: not one row of {} tokens; use more text or a smaller ctx",
               text.string(), ctx);
  }
  return rows;
}

EvaluationRows plan_evaluation(const std::filesystem::path& text, const ModelText& reader, int64_t ctx,
                               int64_t count) {
  const auto wanted = static_cast<uint64_t>(std::max<int64_t>(count, 1) * ctx);
  for (uint64_t head = head_of(wanted);; head *= 2) {
    RowCounts counts;
    const DataSource source{.path = text, .head = head};
    const at::Tensor rows = token_rows({source}, reader.encoder(), ctx, counts, count);
    if (counts.read == 1 && rows.size(0) > 0) return {rows};
    if (counts.read == 1) return {read_evaluation(text, reader, ctx, count)};  // which says what is wrong
    if (count > 0 && rows.size(0) == count) return {rows};
    if (count > 0 || rows.size(0) == 0) continue;
    const auto in_all = static_cast<int64_t>(static_cast<double>(counts.tokens) / counts.read) / ctx;
    return {at::zeros({1, 1}, at::kLong).expand({in_all, ctx}), counts.read};
  }
}

RunText read_run_text(const Recipe& recipe, const Plan& plan, const ModelFolder& model, TextExtent extent) {
  ModelText reader = open_model_text(model);
  reader.max_ram = recipe.limits.ram.value_or(0);
  ModelNeeds needs = needs_of(plan, model.graph.config);
  needs.vocabulary = reader.vocabulary_scripts();
  needs.vocabulary_size = reader.tokenizer->vocab_size();
  RunText text;
  text.calibration = read_calibration(recipe.calibration, reader, extent);
  text.wanted_tokens = wanted_tokens(needs);
  text.warnings = plan.warnings;
  const auto about_data = data_warnings(text.calibration, needs);
  text.warnings.insert(text.warnings.end(), about_data.begin(), about_data.end());
  warn_moving_average(recipe, text.calibration.tokens(), text.warnings);
  if (recipe.evaluate) {
    const auto& asked = *recipe.evaluate;
    const EvaluationRows rows =
        extent == TextExtent::heads
            ? plan_evaluation(asked.text, reader, asked.ctx, asked.rows)
            : EvaluationRows{read_evaluation(asked.text, reader, asked.ctx, asked.rows)};
    text.evaluation = rows.ids;
    text.evaluation_read = rows.read;
    warn_length("evaluate.ctx", asked.ctx, needs.max_position, text.warnings);
  }
  return text;
}

}  // namespace lathe
