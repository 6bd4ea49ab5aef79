// The piece becomes a doubly linked list of symbols; a heap holds the pairs that can merge, by rank, then
// position. A merge changes two neighbouring pairs only, so the heap sees at most three entries a character:
// O(n log n), which matters because Llama-2's tokenizer.json splits nothing and a whole document is one
// piece. Entries that later merges made stale are recognised when they come up (the pair at their position
// gives another token) and dropped.
#include "lib/text/bpe.h"

#include <algorithm>
#include <climits>
#include <mutex>
#include <unordered_set>

#include "lib/base/error.h"
#include "lib/text/unicode.h"

namespace lathe::text {

struct Bpe::Workspace {
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;

  static bool after(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  }
};

/// The pairs of characters that stand side by side in an entry of the vocabulary.
struct Bpe::Neighbours {
  std::once_flag once;
  std::unordered_set<uint64_t> pairs;

  static uint64_t key(char32_t left, char32_t right) { return uint64_t{left} << 32 | uint64_t{right}; }
  void find(const Vocabulary& vocabulary) {
    for (const auto& [entry, id] : vocabulary) {
      for (size_t at = 0, next = 0; at < entry.size(); at = next) {
        next = at + char_length(entry, at);
        if (next < entry.size()) pairs.insert(key(decode_char(entry, at), decode_char(entry, next)));
      }
    }
  }
};

Bpe::Bpe(const JsonValue& json) : neighbours_(std::make_shared<Neighbours>()) {
  const std::string type = json.text_or_empty("type");
  if (!type.empty() && type != "BPE") json.at("type").unsupported(type, "BPE");
  read_vocabulary(json.at("vocab"));
  read_options(json);
  read_merges(json.at("merges"));
}

void Bpe::read_vocabulary(const JsonValue& json) {
  if (!json.raw().is_object()) json.expected("an object of tokens and ids");
  vocabulary_.reserve(json.raw().size());
  std::unordered_map<int64_t, std::string_view> owners;
  owners.reserve(json.raw().size());
  for (const auto& [token, id] : json.raw().items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
      json.at(token).id();  // throws, naming the token
    const auto value = id.get<int32_t>();
    const auto [owner, is_new] = owners.emplace(value, token);
    if (!is_new) {
      user_error("{}: id {} stands for both \"{}\" and \"{}\"; expected every id once", json.where(), value,
                 owner->second, token);
    }
    vocabulary_.emplace(token, value);
  }
}

void Bpe::read_options(const JsonValue& json) {
  if (json.has("dropout") && !json.at("dropout").is_null()) {
    const JsonValue dropout = json.at("dropout");
    if (!dropout.raw().is_number() || dropout.raw().get<double>() != 0) dropout.expected("null (no dropout)");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!json.text_or_empty(key).empty()) json.at(key).expected("null or \"\" (it is not supported)");
  }
  fuse_unknown_ = json.boolean_or("fuse_unk", false);
  byte_fallback_ = json.boolean_or("byte_fallback", false);
  ignore_merges_ = json.boolean_or("ignore_merges", false);
  if (json.has("unk_token") && !json.at("unk_token").is_null()) {
    const auto id = find(json.at("unk_token").text());
    if (!id) json.at("unk_token").expected("a token of model.vocab");
    unknown_id_ = *id;
  }
  if (byte_fallback_) find_byte_tokens();
}

void Bpe::find_byte_tokens() {
  for (int byte = 0; byte < 256; ++byte)
    byte_tokens_.push_back(find(fmt::format("<0x{:02X}>", byte)).value_or(-1));
}

void Bpe::read_merges(const JsonValue& json) {
  if (!json.raw().is_array()) json.expected("an array of merges");
  merges_.reserve(json.raw().size());
  uint32_t rank = 0;
  for (size_t i = 0; i < json.raw().size(); ++i) {
    const nlohmann::json& merge = json.raw()[i];
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      add_merge(json, merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), rank++);
      continue;
    }
    const std::string_view line =
        merge.is_string() ? merge.get_ref<const std::string&>() : std::string_view();
    if (line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      json.items()[i].expected("two tokens, as \"left right\" or [\"left\", \"right\"]");
    }
    add_merge(json, line.substr(0, space), line.substr(space + 1), rank++);
  }
}

void Bpe::add_merge(const JsonValue& json, std::string_view left, std::string_view right, uint32_t rank) {
  const std::string merged = fmt::format("{}{}", left, right);
  for (const std::string_view token : {left, right, std::string_view(merged)}) {
    if (vocabulary_.find(token) == vocabulary_.end()) {
      user_error("{}: merge {} (\"{}\" + \"{}\") needs the token \"{}\", which is not in model.vocab",
                 json.where(), rank, left, right, token);
    }
  }
  const uint64_t key = uint64_t(*find(left)) << 32 | uint32_t(*find(right));
  merges_[key] = {rank, *find(merged)};  // of two equal merges the later rank counts, as in `tokenizers`
}

