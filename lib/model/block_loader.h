// A model's blocks in order, each read while the caller works on the one before: by a background thread, and
// on a CUDA device through pinned memory on a copy stream of its own.
//
// The memory promise is two blocks: the caller's and the next one, provided that the caller drops a block
// before it asks for another. Where it was asked not to read ahead, it is one, read when it is asked for.
// Weights travel in the file's dtype and are widened on the device. A CUDA caller never waits on the host for
// the copy: its stream does, by an event.
#pragma once

#include <c10/core/Event.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>

#include "lib/model/forward.h"
#include "lib/model/graph.h"
#include "lib/model/weight_source.h"

namespace lathe {

class CopyStream;

class BlockLoader {
 public:
  /// Starts to read block `first`. The graph and the source must outlive the loader, and the source must
  /// bear load() in another thread while the owner calls it too. compute: as for BlockWeights.
  BlockLoader(const ModelGraph& graph, const WeightSource& source, c10::Device device,
              DType compute = DType::F32, bool ahead = true, size_t first = 0);
  /// Ends the reading at the next tensor and waits for its thread.
  ~BlockLoader();
  BlockLoader(const BlockLoader&) = delete;
  BlockLoader& operator=(const BlockLoader&) = delete;

  /// The next block's weights; then, where it reads ahead, starts to read the one after. Rethrows what the
  /// source threw (UserError for a damaged tensor); Interrupted after a request to cancel. InternalError past
  /// the last block.
  BlockWeights next();

 private:
  struct Loaded {
    BlockWeights weights;
    std::optional<c10::Event> copied;  // CUDA: when the weights are on the device
  };
  class Source;

  Loaded load(size_t index) const;
  void start(size_t index);

  const ModelGraph& graph_;
  const WeightSource& source_;
  c10::Device device_;
  DType compute_;
  bool ahead_;
  std::unique_ptr<const CopyStream> copies_;  // null on the CPU
  std::atomic<bool> stop_{false};
  size_t next_ = 0;
  std::future<Loaded> pending_;
};

}  // namespace lathe
