#include "calib/data/reading_limit.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "calib/data/readers.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kLeastAdded = 16 * kMiB;

ReadingNeed need_of(const DataSource& source, const Tokenizer& tokenizer) {
  switch (kind_of(source)) {
    case DataKind::text:
      return need_of_text(source, tokenizer);
    case DataKind::json_lines:
      return need_of_json_lines(source, tokenizer);
    case DataKind::parquet:
      return need_of_parquet(source, tokenizer);
    case DataKind::npy:
      return need_of_npy(source);
    case DataKind::safetensors:
      return need_of_safetensors(source);
  }
  internal_error("a kind of data without a need");
}

/// By which a process is larger one time than another: code that is mapped in, heaps of threads.
constexpr uint64_t kStep = 4 * kMiB;

/// A limit that `bytes` stay within: a step above them, in whole MiB, so that what is printed can be given
/// back.
std::string limit_above(uint64_t bytes) {
  bytes += kStep;
  return fmt::format("{} MiB", (bytes + kMiB - 1) / kMiB);
}

}  // namespace

uint64_t check_reading(std::span<const DataSource> sources, const Encoder& encoder, uint64_t kept) {
  if (encoder.max_ram == 0) return std::numeric_limits<uint64_t>::max();
  ReadingNeed worst;
  const DataSource* of = nullptr;
  for (const DataSource& source : sources) {
    const ReadingNeed need = need_of(source, *encoder.tokenizer);
    if (of != nullptr && need.most <= worst.most) continue;
    worst = need;
    of = &source;
  }
  const uint64_t before = peak_rss_bytes();  // Arrow is loaded by now, where it is needed
  if (of != nullptr && worst.least >= kLeastAdded && before + worst.least + kept > encoder.max_ram) {
    user_error(
        "{}: --max-ram (limits.ram) is {}, and to read {} takes {} at most; raise the limit to that, or {}",
        of->path.string(), human_bytes(encoder.max_ram), worst.what, limit_above(before + worst.most + kept),
        worst.remedy);
  }
  return encoder.max_ram - std::min(encoder.max_ram, before + worst.most + kept);
}

ReadingLimit::ReadingLimit(const DataSource& source, const Encoder& encoder, bool keeps_all)
    : source_(source),
      encoder_(encoder),
      keeps_all_(keeps_all),
      before_(encoder.max_ram > 0 ? peak_rss_bytes() : 0) {}

void ReadingLimit::check() const {
  if (encoder_.max_ram == 0) return;
  const uint64_t reached = peak_rss_bytes();
  if (reached <= encoder_.max_ram || reached < before_ + kLeastAdded) return;
  const ReadingNeed need = need_of(source_, *encoder_.tokenizer);
  const uint64_t ids = keeps_all_ ? need.ids * (sizeof(int32_t) + sizeof(int64_t)) : 0;  // and as rows
  user_error("{}: --max-ram (limits.ram) is {}, and reading {} took {} so far; {} surely do, or {}",
             source_.path.string(), human_bytes(encoder_.max_ram), need.what, human_bytes(reached),
             limit_above(std::max(reached, before_ + need.most + ids)), need.remedy);
}

}  // namespace lathe
