#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "lib/base/strings.h"
#include "lib/report/cells.h"
#include "lib/report/report.h"
#include "lib/report/sensitivity_text.h"

namespace lathe {
namespace {

/// Layers in the short list of those that lost most.
constexpr size_t kWorst = 5;

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:+.2f} %", 100 * share) : "n/a";
}

/// What a layer lost: its output error, that of the diagonal, or its weight error where there is no other.
double loss(const Report::LinearRow& row) {
  return row.output_relative_error.value_or(row.importance_weighted_error.value_or(row.weight_relative_mse));
}

/// The name of what loss() gives; errors of several kinds stand in one table where formats or solvers do.
std::string loss_name(const Report& report) {
  const auto all = [&](auto member) {
    return std::all_of(report.linears.begin(), report.linears.end(),
                       [&](const Report::LinearRow& row) { return (row.*member).has_value(); });
  };
  const auto none = [&](auto member) {
    return std::none_of(report.linears.begin(), report.linears.end(),
                        [&](const Report::LinearRow& row) { return (row.*member).has_value(); });
  };
  if (all(&Report::LinearRow::output_relative_error)) return "output error";
  if (!none(&Report::LinearRow::output_relative_error)) return "output error, or the nearest to it";
  if (all(&Report::LinearRow::importance_weighted_error)) return "importance-weighted error";
  if (!none(&Report::LinearRow::importance_weighted_error))
    return "importance-weighted error, or weight error";
  return "weight error";
}

/// For sorting: what is not finite is worst (and a NaN would break the sort's order).
double sorting_loss(const Report::LinearRow& row) { return std::isfinite(loss(row)) ? loss(row) : HUGE_VAL; }

std::vector<const Report::LinearRow*> worst_layers(const Report& report) {
  std::vector<const Report::LinearRow*> rows;
  for (const auto& row : report.linears) rows.push_back(&row);
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto* a, const auto* b) { return sorting_loss(*a) > sorting_loss(*b); });
  rows.resize(std::min(rows.size(), kWorst));
  return rows;
}

/// Mean loss of each role, in order of first appearance.
std::vector<std::pair<std::string, double>> by_role(const Report& report) {
  std::vector<std::pair<std::string, double>> means;
  std::map<std::string, int> counts;
  for (const auto& row : report.linears) {
    auto it = std::find_if(means.begin(), means.end(), [&](const auto& m) { return m.first == row.role; });
    if (it == means.end()) it = means.insert(means.end(), {row.role, 0.0});
    it->second += loss(row);
    ++counts[row.role];
  }
  for (auto& [role, sum] : means) sum /= counts[role];
  return means;
}

size_t applied_folds(const Report& report) {
  return static_cast<size_t>(
      std::count_if(report.folds.begin(), report.folds.end(), [](const auto& f) { return f.applied; }));
}

double total_seconds(const Report& report) {
  double sum = 0;
  for (const auto& [name, seconds] : report.stages) sum += seconds;
  return sum;
}

/// Fewest, median and most tokens of an expert.
std::string token_spread(std::vector<int64_t> tokens) {
  std::sort(tokens.begin(), tokens.end());
  return fmt::format("{} / {} / {}", tokens.front(), tokens[tokens.size() / 2], tokens.back());
}

/// "tokens 3 / 120 / 800 (fewest, median, most); 2 of 24 experts took the fall-back".
std::string experts_summary(const std::vector<Report::ExpertsRow>& rows) {
  std::vector<int64_t> all;
  int64_t below = 0;
  for (const Report::ExpertsRow& row : rows) {
    all.insert(all.end(), row.tokens.begin(), row.tokens.end());
    below += row.below_floor;
  }
  return fmt::format("tokens {} (fewest, median, most); {} of {} experts took the fall-back",
                     token_spread(all), below, all.size());
}

std::string experts_table(const std::vector<Report::ExpertsRow>& rows) {
  std::string text =
      "| block | experts | tokens: fewest / median / most | took the fall-back |\n| --- | --- | --- | --- "
      "|\n";
  for (const Report::ExpertsRow& row : rows) {
    text += fmt::format("| {} | {} | {} | {} |\n", row.block, row.tokens.size(), token_spread(row.tokens),
                        row.below_floor);
  }
  return text;
}

