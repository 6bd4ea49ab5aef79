// What a run did to a model, as plain data, and its four faces: report.json, report.md, report.html and the
// lines that end a run.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lathe {

struct Report {
  /// Of report.json; raised when a key changes its meaning or goes away, not when one is added.
  static constexpr int kSchema = 1;

  struct Model {
    std::string path, family, dtype;
    int64_t blocks = 0;
    int64_t parameters = 0;  // tensors of the checkpoint: a tied head counts once
  };
  struct Environment {
    std::string version, compiler, device;
    std::string compute_dtype;  // of the forward pass's products: "F32", "BF16" or "F16"
    int threads = 0;
    std::string matrix_products;  // the library that multiplies FP32 matrices on the CPU, and its kernels
  };
  struct Totals {
    uint64_t bytes_before = 0, bytes_after = 0;  // of the weight files
    int64_t quantized_weights = 0;
    double bits_per_quantized_weight = 0;  // scales, zero points and outliers counted
    double bits_per_parameter = 0;         // of the whole model
    int64_t outliers = 0;                  // weights kept beside their grid,
    uint64_t outlier_bytes = 0;            // and what they take with columns and row offsets
  };
  struct Calibration {
    std::vector<std::string> files;
    int64_t documents = 0, tokens = 0;
    int64_t usable_rows = 0, rows = 0, seq_len = 0;  // `rows` of `usable_rows` were used
    std::string ids_hash;
  };
  /// What the run was allowed to take and planned to take at most, in bytes, and where activations stood:
  /// "device", "host", "disk"; inner_values also "recomputed"; evaluation_states empty without one.
  struct Memory {
    std::optional<uint64_t> limit_ram, limit_vram, limit_disk;
    uint64_t planned_ram = 0, planned_vram = 0, planned_disk = 0;
    std::string hidden_states, inner_values, evaluation_states;
    int64_t micro_batch = 0;                // samples computed together
    uint64_t peak_vram = 0, peak_disk = 0;  // measured
  };
  /// Values of a linear's scales as they count: of two levels, their product; of GGUF's blocks the magnitudes
  /// of a sample's that aren't 0.
  struct Scales {
    double least = 0, median = 0, largest = 0;
  };
  /// Magnitudes of the scales of a role's linears, of a sample of each: counts[i] lie from 2^((first + i) /
  /// 4) to below the next bin's. The median is its bin's middle; zeros are in no bin.
  struct ScaleHistogram {
    std::string role;
    double least = 0, median = 0, largest = 0;
    int64_t zeros = 0, first = 0;
    std::vector<int64_t> counts;
  };
  /// The largest |w| that a group's grid represents, over a linear's groups.
  struct Clip {
    double least = 0, median = 0, largest = 0;
  };
  /// A sample of a linear's weights with folds applied, before and after rounding, in equally wide bins from
  /// -limit to limit.
  struct Histogram {
    double limit = 0;
    std::vector<int64_t> before, after;
    std::optional<Clip> clip = std::nullopt;  // none where the format rounds by itself
  };
  /// Values that were looked at, and those of them beyond a grid.
  struct Overflow {
    int64_t values = 0, overflowed = 0;
    double share = 0;  // 0 to 1
  };
  /// One quantised linear.
  struct LinearRow {
    int64_t block = 0;
    std::string name;    // "model.layers.0.self_attn.q_proj"
    std::string role;    // "q_proj"
    std::string scheme;  // "int4 sym g128"
    std::string solver;  // "rtn"
    double bits_per_weight = 0;
    double weight_relative_mse = 0;               // |W - Q|^2 / |W|^2, W with folds applied
    std::optional<double> output_relative_error;  // tr(dW H dW^T) / tr(W H W^T)
    int64_t output_tokens = 0, tokens = 0;        // that H is of: the first ones of those that were measured
    /// The same with H's diagonal, E[x^2]: sum_j h_j dW_j^2 / sum_j h_j W_j^2, of formats that round by it
    std::optional<double> importance_weighted_error = std::nullopt;
    std::optional<double> ratio;  // AWQ's exponent, where a fold was applied
    bool clipped = false;         // to a range that a transform offered
    int64_t outliers = 0;         // weights kept beside the grid
    /// The largest |x| that a static grid of its inputs spans; larger ones are clipped to it.
    std::optional<double> input_limit = std::nullopt;
    /// How much of the evaluation's text lies beyond such a grid; none where it isn't counted.
    std::optional<Overflow> input_overflow = std::nullopt;
    std::optional<Scales> scales = std::nullopt;  // none of formats without any, and where all are 0
    std::optional<Histogram> histogram = std::nullopt;
    double seconds = 0;
    std::vector<std::string> events;
  };
  /// One tensor of a file whose format rounds by itself (GGUF), linears and others.
  struct TensorRow {
    std::string name, type;  // in the file: "blk.0.attn_q.weight", "Q4_K"
    std::vector<int64_t> shape;
    double bits_per_weight = 0;
    double weight_relative_mse = 0;
    std::optional<double> importance_weighted_error;
  };
  /// One linear that stays in floating point.
  struct KeptRow {
    std::string name, reason;
  };
  /// One edge at which a transform looked.
  struct FoldRow {
    std::string transform, producer, slot;
    bool applied = false;
    double ratio = 0, loss_before = 0,
           loss_after = 0;  // the transform's own objective without and with its scales
    std::string note;       // why there is no fold, if there is none
  };
  /// A block with experts: how many calibration tokens the router sent to each.
  struct ExpertsRow {
    int64_t block = 0;
    std::vector<int64_t> tokens;
    int64_t below_floor = 0;  // experts that took the fall-back
  };
  /// Where the KV cache is quantised: a layer's scales, where it has some for keys and for values; the
  /// largest of its heads.
  struct KvCacheRow {
    int64_t block = 0;
    std::string scheme;  // "fp8 (e4m3) per tensor"
    std::optional<double> k_scale, v_scale;
  };
  /// An input of quantised linears, as calibration saw it (calib/stats/input_description.h says what each
  /// number is).
  struct InputRow {
    int64_t block = 0;
    std::string input;  // "mlp_in", "expert 3, mlp_mid"
    int64_t tokens = 0, width = 0;
    double abs_max = 0, abs_max_mean = 0, abs_p9999 = 0, mean_abs = 0, kurtosis = 0;
    int64_t outlier_channels = 0;
    double outlier_share = 0, channel_kurtosis = 0, channel_spread = 0;
    double token_abs_max = 0, token_spread = 0;
  };
  /// What solved linears read, folds applied: a sample of it, in equally wide bins from -limit to limit.
  struct InputHistogram {
    int64_t block = 0;
    std::string input;  // as InputRow's
    double limit = 0;
    std::vector<int64_t> counts;
    std::optional<double> clip = std::nullopt;  // the largest |x| of a static grid that they are rounded to
  };
  struct Evaluation {
    std::string text;
    int64_t ctx = 0, tokens = 0;
    double perplexity_before = 0, perplexity_after = 0;
    double kl_mean = 0, kl_median = 0, kl_p99 = 0;  // KL(before || after), nats
    double same_top = 0;                            // share of positions, 0 to 1
  };

