// A BlockOutcome as bytes and back, bit for bit.
//
// In order of declaration (outcome_fields.h), as values stand in memory: a journal is read by the build and
// on the kind of machine that wrote it. Lengths (u64) go before texts, vectors and maps, a byte before
// optionals. Linears and edges are numbers in their block. Tensors: a form (u8), dtype (i8), dimensions (u8),
// sizes (i64 each), values. Those of one byte a value are packed in as many bits as their range takes (codes
// of 4 bits take 4): least value (u8), bits (u8), and words as formats/targets/bitpack.h has them, in one
// row, or a row for each of a wide matrix. FP32 values that are all numbers of a shorter type, as a
// checkpoint's weights are, stand in that: its dtype (i8), values. A large tensor that stood before is its
// number (u64) among the large ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "calib/driver/driver.h"
#include "lib/model/graph.h"

namespace lathe {

/// Bytes that write_outcome() gives.
uint64_t outcome_bytes(const BlockOutcome& outcome, const ModelGraph& graph);
/// The outcome's linears and edges are the graph's; its tensors are on the CPU.
void write_outcome(const BlockOutcome& outcome, const ModelGraph& graph,
                   const std::function<void(std::span<const std::byte>)>& sink);
/// UserError where the bytes are no outcome for this graph, whatever they are.
BlockOutcome read_outcome(std::span<const std::byte> bytes, const ModelGraph& graph);

}  // namespace lathe
