// What goes into a store comes out of it, wherever it stands and however much of it is moved at a time.
#include "lib/activations/activation_store.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "lib/base/error.h"

namespace lathe {
namespace {

struct Case {
  Placement placement;
  int64_t transfer_rows;
};

class StoreTest : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr int64_t kRows = 11, kLength = 5, kWidth = 7;

  static StoreSpec spec() {
    return {.placement = GetParam().placement,
            .rows = kRows,
            .length = kLength,
            .width = kWidth,
            .work = std::filesystem::temp_directory_path(),
            .transfer_rows = GetParam().transfer_rows};
  }
  static void fill(ActivationStore& store, const at::Tensor& values) {
    for (const RowRange rows : cut_rows(kRows, 2))
      store.write(rows, values.narrow(0, rows.first, rows.count));
  }
  static at::Tensor all(ActivationStore& store) {
    std::vector<at::Tensor> parts;
    for (const RowRange rows : cut_rows(kRows, 2)) parts.push_back(store.read(rows).clone());
    return at::cat(parts);
  }
};

TEST_P(StoreTest, GivesBackWhatItWasGiven) {
  ActivationStore store(spec());
  const at::Tensor values = at::randn({kRows, kLength, kWidth});
  fill(store, values);
  EXPECT_TRUE(at::equal(all(store), values));
  EXPECT_TRUE(at::equal(all(store), values)) << "read twice";
}

TEST_P(StoreTest, SweepsThatReadChangeAndWriteBack) {
  ActivationStore store(spec());
  at::Tensor values = at::randn({kRows, kLength, kWidth});
  fill(store, values);
  for (int sweep = 0; sweep < 3; ++sweep) {
    for (const RowRange rows : cut_rows(kRows, 2)) {
      at::Tensor read = store.read(rows);
      if (sweep == 1) {
        store.write(rows, read.add_(1));  // in place
      } else {
        store.write(rows, read * 3);
      }
    }
    values = sweep == 1 ? values + 1 : values * 3;
  }
  EXPECT_TRUE(at::equal(all(store), values));
}

TEST_P(StoreTest, RowsThatAreLeftAloneKeepTheirValues) {
  ActivationStore store(spec());
  at::Tensor values = at::randn({kRows, kLength, kWidth});
  fill(store, values);
  // Out of order, and only some: the window has to be written back before it moves.
  for (const int64_t first : {6, 2, 10}) {
    const RowRange rows{first, std::min<int64_t>(2, kRows - first)};
    const at::Tensor fresh = at::randn({rows.count, kLength, kWidth});
    store.write(rows, fresh);
    values.narrow(0, first, rows.count).copy_(fresh);
  }
  EXPECT_TRUE(at::equal(all(store), values));
}

TEST_P(StoreTest, TakesNarrowerValuesToo) {
  ActivationStore store(spec());
  fill(store, at::randn({kRows, kLength, kWidth}));
  store.set_width(3);
  const at::Tensor values = at::randn({kRows, kLength, 3});
  fill(store, values);
  EXPECT_TRUE(at::equal(all(store), values));
  EXPECT_THROW(store.set_width(kWidth + 1), InternalError);
}

INSTANTIATE_TEST_SUITE_P(Everywhere, StoreTest,
                         ::testing::Values(Case{Placement::device, 2}, Case{Placement::host, 2},
                                           Case{Placement::disk, 2}, Case{Placement::disk, 4},
                                           Case{Placement::disk, 10}, Case{Placement::disk, 100}),
                         [](const auto& info) {
                           return fmt::format("{}_{}", name_of(info.param.placement),
                                              info.param.transfer_rows);
                         });

TEST(Store, RowsThatSpanTwoTransfersAreOurBug) {
  ActivationStore store({.placement = Placement::disk,
                         .rows = 8,
                         .length = 2,
                         .width = 2,
                         .work = std::filesystem::temp_directory_path(),
                         .transfer_rows = 4});
  EXPECT_THROW(store.read({3, 2}), InternalError);
}

TEST(Store, BytesAreCountedWhereTheyStand) {
  StoreSpec spec{
      .placement = Placement::device, .rows = 10, .length = 4, .width = 8, .work = {}, .transfer_rows = 3};
  EXPECT_EQ(bytes_of_store(spec).ram, 1280u);
  spec.placement = Placement::disk;
  EXPECT_EQ(bytes_of_store(spec).disk, 1280u);
  EXPECT_EQ(bytes_of_store(spec).ram, 384u) << "one transfer";
  spec.device = c10::Device(c10::kCUDA, 0);
  EXPECT_EQ(bytes_of_store(spec).vram, 768u) << "two windows";
  EXPECT_EQ(bytes_of_store(spec).ram, 768u) << "their pinned copies";
  spec.placement = Placement::host;
  EXPECT_EQ(bytes_of_store(spec).ram, 1280u);
  EXPECT_EQ(bytes_of_store(spec).vram, 768u);
}

TEST(Rows, ChunksFollowTheLengthAndTheKindOfDeviceOnly) {
  const c10::Device cpu(c10::kCPU), gpu(c10::kCUDA, 0);
  EXPECT_EQ(chunk_rows(512, cpu), 2);
  EXPECT_EQ(chunk_rows(4096, cpu), 1) << "a sample is never cut";
  EXPECT_EQ(chunk_rows(2048, gpu), 4);
  EXPECT_EQ(micro_batches(2048, gpu), (std::vector<int64_t>{4, 2, 1}));
  EXPECT_EQ(micro_batches(170, cpu), (std::vector<int64_t>{6, 3, 1}));
  EXPECT_EQ(micro_batches(4096, cpu), (std::vector<int64_t>{1}));
  EXPECT_EQ(cut_rows(5, 2), (std::vector<RowRange>{{0, 2}, {2, 2}, {4, 1}}));
}

}  // namespace
}  // namespace lathe
