#include "calib/data/calibration_set.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>
#include <utility>

#include "calib/data/packing.h"
#include "calib/data/reading_limit.h"
#include "calib/data/sampler.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

/// Sources that give their samples together.
struct Group {
  std::vector<size_t> sources;
  int64_t samples = 0;
};

bool is_mix(const std::vector<DataSource>& sources) {
  return std::any_of(sources.begin(), sources.end(),
                     [](const DataSource& s) { return s.weight > 0 || s.samples > 0; });
}

/// What each source of a mix gives: its own count, or its share of the rest.
std::vector<int64_t> share_samples(const std::vector<DataSource>& sources, int64_t samples) {
  std::vector<double> weights;
  int64_t rest = samples;
  for (const DataSource& source : sources) {
    if (source.samples == 0) weights.push_back(source.weight > 0 ? source.weight : 1.0);
    rest -= source.samples;
  }
  if (rest < 0 || (rest > 0 && weights.empty())) {
    user_error("calibration.samples is {}, but the sources' own samples add up to {}", samples,
               samples - rest);
  }
  const std::vector<int64_t> shares =
      weights.empty() ? std::vector<int64_t>{} : split_by_weight(rest, weights);
  std::vector<int64_t> result;
  size_t next = 0;
  for (const DataSource& source : sources)
    result.push_back(source.samples > 0 ? source.samples : shares[next++]);
  return result;
}

std::vector<Group> group_sources(const std::vector<DataSource>& sources, int64_t samples) {
  if (!is_mix(sources)) {
    Group all{std::vector<size_t>(sources.size()), samples};
    std::iota(all.sources.begin(), all.sources.end(), size_t{0});
    return {all};
  }
  std::vector<Group> groups;
  const std::vector<int64_t> shares = share_samples(sources, samples);
  for (size_t i = 0; i < sources.size(); ++i) groups.push_back({{i}, shares[i]});
  return groups;
}

SourceCounts read_source(const DataSource& source, size_t number, const SampleOptions& options,
                         const Encoder& encoder, TokenStream& stream, DocumentLooks& looks) {
  SourceCounts counts;
  counts.path = source.path.string();
  counts.kind = name_of(kind_of(source));
  const StreamCounts read = append(source, number, encoder, stream, &looks);
  counts.documents = read.documents;
  counts.dropped = read.dropped;
  counts.absent = read.absent;
  counts.tokens = read.tokens;
  counts.read = read.read;
  if (options.packing == Packing::pack && read.row_length != options.seq_len) counts.recut = read.row_length;
  if (read.read == 1) counts.file_hash = content_hash_of_file(source.path);
  return counts;
}

std::string names_of(const Group& group, const std::vector<DataSource>& sources) {
  const std::string first = sources[group.sources.front()].path.string();
  return group.sources.size() == 1 ? first : fmt::format("{} and {} more", first, group.sources.size() - 1);
}

/// A dump of padded samples is read back as it was, or not at all.
void check_rows_stay_whole(const DataSource& source, Packing packing) {
  if (packing != Packing::pack || !has_row_lengths(source)) return;
  user_error(
      "{}: its rows are samples of their own (it has `lengths`), which packing `pack` would join and cut "
      "anew; "
      "set calibration.packing to document",
      source.path.string());
}

void check_enough(const Group& group, const std::vector<DataSource>& sources, int64_t usable,
                  const SampleOptions& options) {
  const int64_t lacking = group.samples - usable;
  if (lacking <= 0) return;
  const std::string fewer =
      usable > 0 ? fmt::format("ask for {} or fewer", usable) : "ask for shorter samples";
  if (options.packing == Packing::document) {
    user_error(
        "{}: too little text: {} samples (one a document) were asked for, the data gives {}; add {} "
        "more documents or {}",
        names_of(group, sources), group.samples, usable, lacking,
        usable > 0 ? fewer : std::string("lower calibration.min_tokens"));
  }
  user_error(
      "{}: too little text: {} samples of {} tokens were asked for, the data gives {}; add text for {} more "
      "({} tokens) or {}",
      names_of(group, sources), group.samples, options.seq_len, usable, lacking, lacking * options.seq_len,
      fewer);
}