/// The row with the most of something.
const Report::InputRow& most(const std::vector<Report::InputRow>& rows, double Report::InputRow::*of) {
  return *std::ranges::max_element(rows, {}, [of](const auto& row) { return row.*of; });
}

/// "|x| up to 812 (block 3, mlp_mid); outlier channels in 2 of 24 inputs; ..."
std::string inputs_summary(const std::vector<Report::InputRow>& rows) {
  const auto& largest = most(rows, &Report::InputRow::abs_max);
  const auto& uneven = most(rows, &Report::InputRow::token_spread);
  const auto with_outliers =
      std::ranges::count_if(rows, [](const auto& row) { return row.outlier_channels > 0; });
  return fmt::format(
      "|x| up to {} (block {}, {}); outlier channels in {} of {} inputs; a token's largest up to {} x the "
      "median "
      "token's (block {}, {})",
      short_number(largest.abs_max), largest.block, largest.input, with_outliers, rows.size(),
      short_number(uneven.token_spread), uneven.block, uneven.input);
}

std::string inputs_table(const std::vector<Report::InputRow>& rows) {
  std::string text =
      "Of all calibration tokens, before a transform moved scales. Mean of largest: of each 2,048 tokens. "
      "Outlier "
      "channels: |x| ≥ 6 in 6 % of the tokens or more. Channel spread: the largest channel's 99.9th "
      "percentile over "
      "the median one's; where it is large, SmoothQuant or AWQ help. Token spread: the largest |x| of a "
      "token, the "
      "most over the median; near 1 a static range does as well as a dynamic one.\n\n"
      "| block | input | largest | mean of largest | 99.99 % | mean | kurtosis | channels' median kurtosis | "
      "outlier channels | values ≥ 6 | channel spread | token median | token spread |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const Report::InputRow& row : rows) {
    text += fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} | {} of {} | {:.4f} % | {} | {} | {} |\n",
                        row.block, row.input, short_number(row.abs_max), short_number(row.abs_max_mean),
                        short_number(row.abs_p9999), short_number(row.mean_abs), short_number(row.kurtosis),
                        short_number(row.channel_kurtosis), row.outlier_channels, row.width,
                        100 * row.outlier_share, short_number(row.channel_spread),
                        short_number(row.token_abs_max), short_number(row.token_spread));
  }
  return text;
}

/// "12 of 42 clip values of the evaluation text, at most 0.031 % (model.layers.3.mlp.down_proj)"; empty where
/// nothing was counted.
std::string overflow_summary(const Report& report) {
  const Report::LinearRow* most = nullptr;
  int64_t counted = 0, clipping = 0;
  for (const Report::LinearRow& row : report.linears) {
    if (!row.input_overflow) continue;
    ++counted;
    clipping += row.input_overflow->overflowed > 0 ? 1 : 0;
    if (most == nullptr || row.input_overflow->share > most->input_overflow->share) most = &row;
  }
  if (counted == 0) return "";
  if (clipping == 0) return fmt::format("none of {} clips a value of the evaluation text", counted);
  return fmt::format("{} of {} clip values of the evaluation text, at most {:.2g} % ({})", clipping, counted,
                     100 * most->input_overflow->share, most->name);
}

std::string overflow_table(const Report& report) {
  std::string text = "| linear | values | beyond the scale | share |\n| --- | --- | --- | --- |\n";
  for (const Report::LinearRow& row : report.linears) {
    if (!row.input_overflow || row.input_overflow->overflowed == 0) continue;
    const Report::Overflow& found = *row.input_overflow;
    text += fmt::format("| {} | {} | {} | {:.2g} % |\n", row.name, found.values, found.overflowed,
                        100 * found.share);
  }
  return text;
}

bool any_overflow(const Report& report) {
  return std::ranges::any_of(report.linears, [](const Report::LinearRow& row) {
    return row.input_overflow && row.input_overflow->overflowed > 0;
  });
}

