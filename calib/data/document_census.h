// What the documents of a run look like, for the warnings: their languages, scripts, lengths and repetitions.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "calib/data/documents.h"
#include "lib/base/hash.h"
#include "lib/text/languages.h"
#include "lib/text/scripts.h"
#include "lib/text/tokenizer.h"

namespace lathe {

/// What is kept of documents until it is known which of them come into samples: some 50 bytes of each.
class DocumentLooks {
 public:
  /// Looks at the next document, of `tokens` ids.
  void observe(const Document& document, int64_t tokens);
  /// Documents that were looked at.
  size_t size() const { return looks_.size(); }

  /// Folding needs several copies of what it folds; a text may be as large as the disk.
  static constexpr size_t kLookedAt = size_t{1} << 20;

 private:
  friend class DocumentCensus;
  struct Look {
    ContentHasher::Digest hash;
    int64_t tokens, text_bytes;         // of ids: no bytes
    size_t scripts_end, languages_end;  // in scripts_ and languages_; they begin at those of the one before
  };
  struct Share {
    uint32_t name, count;
  };
  uint32_t number_of(const std::string& name);
  void append(const std::map<std::string, int64_t>& counts, std::deque<Share>& shares);
  void add(const std::deque<Share>& shares, size_t begin, size_t end,
           std::map<std::string, int64_t>& counts) const;

  std::deque<Look> looks_;  // grows without a copy
  std::deque<Share> scripts_, languages_;
  std::vector<std::string> names_;  // of both
};

/// Of the documents that come into samples, in whole or in part.
class DocumentCensus {
 public:
  /// Counts the document number `index` of those that were looked at.
  void add(const DocumentLooks& looks, size_t index);
  /// Counts what ids of a file of ids stand for, which is text again: bytes, tokens, letters and languages of
  /// some of them. Control tokens, written <...>, are left out.
  void add_ids(std::span<const int64_t> ids, const Tokenizer& tokenizer);

  int64_t documents() const { return documents_; }
  int64_t longest() const { return longest_; }
  /// Those of at most kShort tokens.
  int64_t very_short() const { return very_short_; }
  /// Bytes of UTF-8 that a token stands for, of all texts and of the ids that were looked at; 0 where there
  /// is none.
  double bytes_per_token() const;
  /// Documents that equal an earlier one after normalisation: letters and digits only, without case
  /// (text::fold_for_comparison). Of ids: equal ids. Texts longer than kLookedAt repeat one another where
  /// their starts do and they are equally long.
  int64_t repeated() const { return repeated_; }
  /// Letters by script, of the first kLookedAt bytes of each text, and of the ids that were looked at.
  const text::ScriptCounts& scripts() const { return scripts_; }
  /// The same of languages, in bytes of the parts that were looked at (text::add_languages).
  const text::LanguageCounts& languages() const { return languages_; }

  static constexpr int64_t kShort = 64;
  /// Ids that are made text again, of all samples; evenly of each.
  static constexpr int64_t kIdsLookedAt = int64_t{1} << 16;

 private:
  int64_t documents_ = 0, longest_ = 0, very_short_ = 0, repeated_ = 0;
  int64_t text_bytes_ = 0, text_tokens_ = 0;
  text::ScriptCounts scripts_;
  text::LanguageCounts languages_;
  std::set<ContentHasher::Digest> seen_;
};

}  // namespace lathe