/// One chosen sample, in its group's stream.
struct Chosen {
  const TokenStream* stream;
  int64_t begin, length;  // in the stream's ids
  bool bos;
  std::vector<TokenStream::Range> from_ids;  // of these, from `begin` on: those of files of ids
  int64_t tokens() const { return length + (bos ? 1 : 0); }
  bool weighted() const { return stream->weighted; }
};

/// Where samples are the first ones, ids behind them are counted only. Where they are drawn, all are kept if
/// `most_bytes` allow it.
TokenStream stream_for(const Group& group, const SampleOptions& options, uint64_t most_bytes) {
  TokenStream stream;
  stream.mark = options.bos;
  if (options.seed != 0) {
    stream.most_bytes = most_bytes;
    return stream;
  }
  if (options.packing == Packing::pack)
    stream.most_ids = group.samples * options.seq_len;
  else
    stream.most_documents = group.samples;
  return stream;
}

/// The documents of a stream that chosen samples come from, while samples are looked at in order.
class ChosenDocuments {
 public:
  ChosenDocuments(const TokenStream& stream, const DocumentLooks& looks, CalibrationSet& set)
      : stream_(stream), looks_(looks), set_(set) {}

  /// Counts the sample's tokens for their sources, and its documents in the census, once each.
  void count(Chosen& sample) {
    const int64_t end = sample.begin + sample.length;
    while (true) {
      const TokenStream::Piece& document = stream_.documents[next_];
      const int64_t document_end = document.begin + document.length;
      const int64_t from = std::max(sample.begin, document.begin), to = std::min(end, document_end);
      if (to > from) {
        set_.sources[document.source].taken_tokens += to - from;
        if (document.form == Document::Form::ids)
          sample.from_ids.push_back({from - sample.begin, to - sample.begin});
        if (next_ >= counted_) set_.census.add(looks_, next_);
        counted_ = next_ + 1;
      }
      if (document_end >= end) return;
      ++next_;
    }
  }

 private:
  const TokenStream& stream_;
  const DocumentLooks& looks_;
  CalibrationSet& set_;
  size_t next_ = 0;     // a document that does not begin behind the next sample
  size_t counted_ = 0;  // those before are in the census, or in no sample
};

void choose(const Group& group, const Cut& cut, uint64_t seed, const TokenStream& stream,
            const DocumentLooks& looks, CalibrationSet& set, std::vector<Chosen>& chosen) {
  ChosenDocuments documents(stream, looks, set);
  for (const int64_t index : choose_samples(static_cast<int64_t>(cut.samples.size()), group.samples, seed)) {
    const Cut::Sample& sample = cut.samples[static_cast<size_t>(index)];
    documents.count(chosen.emplace_back(Chosen{&stream, sample.begin, sample.length, sample.bos, {}}));
    set.with_bos += sample.bos ? 1 : 0;
    ++set.sources[sample.source].taken;
  }
  for (const Cut::Sample& sample : cut.samples) ++set.sources[sample.source].usable;
  for (size_t i = 0; i < cut.truncated.size(); ++i) set.sources[cut.truncated[i]].truncated += 1;
  set.unused_tokens += cut.unused_tokens;
}

/// What a source has in all, going by the part that was read. A text is one document, of which there is no
/// more.
void extrapolate(const DataSource& source, Packing packing, SourceCounts& counts) {
  const auto in_all = [&](int64_t& count) { count = std::llround(static_cast<double>(count) / counts.read); };
  const bool one = kind_of(source) == DataKind::text;
  in_all(counts.tokens);
  if (!one || packing == Packing::pack) in_all(counts.usable);
  if (one) return;
  for (int64_t* count : {&counts.documents, &counts.dropped, &counts.absent, &counts.truncated})
    in_all(*count);
}

/// Bytes of a source's head that most likely give its group's samples.
uint64_t first_head(const Group& group, const SampleOptions& options) {
  const auto tokens = static_cast<uint64_t>(group.samples) * static_cast<uint64_t>(options.seq_len);
  return head_of(tokens / group.sources.size());
}

/// One group's documents as ids, and as samples.
struct GroupText {
  TokenStream stream;
  DocumentLooks looks;
  Cut cut;
  std::vector<DataSource> sources;  // as they were read; all of the set's
};

