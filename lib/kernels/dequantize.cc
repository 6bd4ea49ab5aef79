// Checks, allocation and dispatch; the loops are in dequantize_cpu.cc and cuda/dequantize_cuda.cu.
#include "lib/kernels/dequantize.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/dequantize_rows.h"
#include "lib/kernels/group_grid.h"
#include "lib/numeric/hadamard.h"

namespace lathe::kernels {
namespace {

/// Groups lie one after the other, all of one length. The reference's part: columns that group_index
/// scatters, groups along columns, blocks that a row's end cuts.
bool lies_in_groups(const QuantizedTensor& tensor) {
  const Scheme& scheme = tensor.scheme;
  return !scheme.has_values() && scheme.axis == 1 && !tensor.group_index.defined() && tensor.cols() > 0 &&
         scheme.divides(tensor.cols());
}

/// One row of parameters (FP32, contiguous) for each of rows [begin, end).
at::Tensor rows_of(const at::Tensor& params, const Scheme& scheme, int64_t begin, int64_t end) {
  if (!params.defined()) return params;
  at::Tensor rows;
  if (scheme.per_tensor()) {
    rows = params.expand({end - begin, params.size(1)});
  } else if (scheme.shares_rows()) {
    const at::Tensor places = at::arange(begin, end, params.options().dtype(at::kLong));
    rows = params.index_select(0, places.div_(scheme.rows, "floor"));
  } else {
    rows = params.slice(0, begin, end);
  }
  return rows.to(at::kFloat).contiguous();
}

/// What the loops read; holds it while they do.
struct Inputs {
  at::Tensor codes, scales, zeros, global;
};

Inputs inputs_of(const QuantizedTensor& tensor, int64_t begin, int64_t end) {
  Inputs in{tensor.codes.slice(0, begin, end).contiguous(),
            rows_of(tensor.scales, tensor.scheme, begin, end),
            rows_of(tensor.zero_points, tensor.scheme, begin, end),
            {}};
  if (tensor.global_scale.defined()) in.global = tensor.global_scale.to(in.codes.device(), at::kFloat);
  const auto device = in.codes.device();
  LATHE_ASSERT(in.codes.scalar_type() == at::kChar && (device.is_cpu() || device.is_cuda()),
               "dequantize: {} codes on {}", c10::toString(in.codes.scalar_type()), device.str());
  const std::vector<int64_t> shape = {end - begin, tensor.scheme.groups(tensor.cols())};
  for (const at::Tensor& params : {in.scales, in.zeros}) {
    LATHE_ASSERT(!params.defined() || (params.sizes() == shape && params.device() == device),
                 "dequantize: parameters of another shape or device than {}'s", tensor.scheme.describe());
  }
  return in;
}

}  // namespace

at::Tensor dequantize_rows(const QuantizedTensor& tensor, int64_t begin, int64_t end) {
  LATHE_ASSERT(0 <= begin && begin <= end && end <= tensor.rows(), "dequantize: rows {} to {} of {}", begin,
               end, tensor.rows());
  if (!lies_in_groups(tensor)) return tensor.dequantize_rows(begin, end);
  const Inputs in = inputs_of(tensor, begin, end);
  const GroupLayout layout{in.scales.numel(), tensor.scheme.group_length(tensor.cols())};
  const auto data = [](const at::Tensor& part) {
    return part.defined() ? part.const_data_ptr<float>() : nullptr;
  };
  CodeParams params{{}, data(in.scales), data(in.zeros), data(in.global)};
  if (const FloatGridType* const grid = tensor.scheme.float_grid())
    params.number = minifloat_of(grid->number);
  at::Tensor values = at::empty(in.codes.sizes(), in.scales.options());
  const auto* const codes = in.codes.const_data_ptr<int8_t>();
  if (values.is_cpu()) {
    cpu::dequantize(layout, params, codes, values.data_ptr<float>());
  } else {
    const c10::DeviceGuard guard(values.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(
        cuda.dequantize(current_queue(values.device()), layout, params, codes, values.data_ptr<float>()),
        "dequantize");
  }
  if (tensor.outliers) tensor.outliers->rows(begin, end).add_to(values);
  return values;
}

at::Tensor dequantize(const QuantizedTensor& tensor) { return dequantize_rows(tensor, 0, tensor.rows()); }

at::Tensor dequantized_weight(const QuantizedTensor& tensor) {
  const int64_t block = tensor.scheme.hadamard;
  if (block == 0) return dequantize(tensor);
  if (tensor.scheme.has_values()) return hadamard_blocks(tensor.values, block);  // its own
  return hadamard_blocks_of(dequantize(tensor).contiguous(), block);
}

MatrixRows dequantized_rows(const QuantizedTensor& tensor) {
  return [&tensor](int64_t begin, int64_t end) { return dequantize_rows(tensor, begin, end); };
}

}  // namespace lathe::kernels
