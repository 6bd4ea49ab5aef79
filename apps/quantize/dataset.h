// The calibration data of a run: read with the model's tokenizer and chat template, and described.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "calib/data/calibration_set.h"
#include "formats/targets/model_folder.h"
#include "lib/text/bos_token.h"
#include "recipes/recipe.h"

namespace lathe {

/// What a model folder holds for reading text.
struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;
  text::ChatTemplates templates;
  int64_t vocab_size = 0;  // of the model
  text::BosToken bos = {};
  std::string name = {};  // of the folder or file, for errors
  uint64_t max_ram = 0;   // bytes, while text is read; 0: any

  /// Refers to this.
  Encoder encoder() const;
  /// Letters of the vocabulary by script.
  text::ScriptCounts vocabulary_scripts() const;
};
/// Of a GGUF file: from the folder that it is in, or, where there is no tokenizer, from its own keys.
/// UserError as open_tokenizer() and open_chat_templates(), or tokenizer_of_gguf().
ModelText open_model_text(const ModelFolder& model);

/// How much of a run's text is read: for a plan, which has to be made in no time, the heads of large files,
/// from which it says what the whole holds.
enum class TextExtent { whole, heads };

CalibrationSet read_calibration(const Recipe::Calibration& calibration, const ModelText& reader,
                                TextExtent extent);

/// "calibration: 128 of 158 usable samples of 512 tokens (1 document, 80915 tokens)"
std::string summarise_dataset(const CalibrationSet& set);

/// For --dry-run: a line for each source, then the sum.
std::string describe_dataset(const CalibrationSet& set);

/// "the first 2.4 %"
std::string describe_head(double read);

/// The manifest's section: sources with hashes and counts, how samples were made, and the hash of the ids.
/// Where only heads were read, hashes and what is left over are null, and such a source has "read", the part
/// of the file that its counts were estimated from.
nlohmann::json dataset_json(const Recipe::Calibration& calibration, const CalibrationSet& set);

}  // namespace lathe
