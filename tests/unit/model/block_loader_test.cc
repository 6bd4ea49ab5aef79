#include "lib/model/block_loader.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>

#include "lib/base/cancel.h"
#include "lib/tensor/device.h"
#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using namespace std::chrono_literals;

nlohmann::json deep_config() { return with(small_config("qwen2"), {{"num_hidden_layers", 4}}); }

bool of_block(const std::string& tensor, size_t index) {
  return tensor.find(fmt::format(".{}.", index)) != std::string::npos;
}

/// Another source's tensors, watched: which were asked for, and how many bytes of them are alive.
class WatchedWeights : public WeightSource {
 public:
  explicit WatchedWeights(const WeightSource& source) : source_(source) {}
  bool contains(const std::string& name) const override { return source_.contains(name); }

  at::Tensor load(const std::string& name) const override {
    std::this_thread::sleep_for(delay);
    const std::scoped_lock lock(mutex_);
    asked_.insert(name);
    changed_.notify_all();
    if (name == damaged) user_error("model.safetensors: tensor '{}': the value at [0] is NaN", name);
    const auto values = std::make_shared<at::Tensor>(source_.load(name));
    alive_ += values->nbytes();
    most_alive_ = std::max(most_alive_, alive_);
    const auto drop = [this, values](void*) {
      const std::scoped_lock inner(mutex_);
      alive_ -= values->nbytes();
    };
    return at::from_blob(values->data_ptr(), values->sizes(), drop, values->options());
  }

  /// Whether `count` tensors of a block have been asked for, waiting for it if need be.
  bool asked_for(size_t block, size_t count, std::chrono::milliseconds patience = 20s) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return count_of(block) >= count; });
  }
  size_t asked() const {
    const std::scoped_lock lock(mutex_);
    return asked_.size();
  }
  size_t most_alive() const {
    const std::scoped_lock lock(mutex_);
    return most_alive_;
  }

  std::string damaged;
  std::chrono::milliseconds delay{0};

 private:
  size_t count_of(size_t block) const {
    return static_cast<size_t>(
        std::count_if(asked_.begin(), asked_.end(), [&](const auto& name) { return of_block(name, block); }));
  }

  const WeightSource& source_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable std::set<std::string> asked_;
  mutable size_t alive_ = 0, most_alive_ = 0;
};

struct Model {
  ModelGraph graph = graph_of(deep_config());
  RandomWeights random{graph};
  WatchedWeights weights{random};

  /// Tensors, and bytes, of one block; every block has the same.
  size_t tensors_in_block() const {
    size_t count = 0;
    for (const auto& [name, shape] : graph.expected_tensors()) count += of_block(name, 0) ? 1 : 0;
    return count;
  }
  size_t bytes_of_block() const {
    size_t bytes = 0;
    for (const auto& [name, shape] : graph.expected_tensors()) {
      if (of_block(name, 0)) bytes += random.load(name).nbytes();
    }
    return bytes;
  }
};

bool same_weights(const Block& block, const BlockWeights& a, const BlockWeights& b) {
  bool same = at::equal(a.norm(block.mlp_norm).cpu(), b.norm(block.mlp_norm).cpu());
  for (const Linear& linear : block.linears) {
    same = same && at::equal(a.weight(linear).cpu(), b.weight(linear).cpu());
    same = same && (!linear.bias || at::equal(a.bias(linear).cpu(), b.bias(linear).cpu()));
  }
  return same;
}

TEST(BlockLoader, GivesEveryBlockInOrderAndNoMore) {
  const Model model;
  BlockLoader loader(model.graph, model.weights, at::kCPU);
  for (const Block& block : model.graph.blocks) {
    EXPECT_TRUE(same_weights(block, loader.next(), BlockWeights(block, model.random, at::kCPU)))
        << block.prefix;
  }
  EXPECT_THROW(loader.next(), InternalError);
}

TEST(BlockLoader, ReadsOneBlockAheadAndNoFurther) {
  const Model model;
  const size_t whole = model.tensors_in_block();
  BlockLoader loader(model.graph, model.weights, at::kCPU);
  EXPECT_TRUE(model.weights.asked_for(0, whole)) << "the first block is read before it is asked for";
  EXPECT_FALSE(model.weights.asked_for(1, 1, 50ms));
  loader.next();
  EXPECT_TRUE(model.weights.asked_for(1, whole)) << "the second one is read while the caller has the first";
  EXPECT_FALSE(model.weights.asked_for(2, 1, 50ms));
}

