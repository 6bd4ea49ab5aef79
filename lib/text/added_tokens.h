// The "added_tokens" of a tokenizer.json: tokens found in the text before anything else happens to it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/bpe.h"
#include "lib/text/normalizer.h"

namespace lathe::text {

/// Texts to look for; of those that match at the leftmost position, the longest wins.
class LiteralSearch {
 public:
  /// `value` >= 0. False where the text is empty or was added before.
  bool add(std::string_view text, int32_t value);

  struct Match {
    size_t begin;
    size_t end;
    int32_t value;  ///< -1: nothing found
  };
  Match find(std::string_view text, size_t from) const;
  bool empty() const { return nodes_.size() == 1; }

 private:
  struct Node {
    std::vector<std::pair<unsigned char, uint32_t>> children;
    int32_t value = -1;
  };
  uint32_t child(uint32_t node, unsigned char byte) const;
  std::vector<Node> nodes_{1};
};

class AddedTokens {
 public:
  /// UserError: a malformed entry; an id that is not the one that `tokenizers` would use (the model's own for
  /// the same text, else the next free one); two tokens that look the same once normalised.
  AddedTokens(const JsonValue& json, const Bpe& model, const Normalizer* normalizer);

  /// A stretch of text: an added token (id >= 0), or what lies between (id < 0).
  struct Part {
    std::string_view text;
    int64_t id;
  };
  /// Cuts `text` at the tokens that are matched before (`normalized` false) or after normalisation. No part
  /// is empty.
  std::vector<Part> split(std::string_view text, bool normalized) const;

  /// The added token of this id; nothing where it is none's.
  std::optional<std::string> text_of(int64_t id) const;

  /// Number of added tokens that the model's vocabulary lacks.
  size_t new_tokens() const { return new_tokens_; }

 private:
  struct Token {
    std::string content;
    int64_t id = 0;
    bool single_word = false;
    bool left_strip = false;
    bool right_strip = false;
    bool normalized = false;
  };
  void read(const JsonValue& json, const Bpe& model);
  void index(const JsonValue& json, const Normalizer* normalizer);

  std::vector<Token> tokens_;
  LiteralSearch raw_;
  LiteralSearch normalized_;
  size_t new_tokens_ = 0;
};

}  // namespace lathe::text
