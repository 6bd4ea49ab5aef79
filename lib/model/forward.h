// The forward pass, one block at a time and cut into stages, so that a driver can look at (and change) a
// linear's weights exactly between producing its input and using it. Hidden states (the residual stream) are
// FP32, [batch, seq, hidden]; norms, rotary embedding and the sum of a residual step are computed in FP32.
// Inputs of linears, their products and attention are of the weights' compute dtype: FP32 on the CPU, on a
// GPU usually the checkpoint's BF16 or FP16, as inference engines compute. Inputs that an engine quantises
// are rounded to their grid before the product (BlockWeights::input_quantizer), which then stands for the
// engine's integer product. So are keys and values, where it keeps them on a grid (BlockWeights::kv_cache).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/model/graph.h"
#include "lib/model/weight_source.h"

namespace lathe {

/// One block's parameters on the compute device, by tensor name ("model.layers.0.self_attn.q_proj.weight").
/// Weights may be held in the file's dtype; readers get FP32, the forward pass the compute dtype.
class BlockWeights {
 public:
  /// Loads every tensor of the block. compute: F32, F16 or BF16.
  BlockWeights(const Block& block, const WeightSource& source, c10::Device device,
               DType compute = DType::F32);

  /// FP32. InternalError for a linear or norm that is not of this block.
  at::Tensor weight(const Linear& linear) const;  // [out, in]
  at::Tensor norm(const Norm& norm) const;        // [width]
  at::Tensor bias(const Linear& linear) const;    // [out] or undefined
  /// Shapes must be those of the linear or norm. set_bias() on a linear without a bias gives it one.
  void set_weight(const Linear& linear, at::Tensor weight);
  void set_bias(const Linear& linear, at::Tensor bias);
  void set_norm(const Norm& norm, at::Tensor weight);
  /// Is the weight there, neither dropped nor taken?
  bool holds_weight(const Linear& linear) const;
  /// Lets a weight go, until another is set.
  void drop_weight(const Linear& linear);
  /// The weight, FP32 [out, in], which is then dropped: where sole_owner() says so, it may be changed in
  /// place and set again.
  at::Tensor take_weight(const Linear& linear);

  /// From now on the linear's input is rounded before the product, as by the engine that runs the model.
  void set_input_quantizer(const Linear& linear, InputQuantizer quantizer);
  /// Null where the linear's input stays in floating point.
  const InputQuantizer* input_quantizer(const Linear& linear) const;

  /// How past keys and values are kept; null: in floating point.
  const KvCacheQuantizer* kv_cache() const { return kv_cache_ ? &*kv_cache_ : nullptr; }

  /// What the forward pass multiplies with: rounded to the compute dtype, once for each value that is set.
  DType compute_dtype() const { return compute_; }
  at::Tensor compute_weight(const Linear& linear) const;  // [out, in]
  at::Tensor compute_bias(const Linear& linear) const;    // [out] or undefined

  /// Replaces every tensor by `change(tensor)`: the same values elsewhere.
  void replace_each(const std::function<at::Tensor(const at::Tensor&)>& change);

 private:
  at::Tensor in_compute_dtype(const std::string& name) const;

  DType compute_;
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, InputQuantizer> inputs_;  // by linear
  std::optional<KvCacheQuantizer> kv_cache_;
  mutable std::map<std::string, at::Tensor>
      rounded_;  // copies in the compute dtype, where it is not the held one
};

/// "model.layers.0.self_attn": the module that q, k and v belong to; empty for a block without.
std::string attention_module(const Block& block);

/// cos and sin tables for positions [0, seq), [seq, rotary_dim] FP32, including the scaling's attention
/// factor. The two halves of the last dimension are equal (rotate-half pairing: channel i turns with channel
/// i + rotary_dim / 2; channels from rotary_dim on don't turn). Computed on the CPU and moved, so that every
/// device uses the same values. With dynamic scaling and LongRoPE the frequencies depend on `seq`: rows of
/// one length must be run with tables of that length.
struct RopeTables {
  at::Tensor cos, sin;
  at::Tensor local_cos, local_sin;  // of blocks with local_rope; undefined where the model has none
};
RopeTables rope_tables(const ModelConfig& config, int64_t seq, c10::Device device);

/// Where the router sends tokens: row t goes to expert experts[t, k] and comes back times weights[t, k].
struct Routing {
  at::Tensor experts;  // Long [tokens, per_token], distinct in a row
  at::Tensor weights;  // FP32 [tokens, per_token]

