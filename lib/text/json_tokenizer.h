// tokenizer.json, the format of Hugging Face's `tokenizers` library (Rust).
//
// Ours, on PCRE2 (regular expressions) and utf8proc (normalisation): the C++ library looked at first,
// pytorch-tokenizers 1.0.1, knows of the normalizers only Replace, Sequence and an NFC "that may not handle
// all edge cases"; of the pre-tokenizers only Split (three of five behaviours, no invert), Digits, ByteLevel
// (use_regex ignored) and Sequence; no strip flags, single words or normalisation of added tokens; and its
// merge loop is O(n m) on a piece of n bytes.
#pragma once

#include <filesystem>
#include <memory>

#include "lib/text/added_tokens.h"
#include "lib/text/bpe.h"
#include "lib/text/normalizer.h"
#include "lib/text/post_processor.h"
#include "lib/text/pre_tokenizer.h"
#include "lib/text/tokenizer.h"

namespace lathe::text {

/// added tokens -> normalizer -> added tokens -> pre-tokenizer -> BPE -> post-processor; ids as `tokenizers`
/// gives. The file's "truncation", "padding" and "decoder" play no part: whole texts go in, ids come out.
class JsonTokenizer : public Tokenizer {
 public:
  /// `json` is the whole document; it is not referred to afterwards. UserError as open_tokenizer() says.
  explicit JsonTokenizer(const JsonValue& json);

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override;
  /// Blocks of a few thousand ids, unless the post-processor repeats or drops the text.
  void encode_in_blocks(std::string_view text, bool add_special_tokens, const IdSink& sink) const override;
  uint64_t copies_of_text() const override;
  std::vector<std::string> pieces() const override;
  std::vector<std::string> texts_of(std::span<const int64_t> ids) const override;
  int64_t vocab_size() const override;

 private:
  /// Ids on their way out: passed on when there are many; kept where there is no sink.
  struct Output {
    std::vector<int64_t> ids = {};
    const IdSink* sink = nullptr;
    void flush(size_t least);
  };
  /// GPT-2's alphabet is in use where its space and line break are entries; its letters are bytes then.
  bool byte_level() const;
  void encode_text(std::string_view text, Output& output) const;
  void encode_stretch(std::string_view text, bool at_start, Output& output) const;
  void encode_piece(std::string_view piece, Output& output) const;

  Bpe model_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  PostProcessor post_processor_;
  AddedTokens added_tokens_;
};

}  // namespace lathe::text
