#include "lib/tensor/triangle_file.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

/// Rows of a panel: some MiB of a wide matrix, a part of the file that is hardly more than the triangle.
constexpr int64_t kPanel = 128;

/// Values in the panels before the one that begins with row `panel`.
int64_t values_before(int64_t panel, int64_t size) {
  const int64_t count = panel / kPanel;
  return kPanel * (count * size - kPanel * count * (count - 1) / 2);
}

uint64_t bytes_in(int64_t values) { return static_cast<uint64_t>(values) * sizeof(float); }

template <class F>
void for_panels(int64_t size, F&& f) {
  for (int64_t first = 0; first < size; first += kPanel) {
    throw_if_cancelled();
    f(first, std::min(size, first + kPanel));
  }
}

}  // namespace

TriangleFile::TriangleFile(const at::Tensor& matrix, const std::filesystem::path& folder)
    : size_(matrix.size(0)), file_(folder, bytes(size_)) {
  LATHE_ASSERT(
      matrix.dim() == 2 && matrix.size(1) == size_ && matrix.is_cpu() && matrix.scalar_type() == at::kFloat,
      "a triangle's file of a matrix that is not square and Float on the CPU");
  for_panels(size_, [&](int64_t first, int64_t end) {
    const at::Tensor panel = matrix.slice(0, first, end).slice(1, first).contiguous();
    file_.write(bytes_in(values_before(first, size_)), bytes_of(panel));
  });
}

void TriangleFile::read(const at::Tensor& matrix) const {
  for_panels(size_, [&](int64_t first, int64_t end) {
    const at::Tensor panel = read_rows(first, end, first);
    matrix.slice(0, first).slice(1, first, end).copy_(panel.t());
    matrix.slice(0, first, end).slice(1, first).copy_(panel);
  });
}

at::Tensor TriangleFile::rows(int64_t first, int64_t end) const {
  LATHE_ASSERT(0 <= first && first < end && end <= size_, "rows {} to {} of a triangle of {}", first, end,
               size_);
  at::Tensor result = at::empty({end - first, size_ - first}, at::kFloat);
  for (int64_t row = first; row < end;) {
    const int64_t panel = row / kPanel * kPanel, next = std::min(end, panel + kPanel);
    const at::Tensor part = read_rows(row, next, panel);
    const at::Tensor place = result.slice(0, row - first, next - first);
    const int64_t begin = std::max(first, panel);  // before it, this panel is another's mirror image
    place.slice(1, begin - first).copy_(part.slice(1, begin - panel));
    if (begin > first)
      place.slice(1, 0, begin - first)
          .copy_(result.slice(0, 0, begin - first).slice(1, row - first, next - first).t());
    row = next;
  }
  return result;
}

/// Rows of one panel, from its first column on.
at::Tensor TriangleFile::read_rows(int64_t first, int64_t end, int64_t panel) const {
  const int64_t width = size_ - panel;
  at::Tensor values = at::empty({end - first, width}, at::kFloat);
  file_.read(bytes_in(values_before(panel, size_) + (first - panel) * width),
             std::as_writable_bytes(
                 std::span(values.mutable_data_ptr<float>(), static_cast<size_t>(values.numel()))));
  return values;
}

uint64_t TriangleFile::bytes(int64_t size) {
  const int64_t last = (size - 1) / kPanel * kPanel;
  return bytes_in(values_before(last, size) + (size - last) * (size - last));
}

uint64_t TriangleFile::buffer_bytes(int64_t size) { return bytes_in(std::min(size, kPanel) * size); }

}  // namespace lathe