  struct Rows {
    at::Tensor tokens;   // Long [n], ascending
    at::Tensor weights;  // FP32 [n]
  };
  /// Places [token, rank], flattened, in the order of their experts and then their tokens.
  struct Order {
    at::Tensor places;  // Long [tokens * per_token]
    at::Tensor begins;  // Long [count + 1]: where each expert's places begin
  };
  /// What one expert gets; n may be 0. On a GPU the call waits for the device: for all of them by_expert() is
  /// the one to take.
  Rows rows_of(int64_t expert) const;
  /// The same for `count` experts at a time, on the device, which is not waited for.
  Order order(int64_t count) const;
  /// What each of `count` experts gets, in their order; waits for the device once.
  std::vector<Rows> by_expert(int64_t count) const;
};

/// What attention works on, FP32: queries and keys after their norms and rotation, values, [b, heads (KV
/// heads), s, head_dim]; and keys as they are before the rotation, [b, s, kv_heads, head_dim].
struct AttentionInputs {
  at::Tensor queries, keys, values, unrotated_keys;
};

/// The stages of one block. Keeps references to its arguments; a weight that is set between two stages is
/// used by the next. hidden.size(1) must equal the tables' length.
///
/// Dense:   attention_in -> attention_out -> (residual) -> mlp_in -> mlp_mid -> add_mlp.
/// Experts: ... -> mlp_in -> route; for each expert the rows sent to it -> expert_mid -> expert_out, added up
/// with the routing's weights on top of shared_out; -> add_mlp_out. mlp_mid is the shared expert's there.
class BlockForward {
 public:
  BlockForward(const ModelConfig& config, const Block& block, const BlockWeights& weights,
               const RopeTables& rope);

  at::Tensor attention_in(const at::Tensor& hidden) const;  // norm1(h)            [b, s, hidden]
  at::Tensor attention_out(
      const at::Tensor& attention_in) const;  // heads, before o_proj [b, s, heads*head_dim]
  /// What goes into an engine's cache, before it is quantised, [b, kv_heads, s, head_dim]: keys after their
  /// norm and rotation, and values.
  std::pair<at::Tensor, at::Tensor> keys_and_values(const at::Tensor& attention_in) const;
  AttentionInputs attention_inputs(const at::Tensor& attention_in) const;
  at::Tensor add_attention(const at::Tensor& hidden, const at::Tensor& attention_out) const;  // h + o(a)
  at::Tensor mlp_in(const at::Tensor& hidden) const;                                          // norm2(h)
  at::Tensor mlp_mid(const at::Tensor& mlp_in) const;                             // act(gate(y)) * up(y)
  at::Tensor add_mlp(const at::Tensor& hidden, const at::Tensor& mlp_mid) const;  // h + down(z)

  /// y [tokens, hidden] -> where each token goes, exactly as in inference: softmax over all experts in FP32,
  /// the per_token largest, divided by their sum where the block says so.
  Routing route(const at::Tensor& mlp_in) const;
  at::Tensor expert_mid(int64_t expert, const at::Tensor& rows) const;  // [n, hidden] -> [n, width]
  at::Tensor expert_out(int64_t expert, const at::Tensor& mid) const;   // [n, width] -> [n, hidden]
  /// sigmoid(gate(y)) * down(z), z the shared expert's mlp_mid; zeros where the block has none. [..., hidden]
  at::Tensor shared_out(const at::Tensor& mlp_in, const at::Tensor& mlp_mid) const;
  /// What all experts together make of y [b, s, hidden]; `shared_mid` as for shared_out. FP32.
  at::Tensor experts_out(const at::Tensor& mlp_in, const at::Tensor& shared_mid) const;
  /// The same of rows whose way is known, `routed` by expert: the router isn't asked, the device not waited
  /// for.
  at::Tensor experts_out(const at::Tensor& mlp_in, const at::Tensor& shared_mid,
                         const std::vector<Routing::Rows>& routed) const;
  at::Tensor add_mlp_out(const at::Tensor& hidden, const at::Tensor& mlp_out) const;  // h + m

  /// All stages.
  at::Tensor run(const at::Tensor& hidden) const;

  /// Told of each input that is rounded before its product, x [..., in] as it is before.
  using InputWatch =
      std::function<void(const Linear& linear, const at::Tensor& x, const InputQuantizer& quantizer)>;
  void watch_inputs(InputWatch watch) { watch_ = std::move(watch); }

 private:
  const ModelConfig& config_;
  const Block& block_;
  const BlockWeights& weights_;
  const RopeTables& rope_;
  InputWatch watch_;

  at::Tensor normed(const Norm& norm, const at::Tensor& x) const;             // FP32
  at::Tensor linear_input(const Norm& norm, const at::Tensor& hidden) const;  // the compute dtype
  at::Tensor apply(const Linear& linear, const at::Tensor& x) const;
  std::vector<at::Tensor> project(const at::Tensor& attention_in, bool queries) const;
  at::Tensor heads(const Norm& norm, at::Tensor x) const;
  at::Tensor turned_heads(const Norm& norm, const at::Tensor& projected) const;
  at::Tensor rotated(const at::Tensor& x) const;
  at::Tensor attention_to_cache(const std::vector<at::Tensor>& qkv, const KvCacheQuantizer& cache) const;
  at::Tensor gated(std::optional<int64_t> expert, const at::Tensor& x) const;
};

/// Token ids [batch, seq] (int64) -> [batch, seq, hidden], scaled where the family scales embeddings.
at::Tensor embed(const ModelGraph& graph, const at::Tensor& embedding, const at::Tensor& ids);
/// Final norm, head and soft cap: [batch, seq, hidden] -> logits [batch, seq, vocab]. `input`: what the
/// head's input is rounded by; null: it stays as it is.
at::Tensor head(const ModelGraph& graph, const at::Tensor& norm_weight, const at::Tensor& head_weight,
                const at::Tensor& head_bias, const at::Tensor& hidden, const InputQuantizer* input = nullptr);

}  // namespace lathe
