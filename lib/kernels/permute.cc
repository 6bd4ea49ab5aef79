#include "lib/kernels/permute.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "lib/base/error.h"

namespace lathe::kernels {
namespace {

constexpr int64_t kGrainElements = 1 << 15;

template <class Element>
void gather(const Element* from, const int64_t* order, int64_t count, Element* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[order[i]];
}

/// Calls f with a null pointer to an unsigned integer of an element's size: a permutation looks at no value.
template <class F>
void with_element(const at::Tensor& matrix, F&& f) {
  switch (matrix.element_size()) {
    case 1:
      return f(static_cast<uint8_t*>(nullptr));
    case 2:
      return f(static_cast<uint16_t*>(nullptr));
    case 4:
      return f(static_cast<uint32_t*>(nullptr));
    default:
      LATHE_ASSERT(matrix.element_size() == 8, "elements of {} bytes", matrix.element_size());
      return f(static_cast<uint64_t*>(nullptr));
  }
}

template <class F>
void for_rows(int64_t rows, int64_t columns, F&& f) {
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, columns)), f);
}

/// Row k becomes row order[k], cycle by cycle.
template <class RowAt>
void move_rows(const int64_t* order, int64_t rows, const RowAt& row_at, size_t bytes) {
  std::vector<bool> moved(static_cast<size_t>(rows), false);
  std::vector<std::byte> first(bytes);
  for (int64_t start = 0; start < rows; ++start) {
    if (moved[static_cast<size_t>(start)]) continue;
    std::memcpy(first.data(), row_at(start), bytes);
    int64_t row = start;
    for (int64_t from = order[row]; from != start; row = from, from = order[row]) {
      std::memcpy(row_at(row), row_at(from), bytes);
      moved[static_cast<size_t>(row)] = true;
    }
    std::memcpy(row_at(row), first.data(), bytes);
    moved[static_cast<size_t>(row)] = true;
  }
}

}  // namespace

void permute_columns(const at::Tensor& matrix, const at::Tensor& order) {
  const int64_t columns = matrix.size(1);
  LATHE_ASSERT(matrix.is_contiguous() && order.is_contiguous() && order.numel() == columns,
               "{} columns in an order of {}", columns, order.numel());
  if (!matrix.is_cpu()) {
    matrix.copy_(matrix.index_select(1, order));
    return;
  }
  const auto* const places = order.const_data_ptr<int64_t>();
  with_element(matrix, [&](auto* type) {
    using Element = std::remove_pointer_t<decltype(type)>;
    auto* const data = static_cast<Element*>(matrix.mutable_data_ptr());
    for_rows(matrix.size(0), columns, [&](int64_t begin, int64_t end) {
      std::vector<Element> before(static_cast<size_t>(columns));
      for (int64_t row = begin; row < end; ++row) {
        std::copy_n(data + row * columns, columns, before.data());
        gather(before.data(), places, columns, data + row * columns);
      }
    });
  });
}

at::Tensor permuted_both_ways(const at::Tensor& matrix, const at::Tensor& order) {
  const int64_t n = matrix.size(0), stride = matrix.stride(0);
  LATHE_ASSERT(matrix.size(1) == n && matrix.stride(1) == 1 && order.is_contiguous() && order.numel() == n,
               "a {} x {} matrix in an order of {}", n, matrix.size(1), order.numel());
  if (!matrix.is_cpu()) return matrix.index_select(0, order).index_select(1, order);
  at::Tensor out = at::empty({n, n}, matrix.options());
  const auto* const places = order.const_data_ptr<int64_t>();
  with_element(matrix, [&](auto* type) {
    using Element = std::remove_pointer_t<decltype(type)>;
    const auto* const from = static_cast<const Element*>(matrix.const_data_ptr());
    auto* const to = static_cast<Element*>(out.mutable_data_ptr());
    for_rows(n, n, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        gather(from + places[row] * stride, places, n, to + row * n);
    });
  });
  return out;
}

void permute_both_ways(const at::Tensor& matrix, const at::Tensor& order) {
  LATHE_ASSERT(matrix.size(0) == matrix.size(1), "a {} x {} matrix permuted both ways", matrix.size(0),
               matrix.size(1));
  permute_columns(matrix, order);
  if (!matrix.is_cpu()) {
    matrix.copy_(matrix.index_select(0, order));
    return;
  }
  const size_t bytes = static_cast<size_t>(matrix.size(1) * matrix.element_size());
  auto* const data = static_cast<std::byte*>(matrix.mutable_data_ptr());
  const auto row = [&](int64_t index) { return data + static_cast<size_t>(index) * bytes; };
  move_rows(order.const_data_ptr<int64_t>(), matrix.size(0), row, bytes);
}

}  // namespace lathe::kernels
