// Reads the linears of a bitsandbytes checkpoint of 4 bits (QLoRA's NF4, arXiv 2305.14314; FP4), as
// transformers stores Linear4bit. For a linear m with W[out, in], its n = out in weights in blocks of b
// neighbours (b may span rows):
//   m.weight            U8 [n / 2, 1]: codes of two neighbours, the first in the high bits
//   m.weight.quant_map  F32 [16]: what each code stands for, in -1 .. 1
//   m.weight.absmax     F32 [n / b]: a block's largest magnitude, which multiplies these numbers;
//                       or, quantised itself ("double quant"), U8, and beside it
//   m.weight.nested_quant_map, nested_absmax   F32 [256], [n / b / c]: absmax[k] = nested_quant_map[code]
//                       * nested_absmax[k / c] + nested_offset
//   m.weight.quant_state.bitsandbytes__nf4 (or __fp4)   U8: JSON with shape, blocksize b, nested_blocksize c
//                       and nested_offset
// Products and sums are FP32 here, which the library rounds to the original model's type.
// Source: bitsandbytes 0.50.2, functional.py (QuantState); transformers 5.17, quantizer_bnb_4bit.py.
#pragma once

#include <memory>
#include <string>

#include "formats/targets/layout_reader.h"

namespace lathe {

class BitsandbytesReader final : public LayoutReader {
 public:
  /// A linear is packed where its quant_state is there. UserError naming file, tensor or key, also for
  /// LLM.int8 (load_in_8bit).
  BitsandbytesReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// Values of scheme vectors(). UserError for a number that is not finite.
  QuantizedTensor read(const std::string& linear) const override;
  bool read_alone() const override { return true; }

 private:
  /// What quant_state says; nested_block 0: absmax are plain numbers.
  struct State {
    int64_t block = 64, nested_block = 0;
    float nested_offset = 0;
  };
  State parse_state(const std::string& name, const Linear& linear) const;

  std::string type_;  // "nf4"
  std::map<std::string, State> states_;
};

}  // namespace lathe
