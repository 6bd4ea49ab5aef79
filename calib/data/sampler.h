// Which samples a run takes: ours, so that a seed names the same samples on every machine.
#pragma once

#include <cstdint>
#include <vector>

namespace lathe {

/// `samples` of the numbers 0 ... count - 1, ascending; 0 <= samples <= count. Seed 0 takes the first ones,
/// so that a run is comparable with tools that read a text from its start. Any other seed draws without
/// replacement (Fisher-Yates over SplitMix64).
std::vector<int64_t> choose_samples(int64_t count, int64_t samples, uint64_t seed);

/// The seed of the source number `index` of a mix: `seed` itself for the first one and where it is 0, else
/// one that is drawn from it, so that sources do not repeat each other's choices.
uint64_t seed_of_source(uint64_t seed, size_t index);

/// Splits `total` >= 0 by `weights` (each > 0): every part gets the whole number below its exact share, and
/// what is left goes to the largest remainders (Hamilton's method), the earlier one among equals.
std::vector<int64_t> split_by_weight(int64_t total, const std::vector<double>& weights);

}  // namespace lathe
