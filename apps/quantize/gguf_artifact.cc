#include "apps/quantize/gguf_artifact.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_split.h"
#include "formats/gguf/tokenizer_keys.h"
#include "formats/safetensors/json_text.h"
#include "formats/targets/gguf_folder.h"
#include "formats/verify/gguf_model.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/ggml_exact.h"
#include "lib/kernels/ggml_quant.h"
#include "lib/numeric/sampled_rows.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

/// The last part of the model's path; what a hub calls it. "model-F16.gguf" is the model's F16 form, and
/// "model-F16-00001-of-00003.gguf" the first part of that.
std::string model_name(const std::filesystem::path& model) {
  std::filesystem::path path = model.lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  std::string name = path.filename().string();
  if (path.extension() == ".gguf") {
    name = whole_name(path.stem().string());
    const size_t dash = name.rfind('-');
    if (dash != std::string::npos && known_mix(name.substr(dash + 1))) name.resize(dash);
  }
  return name.empty() || name == "." || name == ".." ? "model" : name;
}

std::string file_name(const OutputPlan& output, const ModelFolder& model) {
  return fmt::format("{}-{}", model_name(model.checkpoint->folder()), output.gguf->mix->name);
}

/// A GGUF file's tokenizer goes from file to file as it is.
GgufMetadata keys_of(const OutputPlan& output, const ModelFolder& model, const std::string& pre_tokenizer) {
  GgufMetadata keys = gguf_model_keys(*output.gguf, model.graph, model_name(model.checkpoint->folder()));
  GgufMetadata tokens;
  if (model.gguf == nullptr) {
    tokens = tokenizer_keys(model.checkpoint->folder(), model.graph.config.vocab_size, pre_tokenizer).keys;
  } else {
    for (const auto& entry : model.gguf->metadata()) {
      if (!entry.first.starts_with("tokenizer.")) continue;
      tokens.push_back(entry);
      if (entry.first == "tokenizer.ggml.pre" && !pre_tokenizer.empty()) tokens.back().second = pre_tokenizer;
    }
  }
  keys.insert(keys.end(), tokens.begin(), tokens.end());
  return keys;
}

/// A GGUF file's keys are carried over: a name for the pre-tokenizer replaces the one that stands there.
void check_given_name(const GgufFile& file, const std::string& pre_tokenizer) {
  if (pre_tokenizer.empty() || file.find("tokenizer.ggml.pre") != nullptr) return;
  user_error(
      "{}: has no key tokenizer.ggml.pre, which the pre-tokenizer {} would replace: leave the name out",
      file.path().string(), quote_text(pre_tokenizer));
}

std::vector<GgufPlan> plans_of(const GgufOutput& output) {
  std::vector<GgufPlan> plans;
  for (const GgufOutputTensor& tensor : output.tensors) {
    if (tensor.rule.expert == 0) plans.push_back({tensor.rule.gguf, tensor.type, tensor.rule.file_shape()});
  }
  return plans;
}

/// blocks: Byte [rows, row_bytes], what became of the weight, FP32 [rows, columns].
WeightHistogram count_blocks(const at::Tensor& weight, const at::Tensor& blocks, GgmlType type) {
  std::vector<at::Tensor> before, after;
  for (const auto& [begin, end] : sampled_rows(weight.size(0), weight.size(1), WeightHistogram::kSampled)) {
    before.push_back(weight.slice(0, begin, end));
    after.push_back(kernels::dequantize_ggml(blocks.slice(0, begin, end), type, weight.size(1)));
  }
  QuantizedTensor rounded;
  rounded.scheme = Scheme::as_they_are();
  rounded.values = at::cat(after);
  return count_weights(at::cat(before), rounded).read();
}

}  // namespace

void check_gguf_tokenizer(Plan& plan, const ModelFolder& model, const std::string& pre_tokenizer) {
  if (!plan.rounds_weights()) return;
  if (model.gguf != nullptr) return check_given_name(*model.gguf, pre_tokenizer);
  const TokenizerKeys keys =
      tokenizer_keys(model.checkpoint->folder(), model.graph.config.vocab_size, pre_tokenizer);
  for (OutputPlan& output : plan.outputs) {
    if (!output.gguf) continue;
    output.warnings.insert(output.warnings.end(), keys.warnings.begin(), keys.warnings.end());
  }
}

