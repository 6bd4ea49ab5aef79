#include "formats/targets/float_reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {

namespace {

/// Values that are converted at a time, so that the file's pages don't stand in memory beside the whole copy.
constexpr int64_t kPieceValues = int64_t{1} << 22;
/// Rows of an embedding that are looked up at a time: each brings up to kMappedTogether of the file along.
constexpr int64_t kPieceRows = 8;

/// The tensor's bytes as they stand in the file; UserError for a dtype that is no floating-point weight's.
at::Tensor stored_values(const Checkpoint& checkpoint, const std::string& name) {
  const TensorView view = checkpoint.view(name);
  const DType dtype = view.info.dtype;
  if (dtype != DType::F16 && dtype != DType::BF16 && dtype != DType::F32) {
    user_error("{}: expected F16, BF16 or F32, found {}; convert the checkpoint to one of them",
               describe_tensor(checkpoint, name), name_of(dtype));
  }
  return borrow(view);
}

[[noreturn]] void refuse_not_finite(const Checkpoint& checkpoint, const std::string& name,
                                    const std::string& index, float value) {
  user_error(
      "{}: the value at {} is {}; the checkpoint is damaged or overflowed its dtype: fetch or make it again",
      describe_tensor(checkpoint, name), index, std::isnan(value) ? "NaN" : "infinite");
}

/// A checked copy in dtype `type`, made piece by piece.
at::Tensor read_as(at::ScalarType type, const Checkpoint& checkpoint, const std::string& name,
                   const at::Tensor& stored) {
  const std::span<const std::byte> bytes = checkpoint.view(name).bytes;
  at::Tensor values = at::empty(stored.sizes(), type);
  const at::Tensor from = stored.view(-1), to = values.view(-1);
  bool finite = true;
  for (int64_t first = 0; first < from.numel(); first += kPieceValues) {
    const int64_t count = std::min(kPieceValues, from.numel() - first);
    at::Tensor piece = to.narrow(0, first, count);
    piece.copy_(from.narrow(0, first, count));
    checkpoint.release(name, bytes.subspan(static_cast<size_t>(first) * from.element_size(),
                                           static_cast<size_t>(count) * from.element_size()));
    finite = finite && all_finite(piece);
  }
  if (finite) return values;
  const at::Tensor bad = at::isfinite(values).logical_not();
  refuse_not_finite(checkpoint, name, first_index(bad), values.masked_select(bad)[0].item<float>());
}

}  // namespace

at::Tensor read_float_tensor(const Checkpoint& checkpoint, const std::string& name) {
  return read_as(at::kFloat, checkpoint, name, stored_values(checkpoint, name));
}

at::Tensor read_stored_tensor(const Checkpoint& checkpoint, const std::string& name) {
  const at::Tensor stored = stored_values(checkpoint, name);
  return read_as(stored.scalar_type(), checkpoint, name, stored);
}

void copy_mapped_rows(const at::Tensor& matrix, const at::Tensor& rows, const at::Tensor& values,
                      const std::function<void()>& release) {
  for (int64_t first = 0; first < rows.size(0); first += kPieceRows) {
    const int64_t count = std::min(kPieceRows, rows.size(0) - first);
    values.narrow(0, first, count).copy_(matrix.index_select(0, rows.narrow(0, first, count)));
    release();
  }
}

at::Tensor read_float_rows(const Checkpoint& checkpoint, const std::string& name, const at::Tensor& rows) {
  const at::Tensor stored = stored_values(checkpoint, name);
  at::Tensor values = at::empty({rows.size(0), stored.size(1)}, at::kFloat);
  copy_mapped_rows(stored, rows, values, [&] { checkpoint.release(name); });
  if (all_finite(values)) return values;
  const at::Tensor bad = at::isfinite(values).logical_not().nonzero();
  const int64_t row = bad[0][0].item<int64_t>(), column = bad[0][1].item<int64_t>();
  refuse_not_finite(checkpoint, name, describe_shape({rows[row].item<int64_t>(), column}),
                    values[row][column].item<float>());
}

std::string describe_tensor(const Checkpoint& checkpoint, const std::string& name) {
  return fmt::format("{}: tensor '{}'", (checkpoint.folder() / checkpoint.file_of(name)).string(), name);
}

std::string first_index(const at::Tensor& mask) {
  const int64_t flat = mask.flatten().to(at::kByte).argmax().item<int64_t>();
  std::vector<int64_t> index(static_cast<size_t>(mask.dim()));
  int64_t rest = flat;
  for (size_t axis = index.size(); axis-- > 0;) {
    index[axis] = rest % mask.size(static_cast<int64_t>(axis));
    rest /= mask.size(static_cast<int64_t>(axis));
  }
  return describe_shape(index);
}

}  // namespace lathe
