// What the forward pass takes, counted from the graph.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/model/graph.h"

namespace lathe {

struct ForwardWork {
  double products = 0;   // FLOPs of linears: 2 x tokens x out x in
  double attention = 0;  // FLOPs of q k^T and of what it weighs: 4 x head size x heads x pairs of tokens
  double values = 0;     // between products: norms, rotation, gates, sums; each is read and written once

  double flops() const { return products + attention; }
  ForwardWork& operator+=(const ForwardWork& other) {
    products += other.products;
    attention += other.attention;
    values += other.values;
    return *this;
  }
};

/// Pairs of a token with one that it sees, itself included, in a row of `length`.
double seen_pairs(int64_t length, std::optional<int64_t> window);

/// Tokens of `tokens` that reach a linear: all, or an expert's even share of what the router sends.
double tokens_of(const Block& block, const Linear& linear, double tokens);

/// The linears that read a slot, on the tokens that reach them: 2 x tokens x out x in, summed.
double slot_products(const Block& block, Slot slot, double tokens);
/// Attention alone.
double attention_work(const ModelConfig& config, const Block& block, int64_t samples, int64_t length);
/// One pass through the block.
ForwardWork block_work(const ModelConfig& config, const Block& block, int64_t samples, int64_t length);

}  // namespace lathe
