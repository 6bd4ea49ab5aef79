// The "post_processor" of a tokenizer.json, for single sequences: which special tokens stand around the ids.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/text/json_reader.h"

namespace lathe::text {

class PostProcessor {
 public:
  /// Null, ByteLevel (which moves offsets, not ids), TemplateProcessing, or a Sequence of these with at most
  /// one template. UserError for anything else, and for a template that names an unknown special token.
  explicit PostProcessor(const JsonValue& json);

  /// Without special tokens a template still repeats the sequence as often as it names it.
  std::vector<int64_t> apply(std::vector<int64_t> ids, bool add_special_tokens) const;

  struct Around {
    std::vector<int64_t> before, after;
  };
  /// What apply() puts around the ids; nothing where it repeats or drops them.
  std::optional<Around> around(bool add_special_tokens) const;

 private:
  struct Part {
    bool is_sequence;
    std::vector<int64_t> special;
  };
  void add(const JsonValue& json, int depth);
  void add_template(const JsonValue& json);

  bool has_template_ = false;
  std::vector<Part> template_;
};

}  // namespace lathe::text
