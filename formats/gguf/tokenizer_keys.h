// A model folder's tokenizer as keys of a GGUF file (tokenizer.ggml.*, tokenizer.chat_template).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "formats/gguf/gguf_value.h"

namespace lathe {

/// tokenizer.ggml.token_type.
enum class GgufTokenType : int32_t { normal = 1, unknown, control, user_defined, unused, byte };

struct TokenizerKeys {
  GgufMetadata keys;
  std::vector<std::string> warnings;  // what llama.cpp will do otherwise
};

/// From tokenizer.model (SentencePiece: scores) or tokenizer.json (byte-level BPE: merges), and
/// tokenizer_config.json, config.json and chat template files beside. `vocab_size`: rows of the embedding;
/// ids without a token become unused ones. UserError naming the file where there is no tokenizer, or one that
/// llama.cpp has no like of, and which component that is.
///
/// pre_tokenizer: tokenizer.ggml.pre, where the user knows it; empty: found out from tokenizer.json. A name
/// that tokenizer.json doesn't bear out becomes a warning; UserError where the tokenizer has no such key.
TokenizerKeys tokenizer_keys(const std::filesystem::path& folder, int64_t vocab_size,
                             const std::string& pre_tokenizer = {});

}  // namespace lathe
