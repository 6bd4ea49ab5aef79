#include "calib/data/token_stream.h"

#include <algorithm>
#include <limits>
#include <set>

#include "calib/data/reading_limit.h"
#include "calib/data/token_weights.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

/// `ids` begin at the document's element `first`.
void check_ids(std::span<const int64_t> ids, int64_t first, int64_t vocab_size, const Document& document) {
  const int64_t end = vocab_size > 0 ? vocab_size : int64_t{std::numeric_limits<int32_t>::max()} + 1;
  const auto bad = std::find_if(ids.begin(), ids.end(), [&](int64_t id) { return id < 0 || id >= end; });
  if (bad == ids.end()) return;
  if (document.form != Document::Form::ids) {
    user_error(
        "{}: the tokenizer gives token id {}, but the model's vocab_size is {}; the tokenizer belongs to "
        "another model",
        document.place, *bad, vocab_size);
  }
  const std::string expected =
      vocab_size > 0 ? fmt::format("0 to {} (the model's vocab_size is {})", vocab_size - 1, vocab_size)
      : *bad < 0     ? std::string("0 or more")
                     : fmt::format("0 to {}", end - 1);
  user_error("{}: element {}: expected token ids from {}, found {}; was the file made for another model?",
             document.place, first + (bad - ids.begin()), expected, *bad);
}

/// All ids so far were kept, and are too many.
void let_go(TokenStream& stream) {
  if (stream.mark) {
    std::vector<int64_t> marks;
    for (int64_t place = 0; const int32_t id : stream.ids) {
      if (id == *stream.mark) marks.push_back(place);
      ++place;
    }
    marks.insert(marks.end(), stream.marks.begin(), stream.marks.end());
    stream.marks = std::move(marks);
  }
  stream.let_go = true;
  std::deque<int32_t>().swap(stream.ids);
  std::deque<float>().swap(stream.weights);
}

/// One document at the end of a stream, while its ids come.
class OpenDocument {
 public:
  OpenDocument(TokenStream& stream, const Document& document)
      : stream_(stream), document_(document), begin_(stream.size), kept_before_(stream.ids.size()) {
    if (static_cast<int64_t>(stream.documents.size()) == stream.most_documents)
      stream.most_ids = static_cast<int64_t>(stream.ids.size());
  }

  void add(std::span<const int64_t> ids, int64_t vocab_size) {
    check_ids(ids, length(), vocab_size, document_);
    constexpr size_t kBlock = size_t{1} << 16;  // a file of ids may be one document
    for (size_t at = 0; at < ids.size(); at += kBlock)
      push(ids.subspan(at, std::min(kBlock, ids.size() - at)));
  }
  int64_t length() const { return stream_.size - begin_; }
  /// Whether its first ids may come into a sample.
  bool is_kept() const { return begin_ < stream_.most_ids; }

  /// As if it had not been there.
  void drop() {
    stream_.size = begin_;
    if (!stream_.let_go) stream_.ids.resize(kept_before_);
    while (!stream_.marks.empty() && stream_.marks.back() >= begin_) stream_.marks.pop_back();
  }
  void keep(size_t source, double token_weight) {
    stream_.documents.push_back({source, begin_, length(), document_.form});
    append_weights(token_weight);
  }

 private:
  void push(std::span<const int64_t> ids) {
    for (const int64_t id : ids) {
      if (keeps(stream_.size))
        stream_.ids.push_back(static_cast<int32_t>(id));
      else if (id == stream_.mark)
        stream_.marks.push_back(stream_.size);
      ++stream_.size;
    }
    watch_bytes();
  }
  void watch_bytes() {
    const uint64_t bytes = sizeof(int32_t) * stream_.ids.size() + sizeof(float) * stream_.weights.size();
    if (bytes > stream_.most_bytes) let_go(stream_);
  }
  bool keeps(int64_t place) {
    if (stream_.let_go) return false;
    if (stream_.only.empty()) return place < stream_.most_ids;
    const auto next = std::ranges::upper_bound(stream_.only, place, {}, &TokenStream::Range::begin);
    return next != stream_.only.begin() && place < std::prev(next)->end;
  }

  /// Follows the ids: nothing where every token counts once.
  void append_weights(double factor) {
    if (document_.weights.empty() && factor == 1 && !stream_.weighted) return;
    stream_.weighted = true;
    if (!stream_.let_go) stream_.weights.resize(kept_before_, 1.0F);  // of those before
    for (int64_t i = 0; i < length(); ++i) {
      const double own = document_.weights.empty() ? 1.0 : document_.weights[static_cast<size_t>(i)];
      const auto weight = static_cast<float>(own * factor);
      if (!is_token_weight(weight)) {
        user_error(
            "{}: token_weight {:g} times the file's own {:g} is {:g}, and a token's weight lies between 1e-6 "
            "and 1e6",
            document_.place, factor, own, weight);
      }
      if (keeps(begin_ + i)) stream_.weights.push_back(weight);
    }
    watch_bytes();
  }

  TokenStream& stream_;
  const Document& document_;
  int64_t begin_;
  size_t kept_before_;  // ids of the documents before
};

}  // namespace

bool TokenStream::is_mark(int64_t place) const {
  if (!mark) return false;
  if (place < static_cast<int64_t>(ids.size())) return ids[static_cast<size_t>(place)] == *mark;
  return std::binary_search(marks.begin(), marks.end(), place);
}

StreamCounts append(const DataSource& source, size_t number, const Encoder& encoder, TokenStream& stream,
                    DocumentLooks* looks) {
  StreamCounts counts;
  std::set<int64_t> row_lengths;
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
  const bool keeps_all = stream.most_ids == kAny && stream.most_documents == kAny && stream.only.empty() &&
                         stream.most_bytes == std::numeric_limits<uint64_t>::max();
  const ReadingLimit limit(source, encoder, keeps_all);
  counts.read = for_each_document(source, encoder.templates, [&](const Document& document) {
    ++counts.documents;
    if (document.form == Document::Form::absent) {
      ++counts.absent;
      return;
    }
    OpenDocument open(stream, document);
    const auto take = [&](std::span<const int64_t> ids) {
      throw_if_cancelled();
      limit.check();
      open.add(ids, encoder.vocab_size);
    };
    const bool are_ids = document.form == Document::Form::ids;
    // A template wrote the special tokens of a conversation already.
    const bool special = document.form == Document::Form::text && encoder.special_tokens;
    are_ids ? take(document.ids) : encoder.tokenizer->encode_in_blocks(document.text, special, take);
    row_lengths.insert(are_ids ? open.length() : 0);
    if (open.length() < encoder.min_tokens) {
      ++counts.dropped;
      return open.drop();
    }
    if (looks != nullptr && open.is_kept()) looks->observe(document, open.length());
    counts.tokens += open.length();
    open.keep(number, source.token_weight);
  });
  if (counts.documents > 1 && row_lengths.size() == 1) counts.row_length = *row_lengths.begin();
  return counts;
}

}  // namespace lathe
