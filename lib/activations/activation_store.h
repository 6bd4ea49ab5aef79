// Activations of all samples, wherever there is room for them: on the compute device, in host memory, or in a
// file.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "lib/activations/memory_budget.h"
#include "lib/activations/rows.h"
#include "lib/base/scratch_file.h"
#include "lib/tensor/copy_engine.h"

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
/// what they see is the same bits for every placement and transfer size.
///
/// On a GPU, what does not stand on the device passes through two windows in turn: while the computation
/// works on one, the other's values go back to the store and the next ones come, each on a stream of its own,
/// ordered by events. Host memory is never waited for. Before a file is written the host waits for the window
/// before the one at work, never for the one it just left: the device has a window's work queued meanwhile.
class ActivationStore {
 public:
  explicit ActivationStore(const StoreSpec& spec);
  /// With copies of another make; values pass through two windows on any device unless they stand on it.
  ActivationStore(const StoreSpec& spec, std::unique_ptr<CopyEngine> copies);
  /// Waits for copies under way.
  ~ActivationStore();
  ActivationStore(const ActivationStore&) = delete;
  ActivationStore& operator=(const ActivationStore&) = delete;

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
  /// Rows that are on the device, and what is known of their copies (marks: null where there are none).
  struct Window {
    at::Tensor values;      // flat, transfer_rows
    at::Tensor pinned;      // disk of a GPU: the same in host memory
    int64_t base = 0;       // the row at its start
    RowRange held;          // the rows that it holds; none: anything may stand there
    bool changed = false;   // they differ from what stands in the store, or is on its way there
    CopyEngine::Mark left;  // the computation had turned to another window
    CopyEngine::Mark out;   // its values have left the device; a file has them only after settle()
    CopyEngine::Mark busy;  // no copy uses `pinned` any more
  };

  /// The tensor that `rows` stand in, as [count, length, width]: `flat` begins with row `base`.
  at::Tensor slice(const at::Tensor& flat, int64_t base, RowRange rows) const;
  /// Do readers see the values where they are stored?
  bool direct() const { return windows_.empty(); }
  /// All that is moved together with `rows`.
  RowRange transfer_of(RowRange rows) const;
  Window& turn_to(RowRange transfer);
  at::Tensor host_side(Window& window, RowRange rows);
  void leave(Window& window);
  void settle(Window& window);
  void fetch(Window& window, RowRange transfer);
  uint64_t offset_of(RowRange rows) const;

  StoreSpec spec_;
  int64_t width_ = 0;
  at::Tensor values_;                   // device or host: flat, all rows
  std::optional<ScratchFile> file_;     // disk
  std::unique_ptr<CopyEngine> copies_;  // null: windows are host memory and need none
  std::vector<Window> windows_;         // none where the values stand on the device
  size_t current_ = 0;
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
