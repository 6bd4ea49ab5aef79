// Text -> token ids, equal to what the `tokenizers` and `sentencepiece` libraries give.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// `text` is valid UTF-8 (checked; UserError otherwise). Special tokens that stand in the text become their
  /// ids. `add_special_tokens` adds what the post-processor adds (BOS, ...).
  virtual std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const = 0;
  using IdSink = std::function<void(std::span<const int64_t>)>;
  /// Passes what encode() returns to `sink`, in order and in blocks of any size: the ids of a long text are
  /// several times as large as the text. The default makes one block.
  virtual void encode_in_blocks(std::string_view text, bool add_special_tokens, const IdSink& sink) const {
    sink(encode(text, add_special_tokens));
  }
  /// Bytes that encode_in_blocks() takes at most for each byte of a long text, beside the text and a few MiB.
  /// The default is for one block: 8 bytes an id, while the list grows.
  virtual uint64_t copies_of_text() const { return 24; }
  /// The vocabulary as text, in no particular order: entries of a byte-level vocabulary as the bytes that
  /// they stand for, those that are not whole characters left out.
  virtual std::vector<std::string> pieces() const = 0;
  /// What each id stands for inside a text: a byte-level entry's bytes, which may be a part of a character; a
  /// blank for SentencePiece's U+2581; the byte of "<0x0A>"; an added token's text. "" for an id of none.
  virtual std::vector<std::string> texts_of(std::span<const int64_t> ids) const = 0;
  /// Number of ids, added tokens included.
  virtual int64_t vocab_size() const = 0;
};

/// A SentencePiece entry as it stands in a text (Tokenizer::texts_of()).
std::string sentencepiece_text(std::string_view piece);

/// Opens tokenizer.json, else tokenizer.model, of a model folder. UserError where neither is there, where the
/// file is malformed, or where it asks for a component that is not supported (naming the component).
std::unique_ptr<Tokenizer> open_tokenizer(const std::filesystem::path& model_folder);

}  // namespace lathe
