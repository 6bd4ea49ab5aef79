// How long something takes on the device, in wall time and in the process's CPU time, and medians of it.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

namespace lathe::bench {

/// Seconds. cpu: summed over threads; on a machine that others use, too, the steadier of the two. Meaningless
/// where a GPU does the work.
struct Timing {
  double wall = 0, cpu = 0;
  Timing& operator+=(Timing other) {
    wall += other.wall;
    cpu += other.cpu;
    return *this;
  }
  Timing operator-(Timing other) const { return {wall - other.wall, cpu - other.cpu}; }
};

/// Waits until the device has done all that was queued.
inline void synchronize(c10::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

inline double process_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class Work>
Timing measure(c10::Device device, const Work& work) {
  synchronize(device);
  const auto start = std::chrono::steady_clock::now();
  const double cpu = process_cpu_seconds();
  work();
  synchronize(device);
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          process_cpu_seconds() - cpu};
}

/// The middle value; the lower of the two middle ones for an even count; 0 of nothing.
inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Medians of wall and CPU time, each by itself.
inline Timing median(const std::vector<Timing>& samples) {
  std::vector<double> wall, cpu;
  for (const Timing& sample : samples) {
    wall.push_back(sample.wall);
    cpu.push_back(sample.cpu);
  }
  return {median(wall), median(cpu)};
}

/// The median of above[i] / below[i]: both were measured moments apart, so that a machine's moods cancel.
inline Timing median_ratio(const std::vector<Timing>& above, const std::vector<Timing>& below) {
  std::vector<Timing> ratios;
  for (size_t i = 0; i < above.size(); ++i) {
    ratios.push_back({above[i].wall / below[i].wall, above[i].cpu / below[i].cpu});
  }
  return median(ratios);
}

}  // namespace lathe::bench
