// The model as data: an ordered list of blocks with their linears, norms, and the edges along which a
// function-preserving scale can be folded. Built from one architecture table per family (lib/model/arch).
// Driver, transforms, solvers, plan and report all read this; nobody else knows tensor names.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/model/config.h"
#include "lib/tensor/tensor_view.h"

namespace lathe {

/// qkv_proj and gate_up_proj are fused weights: rows of q, then k, then v; rows of gate, then up. The router
/// and the shared expert's gate decide how much experts count; they are small, and stay in floating point
/// unless a recipe names them.
enum class LinearRole {
  q_proj,
  k_proj,
  v_proj,
  qkv_proj,
  o_proj,
  gate_proj,
  up_proj,
  gate_up_proj,
  down_proj,
  router,
  shared_expert_gate,
  lm_head,
  other  // a linear of an architecture that Lathe knows nothing of (weights_graph.h)
};
/// "q_proj", ...
std::string_view name_of(LinearRole role);

/// The tensors inside a block that linears read, and what the model's head reads (head_in). Linears of one
/// input share statistics and a factorisation.
enum class Slot { attention_in, attention_out, mlp_in, mlp_mid, head_in };
std::string_view name_of(Slot slot);
inline constexpr int kSlotCount = 5;

/// What a linear reads: the rows of a slot, which are those of all tokens; with an expert, those of the
/// tokens that the router sends to it. mlp_mid without an expert is the dense MLP's, or the shared expert's.
struct Input {
  Slot slot = Slot::attention_in;
  std::optional<int64_t> expert;
  friend auto operator<=>(const Input&, const Input&) = default;
};
/// "mlp_in", "mlp_in of expert 3".
std::string name_of(const Input& input);

/// A second spelling under which a checkpoint may hold a weight: rows [first_row, first_row + out) of a
/// tensor whose leading dimensions are flattened. transformers 5 keeps all experts of a block in one tensor,
/// gate_up_proj [experts, 2 * width, hidden] (gate's rows first) and down_proj [experts, hidden, width].
struct StoredRows {
  std::string tensor;          // full name
  std::vector<int64_t> shape;  // of the whole tensor
  int64_t first_row = 0;
};

struct Linear {
  std::string name;  // "model.layers.0.self_attn.q_proj"; tensors are name + ".weight" and ".bias"
  LinearRole role = LinearRole::q_proj;
  Input input;
  int64_t out = 0, in = 0;
  bool bias = false;
  bool shared_expert = false;                       // of the expert that all tokens pass through
  std::optional<StoredRows> stored = std::nullopt;  // where name + ".weight" may stand instead
};

/// Recipe target words for a linear: its role's name, its part ("attention" or "mlp"), "expert" or
/// "shared_expert" where it belongs to one, and "linear", which leaves out router and shared_expert_gate.
bool word_matches(const Linear& linear, std::string_view target);
/// All words that word_matches() knows.
const std::vector<std::string>& role_targets();

/// RMSNorm: y = weight * x / sqrt(mean(x^2) + eps) over `width` values; with `one_plus`, 1 + weight in place
/// of weight (Gemma).
struct Norm {
  std::string name;  // "model.layers.0.input_layernorm"; empty: this family has no such norm
  int64_t width = 0;
  bool one_plus = false;
};

/// A place where channel scales s can move: producer's output channels / s, consumers' input columns * s.
/// The producer is either a norm's weight (w / s; where the norm is 1 + w: (1 + w) / s - 1) or rows of a
/// linear, from first_row on (v in qkv_proj, up in gate_up_proj). Block::consumers() lists who must follow.
/// Where KV heads are shared (v -> o under GQA) one producer row feeds several consumer columns: `repeat`
/// consumer heads for one producer head of `head_dim` channels; those columns must carry the same scale:
/// consumer column (g * repeat + r) * head_dim + c reads producer channel g * head_dim + c. Whoever folds
/// into a linear's rows divides its bias too, where it has one (v under Qwen2: bias / s). A consumer's bias
/// stays as it is.
struct ScaleEdge {
  enum class Producer { norm, linear };
  Producer producer_kind = Producer::norm;
  std::string producer;  // norm or linear name
  Input input;           // what the consumers read; a norm before experts feeds all of them
  int64_t repeat = 1;
  int64_t head_dim = 0;     // only where repeat > 1
  int64_t first_row = 0;    // of the producer, where it is a linear
  std::string closed = {};  // why no scale can pass, which a report says; empty: it can
};

/// A block's sparse MLP (mixture of experts): the router's logits become probabilities over all experts by a
/// softmax; the per_token largest are used, divided by their sum where `normalise`.
struct Experts {
  int64_t count = 0, per_token = 0;
  bool normalise = false;
};

struct Block {
  int64_t index = 0;
  std::string prefix;  // "model.layers.0"
  Norm attention_norm, mlp_norm;
  Norm q_norm, k_norm;  // over head_dim, or over all heads' channels; names empty where the family has none
  Norm attention_out_norm, mlp_out_norm;    // on what attention and MLP add to the hidden states (Gemma)
  double attention_scale = 0;               // q k^T is multiplied by it
  std::optional<double> attention_softcap;  // scores become cap * tanh(score / cap)
  std::optional<double> qkv_clip;           // q, k and v are clamped to [-clip, clip]
  std::optional<int64_t> sliding_window;
  bool local_rope = false;  // rotates by ModelConfig::local_rope
  std::optional<Experts> experts;
  std::vector<Linear> linears;  // in the order of the forward pass
  std::vector<ScaleEdge> edges;

