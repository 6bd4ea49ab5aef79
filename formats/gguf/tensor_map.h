// Which tensor of a GGUF file each of a checkpoint's is, and what happens to it on the way. llama.cpp keeps
// its names for all families (blk.3.attn_q.weight, ...), and wants some contents otherwise:
//   - llama and mistral: rows of q and k, whose halves of a head turn together in Hugging Face's code, stand
//     interleaved, since llama.cpp turns neighbours; row 2 k + h of a head is row h d / 2 + k there;
//   - gemma: norms hold the factor itself, 1 + w;
//   - vectors are F32;
//   - Llama 3.1's stretch of the rotary frequencies is a tensor, rope_freqs.weight, not a key.
// Source: llama.cpp's conversion/*.py and gguf-py's tensor_mapping.py (names), src/models/*.cpp (what is
// read).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/model/graph.h"

namespace lathe {

struct GgufTensorRule {
  std::string hf, gguf;  // "model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"; hf is empty for
                         // rope_freqs.weight, which is rope_divisors()
  std::vector<int64_t> shape;  // row-major; one or two sizes
  int64_t layer = -1;          // -1: of none
  int64_t heads = 0;           // above 0: rows interleaved in each of so many heads
  bool plus_one = false;       // the file holds 1 + w
  std::string linear = {};     // whose weight this is, a linear in a block; else empty

  bool is_matrix() const { return shape.size() == 2; }
};

/// "llama" for llama and mistral, "gemma3" for gemma3_text, ...; nothing for a family that llama.cpp reads
/// otherwise than this map says.
std::optional<std::string_view> gguf_architecture(const std::string& model_type);
/// The family whose config.json a file of this architecture becomes; nothing for one that Lathe doesn't read.
std::optional<std::string_view> model_type_of_architecture(const std::string& architecture);

/// Every tensor of the graph in a file's order: embeddings, output norm and head, then block by block.
std::vector<GgufTensorRule> gguf_tensors(const ModelGraph& graph);

/// Long [rows]: which of Hugging Face's rows stands in each row of the file.
at::Tensor interleaved_rows(int64_t rows, int64_t heads);
/// And the other way round.
at::Tensor halved_rows(int64_t rows, int64_t heads);

/// F32 [rotary_dim / 2], what llama.cpp divides each rotary frequency by; undefined where nothing but the
/// base says how they turn (and linear and yarn scaling, which have keys).
at::Tensor rope_divisors(const RopeConfig& rope);

/// Why llama.cpp would compute something else than this model does; nothing if it computes the same.
std::optional<std::string> gguf_refuses(const ModelGraph& graph);
/// What it leaves out without harm to shorter texts, and the like.
std::vector<std::string> gguf_warnings(const ModelGraph& graph);

}  // namespace lathe
