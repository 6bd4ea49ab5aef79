// What serving a model takes of a GPU's memory, and which shipped recipe makes it fit: `quantize advise`.
//
//   weights      each linear at its scheme's bits with scales and zero points; all else (embeddings, head,
//                norms) in 16
//   KV cache     2 x KV heads x head size x tokens x bytes a layer; with a sliding window no more tokens than
//                that; of multi-head latent attention (rank + rotary part) x tokens x bytes
//   activations  of the tokens of one step, kStepTokens at most, as vLLM's chunked prefill takes them: the
//                residual stream twice, q, k, v and attention's output, gate, up and their product (of a
//                mixture of experts those of a token's experts), in 16 bits; and a row of FP32 logits a
//                sequence
//   on several   each GPU has its share, but all of the residual stream and of the logits, and of keys' and
//   GPUs         values' weights and cache a whole head where there are fewer heads than GPUs
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/numeric/scheme.h"
#include "recipes/gpu_table.h"

namespace lathe {

/// A model as a server sees it.
struct ServedModel {
  struct Matrix {
    int64_t out = 0, in = 0;
    bool expert = false;     // one of a router's
    bool cut_input = false;  // its inputs, not its outputs, are divided between GPUs: o_proj, down_proj
    int64_t kv_rows = 0;     // outputs that are keys or values
  };
  /// A layer's cache: values that a token leaves in it, for the last `window` tokens (0: for all).
  struct Cache {
    int64_t values = 0, window = 0;
  };