  /// nullptr where the block has no such linear. Without an expert: not one of a routed expert.
  const Linear* find(LinearRole role, std::optional<int64_t> expert = std::nullopt) const;
  /// Linears that read exactly this input.
  std::vector<const Linear*> reading(const Input& input) const;
  std::vector<const Linear*> reading(Slot slot) const { return reading(Input{slot, std::nullopt}); }
  /// Linears whose columns must follow a fold through this edge: those that read its input; after a norm, the
  /// experts too, which read rows of that norm's output.
  std::vector<const Linear*> consumers(const ScaleEdge& edge) const;
  /// Those that the family has.
  std::vector<const Norm*> norms() const;
  bool has_shared_expert() const { return find(LinearRole::shared_expert_gate) != nullptr; }
};

/// Older checkpoints begin tensor names with `from`, where the graph's names begin with `to`.
struct SpellingChange {
  std::string_view from, to;
};

struct ModelGraph {
  ModelConfig config;
  std::string embedding;  // "model.embed_tokens"
  std::vector<Block> blocks;
  /// What follows the last block: the final norm, as its attention_norm, and lm_head, its only linear, which
  /// reads head_in. With tied embeddings lm_head's weight is the embedding's.
  Block head;
  std::span<const SpellingChange> spellings{};  // the first that fits a name counts
  /// Modules outside the graph whose linears stay in floating point (a vision tower), as compressed-tensors
  /// names them: "re:" and a regular expression, for module names differ between releases of transformers.
  std::vector<std::string> untouched;

  /// "model.norm"
  const Norm& final_norm() const { return head.attention_norm; }
  Norm& final_norm() { return head.attention_norm; }
  /// "lm_head"
  const Linear& lm_head() const { return head.linears.front(); }
  /// Of a run that quantises the head, too: the head after the last block.
  const Block& part(size_t index) const { return index == blocks.size() ? head : blocks.at(index); }

  /// All that have a weight in a checkpoint, in forward order; a tied head has none of its own.
  std::vector<Linear> linears() const;
  /// Every tensor the graph reads with the shape that config.json implies.
  std::map<std::string, std::vector<int64_t>> expected_tensors() const;

  /// Which of `tensors` hold several linears' weights under their second spelling (Linear::stored), with
  /// those linears. Empty for a checkpoint that spells every linear out. UserError, naming `folder`, where
  /// such a tensor's shape contradicts config.json.
  std::map<std::string, std::vector<const Linear*>> stacked_tensors(
      const std::map<std::string, TensorInfo>& tensors, const std::string& folder) const;
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
/// says that there is none; a block beyond num_hidden_layers that is no multi-token prediction head. Tensors
/// that the graph does not read are otherwise ignored (rotary_emb.inv_freq, a tied head's copy).
void check_tensors(const ModelGraph& graph, const std::map<std::string, TensorInfo>& tensors,
                   const std::string& folder);

}  // namespace lathe
