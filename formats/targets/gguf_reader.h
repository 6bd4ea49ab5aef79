// The linears of a GGUF file whose blocks are an integer grid (Q4_0, Q5_0, Q8_0), as codes and scales: for
// conversion, where they are carried over as they are.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/tensor_map.h"
#include "formats/targets/packed_reader.h"
#include "lib/model/graph.h"

namespace lathe {

class GgufReader final : public PackedReader {
 public:
  /// `file` must be the graph's, complete.
  GgufReader(std::shared_ptr<const GgufFile> file, const ModelGraph& graph,
             std::map<std::string, TensorInfo> tensors);

  /// UserError for a block whose scale is negative or not finite: llama.cpp's own Q4_0 and Q5_0 have such
  /// ones, which no other format's grid has.
  QuantizedTensor read(const std::string& linear) const override;
  std::map<std::string, TensorInfo> unpacked_tensors() const override { return tensors_; }

 private:
  std::shared_ptr<const GgufFile> file_;
  std::map<std::string, GgufTensorRule> rules_;  // by linear
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace lathe