/// With options.heads longer and longer ones, until there are enough samples or nothing is left.
GroupText read_group(const Group& group, const std::vector<DataSource>& sources, const SampleOptions& options,
                     const Encoder& encoder, uint64_t most_bytes, CalibrationSet& set) {
  for (uint64_t head = options.heads ? first_head(group, options) : 0;; head *= 2) {
    GroupText text{stream_for(group, options, most_bytes), {}, {}, sources};
    bool whole = true;
    for (const size_t i : group.sources) {
      check_rows_stay_whole(sources[i], options.packing);
      text.sources[i].head = head;
      set.sources[i] = read_source(text.sources[i], i, options, encoder, text.stream, text.looks);
      whole = whole && set.sources[i].read == 1;
    }
    text.cut = cut_samples(text.stream, options.packing, options.seq_len);
    if (whole || std::cmp_greater_equal(text.cut.samples.size(), group.samples)) return text;
  }
}

/// Reads the group again for the chosen samples, whose ids were let go, and makes them name places in what is
/// kept now.
TokenStream read_chosen(const Group& group, const std::vector<DataSource>& sources, const Encoder& encoder,
                        const TokenStream& counted, std::span<Chosen> chosen) {
  TokenStream stream;
  for (const Chosen& sample : chosen) stream.only.push_back({sample.begin, sample.begin + sample.length});
  for (const size_t i : group.sources) append(sources[i], i, encoder, stream, nullptr);
  if (stream.size != counted.size) {
    user_error("{}: had {} tokens, and has {} now; it was changed while it was read, so run again",
               names_of(group, sources), counted.size, stream.size);
  }
  int64_t begin = 0;
  for (Chosen& sample : chosen) {
    sample.begin = begin;
    begin += sample.length;
  }
  return stream;
}

/// Bytes of the ids that come into samples, in a stream and in the set, with weights.
uint64_t sample_bytes(const SampleOptions& options) {
  return static_cast<uint64_t>(options.samples) * static_cast<uint64_t>(options.seq_len) *
         (sizeof(int32_t) + sizeof(int64_t) + 2 * sizeof(float));
}

void check_bos(const SampleOptions& options, const Encoder& encoder) {
  if (!options.bos) return;
  LATHE_ASSERT(options.seq_len >= 2, "samples of BOS and nothing else");
  if (encoder.vocab_size == 0 || *options.bos < encoder.vocab_size) return;
  user_error(
      "the tokenizer's BOS is token {}, but the model's vocab_size is {}; set calibration.bos to never",
      *options.bos, encoder.vocab_size);
}

/// As wide as the longest sample: padding that no sample needs costs time in every block.
void fill(const std::vector<Chosen>& chosen, int64_t bos, CalibrationSet& set) {
  int64_t width = 0;
  bool ragged = false;
  for (const Chosen& sample : chosen) {
    ragged = ragged || (width != 0 && sample.tokens() != width);
    width = std::max(width, sample.tokens());
  }
  set.ids = at::zeros({static_cast<int64_t>(chosen.size()), width}, at::kLong);
  int64_t* row = set.ids.data_ptr<int64_t>();
  for (const Chosen& sample : chosen) {
    if (sample.bos) row[0] = bos;
    std::copy_n(sample.stream->ids.begin() + sample.begin, sample.length, row + (sample.bos ? 1 : 0));
    row += width;
    if (ragged) set.lengths.push_back(sample.tokens());
  }
}

/// Pre-tokenised data has no text to look at but what its ids stand for: the first of each sample.
void look_at_ids(const std::vector<Chosen>& chosen, const Encoder& encoder, DocumentCensus& census) {
  if (encoder.tokenizer == nullptr) return;
  const int64_t most = std::max<int64_t>(DocumentCensus::kIdsLookedAt / std::ssize(chosen), 1);
  std::vector<int64_t> ids;
  for (const Chosen& sample : chosen) {
    int64_t left = most;
    for (const TokenStream::Range& part : sample.from_ids) {
      const int64_t count = std::min(part.end - part.begin, left);
      const auto first = sample.stream->ids.begin() + sample.begin + part.begin;
      ids.insert(ids.end(), first, first + count);
      left -= count;
    }
  }
  if (!ids.empty()) census.add_ids(ids, *encoder.tokenizer);
}

