#include "calib/data/reading_limit.h"

#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/base/strings.h"

namespace lathe {

constexpr uint64_t kLeastAdded = uint64_t{16} << 20;

ReadingLimit::ReadingLimit(uint64_t max_ram, const std::filesystem::path& file)
    : max_ram_(max_ram), before_(max_ram > 0 ? peak_rss_bytes() : 0), file_(file) {}

void ReadingLimit::check() const {
  if (max_ram_ == 0) return;
  const uint64_t reached = peak_rss_bytes();
  if (reached <= max_ram_ || reached < before_ + kLeastAdded) return;
  std::error_code ignored;
  user_error(
      "{}: --max-ram (limits.ram) is {}, and reading this file of {} took {}; split it and name a part, or "
      "raise the limit",
      file_.string(), human_bytes(max_ram_), human_bytes(std::filesystem::file_size(file_, ignored)),
      human_bytes(reached));
}

}  // namespace lathe