  std::string family;
  int64_t parameters = 0;            // of all tensors
  std::vector<Matrix> linears = {};  // that recipes quantise
  int64_t floating = 0;              // weights in all other tensors
  std::vector<Cache> cache = {};     // by layer
  /// Widths; `intermediate` of all that a token's MLPs have.
  int64_t hidden = 0, intermediate = 0, attention = 0, kv = 0, vocabulary = 0;
  int64_t experts = 0, experts_per_token = 0;  // that a router has, and chooses; 0: there is none
  /// Of attention; 0: not known. Latent attention keeps one vector for all of them.
  int64_t heads = 0, kv_heads = 0;
  bool latent = false;
  int64_t positions = 0;  // that it was made for, rotary scaling counted; 0: not given
};

inline constexpr int64_t kStepTokens = 8192;
/// What a server takes of a GPU's memory (vLLM's gpu_memory_utilization).
inline constexpr double kServerShare = 0.9;
/// Sequences from which on products are bound by arithmetic, no longer by reading weights: about the ratio of
/// 16-bit FLOPs to bytes of an A100 (156) over the 4 weights that 4 bits make of 16.
inline constexpr int64_t kComputeBound = 32;
/// How many GPUs are thought of at most.
inline constexpr int kMostGpus = 64;
inline constexpr std::array<int, 4> kCacheBits = {16, 8, 4, 2};

/// What a cache or activations too large to count are said to take: sums of a few stay in 63 bits.
inline constexpr uint64_t kMostServedBytes = uint64_t{1} << 60;

/// The cache of `batch` sequences of `context` tokens each, `bits` a value, in bytes; kMostServedBytes at
/// most.
uint64_t kv_cache_bytes(const ServedModel& model, int64_t context, int64_t batch, double bits);
/// Bytes; kMostServedBytes at most.
uint64_t activation_bytes(const ServedModel& model, int64_t context, int64_t batch);
/// Those of them that are not divided between GPUs: the residual stream and the logits.
uint64_t undivided_bytes(const ServedModel& model, int64_t context, int64_t batch);

/// The share of a router's experts whose weights one step of `batch` sequences reads, where tokens choose
/// evenly: 1 - (1 - chosen / all)^batch. 1 without experts.
double experts_read(const ServedModel& model, int64_t batch);

/// Weights of one width, with the shipped recipes that write them.
struct Precision {
  std::string name;              // "INT4"
  int bits = 16;                 // of a weight alone
  std::optional<Scheme> scheme;  // none: 16 bits
  std::string recipe;            // weights alone are quantised; "recipes/awq.yaml"
  std::string both;              // activations, too; empty: there is none
  std::string arithmetic;        // what products are computed in, where activations are quantised, too
  /// As reported of LLaMA-2-70B on WikiText-2; what a smaller model loses is more. None: not reported.
  std::optional<double> perplexity = std::nullopt;
};
/// FP16, FP8, INT8, INT4, NVFP4.
const std::vector<Precision>& precisions();

/// How a precision's weights come out for one model.
struct WeightSize {
  uint64_t nominal = 0;  // every parameter at the precision's bits
  uint64_t bytes = 0;    // as the recipe writes them
  /// Where not the recipe's own: the largest of 64 and 32 that divides all linears' inputs.
  int64_t group_size = 0;
  int64_t kept = 0;  // linears that stay in 16 bits, for no group divides them
  /// Experts are read without zero points: the recipe has to be told, where its own scheme has some.
  bool made_symmetric = false;
  uint64_t expert_bytes = 0;  // of `bytes`: a router's experts
  uint64_t kv_bytes = 0;      // of `bytes`: rows of keys and values
};
WeightSize weight_size(const ServedModel& model, const Precision& precision);

/// "13.48 GB", "4.6 MB": decimal, as GPUs are sold.
std::string decimal_bytes(uint64_t bytes);

/// How a sum stands to a GPU's memory.
enum class Fit { fits, tight, no };  // within kServerShare of it; within all of it; beyond it
std::string_view name_of(Fit fit);

struct Deployment {
  uint64_t memory = 0;       // bytes
  const Gpu* gpu = nullptr;  // null: its memory is all that is known
  int64_t context = 4096, batch = 1;
};

struct AdviceRow {
  const Precision* precision = nullptr;
  WeightSize weights;
  int64_t left = 0;  // of the memory, beside weights; negative where they don't fit
  std::array<uint64_t, kCacheBits.size()> total{};  // weights, activations and the cache of these bits
  std::array<Fit, kCacheBits.size()> fit{};
  /// Of context that would fit for each sequence of the batch.
  std::array<int64_t, kCacheBits.size()> tokens{};
  /// Of tensor parallelism: those of Advice that these weights' groups can be cut at.
  std::vector<int> degrees;
};

struct Advice {
  std::vector<AdviceRow> rows;  // as precisions()
  std::array<uint64_t, kCacheBits.size()> cache{};
  uint64_t activations = 0;
  uint64_t undivided = 0;        // of these: on every GPU
  std::optional<size_t> chosen;  // of `rows`; nothing: not even with kMostGpus
  size_t cache_bits = 0;         // its place in kCacheBits
  std::string recipe;            // the shipped one
  /// What it has to be told for this model, `--set` each: "rules[0].scheme.symmetric=true".
  std::vector<std::string> settings;
  bool sixteen_bits_fit = false;  // with room to spare, on one GPU: the memory asks for nothing
  int gpus = 1;                   // that it takes, each with its share of weights, cache and activations
  std::vector<int> degrees;       // of tensor parallelism that vLLM has for the model: parallel_degrees()
  /// How often the cache stands on these GPUs together (recipes/parallel_degrees.h).
  int64_t cache_copies = 1;
  int64_t head_copies = 1;       // the same of the weights that make keys and values
  std::vector<std::string> why;  // sentences
  std::vector<std::string> warnings;
};

/// Bytes of a row on all of the advised GPUs together, with the cache of kCacheBits[bits].
uint64_t on_all_gpus(const Advice& advice, const AdviceRow& row, size_t bits);
/// Parts of it: weights, activations and cache.
uint64_t weights_on_all(const Advice& advice, const AdviceRow& row);
uint64_t activations_on_all(const Advice& advice);
/// What of it one step of decoding reads: weights but for experts that no token chose, and the cache.
uint64_t read_in_a_step(const ServedModel& model, const Deployment& place, const Advice& advice);

/// "FP8 in vLLM: --kv-cache-dtype fp8, ..."; where the GPU isn't known, with the generations that have it.
std::string describe(const ServedCache& cache, const Gpu* gpu);

/// Precisions in the order in which they suit the GPU, the first whose sum with a cache of 16 or 8 bits fits.
Advice advise(const ServedModel& model, const Deployment& deployment);

}  // namespace lathe
