// The folders that a run writes: weights while blocks finish, then the files that go along.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/quantize/layout_writer.h"
#include "apps/quantize/read_back.h"
#include "calib/driver/driver.h"
#include "formats/safetensors/checkpoint.h"
#include "formats/targets/model_folder.h"
#include "lib/numeric/scale_counts.h"
#include "lib/report/report.h"
#include "recipes/plan.h"
#include "recipes/plan_outputs.h"

namespace lathe {

/// What an output made of a linear that it rounded by itself; or of a solver's codes, which it took as they
/// are: then but for the importance-weighted error nothing.
struct Rounding {
  std::string type;  // "Q4_K"; empty: the solver's codes
  double bits_per_weight = 0;
  double weight_relative_mse = 0;                              // |W - Q|^2 / |W|^2
  std::optional<double> output_relative_error = std::nullopt;  // FormatLoss's, where it rounded
  std::string note;                                            // what a person should know; usually nothing
  std::optional<double> importance_weighted_error = std::nullopt;  // Report::LinearRow's
  std::optional<WeightHistogram> histogram = std::nullopt;         // where it rounded
  std::optional<ScaleCounts> scales = std::nullopt;                // likewise, of blocks
};

/// One output format's folder.
class ArtifactWriter {
 public:
  /// `folder` exists.
  ArtifactWriter(const Plan& plan, const OutputPlan& output, const ModelFolder& model,
                 std::filesystem::path folder)
      : plan_(plan), output_(output), model_(model), folder_(std::move(folder)) {}
  virtual ~ArtifactWriter() = default;

  /// Every tensor that is in no block.
  virtual void write_outside_blocks() = 0;
  /// Packs the block's quantised linears; writes what folds changed, and the rest as it is.
  void write_block(const BlockOutcome& outcome);
  /// The same in parts, so that not all of a block's linears need to stand in memory at once: each of them,
  /// then the rest of the block.
  void write_linear(const LinearOutcome& linear);
  virtual void write_rest(size_t block, const std::map<std::string, at::Tensor>& changed) = 0;
  /// The scales of an attention module's cache, once for each block where the plan has a kv_cache.
  virtual void write_kv_cache(const std::string& attention, const KvCacheQuantizer& quantizer);
  /// Before write_linear(), of each linear as soon as it is solved: what the format will make of it, where
  /// it rounds by itself. Kept until it is written, so that nothing is rounded twice.
  virtual std::optional<FormatRounding> round_ahead(const Linear&, const GivenWeight&) {
    return std::nullopt;
  }
  /// Completes the weights and copies tokenizer and other side files.
  void finish();
  /// Compares what finish() left on disk with what was meant; `written` is that of all linears. CheckFailed
  /// as require_none().
  void verify(const WrittenTensors& written) const;
  /// All checks of an artefact, with all that the run knows (formats/verify).
  Findings check(const WrittenTensors& written, bool folds) const;

  /// From then on quantised linears are written in these, too.
  void add_layouts(std::vector<LayoutWriter> layouts) { layouts_ = std::move(layouts); }

  const std::filesystem::path& folder() const { return folder_; }
  std::vector<std::string> consumers() const { return consumer_lines(plan_, output_, model_.graph); }
  /// Once finish() has been called: names the file of a GGUF folder.
  std::string how_to_load() const;
  const Target& target() const { return *output_.target; }
  const OutputPlan& output() const { return output_; }
  /// Of weight files' tensors: all of them, once finish() has been called.
  virtual uint64_t bytes() const = 0;
  /// By linear, of those that have been written.
  const std::map<std::string, Rounding>& roundings() const { return roundings_; }
  /// Of files that round tensors by themselves: what became of every one.
  virtual std::vector<Report::TensorRow> tensor_rows() const { return {}; }

 protected:
  virtual void pack(const LinearOutcome& linear) = 0;
  virtual void finish_weights() = 0;
  /// Linears, or tensors, that aren't on disk what was meant.
  virtual Findings differing_weights(const WrittenTensors& written) const = 0;
  virtual Findings check_weights(const WrittenTensors& written, bool folds) const = 0;

  const Plan& plan_;
  const OutputPlan& output_;
  const ModelFolder& model_;
  std::filesystem::path folder_;
  std::map<std::string, Rounding> roundings_;

 private:
  void write_gguf_tokenizer() const;

  std::vector<LayoutWriter> layouts_;
};

using ArtifactWriters = std::vector<std::unique_ptr<ArtifactWriter>>;

/// The writer of one output of the plan. `folder` exists. `tensors`: those of the model, a packed linear's
/// standing as the weight that they mean. `calibration` names the texts, for an importance matrix.
std::unique_ptr<ArtifactWriter> open_writer(const Plan& plan, const OutputPlan& output,
                                            const ModelFolder& model,
                                            std::map<std::string, TensorInfo> tensors,
                                            std::filesystem::path folder, const Recipe& recipe);

/// What those of the writers make of a linear that round weights by themselves.
std::vector<FormatRounding> round_ahead(ArtifactWriters& writers, const Linear& linear,
                                        const GivenWeight& given);

/// One for each output of the plan, in `folder` or, where there are several, in a folder each below it, with
/// every tensor written that is in no block.
ArtifactWriters open_writers(const Recipe& recipe, const Plan& plan, const ModelFolder& model,
                             const std::filesystem::path& folder);

}  // namespace lathe
