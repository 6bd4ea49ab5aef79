// Reads the linears of a QTIP checkpoint. For a linear m with W[out, in] in tiles of x outputs and y inputs:
//   m.trellis  I16 [out / x in / y, x y K / 16], unsigned: for each tile a circular stream of bits, from the
//              highest of each word down; step t's state is the L bits from bit t K V on, and stands for V
//              neighbours of a row. Where QTIP's kernel can read them (has_kernel()) in the kernel's order:
//              2 x 2 tiles together, each in the order of mma.m16n8k16's fragments
//   m.SU, m.SV  T [in], F32 [out]: signs times scales
//   m.tlut      F16 [2^tlut_bits, V]: with decode_mode lut, quantlut and quantlut_sym
//   m.rcp, m.tp_rank  I64 []: 1: inputs, 2: outputs are transformed in tp_rank parts
// W = diag(SV) U_out E U_in^T diag(SU), E the states' values and U the Hadamard transforms of hadamard.h.
// config.json has "quip_params" with a decode_mode, and no quantization_config.
// Source: qtip e90c668, lib/linear/quantized_linear.py, lib/codebook/bitshift.py, lib/utils/kernel_check.py,
// kernel_decompress.py, lib/algo/finetune.py, model/llama.py.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "formats/targets/layout_reader.h"

namespace lathe {

/// config.json's quip_params.
struct QtipParameters {
  std::string mode;                           // decode_mode
  int state_bits = 16, bits = 2, vector = 1;  // L, K (of a weight), V
  int table_bits = 0;                         // tlut_bits
  int64_t tile_rows = 16, tile_columns = 16;  // x, y

  int step_bits() const { return bits * vector; }
  bool has_table() const { return mode == "lut" || mode == "quantlut" || mode == "quantlut_sym"; }
  /// Are tiles stored in the kernel's order?
  bool has_kernel() const;
};

class QtipReader final : public LayoutReader {
 public:
  /// A linear is packed where its trellis is there. UserError naming file, tensor or key.
  QtipReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph);

  /// Values of scheme vectors(). UserError for a number that is not finite, and a part or rank that doesn't
  /// divide.
  QuantizedTensor read(const std::string& linear) const override;
  bool read_alone() const override { return true; }

 private:
  int64_t parts(const std::string& linear, int64_t& way) const;

  QtipParameters parameters_;
  std::map<std::string, int> bits_;  // of each linear's weights
};

/// Short [tiles, words] -> Int [tiles, values / V], states of a tile's `values`.
at::Tensor trellis_states(const at::Tensor& words, const QtipParameters& parameters, int64_t values);
/// Short [tiles, words] of a matrix [out, in] in the kernel's order -> in that of the tiles, row by row.
at::Tensor untangle_kernel_tiles(const at::Tensor& words, int64_t out, int64_t in, int bits);
/// Float [2^L, V]: what each state stands for. `table`: Float [2^tlut_bits, V] where has_table().
at::Tensor qtip_codebook(const QtipParameters& parameters, const at::Tensor& table);
/// The whole of E, Float [out, in].
at::Tensor qtip_values(const at::Tensor& trellis, const at::Tensor& codebook,
                       const QtipParameters& parameters, int64_t out, int64_t in);

}  // namespace lathe
