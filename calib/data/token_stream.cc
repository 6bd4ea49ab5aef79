#include "calib/data/token_stream.h"

#include <algorithm>
#include <set>

#include "lib/base/cancel.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

void check_ids(std::span<const int64_t> ids, int64_t vocab_size, const Document& document) {
  const auto bad = std::find_if(ids.begin(), ids.end(),
                                [&](int64_t id) { return id < 0 || (vocab_size > 0 && id >= vocab_size); });
  if (bad == ids.end()) return;
  if (document.form != Document::Form::ids) {
    user_error(
        "{}: the tokenizer gives token id {}, but the model's vocab_size is {}; the tokenizer belongs to "
        "another model",
        document.place, *bad, vocab_size);
  }
  const std::string expected =
      vocab_size > 0 ? fmt::format("0 to {} (the model's vocab_size is {})", vocab_size - 1, vocab_size)
                     : std::string("0 or more");
  user_error("{}: element {}: expected token ids from {}, found {}; was the file made for another model?",
             document.place, bad - ids.begin(), expected, *bad);
}

/// The text's ids; a template wrote the special tokens of a conversation already.
std::vector<int64_t> encode(const Document& document, const Encoder& encoder) {
  const bool special = document.form == Document::Form::text && encoder.special_tokens;
  return encoder.tokenizer->encode(document.text, special);
}

/// Follows the ids: nothing where every token counts once.
void append_weights(const Document& document, double factor, int64_t length, TokenStream& stream) {
  if (document.weights.empty() && factor == 1 && stream.weights.empty()) return;
  stream.weights.resize(stream.ids.size() - static_cast<size_t>(length), 1.0F);  // of documents before
  for (int64_t i = 0; i < length; ++i) {
    const double own = document.weights.empty() ? 1.0 : document.weights[static_cast<size_t>(i)];
    const auto weight = static_cast<float>(own * factor);
    if (!(weight >= kLeastTokenWeight && weight <= 1 / kLeastTokenWeight)) {
      user_error(
          "{}: token_weight {:g} times the file's own {:g} is {:g}, and a token's weight lies between 1e-6 "
          "and 1e6",
          document.place, factor, own, weight);
    }
    stream.weights.push_back(weight);
  }
}

}  // namespace

StreamCounts append(const DataSource& source, size_t number, const Encoder& encoder, TokenStream& stream,
                    DocumentCensus* census) {
  StreamCounts counts;
  std::set<int64_t> row_lengths;
  for_each_document(source, encoder.templates, [&](const Document& document) {
    throw_if_cancelled();
    std::vector<int64_t> encoded;
    if (document.form != Document::Form::ids) encoded = encode(document, encoder);
    const std::span<const int64_t> ids = document.form == Document::Form::ids ? document.ids : encoded;
    check_ids(ids, encoder.vocab_size, document);
    ++counts.documents;
    const auto length = static_cast<int64_t>(ids.size());
    row_lengths.insert(document.form == Document::Form::ids ? length : 0);
    if (length < encoder.min_tokens) {
      ++counts.dropped;
      return;
    }
    if (census != nullptr) census->observe(document, length);
    stream.documents.push_back({number, static_cast<int64_t>(stream.ids.size()), length, document.form});
    stream.ids.insert(stream.ids.end(), ids.begin(), ids.end());
    append_weights(document, source.token_weight, length, stream);
    counts.tokens += length;
  });
  if (counts.documents > 1 && row_lengths.size() == 1) counts.row_length = *row_lengths.begin();
  return counts;
}

}  // namespace lathe