GgufArtifact::GgufArtifact(const Plan& plan, const OutputPlan& output, const ModelFolder& model,
                           std::filesystem::path folder, const Recipe& recipe)
    : ArtifactWriter(plan, output, model, std::move(folder)),
      writer_(folder_, file_name(output, model), keys_of(output, model, recipe.output.gguf_pre_tokenizer),
              plans_of(*output.gguf), recipe.output.gguf_shard_size) {
  for (const GgufOutputTensor& tensor : output.gguf->tensors) {
    if (!tensor.rule.hf.empty()) planned_[tensor.rule.hf] = &tensor;
  }
  if (!recipe.output.imatrix.empty()) {
    given_ = read_imatrix(recipe.output.imatrix);
    check_imatrix(recipe.output.imatrix);
  }
  measured_.chunk_size = static_cast<uint32_t>(recipe.calibration.seq_len);
  measured_.chunks = static_cast<uint32_t>(recipe.calibration.samples);
  for (const DataSource& source : recipe.calibration.data)
    measured_.datasets.push_back(source.path.filename().string());
}

const GgufOutputTensor& GgufArtifact::planned(const std::string& hf) const {
  const auto found = planned_.find(hf);
  LATHE_ASSERT(found != planned_.end(), "GGUF: '{}' was not planned", hf);
  return *found->second;
}

/// Every linear that is rounded needs its row; one row too wide is another model's.
void GgufArtifact::check_imatrix(const std::filesystem::path& path) const {
  for (const GgufOutputTensor& tensor : output_.gguf->tensors) {
    if (tensor.rule.linear.empty() || tensor.exact || traits(tensor.type).length == 1) continue;
    given_.of(tensor.rule, path);
  }
}

at::Tensor GgufArtifact::importance(const GgufOutputTensor& tensor, const std::optional<GivenWeight>& given) {
  if (given && given->mean_square.defined()) measure(tensor.rule, *given);
  const ImportanceMatrix& used = given_.entries.empty() ? measured_ : given_;
  const auto found = used.entries.find(tensor.rule.gguf);
  return found == used.entries.end() ? at::Tensor() : found->second.mean_square[tensor.rule.expert];
}

/// Experts that no token reached keep ones, as llama.cpp has it.
void GgufArtifact::measure(const GgufTensorRule& rule, const GivenWeight& given) {
  const int64_t matrices = std::max<int64_t>(rule.experts, 1);
  ImportanceMatrix::Entry& entry = measured_.entries[rule.gguf];
  if (!entry.mean_square.defined()) {
    entry.mean_square = at::ones({matrices, rule.shape[1]}, at::kFloat);
    entry.tokens.assign(static_cast<size_t>(matrices), 0.0);
  }
  if (given.tokens == 0) return;
  const auto tokens = static_cast<double>(given.tokens);
  entry.mean_square[rule.expert].copy_(stored_mean_square(given.mean_square.view({1, -1}), tokens)[0]);
  entry.tokens[static_cast<size_t>(rule.expert)] = tokens;
}

void GgufArtifact::write_blocks(const GgufOutputTensor& tensor, at::Tensor blocks, int64_t first_row) {
  blocks = blocks.contiguous();
  const auto row = static_cast<uint64_t>(row_bytes(tensor.type, tensor.rule.shape.back()));
  writer_.write(tensor.rule.gguf, bytes_of(blocks),
                static_cast<uint64_t>(tensor.rule.first_row() + first_row) * row);
}

/// The linear's rows, in the checkpoint's order; as they were rounded, or as codes.
void GgufArtifact::write_linear_blocks(const GgufOutputTensor& tensor, at::Tensor blocks) {
  // Rows are rounded one by one, so it doesn't matter when they change places.
  if (tensor.rule.heads > 0)
    blocks = blocks.index_select(0, interleaved_rows(tensor.rule.shape[0], tensor.rule.heads));
  write_blocks(tensor, blocks, 0);
}

