#include "lib/activations/activation_store.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

uint64_t row_bytes(const StoreSpec& spec, int64_t width) {
  return static_cast<uint64_t>(spec.length * width) * c10::elementSize(spec.dtype);
}

int64_t window_rows(const StoreSpec& spec) { return std::min(spec.transfer_rows, spec.rows); }

/// One where a file is read and written straight away, two where copies run beside the computation.
size_t window_count(const StoreSpec& spec, bool copies) {
  if (spec.placement == Placement::device) return 0;
  if (copies) return 2;
  return spec.placement == Placement::disk ? 1 : 0;
}

at::Tensor allocate(int64_t values, const StoreSpec& spec, bool on_device) {
  auto options = at::TensorOptions().dtype(spec.dtype);
  if (on_device) return at::empty({values}, options.device(spec.device));
  // Pinned where a GPU copies from it: only then do copies run beside the computation.
  return at::empty({values}, options.device(c10::kCPU).pinned_memory(!spec.device.is_cpu()));
}

std::span<std::byte> writable_bytes(at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

bool contains(RowRange outer, RowRange inner) {
  return inner.first >= outer.first && inner.end() <= outer.end();
}

}  // namespace

std::string_view name_of(Placement placement) {
  switch (placement) {
    case Placement::device:
      return "device";
    case Placement::host:
      return "host";
    case Placement::disk:
      return "disk";
  }
  internal_error("placement {}", static_cast<int>(placement));
}

ActivationStore::ActivationStore(const StoreSpec& spec)
    : ActivationStore(spec, spec.device.is_cpu() ? nullptr : make_copy_engine(spec.device)) {}

ActivationStore::ActivationStore(const StoreSpec& spec, std::unique_ptr<CopyEngine> copies)
    : spec_(spec), width_(spec.width), copies_(std::move(copies)) {
  LATHE_ASSERT(spec.rows > 0 && spec.length > 0 && spec.width > 0 && spec.transfer_rows > 0,
               "activation store of {} rows, {} tokens, {} channels, {} rows moved at a time", spec.rows,
               spec.length, spec.width, spec.transfer_rows);
  const int64_t values = spec.length * spec.width;
  const bool on_disk = spec.placement == Placement::disk;
  if (on_disk) {
    file_.emplace(spec.work, static_cast<uint64_t>(spec.rows) * row_bytes(spec, spec.width));
  } else {
    values_ = allocate(spec.rows * values, spec, spec.placement == Placement::device);
  }
  windows_.resize(window_count(spec, copies_ != nullptr));
  for (Window& window : windows_) {
    window.values = allocate(window_rows(spec) * values, spec, /*on_device=*/true);
    if (!copies_) continue;
    if (on_disk) window.pinned = allocate(window_rows(spec) * values, spec, /*on_device=*/false);
    window.left = copies_->computed();  // its memory may have been the computation's before
  }
}

ActivationStore::~ActivationStore() {
  for (const Window& window : windows_) {
    for (const CopyEngine::Mark& mark : {window.out, window.busy}) {
      if (mark) copies_->host_waits(mark);
    }
  }
}

void ActivationStore::set_width(int64_t width) {
  LATHE_ASSERT(width > 0 && width <= spec_.width, "a store of {} channels can't take {}", spec_.width, width);
  width_ = width;
  for (Window& window : windows_) {
    window.held = {};
    window.changed = false;
    if (!copies_) continue;
    window.left = copies_->computed();
    if (window.out) window.busy = std::exchange(window.out, nullptr);  // nobody wants it, but it is under way
  }
}

at::Tensor ActivationStore::slice(const at::Tensor& flat, int64_t base, RowRange rows) const {
  const int64_t values = spec_.length * width_;
  return flat.narrow(0, (rows.first - base) * values, rows.count * values)
      .view({rows.count, spec_.length, width_});
}

uint64_t ActivationStore::offset_of(RowRange rows) const {
  return static_cast<uint64_t>(rows.first) * row_bytes(spec_, width_);
}

RowRange ActivationStore::transfer_of(RowRange rows) const {
  const int64_t first = rows.first / spec_.transfer_rows * spec_.transfer_rows;
  const RowRange transfer{first, std::min(spec_.transfer_rows, spec_.rows - first)};
  LATHE_ASSERT(contains(transfer, rows), "rows {} to {} are not moved together", rows.first, rows.end());
  return transfer;
}

at::Tensor ActivationStore::read(RowRange rows) {
  if (direct()) return slice(values_, 0, rows);
  const RowRange transfer = transfer_of(rows);
  Window& window = turn_to(transfer);
  if (!contains(window.held, rows)) fetch(window, transfer);
  return slice(window.values, window.base, rows);
}

