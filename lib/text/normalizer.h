// The "normalizer" of a tokenizer.json: text to text.
#pragma once

#include <memory>
#include <string>

#include "lib/text/json_reader.h"

namespace lathe::text {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// `text` is valid UTF-8. Clears `at_start` where the first character was removed: what follows then no
  /// longer begins where the input begins, and Metaspace's prepend_scheme "first" leaves it alone.
  virtual std::string normalize(std::string text, bool& at_start) const = 0;
};

/// Null for a null component. UserError for a component that is malformed or not supported.
std::unique_ptr<Normalizer> make_normalizer(const JsonValue& json);

/// A Sequence may hold Sequences, to this depth: a hostile file must not exhaust the stack.
inline constexpr int kDeepestSequence = 16;

}  // namespace lathe::text
