// A store whose values pass through two windows, with copies that run as early or as late as the events
// allow: whatever is not ordered by an event or a wait goes wrong here, without a device.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "lib/activations/activation_store.h"
#include "lib/base/error.h"
#include "lib/tensor/device.h"

namespace lathe {
namespace {

/// What a simulation does at once; the rest waits until something waits for it.
enum class Pace { computation, copies_in, nothing };

/// Three streams on the CPU. Whatever the pace, only what must come before a piece of work is done before it.
class Simulation {
 public:
  enum Queue { kCompute, kIn, kOut, kQueues };
  struct Op final : CopyEngine::Point {
    explicit Op(size_t n) : index(n) {}
    size_t index;
  };

  CopyEngine::Mark queue(Queue queue, std::function<void()> work) {
    ops_.push_back({std::move(work), std::exchange(waits_[queue], {}), last_[queue], false});
    last_[queue] = ops_.size();
    return std::make_shared<Op>(ops_.size());
  }
  CopyEngine::Mark point(Queue queue) const { return std::make_shared<Op>(last_[queue]); }
  void wait(Queue queue, const CopyEngine::Mark& mark) { waits_[queue].push_back(index_of(mark)); }
  void run(const CopyEngine::Mark& mark) { run(index_of(mark)); }
  void compute(std::function<void()> work) { queue(kCompute, std::move(work)); }
  void finish() {
    for (size_t i = 1; i <= ops_.size(); ++i) run(i);
  }
  Pace pace() const { return pace_; }
  void set_pace(Pace pace) {
    finish();
    pace_ = pace;
  }
  int64_t host_waits = 0;

 private:
  struct Work {
    std::function<void()> work;
    std::vector<size_t> after;
    size_t previous;
    bool done;
  };
  static size_t index_of(const CopyEngine::Mark& mark) { return static_cast<const Op&>(*mark).index; }
  void run(size_t index) {
    if (index == 0 || ops_[index - 1].done) return;
    run(ops_[index - 1].previous);
    for (const size_t other : std::vector<size_t>(ops_[index - 1].after)) run(other);
    ops_[index - 1].work();
    ops_[index - 1].done = true;
  }

  Pace pace_ = Pace::computation;  // what the store itself computes is done at once
  std::vector<Work> ops_;
  std::vector<size_t> waits_[kQueues];
  size_t last_[kQueues] = {0, 0, 0};
};

class SimulatedCopies final : public CopyEngine {
 public:
  explicit SimulatedCopies(Simulation& simulation) : sim_(simulation) {}
  Mark computed() override { return sim_.point(Simulation::kCompute); }
  void computation_waits(const Mark& mark) override {
    if (sim_.pace() == Pace::computation) {
      sim_.run(mark);
    } else {
      sim_.wait(Simulation::kCompute, mark);
    }
  }
  void copies_in_wait(const Mark& mark) override { sim_.wait(Simulation::kIn, mark); }
  Mark copy_in(const at::Tensor& device, const at::Tensor& host) override {
    const Mark mark = sim_.queue(Simulation::kIn, [=] { device.copy_(host); });
    if (sim_.pace() == Pace::copies_in) sim_.run(mark);
    return mark;
  }
  Mark copy_out(const at::Tensor& host, const at::Tensor& device, const Mark& after) override {
    sim_.wait(Simulation::kOut, after);
    return sim_.queue(Simulation::kOut, [=] { host.copy_(device); });
  }
  void host_waits(const Mark& mark) override {
    sim_.host_waits += 1;
    sim_.run(mark);
  }

