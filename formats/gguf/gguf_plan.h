// What a GGUF file of a model will hold: which tensors, in which block types, under which keys.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf/gguf_value.h"
#include "formats/gguf/gguf_writer.h"
#include "formats/gguf/mix.h"
#include "formats/gguf/tensor_map.h"
#include "lib/model/graph.h"
#include "lib/numeric/scheme.h"
#include "lib/tensor/tensor_view.h"

namespace lathe {

struct GgufOutputTensor {
  GgufTensorRule rule;
  GgmlType type = GgmlType::F32;
  bool exact = false;  // a solver's codes are this type's
  /// What the mix has for it, where rows can't be cut into that type's blocks.
  std::optional<GgmlType> wanted = std::nullopt;
};

struct GgufOutput {
  const GgufMix* mix = nullptr;
  std::vector<GgufOutputTensor> tensors;  // in the order of the file
  std::vector<std::string> warnings;

  uint64_t bytes() const;  // of the tensors
};

/// A type that somebody chose for tensors, as llama-quantize's --tensor-type does.
struct GgufTypeChoice {
  std::string tensors;  // ECMAScript, searched in the file's names ("blk.3.attn_v.weight")
  GgmlType type = GgmlType::F16;
  std::string where;  // for errors: "my.yaml:4:7"
};

/// What is known of the model's weights when the file is planned.
struct GgufWeights {
  struct Solved {
    Scheme scheme;
    bool group_index = false;  // groups of columns in an order of their own
  };
  std::map<std::string, Solved> solved;    // by linear, of those that a rule quantises; of others none
  bool importances = false;                // there will be some
  bool codes_only = false;                 // nothing may be rounded anew: other weights stay as they are
  std::vector<GgufTypeChoice> types = {};  // the first that fits a matrix decides about it, not the mix
};

/// A rule's linears get the mix's types, but where the scheme's codes are those of the mix's base type: that
/// type, and the codes. Other linears of blocks stay in floating point; embeddings and head are the mix's.
/// A type in `types` comes before all of that, but for routers. UserError for one that decides about no
/// matrix or can't cut its rows; "format gguf:TYPE: ..." for a model that llama.cpp would compute otherwise,
/// or, codes_only, codes that are not the type's.
GgufOutput plan_gguf(const GgufMix& mix, const ModelGraph& graph,
                     const std::map<std::string, TensorInfo>& tensors, const GgufWeights& weights);

/// The file's keys but for those of its tokenizer.
GgufMetadata gguf_model_keys(const GgufOutput& output, const ModelGraph& graph, const std::string& name);

/// Why a tensor is not of the type that the mix has for it: "Q4_K's blocks of 256 don't divide its rows of
/// 576". Empty where it is.
std::string why_other_type(const GgufOutputTensor& tensor);

/// One line for each type, the one of most weights first: "Q5_0: q_proj, k_proj (blocks 0 to 29), v_proj
/// (blocks 3, 5 to 9); Q4_K's blocks of 256 don't divide its rows of 576". Embeddings and head by the file's
/// names; vectors, which are F32 always, in none.
std::vector<std::string> type_lines(const GgufOutput& output);

}  // namespace lathe
