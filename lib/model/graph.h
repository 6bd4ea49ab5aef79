// The model as data: an ordered list of blocks with their linears, norms, and the edges along which a
// function-preserving scale can be folded. Built from one architecture table per family (lib/model/arch).
// Driver, transforms, solvers, plan and report all read this; nobody else knows tensor names.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/model/config.h"
#include "lib/tensor/tensor_view.h"

namespace lathe {

enum class LinearRole { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head };
/// "q_proj", ...
std::string_view name_of(LinearRole role);
/// Recipe target words for a role: its own name, its part ("attention" or "mlp") and "linear".
bool role_matches(LinearRole role, std::string_view target);
/// All words that role_matches() knows.
const std::vector<std::string>& role_targets();

/// The tensors inside a block that linears read. Linears of one slot share statistics and a factorisation.
enum class Slot { attention_in, attention_out, mlp_in, mlp_mid };
std::string_view name_of(Slot slot);
inline constexpr int kSlotCount = 4;

struct Linear {
  std::string name;  // "model.layers.0.self_attn.q_proj"; tensors are name + ".weight" and ".bias"
  LinearRole role = LinearRole::q_proj;
  Slot slot = Slot::attention_in;
  int64_t out = 0, in = 0;
  bool bias = false;
};

/// RMSNorm: y = weight * x / sqrt(mean(x^2) + eps) over `width` values.
struct Norm {
  std::string name;  // "model.layers.0.input_layernorm"; empty: this family has no such norm
  int64_t width = 0;
};

/// A place where channel scales s can move: producer's output channels / s, consumers' input columns * s.
/// `consumers` are the block's linears that read `slot`. The producer is either a norm's weight or a linear's
/// rows. Where KV heads are shared (v -> o under GQA) one producer row feeds several consumer columns:
/// `repeat` consumer heads for one producer head of `head_dim` channels; those columns must carry the same
/// scale: consumer column (g * repeat + r) * head_dim + c reads producer channel g * head_dim + c. Whoever
/// folds into a linear's rows divides its bias too, where it has one (v under Qwen2: bias / s). A consumer's
/// bias stays as it is.
struct ScaleEdge {
  enum class Producer { norm, linear };
  Producer producer_kind = Producer::norm;
  std::string producer;  // norm or linear name
  Slot slot = Slot::attention_in;
  int64_t repeat = 1;
  int64_t head_dim = 0;  // only where repeat > 1
};

struct Block {
  int64_t index = 0;
  std::string prefix;  // "model.layers.0"
  Norm attention_norm, mlp_norm;
  Norm q_norm, k_norm;  // over head_dim; names empty where the family has none
  std::optional<int64_t> sliding_window;
  std::vector<Linear> linears;  // in the order of the forward pass
  std::vector<ScaleEdge> edges;

  /// nullptr where the block has no such linear.
  const Linear* find(LinearRole role) const;
  std::vector<const Linear*> reading(Slot slot) const;
};

struct ModelGraph {
  ModelConfig config;
  std::string embedding;  // "model.embed_tokens"
  Norm final_norm;
  Linear
      lm_head;  // name "lm_head"; its slot means nothing; with tied embeddings its weight is the embedding's
  std::vector<Block> blocks;

  /// Every tensor the graph reads with the shape that config.json implies.
  std::map<std::string, std::vector<int64_t>> expected_tensors() const;
};

/// Builds the graph for a config. UserError for an unsupported family (parse_model_config has already refused
/// it).
ModelGraph build_graph(const ModelConfig& config);

/// Families in lib/model/arch, for messages and `quantize list`: model_type and a one-line description.
struct FamilyInfo {
  std::string model_type, description;
};
std::vector<FamilyInfo> supported_families();

/// "model_type 'x' is not supported; supported are ..., did you mean ...".
std::string unsupported_family_message(const std::string& model_type);

/// Compares what the checkpoint holds with what the graph expects. UserError with the first missing tensor,
/// or the first whose shape or dtype contradicts config.json: anything but F16, BF16 and F32; a matrix in
/// another of these than the one config.json declares (norms and biases may differ); a bias where config.json
/// says that there is none. Tensors that the graph does not read are otherwise ignored (rotary_emb.inv_freq,
/// a tied head's copy).
void check_tensors(const ModelGraph& graph, const std::map<std::string, TensorInfo>& tensors,
                   const std::string& folder);

}  // namespace lathe
