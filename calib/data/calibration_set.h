// The calibration data of a run: from files to the very ids that the model reads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calib/data/data_source.h"
#include "calib/data/document_census.h"
#include "calib/data/token_stream.h"

namespace lathe {

enum class Packing {
  pack,     ///< documents are joined and cut into full samples; the rest is dropped
  document  ///< one document a sample, cut off at seq_len, padded on the right
};

/// "pack", "document".
constexpr std::string_view name_of(Packing packing) { return packing == Packing::pack ? "pack" : "document"; }

struct SampleOptions {
  int64_t samples = 128;
  int64_t seq_len = 512;  // tokens in a sample, at most
  uint64_t seed = 0;      // 0: the first samples; else drawn (choose_samples)
  Packing packing = Packing::pack;
  /// Put in front of every sample that lacks it (cut_samples), seq_len included; empty: nothing is.
  std::optional<int64_t> bos = std::nullopt;
  /// Of files of text only their heads are read: as much as gives the samples, and a MiB of each source's at
  /// least. For a plan, which needs no more of samples than how many and how long they are.
  bool heads = false;
};

/// What became of one source.
struct SourceCounts {
  std::string path, kind;
  std::string file_hash;          // content_hash() of the whole file
  int64_t documents = 0;          // in the file
  int64_t dropped = 0;            // documents shorter than min_tokens
  int64_t absent = 0;             // documents without a value: null or without the field
  int64_t truncated = 0;          // documents that were cut off at seq_len
  int64_t tokens = 0;             // of the documents that are kept, before cutting
  int64_t usable = 0, taken = 0;  // samples; one that spans two sources belongs to that of its first token
  int64_t recut = 0;  // pack: ids in each row of a table of ids that was joined and cut anew; 0: it wasn't
  int64_t taken_tokens = 0;  // its own tokens in the samples taken, whichever source those belong to
  /// The part of the file that was read. Below 1 (SampleOptions::heads) there is no file_hash, and what is
  /// said of all the file is what that part would make of it.
  double read = 1;
};

struct CalibrationSet {
  at::Tensor ids;                // Long [samples, length] on the CPU; padding is id 0
  std::vector<int64_t> lengths;  // ids of each sample, padding behind them; empty: all of them
  /// Float, as ids: how often each counts in Hessians; undefined: once. 0: in no statistic, as context alone.
  at::Tensor token_weights;
  std::vector<SourceCounts> sources;
  int64_t usable = 0;         // samples that the data gives
  int64_t with_bos = 0;       // samples that BOS was put in front of
  int64_t unused_tokens = 0;  // pack: left over after the last full sample (of each source of a mix)
  DocumentCensus census;      // of the documents that samples were taken of

  bool whole() const;              // was all of the sources read?
  int64_t tokens() const;          // in `ids` that count
  int64_t context_tokens() const;  // in `ids` of weight 0
};

/// Reads every source, cuts it into samples and takes options.samples of them.
///
/// Sources without weights and own sample counts are one text, in order. Where a source has either, each
/// gives its own samples: its count, or its share by weight (1 where it has none) of what the counts leave
/// (split_by_weight). Samples stand in the order of the sources and, within one, of the file.
///
/// With options.heads the samples of a file that is longer than its head are the first ones, or drawn of
/// those that the head gives: as many as a run's, not the same.
///
/// The result depends on the arguments and the files' bytes alone. Where the ids of all documents, from which
/// samples are drawn, would not fit encoder.max_ram, files are read a second time for those that were drawn.
/// UserError as append() in token_stream.h; as check_reading() in reading_limit.h, before anything is read;
/// no source; counts beyond options.samples; with packing pack, a source whose rows are samples of their
/// own (has_row_lengths): joined and cut anew they would be other samples; too few usable samples, saying
/// how many are lacking; and samples of which no token counts.
CalibrationSet build_calibration_set(const std::vector<DataSource>& sources, const SampleOptions& options,
                                     const Encoder& encoder);

/// "xxh3-128:" and 32 hex digits over the ids (Long, any shape) as little-endian int64 in row-major order,
/// followed by the lengths and the tokens' weights (Float) where there are any: what `xxhsum -H2` prints for
/// the same bytes. Two runs with equal hashes were calibrated on the same tokens.
std::string ids_hash(const at::Tensor& ids, const std::vector<int64_t>& lengths = {},
                     const at::Tensor& token_weights = {});

}  // namespace lathe