void ActivationStore::write(RowRange rows, const at::Tensor& values) {
  at::Tensor place;
  if (direct()) {
    place = slice(values_, 0, rows);
  } else {
    Window& window = turn_to(transfer_of(rows));
    if (!contains(window.held, rows)) {
      // Rows that follow what the window holds join it: a store is filled without being read first.
      if (window.held.count > 0 && rows.first != window.held.end()) {
        leave(window);
        settle(window);
        window.held = {};
      }
      if (window.held.count == 0) window.held.first = rows.first;
      window.held.count += rows.count;
    }
    window.changed = true;
    place = slice(window.values, window.base, rows);
  }
  LATHE_ASSERT(values.sizes() == place.sizes(), "a store got {} values instead of {}", values.numel(),
               place.numel());
  if (values.is_alias_of(place) && values.data_ptr() == place.data_ptr()) return;  // changed in place
  place.copy_(values, /*non_blocking=*/true);
}

/// The window for a transfer, made the current one: that which holds some of it, or else the other, emptied.
/// So rows stand in one window at most, and what stands in none has been settled.
ActivationStore::Window& ActivationStore::turn_to(RowRange transfer) {
  const auto holds = [&](const Window& w) { return w.held.count > 0 && w.base == transfer.first; };
  if (holds(windows_[current_])) return windows_[current_];
  leave(windows_[current_]);
  current_ = (current_ + 1) % windows_.size();
  Window& window = windows_[current_];
  if (holds(window)) return window;  // changes during a copy of it are harmless: they are sent again
  settle(window);
  window.base = transfer.first;
  window.held = {};
  return window;
}

/// The host memory that `rows` of a window are copied to and from.
at::Tensor ActivationStore::host_side(Window& window, RowRange rows) {
  if (spec_.placement == Placement::host) return slice(values_, 0, rows);
  return slice(copies_ ? window.pinned : window.values, window.base, rows);
}

/// The computation turns to something else: changed values are sent out.
void ActivationStore::leave(Window& window) {
  if (!copies_) return;
  window.left = copies_->computed();
  if (!std::exchange(window.changed, false)) return;
  window.out = copies_->copy_out(host_side(window, window.held),
                                 slice(window.values, window.base, window.held), window.left);
}

/// Sees to it that what a left window held stands in the store, before it is used for other rows.
void ActivationStore::settle(Window& window) {
  const bool sent = std::exchange(window.changed, false) || window.out;
  const CopyEngine::Mark out = std::exchange(window.out, nullptr);
  if (!sent) return;
  if (file_) {
    if (out) copies_->host_waits(out);
    file_->write(offset_of(window.held), bytes_of(host_side(window, window.held)));
  } else {
    copies_->copies_in_wait(out);
    copies_->computation_waits(out);
  }
}

void ActivationStore::fetch(Window& window, RowRange transfer) {
  if (window.held.count > 0) {  // some of it, written and not read
    leave(window);
    settle(window);
  }
  window.held = transfer;
  at::Tensor host = host_side(window, transfer);
  if (file_) {
    if (window.busy) copies_->host_waits(std::exchange(window.busy, nullptr));
    const uint64_t offset = offset_of(transfer);
    file_->read(offset, writable_bytes(host));
    const int64_t after = std::min(spec_.transfer_rows, spec_.rows - transfer.end());
    if (after > 0) {
      file_->will_read(offset + host.nbytes(), static_cast<uint64_t>(after) * row_bytes(spec_, width_));
    }
  }
  if (!copies_) return;
  copies_->copies_in_wait(window.left);
  window.busy = copies_->copy_in(slice(window.values, window.base, transfer), host);
  copies_->computation_waits(window.busy);
}

StoreSpec store_spec(const HiddenStorage& storage, int64_t samples, int64_t length, int64_t width,
                     c10::Device device) {
  const int64_t chunk = chunk_rows(length, device);
  return {.placement = storage.placement,
          .rows = samples,
          .length = length,
          .width = width,
          .dtype = at::kFloat,
          .device = device,
          .work = storage.work,
          .transfer_rows = std::max<int64_t>(1, storage.transfer_rows / chunk) * chunk};
}

int64_t large_transfer(int64_t length, int64_t width, c10::Device device) {
  constexpr int64_t kBytes = int64_t{8} << 20;
  const int64_t chunk = chunk_rows(length, device);
  return std::max<int64_t>(1, kBytes / (4 * length * width) / chunk) * chunk;
}

MemoryBytes bytes_of_store(const StoreSpec& spec) {
  const uint64_t row = row_bytes(spec, spec.width);
  const uint64_t all = static_cast<uint64_t>(spec.rows) * row;
  const bool cpu = spec.device.is_cpu();
  const uint64_t window = window_count(spec, !cpu) * static_cast<uint64_t>(window_rows(spec)) * row;
  MemoryBytes bytes;
  (cpu ? bytes.ram : bytes.vram) += window;
  switch (spec.placement) {
    case Placement::device:
      (cpu ? bytes.ram : bytes.vram) += all;
      break;
    case Placement::host:
      bytes.ram += all;
      break;
    case Placement::disk:
      bytes.disk += all;
      if (!cpu) bytes.ram += window;
      break;
  }
  return bytes;
}

}  // namespace lathe
