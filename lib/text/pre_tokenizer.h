// The "pre_tokenizer" of a tokenizer.json: a text to the pieces that BPE never merges across.
#pragma once

#include <memory>
#include <string_view>

#include "lib/text/json_reader.h"

namespace lathe::text {

/// A stretch of text on its way through the pre-tokenizers.
struct Piece {
  std::string_view text;
  /// It begins where the whole input begins (what Metaspace's prepend_scheme "first" asks).
  bool at_start;
};

/// What takes the pieces: a borrowed callable, so that a text streams through a Sequence without lists in
/// between.
class PieceSink {
 public:
  template <class Callable>
  explicit PieceSink(const Callable& callable)
      : callable_(&callable),
        call_([](const void* c, Piece piece) { (*static_cast<const Callable*>(c))(piece); }) {}
  void operator()(Piece piece) const { call_(callable_, piece); }

 private:
  const void* callable_;
  void (*call_)(const void*, Piece);
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Passes the pieces of `piece` (not empty) to `sink` in order; none of them is empty.
  virtual void split(Piece piece, const PieceSink& sink) const = 0;
};

/// Null for a null component. UserError for a component that is malformed or not supported.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonValue& json);

}  // namespace lathe::text
