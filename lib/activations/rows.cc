#include "lib/activations/rows.h"

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr int64_t kCpuChunkTokens = 1024;
/// A GPU needs larger products to be busy, and more of them between two launches.
constexpr int64_t kGpuChunkTokens = 8192;

}  // namespace

int64_t chunk_rows(int64_t length, c10::Device device) {
  LATHE_ASSERT(length > 0, "samples of {} tokens", length);
  const int64_t tokens = device.is_cpu() ? kCpuChunkTokens : kGpuChunkTokens;
  return std::max<int64_t>(1, tokens / length);
}

std::vector<int64_t> micro_batches(int64_t length, c10::Device device) {
  const int64_t whole = chunk_rows(length, device);
  std::vector<int64_t> sizes = {whole};
  while (sizes.back() > 1) {
    int64_t next = sizes.back() / 2;
    while (whole % next != 0) --next;
    sizes.push_back(next);
  }
  return sizes;
}

std::vector<RowRange> cut_rows(int64_t rows, int64_t step) {
  LATHE_ASSERT(step > 0, "cut_rows: steps of {}", step);
  std::vector<RowRange> pieces;
  for (int64_t first = 0; first < rows; first += step) {
    pieces.push_back({first, std::min(step, rows - first)});
  }
  return pieces;
}

}  // namespace lathe