/// Where output errors are of fewer tokens than were measured: of how many at most.
std::string output_tokens_text(const Report& report) {
  int64_t most = 0;
  for (const Report::LinearRow& row : report.linears) {
    if (row.output_relative_error && row.output_tokens < row.tokens) most = std::max(most, row.output_tokens);
  }
  return most == 0 ? "" : fmt::format(", of the first {} tokens where no algorithm looks at more", most);
}

/// What stands behind the measured peak.
std::string memory_text(const Report::Memory& memory) {
  std::string text;
  if (memory.peak_vram > 0) text += fmt::format(" and {} on the device", human_bytes(memory.peak_vram));
  if (memory.planned_ram > 0) text += fmt::format(" (planned: at most {}", human_bytes(memory.planned_ram));
  if (memory.planned_disk > 0)
    text += fmt::format(", and {} of temporary files", human_bytes(memory.planned_disk));
  if (memory.planned_ram > 0) text += ")";
  return text;
}

/// What sparse outliers are and cost, against what the quantised weights take without them.
std::string outliers_text(const Report::Totals& totals) {
  const double weights = static_cast<double>(totals.quantized_weights);
  const double bits = 8 * static_cast<double>(totals.outlier_bytes) / weights;
  return fmt::format("{} of the quantised weights ({:.3f} %), {:.3f} bits for each weight ({:.2f} % more)",
                     totals.outliers, 100 * static_cast<double>(totals.outliers) / weights, bits,
                     100 * bits / (totals.bits_per_quantized_weight - bits));
}

/// Label and value pairs of the summary, shared by Markdown and terminal.
std::vector<std::pair<std::string, std::string>> summary(const Report& report) {
  const Report::Totals& t = report.totals;
  std::vector<std::pair<std::string, std::string>> lines = {
      {"model", fmt::format("{} ({}, {}, {:.1f} M parameters)", report.model.path, report.model.family,
                            report.model.blocks == 0 ? "unknown architecture"
                                                     : fmt::format("{} blocks", report.model.blocks),
                            static_cast<double>(report.model.parameters) / 1e6)},
      {"size", fmt::format("{} -> {} ({:.1f} %)", human_bytes(t.bytes_before), human_bytes(t.bytes_after),
                           100.0 * static_cast<double>(t.bytes_after) / static_cast<double>(t.bytes_before))},
      {"bits",
       fmt::format("{:.3f} for each of {:.1f} M quantised weights, {:.3f} for each parameter of the model",
                   t.bits_per_quantized_weight, static_cast<double>(t.quantized_weights) / 1e6,
                   t.bits_per_parameter)},
      {"linears", fmt::format("{} quantised, {} kept", report.linears.size(), report.kept.size())},
      {"calibration",
       report.calibration.rows == 0
           ? "none: each weight by itself"
           : fmt::format("{} rows x {} tokens", report.calibration.rows, report.calibration.seq_len)}};
  if (!report.folds.empty()) {
    lines.insert(lines.begin() + 4,
                 {"folds", fmt::format("{} of {} edges", applied_folds(report), report.folds.size())});
  }
  if (t.outliers > 0) lines.insert(lines.begin() + 3, {"outliers", outliers_text(t)});
  if (!report.experts.empty()) lines.emplace_back("experts", experts_summary(report.experts));
  if (!report.activations.empty()) lines.emplace_back("activations", inputs_summary(report.activations));
  if (const std::string overflow = overflow_summary(report); !overflow.empty())
    lines.emplace_back("static inputs", overflow);
  if (!report.sensitivity.is_null())
    lines.emplace_back(report.budget.is_null() ? "sensitivity" : "mixture", prediction_text(report));
  if (!report.kv_cache.empty())
    lines.emplace_back("KV cache",
                       fmt::format("{}, {} layers", report.kv_cache.front().scheme, report.kv_cache.size()));
  if (report.evaluation) {
    const Report::Evaluation& e = *report.evaluation;
    lines.emplace_back("perplexity", fmt::format("{} -> {} ({})", short_number(e.perplexity_before),
                                                 short_number(e.perplexity_after),
                                                 percent(e.perplexity_after / e.perplexity_before - 1)));
    lines.emplace_back("KL to model", fmt::format("mean {}, median {}, 99 % {} nats", short_number(e.kl_mean),
                                                  short_number(e.kl_median), short_number(e.kl_p99)));
    lines.emplace_back("same top", fmt::format("{:.2f} % of {} tokens", 100 * e.same_top, e.tokens));
  }
  lines.emplace_back("device",
                     fmt::format("{}, {}, {}", report.environment.device, report.environment.compute_dtype,
                                 threads_text(report.environment.threads)));
  lines.emplace_back("time, memory", fmt::format("{:.1f} s, peak {}{}", total_seconds(report),
                                                 human_bytes(report.peak_rss), memory_text(report.memory)));
  return lines;
}

