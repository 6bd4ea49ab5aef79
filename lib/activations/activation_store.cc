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

bool has_window(const StoreSpec& spec) {
  return spec.placement == Placement::disk || (spec.placement == Placement::host && !spec.device.is_cpu());
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

ActivationStore::ActivationStore(const StoreSpec& spec) : spec_(spec), width_(spec.width) {
  LATHE_ASSERT(spec.rows > 0 && spec.length > 0 && spec.width > 0 && spec.transfer_rows > 0,
               "activation store of {} rows, {} tokens, {} channels, {} rows moved at a time", spec.rows,
               spec.length, spec.width, spec.transfer_rows);
  const int64_t values = spec.length * spec.width;
  if (spec.placement == Placement::disk) {
    file_.emplace(spec.work, static_cast<uint64_t>(spec.rows) * row_bytes(spec, spec.width));
    if (!spec.device.is_cpu()) staging_ = allocate(window_rows(spec) * values, spec, /*on_device=*/false);
  } else {
    values_ = allocate(spec.rows * values, spec, spec.placement == Placement::device);
  }
  if (has_window(spec)) window_ = allocate(window_rows(spec) * values, spec, /*on_device=*/true);
}

void ActivationStore::set_width(int64_t width) {
  LATHE_ASSERT(width > 0 && width <= spec_.width, "a store of {} channels can't take {}", spec_.width, width);
  width_ = width;
  held_ = {};
  changed_ = false;
}

at::Tensor ActivationStore::slice(const at::Tensor& flat, int64_t base, RowRange rows) const {
  const int64_t values = spec_.length * width_;
  return flat.narrow(0, (rows.first - base) * values, rows.count * values)
      .view({rows.count, spec_.length, width_});
}

RowRange ActivationStore::window_at(int64_t row) const {
  const int64_t first = row / spec_.transfer_rows * spec_.transfer_rows;
  return {first, std::min(spec_.transfer_rows, spec_.rows - first)};
}

at::Tensor ActivationStore::read(RowRange rows) {
  if (direct()) return slice(values_, 0, rows);
  if (!contains(held_, rows)) {
    write_back();
    const RowRange window = window_at(rows.first);
    LATHE_ASSERT(contains(window, rows), "rows {} to {} are not moved together", rows.first, rows.end());
    base_ = window.first;
    held_ = window;
    fetch(held_);
  }
  return slice(window_, base_, rows);
}

void ActivationStore::write(RowRange rows, const at::Tensor& values) {
  at::Tensor place;
  if (direct()) {
    place = slice(values_, 0, rows);
  } else {
    const RowRange window = window_at(rows.first);
    LATHE_ASSERT(contains(window, rows), "rows {} to {} are not moved together", rows.first, rows.end());
    if (!contains(held_, rows)) {
      // Rows that follow what the window holds join it: a store is filled without being read first.
      const bool follows = held_.count > 0 && window.first == base_ && rows.first == held_.end();
      if (!follows) {
        write_back();
        base_ = window.first;
        held_ = {rows.first, 0};
      }
      held_.count += rows.count;
    }
    changed_ = true;
    place = slice(window_, base_, rows);
  }
  LATHE_ASSERT(values.sizes() == place.sizes(), "a store got {} values instead of {}", values.numel(),
               place.numel());
  if (values.is_alias_of(place) && values.data_ptr() == place.data_ptr()) return;  // changed in place
  place.copy_(values, /*non_blocking=*/true);
}

void ActivationStore::fetch(RowRange rows) {
  at::Tensor place = slice(window_, base_, rows);
  if (spec_.placement == Placement::host) {
    place.copy_(slice(values_, 0, rows), /*non_blocking=*/true);
    return;
  }
  const uint64_t offset = static_cast<uint64_t>(rows.first) * row_bytes(spec_, width_);
  at::Tensor host = staging_.defined() ? slice(staging_, base_, rows) : place;
  file_->read(offset, writable_bytes(host));
  // Waits: the next fetch reads into the same pinned memory.
  if (staging_.defined()) place.copy_(host);
  if (rows.end() < spec_.rows) {
    const RowRange next = window_at(rows.end());
    file_->will_read(offset + host.nbytes(), static_cast<uint64_t>(next.count) * row_bytes(spec_, width_));
  }
}

void ActivationStore::write_back() {
  if (!std::exchange(changed_, false)) return;
  const at::Tensor place = slice(window_, base_, held_);
  if (spec_.placement == Placement::host) {
    slice(values_, 0, held_).copy_(place, /*non_blocking=*/true);
    return;
  }
  at::Tensor host = place;
  if (staging_.defined()) {
    host = slice(staging_, base_, held_);
    host.copy_(place);  // waits: the bytes are needed now
  }
  file_->write(static_cast<uint64_t>(held_.first) * row_bytes(spec_, width_), bytes_of(host));
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
  const uint64_t window = has_window(spec) ? static_cast<uint64_t>(window_rows(spec)) * row : 0;
  MemoryBytes bytes;
  const bool cpu = spec.device.is_cpu();
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
