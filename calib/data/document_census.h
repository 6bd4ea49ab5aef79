// What the documents of a run look like, for the warnings: their scripts, lengths and repetitions.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>

#include "calib/data/documents.h"
#include "lib/text/scripts.h"

namespace lathe {

class DocumentCensus {
 public:
  /// Counts one document of `tokens` ids.
  void observe(const Document& document, int64_t tokens);

  int64_t documents() const { return documents_; }
  int64_t longest() const { return longest_; }
  /// Bytes of UTF-8 that a token stands for, of all texts; 0 where there is none.
  double bytes_per_token() const;
  /// Documents that equal an earlier one after normalisation: letters and digits only, without case
  /// (text::fold_for_comparison). Of ids: equal ids. Texts longer than kLookedAt repeat one another where
  /// their starts do and they are equally long.
  int64_t repeated() const { return repeated_; }
  /// Letters by script, of the first kLookedAt bytes of each text.
  const text::ScriptCounts& scripts() const { return scripts_; }

  /// Folding needs several copies of what it folds; a text may be as large as the disk.
  static constexpr size_t kLookedAt = size_t{1} << 20;

 private:
  int64_t documents_ = 0, longest_ = 0, repeated_ = 0;
  int64_t text_bytes_ = 0, text_tokens_ = 0;
  text::ScriptCounts scripts_;
  std::unordered_set<std::string> seen_;  // 128-bit hashes
};

}  // namespace lathe
