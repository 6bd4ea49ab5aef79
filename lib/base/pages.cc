#include "lib/base/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace lathe {

void use_small_pages(void* data, std::size_t bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(data), end = (begin + bytes) / page * page,
             first = (begin + page - 1) / page * page;
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_NOHUGEPAGE);
}

}  // namespace lathe
