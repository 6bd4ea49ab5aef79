// Collects the statistics of one linear input while its values are produced.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "calib/stats/channel_sums.h"
#include "calib/stats/gram.h"
#include "calib/stats/input_stats.h"
#include "calib/stats/row_chunker.h"
#include "calib/stats/token_runs.h"
#include "calib/stats/token_sample.h"
#include "lib/tensor/deferred_checks.h"

namespace lathe {

/// "sample 12, token 37" for the n-th token that a collector was shown, masked ones counted.
using TokenNamer = std::function<std::string(int64_t token)>;

/// Takes any number of observations. Tokens are taken kChunkTokens at a time, wherever observations begin and
/// end, so the same tokens in the same order give the same bits for every batch size and number of threads.
/// Up to one chunk waits in a buffer, which holds no more rows than were observed.
///
/// Two collectors over consecutive tokens merge to the whole: exactly for extrema, counts and distributions;
/// for sums but for FP64 rounding before the one rounding to FP32, if the first ends with a chunk, else also
/// for the FP32 rounding within the chunk that was cut (their headers say how much).
class StatsCollector {
 public:
  static constexpr int64_t kChunkTokens = 2048;
  /// Tokens of one product of a GPU: their sum's way to memory and back costs as much for fewer. On a CPU
  /// products are of chunks.
  static constexpr int64_t kProductTokens = 8192;

  /// `where` names the input in errors ("model.layers.3, input attention_in"); `name_token` names tokens
  /// there.
  StatsCollector(StatSet wanted, int64_t width, c10::Device device, std::string where,
                 TokenNamer name_token = {});
  StatsCollector(StatsCollector&&) = default;  // a copy would share the sums
  StatsCollector& operator=(StatsCollector&&) = default;

  /// x: [..., in] on the collector's device, Float, Half or BFloat16, one type in all observations (on the
  /// CPU the halves are converted to FP32). mask: Bool, one element a token, true where it counts; undefined:
  /// all do; best on the CPU, since one on a GPU has to be waited for. weights: Float >= 0, one a token, for
  /// Gram matrices and mean squares; in all observations or in none. One that counts and is negative, NaN or
  /// infinite is an InternalError: at once where weights are on the CPU, else in finish().
  ///
  /// Values that are NaN, infinite or beyond 2^58 (their squares overflow FP32) are a UserError that names
  /// place, token and channel, and the collector is of no use after that: on the CPU as soon as their chunk
  /// is complete, on a GPU in finish(), so that nothing waits for the device before. Masked tokens may hold
  /// anything.
  void observe(const at::Tensor& x, const at::Tensor& mask = {}, const at::Tensor& weights = {});
  /// The same with the value that the reference stream has there; needed where cross_gram is wanted.
  void observe_pair(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& mask = {},
                    const at::Tensor& weights = {});

  /// Gram matrices are of the first tokens alone: as many products as hold `tokens`, so that they are the
  /// same for every batch size (InputStats::gram_tokens). Before anything is observed; no such collector is
  /// merged.
  void limit_gram(int64_t tokens) { gram_limit_ = tokens; }

  /// Adds what `other` was shown after this one. Ends the chunk that was begun here. `other` stays as it is
  /// (but not const: waiting sums are completed).
  void merge(StatsCollector& other);

  /// Tokens that counted so far.
  int64_t tokens() const { return places_.runs.rows(); }

  /// At least one token must have counted. Ends the chunk that was begun, and the collector: Gram sums are
  /// let go while they become statistics, since the two together would be twice as large. `later`: on a GPU
  /// the check for values that are not finite is left there, so that the host doesn't wait for it; until it
  /// is read, the statistics may hold NaN. Null: they don't.
  InputStats finish(DeferredChecks* later = nullptr);

 private:
  /// What errors name. A check that is read later holds a copy.
  struct Places {
    std::string where;
    TokenNamer name_token;
    int64_t width;
    TokenRuns runs;  // of all counted rows, those that wait included

    /// "model.layers.3, input mlp_in: the activation of sample 12, token 37, channel 5" of an element of the
    /// counted rows.
    std::string name(int64_t element, const char* stream) const;
  };

  ObservedRows counted_rows(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& mask,
                            const at::Tensor& weights);
  bool multiplies_apart() const { return (gram_ || cross_gram_) && !device_.is_cpu(); }
  void observe_rows(const ObservedRows& rows);
  /// Whole chunks, but for the last of all.
  void take(const ObservedRows& rows);
  void take_weights(const ObservedRows& chunk);
  void multiply(const ObservedRows& rows);
  /// What a token's share of the Gram matrix is one part of; `all` where all tokens are in it.
  double gram_weight(double all) const;
  at::Tensor on_device(const at::Tensor& weights) const;
  void check_weights(const at::Tensor& weights) const;
  void flush();
  /// Refuses what `sums` found bad in `rows`, the last ones it took.
  void check(const ChannelSumsCollector& sums, const at::Tensor& rows, const char* stream) const;
  /// The same of all rows, which are gone, when `checks` are read.
  void check_later(const ChannelSumsCollector& sums, const char* stream, DeferredChecks& checks) const;

  StatSet wanted_;
  int64_t width_ = 0;
  c10::Device device_;
  Places places_;

  RowChunker chunker_{kChunkTokens, kernels::kMaxMomentChunks}, products_{kProductTokens};
  int64_t seen_ = 0;  // tokens, masked ones included
  int64_t gram_limit_ = std::numeric_limits<int64_t>::max();
  int64_t multiplied_ = 0;     // tokens in Gram matrices,
  at::Tensor multiplied_sum_;  // and the sum of their weights: Double [], where there is a limit
  at::Tensor weight_sum_;      // Double [], where tokens have weights
  at::Tensor lowest_weight_;   // Float []

  ChannelSumsCollector sums_;
  std::optional<ChannelSumsCollector> reference_;  // checks it
  std::optional<ChannelSumsCollector> weighted_;   // squares, where tokens have weights
  EmaMinMaxCollector ema_;
  StepMinMaxCollector steps_;
  std::optional<GramCollector> gram_;
  std::optional<CrossGramCollector> cross_gram_;
  std::optional<DistributionCollector> distribution_;
  std::optional<ChannelDistributionCollector> channel_distribution_;
  std::optional<TokenSample> sample_;
  std::vector<at::Tensor> token_low_, token_high_;
};

}  // namespace lathe
