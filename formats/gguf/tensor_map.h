// Which tensor of a GGUF file each of a checkpoint's is, and what happens to it on the way. llama.cpp keeps
// its names for all families (blk.3.attn_q.weight, ...), and wants some contents otherwise:
//   - llama, mistral and mixtral: rows of q and k, whose halves of a head turn together in Hugging Face's
//     code, stand interleaved, since llama.cpp turns neighbours; row 2 k + h of a head is row h d / 2 + k
//     there;
//   - experts: the matrices of all experts of a block are one tensor, [experts, out, in];
//   - gemma: norms hold the factor itself, 1 + w;
//   - vectors, routers and the shared expert's gate are F32;
//   - Llama 3.1's stretch of the rotary frequencies is a tensor, rope_freqs.weight, not a key; so are
//     LongRoPE's lists.
// Source: llama.cpp's conversion/*.py and gguf-py's tensor_mapping.py (names), src/models/*.cpp (what is
// read).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf/family.h"
#include "lib/model/graph.h"

namespace lathe {

struct GgufTensorRule {
  std::string hf, gguf;  // "model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"; hf is empty for
                         // rope_freqs.weight and the like, which are rope_divisors()
  std::vector<int64_t> shape;       // of the checkpoint's: row-major; one or two sizes
  int64_t layer = -1;               // -1: of none
  int64_t heads = 0;                // above 0: rows interleaved in each of so many heads
  bool plus_one = false;            // the file holds 1 + w
  std::string linear = {};          // whose weight this is, a linear in a block; else empty
  int64_t expert = 0, experts = 0;  // experts above 0: the file's tensor is a stack, this matrix one of it
  bool plain = false;               // a matrix that is F32 whatever the type of others
  bool vector_in_file = false;      // [1, n] here, [n] there

  bool is_matrix() const { return shape.size() == 2; }
  /// Of the file's tensor.
  std::vector<int64_t> file_shape() const;
  /// Where its rows begin in that.
  int64_t first_row() const { return experts > 0 ? expert * shape[0] : 0; }
};

/// Every tensor of the graph in a file's order: embeddings, output norm and head, then block by block. The
/// experts of a stack have a rule each, in order; the first stands where the file's tensor does.
std::vector<GgufTensorRule> gguf_tensors(const ModelGraph& graph);

/// Long [rows]: which of Hugging Face's rows stands in each row of the file.
at::Tensor interleaved_rows(int64_t rows, int64_t heads);
/// And the other way round.
at::Tensor halved_rows(int64_t rows, int64_t heads);

/// F32 [rotary_dim / 2], what llama.cpp divides each rotary frequency by, as the tensor of that name holds:
/// rope_freqs.weight (llama3), rope_factors_long.weight and rope_factors_short.weight (longrope).
at::Tensor rope_divisors(const RopeConfig& rope, std::string_view tensor);

/// Why llama.cpp would compute something else than this model does; nothing if it computes the same.
std::optional<std::string> gguf_refuses(const ModelGraph& graph);
/// What it leaves out without harm to shorter texts, and the like.
std::vector<std::string> gguf_warnings(const ModelGraph& graph);

}  // namespace lathe