 private:
  Simulation& sim_;
};

struct Case {
  Placement placement;
  int64_t transfer_rows;
};

constexpr int64_t kRows = 13, kLength = 3, kWidth = 5;

StoreSpec spec_of(const Case& c) {
  return {.placement = c.placement,
          .rows = kRows,
          .length = kLength,
          .width = kWidth,
          .work = std::filesystem::temp_directory_path(),
          .transfer_rows = c.transfer_rows};
}

at::Tensor part(const at::Tensor& values, RowRange rows) { return values.narrow(0, rows.first, rows.count); }

class TwoWindows : public ::testing::TestWithParam<Case> {
 protected:
  static ActivationStore store(Simulation& simulation) {
    return {spec_of(GetParam()), std::make_unique<SimulatedCopies>(simulation)};
  }
  static void fill(ActivationStore& store, const at::Tensor& values) {
    for (const RowRange rows : cut_rows(kRows, 2)) store.write(rows, part(values, rows));
  }
};

TEST_P(TwoWindows, SweepsGiveTheSameWithCopiesAsLateAsTheyMayBe) {
  at::manual_seed(3);
  Simulation simulation;
  ActivationStore store = TwoWindows::store(simulation);
  at::Tensor values = at::randn({kRows, kLength, kWidth});
  fill(store, values);
  for (int sweep = 0; sweep < 6; ++sweep) {
    for (const RowRange rows : cut_rows(kRows, 2)) {
      const at::Tensor read = store.read(rows);
      EXPECT_TRUE(at::equal(read, part(values, rows))) << "sweep " << sweep << ", row " << rows.first;
      if (sweep % 3 == 0) store.write(rows, read * 2);
      if (sweep % 3 == 1) store.write(rows, read.add_(1));
    }
    if (sweep % 3 == 0) values = values * 2;
    if (sweep % 3 == 1) values = values + 1;
  }
}

TEST_P(TwoWindows, AnyOrderOfReadsAndWrites) {
  at::manual_seed(4);
  Simulation simulation;
  ActivationStore store = TwoWindows::store(simulation);
  at::Tensor values = at::randn({kRows, kLength, kWidth});
  fill(store, values);
  const std::vector<RowRange> chunks = cut_rows(kRows, 2);
  for (int step = 0; step < 400; ++step) {
    const RowRange rows =
        chunks[static_cast<size_t>(at::randint(static_cast<int64_t>(chunks.size()), {1}).item<int64_t>())];
    if (at::randint(2, {1}).item<int64_t>() == 0) {
      EXPECT_TRUE(at::equal(store.read(rows), part(values, rows))) << "step " << step;
      continue;
    }
    const at::Tensor fresh = at::randn({rows.count, kLength, kWidth});
    store.write(rows, fresh);
    part(values, rows).copy_(fresh);
  }
}

TEST_P(TwoWindows, AnotherWidthIsNotSpoiltByCopiesStillUnderWay) {
  at::manual_seed(5);
  Simulation simulation;
  ActivationStore store = TwoWindows::store(simulation);
  for (const int64_t width : {kWidth, int64_t{2}, int64_t{4}}) {
    store.set_width(width);
    const at::Tensor values = at::randn({kRows, kLength, width});
    fill(store, values);
    for (const RowRange rows : cut_rows(kRows, 2)) {
      EXPECT_TRUE(at::equal(store.read(rows), part(values, rows))) << width << ", row " << rows.first;
    }
  }
}

// The device is far behind the host: neither a copy nor the host overtakes what still reads the values.
TEST_P(TwoWindows, NothingOvertakesTheComputationThatReads) {
  for (const Pace pace : {Pace::copies_in, Pace::nothing}) {
    at::manual_seed(6);
    Simulation simulation;
    ActivationStore store = TwoWindows::store(simulation);
    const at::Tensor values = at::randn({kRows, kLength, kWidth});
    fill(store, values);
    simulation.set_pace(pace);
    std::vector<at::Tensor> seen;
    for (int sweep = 0; sweep < 2; ++sweep) {
      for (const RowRange rows : cut_rows(kRows, 2)) {
        const at::Tensor read = store.read(rows);
        simulation.compute([&seen, read] { seen.push_back(read.clone()); });
      }
    }
    simulation.finish();
    EXPECT_TRUE(at::equal(at::cat(seen), at::cat({values, values})));
  }
}

INSTANTIATE_TEST_SUITE_P(Everywhere, TwoWindows,
                         ::testing::Values(Case{Placement::host, 2}, Case{Placement::host, 4},
                                           Case{Placement::host, 8}, Case{Placement::host, 100},
                                           Case{Placement::disk, 2}, Case{Placement::disk, 4},
                                           Case{Placement::disk, 8}, Case{Placement::disk, 100}),
                         [](const auto& info) {
                           return fmt::format("{}_{}", name_of(info.param.placement),
                                              info.param.transfer_rows);
                         });

// The point of two windows: turning to the next does not wait for the one just left.
TEST(TwoWindowsWaits, TheHostNeverWaitsForTheWindowThatItJustLeft) {
  Simulation simulation;
  ActivationStore store(spec_of({Placement::disk, 2}), std::make_unique<SimulatedCopies>(simulation));
  const at::Tensor values = at::randn({kRows, kLength, kWidth});
  for (const RowRange rows : cut_rows(kRows, 2)) store.write(rows, part(values, rows));
  simulation.set_pace(Pace::copies_in);
  for (const RowRange rows : cut_rows(kRows, 2)) {
    store.write(rows, store.read(rows).clone());
    bool done = false;
    simulation.compute([] {});
    const CopyEngine::Mark last = simulation.queue(Simulation::kCompute, [&done] { done = true; });
    if (rows.end() < kRows) store.read({rows.end(), std::min<int64_t>(2, kRows - rows.end())});
    EXPECT_FALSE(done) << "row " << rows.first;
    simulation.run(last);
  }
}

TEST(TwoWindowsWaits, HostMemoryIsNeverWaitedFor) {
  Simulation simulation;
  {
    ActivationStore store(spec_of({Placement::host, 2}), std::make_unique<SimulatedCopies>(simulation));
    for (int sweep = 0; sweep < 3; ++sweep) {
      for (const RowRange rows : cut_rows(kRows, 2)) {
        store.write(rows, sweep == 0 ? at::zeros({rows.count, kLength, kWidth}) : store.read(rows) + 1);
      }
    }
    EXPECT_EQ(simulation.host_waits, 0);
  }
  EXPECT_GT(simulation.host_waits, 0) << "but before the memory goes";
}

TEST(TwoWindowsGpu, SpilledValuesAreThoseOnTheDevice) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  for (const Placement placement : {Placement::host, Placement::disk}) {
    StoreSpec spec{.placement = placement,
                   .rows = 24,
                   .length = 256,
                   .width = 1024,
                   .device = device,
                   .work = std::filesystem::temp_directory_path(),
                   .transfer_rows = 4};
    ActivationStore spilled(spec);
    spec.placement = Placement::device;
    ActivationStore kept(spec);
    const at::Tensor factor = at::randn({1024, 1024}, at::TensorOptions().device(device)) / 32;
    for (const RowRange rows : cut_rows(24, 4)) {
      const at::Tensor values = at::randn({rows.count, 256, 1024}, factor.options());
      spilled.write(rows, values);
      kept.write(rows, values);
    }
    for (int sweep = 0; sweep < 4; ++sweep) {
      for (ActivationStore* store : {&spilled, &kept}) {
        for (const RowRange rows : cut_rows(24, 4)) {
          const at::Tensor read = store->read(rows);
          if (sweep < 3) store->write(rows, at::matmul(read, factor));
        }
      }
    }
    for (const RowRange rows : cut_rows(24, 4)) {
      EXPECT_TRUE(at::equal(spilled.read(rows), kept.read(rows))) << name_of(placement);
    }
  }
}

}  // namespace
}  // namespace lathe
