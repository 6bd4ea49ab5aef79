// What the layouts have in common: columns in the order of their groups, parameters transposed to
// [groups, out], and what a kernel for integer weights takes at all.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "formats/layouts/layout.h"

namespace lathe::layouts {

/// Bits and group sizes that a kernel has been compiled for.
struct KernelGrids {
  const char* kernel;                // "Marlin", for messages
  std::vector<int> symmetric_bits;   // without zero points
  std::vector<int> asymmetric_bits;  // with
  std::vector<int64_t> group_sizes;  // -1: one group a row; empty: any
  std::vector<DType> scale_types = {DType::F16, DType::BF16};
  bool act_order = true;  // takes columns in an order of their own
};
/// Why not ("Marlin takes 4 or 8 bits ..."), for what has nothing to do with shapes.
std::optional<std::string> grid_problem(const PlannedLinear& linear, const KernelGrids& grids);
/// "Machete: 172 input features are not a multiple of 64 (rule)"; nothing where they are.
std::optional<std::string> shape_problem(const char* kernel, const char* side, int64_t size, int64_t multiple,
                                         const char* rule);

/// Long [in]: the weight's column that stands at each place: those of group 0, then group 1, ..., ascending.
at::Tensor column_order(const QuantizedTensor& tensor);
/// Char [out, in], contiguous: the columns in that order.
at::Tensor ordered_codes(const QuantizedTensor& tensor);
/// The inverse: the codes and, where `order` (Int [in]) is defined, the group_index that it stands for.
void restore_columns(QuantizedTensor& tensor, const at::Tensor& ordered, const at::Tensor& order);

/// Scales in the type they are stored in, [groups, out].
at::Tensor scales_by_group(const PlannedLinear& linear, const QuantizedTensor& tensor);
/// Zero points counted from the grid's lowest code, Byte [groups, out]; symmetric grids have theirs in the
/// middle.
at::Tensor zeros_by_group(const QuantizedTensor& tensor);
/// The inverses: Float [out, groups], and Char [out, groups] from [groups, out].
at::Tensor scales_from_groups(const at::Tensor& scales);
at::Tensor zeros_from_groups(const Scheme& scheme, const at::Tensor& zeros);

/// -scale * (zero + offset) in the scales' type, [groups, out], rounded once; and the zero back from it,
/// Byte. How kernels that compute q * scale + this take zero points. UserError where a product leaves the
/// type.
at::Tensor scaled_zeros(const at::Tensor& scales, const at::Tensor& zeros, int64_t offset);
at::Tensor zeros_of_scaled(const at::Tensor& scales, const at::Tensor& scaled, int64_t offset);

/// Why zero points wouldn't come back from these products; nothing if they do.
std::optional<std::string> scaled_zeros_problem(const char* kernel, const PlannedLinear& linear);

/// "g_idx_sort_indices" Int [in] beside `prefix`, where the columns have an order of their own.
PlannedTensor order_tensor(const PlannedLinear& linear);

/// shape, stored_shape and order of columns.
nlohmann::json common_notes(const PlannedLinear& linear, int64_t stored_out, int64_t stored_in);

}  // namespace lathe::layouts
