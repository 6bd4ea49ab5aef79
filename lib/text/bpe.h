// Byte-pair encoding of one piece of text (Sennrich et al. 2016, arXiv:1508.07909), with SentencePiece's byte
// fallback.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/text/json_reader.h"

namespace lathe::text {

/// Lets a map keyed by std::string be searched with a std::string_view.
struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Vocabulary = std::unordered_map<std::string, int32_t, TextHash, std::equal_to<>>;

class Bpe {
 public:
  /// From the "model" of a tokenizer.json. UserError: another model type, a merge of unknown tokens, an id
  /// that is out of range or stands twice, dropout, a subword prefix or suffix.
  explicit Bpe(const JsonValue& json);

  /// Appends the ids of `piece`, the same as `tokenizers`: the pair of lowest rank merges first, the leftmost
  /// among equals. O(n log n). A character that is in no way part of the vocabulary vanishes, as it does
  /// there.
  void encode(std::string_view piece, std::vector<int64_t>& ids) const;

  /// The first part of `piece`, 64 KiB or more of it, that encode() gives the same ids by itself, as it does
  /// the rest; all of it where it is shorter or there is no such part. It ends between two characters that
  /// are entries of the vocabulary, each by itself, and side by side in none: any merge across them would
  /// make an entry that holds both. What encode() needs beside a piece is dozens of times the piece.
  std::string_view independent_start(std::string_view piece) const;

  std::optional<int32_t> find(std::string_view token) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }
  size_t size() const { return vocabulary_.size(); }

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  struct Symbol {
    int32_t id;
    int32_t previous;
    int32_t next;
    bool removed;
  };
  struct Candidate {
    uint32_t rank;
    int32_t position;
    int32_t id;
  };
  struct Workspace;
  struct Neighbours;

  void read_vocabulary(const JsonValue& json);
  void read_options(const JsonValue& json);
  void read_merges(const JsonValue& json);
  void find_byte_tokens();
  void add_merge(const JsonValue& json, std::string_view left, std::string_view right, uint32_t rank);
  const Merge* merge_of(int32_t left, int32_t right) const;

  void add_symbols(std::string_view piece, std::vector<Symbol>& symbols) const;
  bool add_bytes(std::string_view character, std::vector<Symbol>& symbols) const;
  void merge_symbols(Workspace& workspace) const;
  void consider(Workspace& workspace, int32_t position) const;

  std::shared_ptr<Neighbours> neighbours_;  ///< found when a long piece comes
  Vocabulary vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;
  std::vector<int32_t> byte_tokens_;  ///< ids of <0x00> ... <0xFF>, -1 where missing
  int32_t unknown_id_ = -1;           ///< -1 where there is no unk_token
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace lathe::text