std::string linear_table(const std::vector<const Report::LinearRow*>& rows) {
  std::string text =
      "| linear | scheme | bits/weight | weight error | importance-weighted | output error | AWQ ratio | "
      "clipped | s |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const auto* row : rows) {
    text += fmt::format(
        "| {} | {} {} | {:.3f} | {} | {} | {} | {} | {} | {:.2f} |\n", row->name, row->scheme, row->solver,
        row->bits_per_weight, short_number(row->weight_relative_mse),
        short_number(row->importance_weighted_error), short_number(row->output_relative_error),
        row->ratio ? fmt::format("{:.2f}", *row->ratio) : "-", row->clipped ? "yes" : "no", row->seconds);
    for (const std::string& event : row->events) text += fmt::format("| | {} | | | | | | | |\n", cell(event));
  }
  return text;
}

std::string tensor_table(const Report& report) {
  std::string text =
      "All were read back from disk, and hold the values that were meant.\n\n"
      "| tensor | type | shape | bits/weight | weight error | importance-weighted |\n"
      "| --- | --- | --- | --- | --- | --- |\n";
  for (const Report::TensorRow& row : report.tensors) {
    text += fmt::format("| {} | {} | {} | {:.3f} | {} | {} |\n", cell(row.name), row.type,
                        fmt::join(row.shape, " x "), row.bits_per_weight,
                        short_number(row.weight_relative_mse), short_number(row.importance_weighted_error));
  }
  return text;
}

std::string fold_table(const Report& report) {
  std::string text =
      "| transform | producer | feeds | folded | ratio | loss without | loss with |\n| --- | --- | --- | --- "
      "| --- | --- | --- |\n";
  for (const auto& fold : report.folds) {
    text += fmt::format("| {} | {} | {} | {} | {:.2f} | {} | {} |\n", fold.transform, fold.producer,
                        fold.slot, fold.applied ? "yes" : "no: " + cell(fold.note), fold.ratio,
                        short_number(fold.loss_before), short_number(fold.loss_after));
  }
  return text;
}

/// What a budget chose among: the chosen mixture, one candidate for all groups, and some of the frontier.
std::string budget_section(const Report& report) {
  if (report.budget.is_null()) return "";
  constexpr size_t kShown = 16;
  std::string text =
      "\n## Budget\n\nPredicted KL: nats, the sum of what each group was measured or estimated to cost. The "
      "frontier: mixtures that no other one beats.\n\n"
      "| mixture | bits/weight | size | predicted KL |\n| --- | --- | --- | --- |\n";
  const auto add = [&](const std::string& name, const nlohmann::json& mixture) {
    text += fmt::format(
        "| {} | {:.3f} | {} | {} |\n", cell(name), mixture.at("bits_per_weight").get<double>(),
        human_bytes(mixture.at("bytes").get<uint64_t>()), short_number(mixture.at("kl").get<double>()));
  };
  add("chosen", report.budget.at("chosen"));
  for (const nlohmann::json& mixture : report.budget.at("uniform"))
    add("all " + mixture.at("candidate").get<std::string>(), mixture);
  const nlohmann::json& frontier = report.budget.at("frontier");
  const size_t shown = std::min(kShown, frontier.size());
  for (size_t i = 0; i < shown; ++i)
    add("frontier", frontier.at(shown == 1 ? 0 : i * (frontier.size() - 1) / (shown - 1)));
  if (shown < frontier.size())
    text += fmt::format("\n{} of the frontier's {} mixtures, evenly spread; report.json has all.\n", shown,
                        frontier.size());
  return text;
}

