// tokenizer.model, through Google's SentencePiece library.
#pragma once

#include <filesystem>
#include <memory>

#include "lib/text/tokenizer.h"

namespace lathe::text {

/// Ids as the `sentencepiece` package gives them: a control symbol ("<s>") that stands in the text is
/// ordinary text, a user-defined symbol is its id. With `add_special_tokens` the BOS id goes in front, and
/// the EOS id behind, as add_bos_token and add_eos_token of tokenizer_config.json beside the model say; where
/// they say nothing, BOS and no EOS, which is what transformers' Llama tokenizer does. UserError where a file
/// is malformed, or a token is asked for that the model lacks.
std::unique_ptr<Tokenizer> open_sentencepiece(const std::filesystem::path& model_file);

}  // namespace lathe::text