  /// The end of a run: what did not hold of the artefact.
  struct FailedCheck {
    std::string check, place, expected, found;
  };

  nlohmann::json recipe;  // with every default filled in
  Model model;
  Environment environment;
  Totals totals;
  Calibration calibration;
  Memory memory;
  std::vector<LinearRow> linears;
  std::vector<KeptRow> kept;
  std::vector<ScaleHistogram> scale_histograms;
  std::vector<TensorRow> tensors;  // all were read back; empty: the format takes the solvers' codes
  std::vector<FoldRow> folds;
  std::vector<ExpertsRow> experts;               // empty: a dense model
  std::vector<KvCacheRow> kv_cache;              // empty: in floating point
  std::vector<InputRow> activations;             // empty: the recipe doesn't ask for them
  std::vector<InputHistogram> input_histograms;  // empty: a run without calibration
  /// What chose the mixture: budget.json (apps/quantize/mixed/mixture.cc). Null: nobody chose.
  nlohmann::json budget = nullptr;
  /// What each group loses: report.schema.json (apps/quantize/mixed/sensitivity_report.h). Null: not
  /// measured.
  nlohmann::json sensitivity = nullptr;
  std::optional<Evaluation> evaluation;
  std::optional<std::vector<FailedCheck>> failed_checks;  // empty: all held; nothing: none was made
  std::vector<std::pair<std::string, double>> stages;     // name and wall seconds
  uint64_t peak_rss = 0;                                  // bytes
  std::vector<std::string> warnings;
};

/// The whole report. A number that is not finite is written as null, and `warnings` names it: JSON has no
/// NaN, and a figure must not vanish in silence.
nlohmann::json to_json(const Report& report);

/// The report's own warnings and one for each number that is not finite.
std::vector<std::string> all_warnings(const Report& report);

/// report.md: summary first, then the layers that lost most, every layer, folds, stages, and how to load the
/// model.
std::string to_markdown(const Report& report, const std::string& how_to_load);

/// report.html: to_json() and what draws it, in one file that loads nothing else (its Content-Security-Policy
/// says so to the browser, too). Needs a browser with scripts. Names and texts of the model are shown as
/// text, whatever stands in them. `consumers`: what servers make of the artefact, a line each.
std::string to_html(const Report& report, const std::string& how_to_load,
                    const std::vector<std::string>& consumers);

/// The same of a report.json that was read; one that is not of this schema makes a page that shows nothing.
std::string report_page(const nlohmann::json& report, const std::string& how_to_load,
                        const std::vector<std::string>& consumers);

/// The summary that ends a run: aligned, no colours.
std::string to_terminal(const Report& report);

}  // namespace lathe