/// What did not hold stands first: such an artefact is to be looked at, not used.
std::string failed_section(const Report& report) {
  if (!report.failed_checks || report.failed_checks->empty()) return "";
  std::string text =
      "\n## Checks that failed\n\n| check | where | expected | found |\n| --- | --- | --- | --- |\n";
  for (const Report::FailedCheck& row : *report.failed_checks)
    text += fmt::format("| {} | {} | {} | {} |\n", row.check, cell(row.place), cell(row.expected),
                        cell(row.found));
  return text;
}

}  // namespace

std::string to_markdown(const Report& report, const std::string& how_to_load) {
  std::string text = "# Quantisation report\n\n| | |\n| --- | --- |\n";
  for (const auto& [label, value] : summary(report)) text += fmt::format("| {} | {} |\n", label, cell(value));
  text += failed_section(report);
  if (const auto warnings = all_warnings(report); !warnings.empty()) {
    text += "\n## Warnings\n\n";
    for (const std::string& warning : warnings) text += fmt::format("- {}\n", cell(warning));
  }
  text += fmt::format(
      "\nErrors are relative and squared: weight error `‖W − Q‖² / ‖W‖²`, output error `tr(ΔW H ΔWᵀ) / tr(W "
      "H Wᵀ)` on the "
      "calibration inputs that the layer really gets{}, importance-weighted error the same with the diagonal "
      "of "
      "H alone, E[x²] of each input channel (the imatrix).\n",
      output_tokens_text(report));
  text += budget_section(report);
  text += "\n## Layers that lost most\n\n" + linear_table(worst_layers(report));
  const std::string kind = loss_name(report);
  text += fmt::format("\n## Mean {0} by role\n\n| role | {0} |\n| --- | --- |\n", kind);
  for (const auto& [role, error] : by_role(report))
    text += fmt::format("| {} | {} |\n", role, short_number(error));
  if (!report.sensitivity.is_null())
    text += "\n## Sensitivity\n\n" + sensitivity_markdown(report.sensitivity);
  std::vector<const Report::LinearRow*> all;
  for (const auto& row : report.linears) all.push_back(&row);
  text += "\n## Every layer\n\n" + linear_table(all);
  if (!report.kept.empty()) {
    text += "\n## Left in floating point\n\n| linear | why |\n| --- | --- |\n";
    for (const auto& row : report.kept)
      text += fmt::format("| {} | {} |\n", cell(row.name), cell(row.reason));
  }
  if (!report.tensors.empty()) text += "\n## Every tensor of the file\n\n" + tensor_table(report);
  if (!report.activations.empty())
    text += "\n## Inputs of quantised linears\n\n" + inputs_table(report.activations);
  if (any_overflow(report)) {
    text +=
        "\n## Static scales that clip\n\nValues of the evaluation text beyond the grid's last number by more "
        "than half of its last step.\n\n" +
        overflow_table(report);
  }
  if (!report.experts.empty()) text += "\n## Experts\n\n" + experts_table(report.experts);
  if (!report.folds.empty()) text += "\n## Folds\n\n" + fold_table(report);
  text += "\n## Time\n\n| stage | seconds |\n| --- | --- |\n";
  for (const auto& [name, seconds] : report.stages) text += fmt::format("| {} | {:.2f} |\n", name, seconds);
  return text + "\n## How to load it\n\n" + how_to_load;
}

std::string to_terminal(const Report& report) {
  std::string text;
  for (const auto& [label, value] : summary(report)) text += fmt::format("{:<13} {}\n", label, value);
  text += fmt::format("\n{} by role, and the layers that lost most{}\n", loss_name(report),
                      output_tokens_text(report));
  for (const auto& [role, error] : by_role(report))
    text += fmt::format("  {:<12} {}\n", role, short_number(error));
  for (const auto* row : worst_layers(report))
    text += fmt::format("  {:<44} {}\n", row->name, short_number(loss(*row)));
  for (const std::string& warning : all_warnings(report)) text += fmt::format("warning: {}\n", warning);
  return text;
}

}  // namespace lathe