/// BOS weighs as much as what it stands in front of.
void fill_weights(const std::vector<Chosen>& chosen, CalibrationSet& set) {
  if (std::ranges::none_of(chosen, &Chosen::weighted)) return;
  set.token_weights = at::ones_like(set.ids, at::kFloat);
  float* row = set.token_weights.data_ptr<float>();
  for (const Chosen& sample : chosen) {
    if (sample.weighted()) {
      const auto weights = sample.stream->weights.begin() + sample.begin;
      row[0] = *weights;
      std::copy_n(weights, sample.length, row + (sample.bos ? 1 : 0));
    }
    row += set.ids.size(1);
  }
  if (set.tokens() == 0) {
    user_error(
        "{}: no token counts: all {} of the {} samples have weight 0; raise calibration.samples, or take "
        "data with other token_weights",
        set.sources.front().path, set.context_tokens(), set.ids.size(0));
  }
}

}  // namespace

bool CalibrationSet::whole() const {
  return std::ranges::all_of(sources, [](const SourceCounts& source) { return source.read == 1; });
}

int64_t CalibrationSet::tokens() const {
  const int64_t all =
      lengths.empty() ? ids.numel() : std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  return all - context_tokens();
}

int64_t CalibrationSet::context_tokens() const {
  if (!token_weights.defined()) return 0;
  return (token_weights == 0).sum().item<int64_t>();  // padding has weight 1
}

CalibrationSet build_calibration_set(const std::vector<DataSource>& sources, const SampleOptions& options,
                                     const Encoder& encoder) {
  LATHE_ASSERT(options.samples >= 1 && options.seq_len >= 1 && encoder.min_tokens >= 1,
               "{} samples of {} tokens", options.samples, options.seq_len);
  check_bos(options, encoder);
  if (sources.empty()) user_error("no calibration data; name at least one file");
  for (const DataSource& source : sources) kind_of(source);  // a bad name is known before anything is read
  CalibrationSet set;
  std::vector<TokenStream> streams;
  std::vector<Chosen> chosen;
  set.sources.resize(sources.size());
  const std::vector<Group> groups = group_sources(sources, options.samples);
  streams.reserve(groups.size());  // `chosen` points to them
  const uint64_t left = check_reading(sources, encoder, sample_bytes(options));
  for (size_t g = 0; g < groups.size(); ++g) {
    GroupText text = read_group(groups[g], sources, options, encoder, left / groups.size(), set);
    TokenStream& stream = streams.emplace_back(std::move(text.stream));
    check_enough(groups[g], sources, static_cast<int64_t>(text.cut.samples.size()), options);
    const size_t others = chosen.size();
    choose(groups[g], text.cut, seed_of_source(options.seed, g), stream, text.looks, set, chosen);
    if (stream.let_go && chosen.size() > others)
      stream = read_chosen(groups[g], text.sources, encoder, stream, std::span(chosen).subspan(others));
    for (const size_t i : groups[g].sources) extrapolate(sources[i], options.packing, set.sources[i]);
  }
  set.usable = 0;
  for (const SourceCounts& source : set.sources) set.usable += source.usable;
  fill(chosen, options.bos.value_or(0), set);
  fill_weights(chosen, set);
  look_at_ids(chosen, encoder, set.census);
  return set;
}

std::string ids_hash(const at::Tensor& ids, const std::vector<int64_t>& lengths,
                     const at::Tensor& token_weights) {
  static_assert(std::endian::native == std::endian::little, "the hash is over little-endian bytes");
  LATHE_ASSERT(ids.scalar_type() == at::kLong, "token ids are Long");
  const auto as_bytes = [](const at::Tensor& t) { return t.contiguous().cpu().view({-1}).view(at::kByte); };
  std::vector<at::Tensor> parts = {as_bytes(ids)};
  if (!lengths.empty()) parts.push_back(as_bytes(at::tensor(lengths, at::kLong)));
  if (token_weights.defined()) parts.push_back(as_bytes(token_weights));
  return content_hash(bytes_of(parts.size() == 1 ? parts[0] : at::cat(parts)));
}

}  // namespace lathe
