// The tokenizer that a GGUF file holds, as the files of a Hugging Face folder.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "formats/gguf/gguf_file.h"

namespace lathe {

struct GgufTokenizer {
  nlohmann::json tokenizer;         // tokenizer.json
  nlohmann::json tokenizer_config;  // tokenizer_config.json, with the chat template
};

/// For tokenizer.ggml.model "gpt2" (merges; pre-tokenizers that Lathe's table of names has) and "llama"
/// (scores: a piece is joined from each pair of pieces that make it, the highest score first). UserError
/// naming file and key for another one, or one that is missing or malformed.
GgufTokenizer tokenizer_of_gguf(const GgufFile& file);

}  // namespace lathe
