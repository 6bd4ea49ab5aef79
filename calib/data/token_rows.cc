#include "calib/data/token_rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>

#include "calib/data/documents.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

void check_ids(const std::vector<int64_t>& ids, int64_t vocab_size, const std::string& place) {
  if (vocab_size == 0) return;
  const auto bad =
      std::find_if(ids.begin(), ids.end(), [&](int64_t id) { return id < 0 || id >= vocab_size; });
  if (bad == ids.end()) return;
  user_error(
      "{}: the tokenizer gives token id {}, but the model's vocab_size is {}; the tokenizer belongs to "
      "another model",
      place, *bad, vocab_size);
}

/// SplitMix64 (Steele, Lea, Flood 2014): the standard library's distributions differ from one library to the
/// next, and a seed must name the same rows everywhere.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, bound), bound >= 1; draws that would favour small values are thrown away.
  uint64_t below(uint64_t bound) {
    const uint64_t threshold = (0 - bound) % bound;  // 2^64 mod bound
    uint64_t draw = next();
    while (draw < threshold) draw = next();
    return draw % bound;
  }

 private:
  uint64_t state_;
};

/// `samples` different numbers in [0, count), ascending: a Fisher-Yates shuffle stopped after `samples`
/// steps.
std::vector<int64_t> draw_rows(int64_t count, int64_t samples, uint64_t seed) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) order[static_cast<size_t>(i)] = i;
  SplitMix64 random(seed);
  for (int64_t i = 0; i < samples; ++i) {
    const auto j = i + static_cast<int64_t>(random.below(static_cast<uint64_t>(count - i)));
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(j)]);
  }
  order.resize(static_cast<size_t>(samples));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

at::Tensor token_rows(const std::vector<DataSource>& sources, const Tokenizer& tokenizer, int64_t length,
                      RowCounts& counts, int64_t vocab_size) {
  LATHE_ASSERT(length >= 1, "rows of {} tokens", length);
  if (sources.empty()) user_error("no text to read; name at least one .txt or .jsonl file");
  for (const DataSource& source : sources) check_text_kind(source);
  counts = {};
  std::vector<int64_t> ids;
  for (const DataSource& source : sources) {
    for_each_document(source, [&](std::string_view document, const std::string& place) {
      throw_if_cancelled();
      const std::vector<int64_t> part = tokenizer.encode(document, /*add_special_tokens=*/false);
      check_ids(part, vocab_size, place);
      ids.insert(ids.end(), part.begin(), part.end());
      ++counts.documents;
    });
  }
  if (ids.empty()) user_error("{}: the text gives no tokens; expected text", sources.front().path.string());
  counts.tokens = static_cast<int64_t>(ids.size());
  counts.rows = counts.tokens / length;
  counts.unused_tokens = counts.tokens % length;
  return at::from_blob(ids.data(), {counts.rows, length}, at::kLong).clone();
}

at::Tensor sample_rows(const at::Tensor& rows, int64_t samples, uint64_t seed) {
  LATHE_ASSERT(samples >= 1, "{} samples", samples);
  LATHE_ASSERT(rows.dim() == 2 && rows.scalar_type() == at::kLong,
               "rows of token ids are Long [rows, length]");
  const int64_t usable = rows.size(0), length = rows.size(1), lacking = samples - usable;
  if (lacking > 0) {
    user_error(
        "too little text: {} samples of {} tokens were asked for, the data gives {}; add text for {} more "
        "({} tokens) or {}",
        samples, length, usable, lacking, lacking * length,
        usable > 0 ? fmt::format("ask for {} or fewer", usable) : std::string("ask for shorter samples"));
  }
  if (seed == 0 || lacking == 0) return rows.narrow(0, 0, samples).clone();
  return rows.index_select(0, at::tensor(draw_rows(usable, samples, seed), at::kLong));
}

std::string ids_hash(const at::Tensor& ids) {
  static_assert(std::endian::native == std::endian::little, "the hash is over little-endian bytes");
  LATHE_ASSERT(ids.scalar_type() == at::kLong, "token ids are Long");
  const at::Tensor flat = ids.contiguous().cpu();
  return content_hash(bytes_of(flat));
}

}  // namespace lathe