std::optional<FormatRounding> GgufArtifact::round_ahead(const Linear& linear, const GivenWeight& given) {
  const GgufOutputTensor& tensor = planned(linear.name + ".weight");
  if (tensor.exact) return std::nullopt;  // the solver's codes
  const at::Tensor blocks =
      kernels::quantize_ggml(linear.name, given.weight.contiguous(), tensor.type, importance(tensor, given));
  // Floats are made again in no time, and are as large as the weight.
  if (traits(tensor.type).length > 1) ahead_[linear.name] = {given.weight, blocks};
  return FormatRounding{output_.target->name,
                        [blocks, type = tensor.type, columns = linear.in](int64_t begin, int64_t end) {
                          return kernels::dequantize_ggml(blocks.slice(0, begin, end), type, columns);
                        }};
}

void GgufArtifact::pack(const LinearOutcome& linear) {
  const GgufOutputTensor& tensor = planned(linear.linear->name + ".weight");
  const at::Tensor weights = importance(tensor, linear.given);
  kernels::ExactBlocks exact;
  if (tensor.exact) exact = kernels::exact_ggml_blocks(linear.quantized, tensor.type);
  at::Tensor blocks = exact.blocks;
  if (!exact.exact()) blocks = rounded(tensor, linear, weights, exact.reason);
  const at::Tensor& weight = linear.given ? linear.given->weight : linear.quantized.values;
  const RoundingSums sums = losses_.add(tensor, blocks, weight, weights, at::arange(blocks.size(0)));
  Rounding& rounding = roundings_[linear.linear->name];
  rounding.importance_weighted_error = sums.weighted();
  rounding.bits_per_weight = bits_per_weight(tensor.type);
  if (!exact.exact()) {
    rounding.type = traits(tensor.type).name;
    rounding.weight_relative_mse = sums.relative();
    for (const FormatLoss& loss : linear.format_losses)
      if (loss.format == output_.target->name) rounding.output_relative_error = loss.output_relative_error;
    rounding.histogram = count_blocks(weight, blocks, tensor.type);
    if (traits(tensor.type).length > 1)
      rounding.scales = count_ggml_scales(blocks, tensor.type, tensor.rule.shape[1]);
    if (!exact.reason.empty())
      rounding.note = fmt::format("rounded anew: its codes don't go into the blocks: {}", exact.reason);
  }
  write_linear_blocks(tensor, blocks);
}

/// `reason`: why its codes don't go in as they are, where that was the plan.
at::Tensor GgufArtifact::rounded(const GgufOutputTensor& tensor, const LinearOutcome& linear,
                                 const at::Tensor& importances, const std::string& reason) {
  const at::Tensor& weight = linear.given ? linear.given->weight : linear.quantized.values;
  const auto ahead = ahead_.extract(linear.linear->name);
  // A fold into its rows that came later made another weight of it.
  if (!ahead.empty() && ahead.mapped().weight.is_alias_of(weight)) return ahead.mapped().blocks;
  if (!weight.defined()) {
    user_error("{}: format {}: its codes can't go into {} blocks: {}", linear.linear->name,
               output_.target->name, traits(tensor.type).name, reason);
  }
  return kernels::quantize_ggml(linear.linear->name, weight.contiguous(), tensor.type, importances);
}

/// A matrix that no rule quantises: embeddings, the head, linears that were left out.
void GgufArtifact::write_matrix(const GgufOutputTensor& tensor) {
  const int64_t rows = tensor.rule.shape[0], columns = tensor.rule.shape[1];
  const int64_t step = std::max<int64_t>(1, kGgufPieceValues / columns);
  at::Tensor order = at::arange(rows);
  if (tensor.rule.heads > 0) order = interleaved_rows(rows, tensor.rule.heads);
  for (int64_t first = 0; first < rows; first += step) {
    throw_if_cancelled();
    const at::Tensor which = order.narrow(0, first, std::min(step, rows - first));
    const at::Tensor part = model_.weights->load_rows(tensor.rule.hf, which).contiguous();
    const at::Tensor blocks = kernels::quantize_ggml(tensor.rule.hf, part, tensor.type, {});
    losses_.add(tensor, blocks, part, {}, which);
    write_blocks(tensor, blocks, first);
  }
}

