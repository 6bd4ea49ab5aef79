// Mixes: which block type each tensor of a model gets under one name, such as Q4_K_M: most tensors the type
// that the name says, the more sensitive ones more bits. The choices are llama.cpp's (src/llama-quant.cpp,
// llama_tensor_get_type), so that a file of Lathe and one of llama-quantize have the same size and layout.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lib/numeric/ggml_type.h"

namespace lathe {

struct GgufMix {
  std::string_view name;
  uint32_t file_type;  // general.file_type
  GgmlType base;       // of most tensors
};

/// What a mix asks about the model.
struct MixModel {
  int64_t layers = 0;
  int64_t heads = 0, kv_heads = 0;
  int64_t experts = 0;       // of a layer; 0: dense
  bool tied_output = false;  // token_embd.weight is the output matrix too
  bool importances = false;  // an importance matrix is at hand
};

/// What it asks about the tensor.
struct MixTensor {
  std::string name;               // in the file: "blk.3.attn_v.weight"
  int64_t layer = -1;             // -1: none
  int64_t rows = 0, columns = 0;  // rows 0: a vector
  int64_t experts = 1;            // matrices stacked in it
};

/// Mixes and plain types ("Q8_0", "F16": that type for all matrices), in the order of their file types.
std::span<const GgufMix> gguf_mixes();
/// By name, in any case; Q3_K, Q4_K and Q5_K mean their _M, as in llama.cpp. Null for an unknown name.
const GgufMix* find_mix(std::string_view name);
bool known_mix(const std::string& name);

/// The type that the mix wants for the tensor, whatever its shape. F32 for what is never cut into blocks:
/// vectors, norms, routers, convolutions. UserError listing the names for an unknown mix.
GgmlType wanted_type(const std::string& mix, const MixModel& model, const MixTensor& tensor);

/// `wanted`, or where `columns` can't be cut into its blocks: the type of blocks of 32 that has about its
/// bits, or one more (Q4_K: Q5_0); F16 where 32 does not divide them either.
GgmlType fitting_type(GgmlType wanted, int64_t columns);

/// fitting_type of wanted_type. The caller reports where the two differ.
GgmlType tensor_type(const std::string& mix, const MixModel& model, const MixTensor& tensor);

}  // namespace lathe
