// The linears of a GGUF file whose blocks are a grid that other formats have (Q4_0, Q5_0, Q8_0, TQ1_0, TQ2_0,
// MXFP4), as codes and scales: for conversion, where they are carried over as they are.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/tensor_map.h"
#include "formats/targets/packed_reader.h"
#include "lib/model/graph.h"

namespace lathe {

/// Why blocks of the type can't be carried over as codes, scales and zero points of other formats; nothing
/// for those that can, and for types without blocks, whose values are copied.
std::optional<std::string> gguf_not_carried(GgmlType type);
/// UserError naming the file and the first linear in blocks of such a type.
void check_carried(const GgufFile& file, const ModelGraph& graph);

/// What llama.cpp multiplies the product with a matrix by ("blk.0.attn_q.scale", one for each expert of a
/// stack; NVFP4 has it): 1 where the file has no such tensor. UserError for one of another shape or type, or
/// that is not finite and positive.
float gguf_tensor_scale(const GgufFile& file, const GgufTensorRule& rule);

class GgufReader final : public PackedReader {
 public:
  /// `file` must be the graph's, complete.
  GgufReader(std::shared_ptr<const GgufFile> file, const ModelGraph& graph,
             std::map<std::string, TensorInfo> tensors);

  /// Scales of integers may be negative (of Q4_0 and Q5_0 every second one is): -d * (c - offset)
  /// is d * ((levels - 1 - c) - (offset - 1)), so such a block has a positive scale and the zero point -1.
  /// The tensor is asymmetric where one of its blocks needs that, symmetric (as `schemes` says) where none
  /// uses the code that the other sign hasn't. UserError for a scale that isn't finite, and for a
  /// gguf_tensor_scale() beside other types than NVFP4.
  QuantizedTensor read(const std::string& linear) const override;
  std::map<std::string, TensorInfo> unpacked_tensors() const override { return tensors_; }

 private:
  /// `bytes`: where its blocks begin.
  QuantizedTensor read_blocks(const std::string& linear, const uint8_t* bytes) const;

  std::shared_ptr<const GgufFile> file_;
  std::map<std::string, GgufTensorRule> rules_;  // by linear
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace lathe
