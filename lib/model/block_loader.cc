#include "lib/model/block_loader.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/threads.h"
#include "lib/tensor/copy_stream.h"

namespace lathe {
namespace {

/// The owner is going away: ends a load between two tensors. Never leaves this file.
struct Stopped {};

}  // namespace

/// What a load reads from: the caller's source, interruptible; vectors (norms, biases) FP32, matrices as
/// stored where they are widened on the device.
class BlockLoader::Source : public WeightSource {
 public:
  Source(const WeightSource& source, const std::atomic<bool>& stop, bool as_stored)
      : source_(source), stop_(stop), as_stored_(as_stored) {}

  bool contains(const std::string& name) const override { return source_.contains(name); }

  at::Tensor load(const std::string& name) const override {
    if (stop_) throw Stopped();
    throw_if_cancelled();
    if (!as_stored_) return source_.load(name);
    const at::Tensor tensor = source_.load_stored(name);
    return tensor.dim() == 1 ? tensor.to(at::kFloat) : tensor;
  }

  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override {
    return source_.input_quantizer(linear);
  }

  std::optional<KvCacheQuantizer> kv_cache(const std::string& attention) const override {
    return source_.kv_cache(attention);
  }

 private:
  const WeightSource& source_;
  const std::atomic<bool>& stop_;
  bool as_stored_;
};

BlockLoader::BlockLoader(const ModelGraph& graph, const WeightSource& source, c10::Device device,
                         DType compute, bool ahead, size_t first)
    : graph_(graph), source_(source), device_(device), compute_(compute), ahead_(ahead), next_(first) {
  if (!device.is_cpu()) copies_ = std::make_unique<const CopyStream>(device);
  if (ahead_) start(next_);
}

BlockLoader::~BlockLoader() {
  stop_ = true;
  if (pending_.valid()) pending_.wait();
}

BlockWeights BlockLoader::next() {
  if (!ahead_) start(next_);
  LATHE_ASSERT(pending_.valid(), "block {} of a model of {}", next_, graph_.blocks.size());
  Loaded loaded = pending_.get();
  if (loaded.copied) {
    wait_on_device(*loaded.copied, device_);
    loaded.weights.replace_each([](const at::Tensor& tensor) {
      used_by_current_stream(tensor);
      return tensor;
    });
  }
  ++next_;
  if (ahead_) start(next_);
  return std::move(loaded.weights);
}

void BlockLoader::start(size_t index) {
  if (index >= graph_.blocks.size()) return;
  pending_ = std::async(std::launch::async, [this, index] { return load(index); });
}

BlockLoader::Loaded BlockLoader::load(size_t index) const {
  const c10::NoGradGuard no_grad;               // of this thread
  if (!copies_) kernels::stay_on_one_thread();  // on the CPU the cores belong to the computation
  const Source source(source_, stop_, /*as_stored=*/copies_ != nullptr);
  Loaded loaded{BlockWeights(graph_.blocks[index], source, c10::kCPU, compute_), std::nullopt};
  if (!copies_) return loaded;
  loaded.weights.replace_each([&](const at::Tensor& tensor) { return copies_->copy_in(tensor); });
  loaded.copied = copies_->done();
  return loaded;
}

}  // namespace lathe