std::optional<int32_t> Bpe::find(std::string_view token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
}

const Bpe::Merge* Bpe::merge_of(int32_t left, int32_t right) const {
  const auto found = merges_.find(uint64_t(left) << 32 | uint32_t(right));
  return found == merges_.end() ? nullptr : &found->second;
}

bool Bpe::add_bytes(std::string_view character, std::vector<Symbol>& symbols) const {
  const auto token = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (std::any_of(character.begin(), character.end(), [&](char byte) { return token(byte) < 0; }))
    return false;
  for (const char byte : character) symbols.push_back({token(byte), 0, 0, false});
  return true;
}

void Bpe::add_symbols(std::string_view piece, std::vector<Symbol>& symbols) const {
  bool unknown_waits = false;  // for another to fuse with, or for the next known character
  const auto flush = [&] {
    if (unknown_waits) symbols.push_back({unknown_id_, 0, 0, false});
    unknown_waits = false;
  };
  for (size_t at = 0, next = 0; at < piece.size(); at = next) {
    next = at + char_length(piece, at);
    const std::string_view character = piece.substr(at, next - at);
    if (const auto id = find(character)) {
      flush();
      symbols.push_back({*id, 0, 0, false});
      continue;
    }
    // A waiting unknown stays behind the bytes: `tokenizers` has that order too.
    if (byte_fallback_ && add_bytes(character, symbols)) continue;
    if (unknown_id_ < 0) continue;
    if (!fuse_unknown_) flush();
    unknown_waits = true;
  }
  flush();
}

void Bpe::consider(Workspace& workspace, int32_t position) const {
  const Symbol& left = workspace.symbols[static_cast<size_t>(position)];
  const Symbol& right = workspace.symbols[static_cast<size_t>(left.next)];
  if (const Merge* merge = merge_of(left.id, right.id)) {
    workspace.heap.push_back({merge->rank, position, merge->id});
    std::push_heap(workspace.heap.begin(), workspace.heap.end(), Workspace::after);
  }
}

void Bpe::merge_symbols(Workspace& workspace) const {
  auto& symbols = workspace.symbols;
  auto& heap = workspace.heap;
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[static_cast<size_t>(i)].previous = i - 1;
    symbols[static_cast<size_t>(i)].next = i + 1 < count ? i + 1 : -1;
  }
  for (int32_t i = 0; i + 1 < count; ++i) consider(workspace, i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), Workspace::after);
    const Candidate top = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<size_t>(top.position)];
    if (left.removed || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    const Merge* merge = merge_of(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;
    left.id = top.id;
    left.next = right.next;
    right.removed = true;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = top.position;
    if (left.previous >= 0) consider(workspace, left.previous);
    if (left.next >= 0) consider(workspace, top.position);
  }
}

std::string_view Bpe::independent_start(std::string_view piece) const {
  constexpr size_t kLeast = size_t{64} << 10;
  if (piece.size() <= 2 * kLeast) return piece;
  std::call_once(neighbours_->once, [&] { neighbours_->find(vocabulary_); });
  size_t left = previous_char(piece, kLeast);
  for (size_t at = left + char_length(piece, left); at < piece.size();
       left = at, at += char_length(piece, at)) {
    const auto pair = Neighbours::key(decode_char(piece, left), decode_char(piece, at));
    if (neighbours_->pairs.contains(pair)) continue;
    if (find(piece.substr(left, at - left)) && find(piece.substr(at, char_length(piece, at))))
      return piece.substr(0, at);
  }
  return piece;
}

void Bpe::encode(std::string_view piece, std::vector<int64_t>& ids) const {
  if (piece.size() > INT32_MAX / 2) {
    user_error("the text has a stretch of {} bytes without a split; expected less than 1 GiB, cut it",
               piece.size());
  }
  if (ignore_merges_) {
    if (const auto id = find(piece)) {
      ids.push_back(*id);
      return;
    }
  }
  thread_local Workspace workspace;  // its memory serves the next piece
  workspace.symbols.clear();
  workspace.heap.clear();
  add_symbols(piece, workspace.symbols);
  merge_symbols(workspace);
  for (const Symbol& symbol : workspace.symbols) {
    if (!symbol.removed) ids.push_back(symbol.id);
  }
}

}  // namespace lathe::text