void GgufArtifact::write_vector(const GgufOutputTensor& tensor, at::Tensor values) {
  if (tensor.rule.plus_one) values = values + 1;
  losses_.add_vector(tensor, tensor.rule.plus_one ? values - 1 : values);
  if (tensor.rule.heads > 0)
    values = values.index_select(0, interleaved_rows(values.size(0), tensor.rule.heads));
  writer_.write(tensor.rule.gguf, bytes_of(values.contiguous()));
}

void GgufArtifact::write_outside_blocks() {
  for (const GgufOutputTensor& tensor : output_.gguf->tensors) {
    if (tensor.rule.layer >= 0) continue;
    if (tensor.rule.hf.empty()) {
      write_vector(tensor, rope_divisors(model_.graph.config.rope, tensor.rule.gguf));
    } else if (tensor.rule.is_matrix()) {
      write_matrix(tensor);
    } else {
      write_vector(tensor, model_.weights->load(tensor.rule.hf));
    }
  }
}

void GgufArtifact::write_rest(size_t block, const std::map<std::string, at::Tensor>& changed) {
  std::map<std::string, bool> quantized;
  for (const LinearPlan& plan : plan_.blocks[block]) quantized[plan.linear->name] = plan.quantized;
  for (const GgufOutputTensor& tensor : output_.gguf->tensors) {
    const GgufTensorRule& rule = tensor.rule;
    if (rule.layer != model_.graph.blocks[block].index) continue;
    if (!rule.linear.empty() && quantized.at(rule.linear)) continue;
    const auto found = changed.find(rule.hf);
    if (found == changed.end() && rule.is_matrix()) {
      write_matrix(tensor);
    } else if (!rule.is_matrix()) {
      write_vector(tensor, found == changed.end() ? model_.weights->load(rule.hf) : found->second);
    } else {
      const at::Tensor weight = found->second.contiguous();
      const at::Tensor blocks = kernels::quantize_ggml(rule.hf, weight, tensor.type, {});
      losses_.add(tensor, blocks, weight, {}, at::arange(rule.shape[0]));
      write_linear_blocks(tensor, blocks);
    }
  }
}

void GgufArtifact::finish_weights() {
  writer_.finish();
  if (!measured_.entries.empty()) write_imatrix(folder_ / "imatrix.gguf", measured_);
}

Findings GgufArtifact::check_weights(const WrittenTensors& written, bool folds) const {
  Findings findings = differing_weights(written);
  VerifyAgainst against;
  against.reference = &model_;
  against.folds = folds;
  against.fold_channels = false;
  against.codes_in_blocks = codes_in_blocks(plan_, *output_.gguf);
  const Findings more = verify_gguf(open_gguf_model(writer_.path()), against).findings;
  findings.insert(findings.end(), more.begin(), more.end());
  return findings;
}

/// By the reader's own eyes: names, places, rows and blocks.
Findings GgufArtifact::differing_weights(const WrittenTensors&) const {
  return losses_.compare(open_gguf_model(writer_.path()));
}

std::vector<Report::TensorRow> GgufArtifact::tensor_rows() const { return losses_.rows(*output_.gguf); }

std::map<std::string, Scheme> codes_in_blocks(const Plan& plan, const GgufOutput& output) {
  std::map<std::string, Scheme> schemes;
  for (const PlannedLinear& linear : plan.quantized()) schemes.emplace(linear.name, linear.scheme);
  std::map<std::string, Scheme> held;
  for (const GgufOutputTensor& tensor : output.tensors) {
    if (tensor.exact) held.insert(*schemes.find(tensor.rule.linear));
  }
  return held;
}

}  // namespace lathe
