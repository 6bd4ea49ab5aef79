#include "calib/stats/gram.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <array>

#include "lib/tensor/openblas.h"
#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

constexpr int64_t kWidths[] = {1, 96, 576, 2047, 2048, 2880, 3072, 4096, 4608, 5120, 11008, 14336};

/// How often a device computes each element, Int [width, width], in steps of `side` rows and columns.
at::Tensor computed(int64_t width, int64_t side, c10::DeviceType device) {
  at::Tensor times = at::zeros({width / side, width / side}, at::kInt);
  for (const GramRectangles& place : gram_upper_triangle(width, device)) {
    for (int64_t i = 0; i < place.count; ++i) {
      const int64_t moved = i * place.step;
      times.slice(0, (place.row + moved) / side, (place.row_end + moved) / side)
          .slice(1, (place.column + moved) / side, (place.column_end + moved) / side)
          .add_(1);
    }
  }
  return times;
}

TEST(GramUpperTriangle, IsCoveredOnceAndBelowItTheBlocksOnTheDiagonalAlone) {
  for (const c10::DeviceType device : {c10::kCPU, c10::kCUDA}) {
    for (const int64_t width : kWidths) {
      SCOPED_TRACE(fmt::format("{} on {}", width, c10::DeviceTypeName(device)));
      const at::Tensor times = computed(width, width % 32 == 0 && width > 576 ? 32 : 1, device);
      EXPECT_TRUE(times.triu().equal(at::ones_like(times).triu()));
      EXPECT_LE(times.max().item<int>(), 1);
      // What planning memory counts is an upper bound of it.
      const auto diagonal = static_cast<double>(gram_diagonal_columns(width, c10::Device(device))),
                 w = static_cast<double>(width);
      const double part = times.to(at::kDouble).mean().item<double>();
      EXPECT_LE(part, (w + diagonal) / (2 * w) + 1e-9);
    }
  }
}

TEST(GramUpperTriangle, AGpuSkipsNearlyHalfOfTheWorkAtTheWidthsOfLargeModels) {
  const auto part = [](int64_t width) {
    return computed(width, 32, c10::kCUDA).to(at::kDouble).mean().item<double>();
  };
  EXPECT_LE(part(4096), 0.625);
  EXPECT_LE(part(11008), 0.57);
  EXPECT_LE(part(14336), 0.54);
}

TEST(GramBlock, BatchesOfHalvesAddUpToTheProduct) {
  at::manual_seed(3);
  constexpr int64_t kWidth = 4096;
  const at::Tensor x = at::randn({24, kWidth});
  at::Tensor gram = at::full({kWidth, kWidth}, NAN);
  for (const GramRectangles& place : gram_upper_triangle(kWidth, c10::kCUDA)) {
    GramBlock block(place, c10::kCPU), rest(place, c10::kCPU);
    block.add(x.slice(0, 0, 16), x.slice(0, 0, 16));
    rest.add(x.slice(0, 16), x.slice(0, 16));
    block.merge(rest);
    block.write_symmetric(0.5, gram);
  }
  EXPECT_TRUE(gram.equal(gram.t()));
  EXPECT_LT((gram - x.t().mm(x) * 0.5).abs().max().item<float>(), 1e-4f);
}

TEST(GramCollector, ThreadsShareTheRectanglesOfSeveralPanelsAndChangeNoBit) {
  at::manual_seed(5);
  for (const int64_t width : {40, 576, 1100}) {
    const at::Tensor x = at::randn({300, width}), reference = x + 0.2 * at::randn({300, width});
    const auto grams = [&](int threads) {
      const int before = at::get_num_threads();
      at::set_num_threads(threads);
      GramCollector gram(width, c10::kCPU);
      CrossGramCollector cross(width, c10::kCPU), itself(width, c10::kCPU);
      for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 299}, {299, 300}}) {
        const at::Tensor rows = x.slice(0, begin, end);
        gram.observe(rows);
        cross.observe(rows, reference.slice(0, begin, end));
        itself.observe(rows, rows);
      }
      at::set_num_threads(before);
      return std::array{gram.finish(1.0 / 300), cross.finish(1.0 / 300), itself.finish(1.0 / 300)};
    };
    const auto one = grams(1), several = grams(3);
    for (size_t i = 0; i < one.size() && OpenBlas::instance() != nullptr; ++i)  // others cut as they like
      EXPECT_TRUE(same_bits(one[i], several[i])) << width;
    EXPECT_LE(gram_error(one[0], exact_gram(x)), 3e-6) << width;
    EXPECT_TRUE(one[0].equal(one[0].t()));
    EXPECT_LE(gram_error(one[2], exact_gram(x)), 3e-6) << width << ": below the diagonal, too";
    const at::Tensor exact = at::mm(reference.to(at::kDouble).t(), x.to(at::kDouble)) / 300;
    EXPECT_LE((one[1] - exact).abs().max().item<double>(), 3e-6) << width;
  }
}

}  // namespace
}  // namespace lathe
