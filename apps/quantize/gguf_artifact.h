// A folder with one GGUF file, `<model>-<TYPE>.gguf` (or its parts), and the importance matrix that it was
// made with, imatrix.gguf. Weights are rounded here, by kernels::quantize_ggml, one tensor (of embeddings,
// some rows) at a time; a solver's codes go in as they are where the blocks' grid is theirs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "apps/quantize/artifact.h"
#include "apps/quantize/gguf_losses.h"
#include "formats/gguf/gguf_split_writer.h"
#include "formats/gguf/imatrix.h"

namespace lathe {

/// What llama.cpp's tokenizer will do otherwise joins the warnings of the plan's GGUF files. UserError as
/// tokenizer_keys(), and for a name that a GGUF source has no key for. Nothing for a plan without a GGUF
/// file.
void check_gguf_tokenizer(Plan& plan, const ModelFolder& model, const std::string& pre_tokenizer);

class GgufArtifact final : public ArtifactWriter {
 public:
  /// Creates the file, its whole length reserved. UserError as read_imatrix(), gguf_keys(), or where the
  /// recipe's importance matrix is another model's.
  GgufArtifact(const Plan& plan, const OutputPlan& output, const ModelFolder& model,
               std::filesystem::path folder, const Recipe& recipe);

  void write_outside_blocks() override;
  void write_rest(size_t block, const std::map<std::string, at::Tensor>& changed) override;
  std::optional<FormatRounding> round_ahead(const Linear& linear, const GivenWeight& given) override;
  uint64_t bytes() const override { return output_.gguf->bytes(); }
  std::vector<Report::TensorRow> tensor_rows() const override;

 private:
  void pack(const LinearOutcome& linear) override;
  void finish_weights() override;
  Findings differing_weights(const WrittenTensors& written) const override;
  Findings check_weights(const WrittenTensors& written, bool folds) const override;

  const GgufOutputTensor& planned(const std::string& hf) const;
  void check_imatrix(const std::filesystem::path& file) const;
  at::Tensor importance(const GgufOutputTensor& tensor, const std::optional<GivenWeight>& given);
  void measure(const GgufTensorRule& rule, const GivenWeight& given);
  at::Tensor rounded(const GgufOutputTensor& tensor, const LinearOutcome& linear,
                     const at::Tensor& importances, const std::string& reason);
  void write_blocks(const GgufOutputTensor& tensor, at::Tensor blocks, int64_t first_row);
  void write_linear_blocks(const GgufOutputTensor& tensor, at::Tensor blocks);
  void write_matrix(const GgufOutputTensor& tensor);
  void write_vector(const GgufOutputTensor& tensor, at::Tensor values);

  /// Blocks of a linear that isn't written yet, and the weight that they were made of.
  struct RoundedAhead {
    at::Tensor weight, blocks;
  };

  std::map<std::string, const GgufOutputTensor*> planned_;  // by the checkpoint's name
  std::map<std::string, RoundedAhead> ahead_;               // by linear
  ImportanceMatrix given_;                                  // the recipe's; without entries: none
  ImportanceMatrix measured_;
  GgufLosses losses_;
  GgufSplitWriter writer_;
};

/// By linear: the schemes whose codes the output's blocks hold as they are (VerifyAgainst).
std::map<std::string, Scheme> codes_in_blocks(const Plan& plan, const GgufOutput& output);

}  // namespace lathe
