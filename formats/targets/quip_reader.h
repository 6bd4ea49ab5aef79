// Reads the linears of a QuIP# checkpoint (codebook E8P12, 2 bits). For a module m with W[out, in]:
//   m.Qidxs        I64 [out, in / 32]: four 16-bit codes a word, each eight weights of a row; unpack_e8p()
//   m.SU, m.SV     F16 [in], [out]: signs times what was folded into them
//   m.Wscale       F32 [], m.codebook_id I64 [], 7
//   m.scaleWH      F32 [in]: inputs are divided by it; rescale_WH
//   m.fuse_scales  F32 [parts]: where m stacks several linears, what each one's outputs are multiplied by
// W = diag(SV Wscale) U_out E U_in^T diag(SU / scaleWH), E the codes' values and U the Hadamard transforms of
// hadamard.h. q/k/v stand stacked in qkv_proj, up and gate in upgate_proj, in this order.
// config.json has "quip_params", and no quantization_config.
// Source: quip-sharp 1d8f873, lib/linear/{quantized_linear,fused_quantized_linear}.py,
// lib/codebook/latticee8_padded12.py, model/llama.py, quantize_llama/quantize_finetune_llama.py.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "formats/targets/layout_reader.h"

namespace lathe {

class QuipReader final : public LayoutReader {
 public:
  /// A linear of a block is packed where its Qidxs are there. UserError naming file, tensor or key, also for
  /// another codebook.
  QuipReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// Values of scheme vectors(). UserError for a codebook's number other than 7, and a number that is not
  /// finite.
  QuantizedTensor read(const std::string& linear) const override;
  bool read_alone() const override { return true; }

 private:
  /// Where a linear's rows stand.
  struct Part {
    std::string module;               // that stacks it with others, or itself
    int64_t first_row = 0, rows = 0;  // of all of the module's
    int64_t place = -1;               // in fuse_scales; -1: there are none
  };
  Part part_of(const Block& block, const Linear& linear) const;
  void check_number(const std::string& module) const;

  bool rescales_ = false;
  std::map<std::string, Part> parts_;
};

/// Long [out, in / 32], out and in multiples of 16 and 64 -> Int [out, in / 8], codes of 16 bits.
at::Tensor unpack_e8p(const at::Tensor& words);
/// Float [65536, 8]: a lattice vector of E8 + 1/4 or E8 - 1/4 for each code.
const at::Tensor& e8p_codebook();

}  // namespace lathe
