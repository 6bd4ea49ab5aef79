// Activations of all samples, wherever there is room for them: on the compute device, in host memory, or in a
// file.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "lib/activations/memory_budget.h"
#include "lib/activations/rows.h"
#include "lib/base/scratch_file.h"

namespace lathe {

enum class Placement { device, host, disk };
/// "device", "host", "disk".
std::string_view name_of(Placement placement);

/// Where hidden states of all samples stand. Results are the same bytes whatever is said here.
struct HiddenStorage {
  Placement placement = Placement::device;
  int64_t transfer_rows = 0;   // samples moved at a time where they don't stand on the device; 0: one chunk
  std::filesystem::path work;  // an existing folder, for what is placed on disk
};

/// What a store is made of. `width` is the widest that set_width() will ask for.
struct StoreSpec {
  Placement placement = Placement::device;
  int64_t rows = 0, length = 0, width = 0;
  c10::ScalarType dtype = c10::ScalarType::Float;
  c10::Device device = c10::Device(c10::kCPU);  // where readers want the values
  std::filesystem::path work;                   // an existing folder; only for disk
  /// Rows moved at a time between the store and the device (the micro-batch): few and large transfers,
  /// in order. Values never depend on it.
  int64_t transfer_rows = 1;
};

/// Values [rows, length, width], contents undefined until written. Readers walk through the rows in order;
/// what they see is the same bits for every placement and transfer size. On a GPU, copies between host memory
/// and the device are queued on the current stream and nothing waits for them; a disk placement waits for its
/// own copies only.
class ActivationStore {
 public:
  explicit ActivationStore(const StoreSpec& spec);

  int64_t rows() const { return spec_.rows; }
  int64_t length() const { return spec_.length; }
  int64_t width() const { return width_; }

  /// Starts over with values of another width (at most the spec's), undefined until written.
  void set_width(int64_t width);
  /// [count, length, width] on the device: valid, and equal to what stands in the store, until the next call.
  at::Tensor read(RowRange rows);
  /// Takes values of that shape, of any float dtype. They may be (a change in place of) what read() gave.
  void write(RowRange rows, const at::Tensor& values);

 private:
  /// The tensor that `rows` stand in, as [count, length, width]: of all values, or of the window.
  at::Tensor slice(const at::Tensor& flat, int64_t base, RowRange rows) const;
  /// Do readers see the values where they are stored?
  bool direct() const { return values_.defined() && !window_.defined(); }
  /// The rows that are moved together with `row`.
  RowRange window_at(int64_t row) const;
  void fetch(RowRange rows);
  void write_back();

  StoreSpec spec_;
  int64_t width_ = 0;
  at::Tensor values_;                // device or host: flat, all rows
  std::optional<ScratchFile> file_;  // disk
  at::Tensor window_;                // host of a GPU, disk: flat, transfer_rows on the device
  at::Tensor staging_;               // disk of a GPU: the window in pinned host memory
  int64_t base_ = 0;                 // the row at the window's start
  RowRange held_;                    // the rows that the window holds
  bool changed_ = false;             // they differ from what stands in the store
};

/// The spec of a store for all `samples` of `length` tokens, FP32; transfers are rounded to whole chunks.
StoreSpec store_spec(const HiddenStorage& storage, int64_t samples, int64_t length, int64_t width,
                     c10::Device device);

/// Rows for HiddenStorage::transfer_rows that make transfers of about 8 MiB (whole chunks, at least one):
/// large enough for a disk or a bus to run at its rate, small beside everything else.
int64_t large_transfer(int64_t length, int64_t width, c10::Device device);

/// What a store of this spec takes.
MemoryBytes bytes_of_store(const StoreSpec& spec);

}  // namespace lathe