TEST(BlockLoader, HoldsTwoBlocksAtMost) {
  const Model model;
  BlockLoader loader(model.graph, model.weights, at::kCPU);
  for (size_t b = 0; b < model.graph.blocks.size(); ++b) {
    const BlockWeights weights = loader.next();
    if (b + 1 < model.graph.blocks.size()) model.weights.asked_for(b + 1, model.tensors_in_block());
  }
  EXPECT_EQ(model.weights.most_alive(), 2 * model.bytes_of_block());
}

TEST(BlockLoader, ReadsNothingAheadWhereItIsToldSo) {
  const Model model;
  BlockLoader loader(model.graph, model.weights, at::kCPU, DType::F32, /*ahead=*/false);
  for (size_t b = 0; b < model.graph.blocks.size(); ++b) {
    EXPECT_FALSE(model.weights.asked_for(b, 1, 50ms));
    const BlockWeights weights = loader.next();
    EXPECT_TRUE(same_weights(model.graph.blocks[b], weights,
                             BlockWeights(model.graph.blocks[b], model.random, at::kCPU)));
  }
  EXPECT_EQ(model.weights.most_alive(), model.bytes_of_block());
  EXPECT_THROW(loader.next(), InternalError);
}

TEST(BlockLoader, RethrowsTheSourcesErrorWhereTheBlockIsAskedFor) {
  Model model;
  model.weights.damaged = "model.layers.1.mlp.up_proj.weight";
  BlockLoader loader(model.graph, model.weights, at::kCPU);
  loader.next();
  EXPECT_EQ(user_error_of([&] { loader.next(); }),
            "model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight': the value at [0] is NaN");
}

TEST(BlockLoader, AnErrorThatNobodyAsksForIsDropped) {
  Model model;
  model.weights.damaged = "model.layers.0.mlp.up_proj.weight";
  const BlockLoader loader(model.graph, model.weights, at::kCPU);
  EXPECT_TRUE(model.weights.asked_for(0, 1));
}

TEST(BlockLoader, EndsItsReadingWhenItGoes) {
  Model model;
  model.weights.delay = 20ms;
  {
    const BlockLoader loader(model.graph, model.weights, at::kCPU);
    EXPECT_TRUE(model.weights.asked_for(0, 1));
  }
  const size_t asked = model.weights.asked();
  EXPECT_LT(asked, model.tensors_in_block()) << "reading went on to the block's end";
  std::this_thread::sleep_for(60ms);
  EXPECT_EQ(model.weights.asked(), asked) << "reading went on without an owner";
}

// A request to cancel can't be taken back, so it is made in a child process.
[[noreturn]] void cancel_while_reading() {
  Model model;
  model.weights.delay = 20ms;
  BlockLoader loader(model.graph, model.weights, at::kCPU);
  if (!model.weights.asked_for(0, 1)) std::_Exit(1);
  request_cancel();
  try {
    loader.next();
  } catch (const Interrupted&) {
    std::_Exit(model.weights.asked() < model.tensors_in_block() ? 130 : 2);
  }
  std::_Exit(3);
}

TEST(BlockLoaderDeathTest, ARequestToCancelEndsTheReading) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(cancel_while_reading(), testing::ExitedWithCode(130), "");
}

TEST(BlockLoaderGpu, BringsTheSameValuesToTheDevice) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  const ModelGraph graph = graph_of(with(small_config("qwen2"), {{"num_hidden_layers", 30}}));
  const RandomWeights weights(graph);
  BlockLoader loader(graph, weights, device);
  at::Tensor busy = at::randn({2048, 2048}, at::TensorOptions().device(device));
  for (const Block& block : graph.blocks) {
    const BlockWeights loaded = loader.next();
    busy = at::mm(busy, busy).div_(busy.norm());  // keeps the compute stream behind the copies
    EXPECT_TRUE(same_weights(block, loaded, BlockWeights(block, weights, at::kCPU))) << block.prefix;
  }
}

}  // namespace
}  // namespace lathe
