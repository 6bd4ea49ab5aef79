// --max-ram while files of text or ids are read: before anything is planned.
#pragma once

#include <cstdint>
#include <span>

#include "calib/data/data_source.h"
#include "calib/data/token_stream.h"

namespace lathe {

/// Refuses sources that can't be read, one after the other, within encoder.max_ram, before any is, with what
/// would do: UserError naming the one that needs most. `kept`: bytes of ids that are held until all are read.
/// What reading adds to the process follows from the files' sizes and headers, and of JSON lines from the
/// longest one (readers.h). Returns what the limit leaves for more ids (without a limit: all).
///
/// A file is blamed only for what it adds: 16 MiB or more. A limit that the program by itself exceeds is
/// refused by the plan of the run, which knows the least that would do.
uint64_t check_reading(std::span<const DataSource> sources, const Encoder& encoder, uint64_t kept);

/// Watches one file where it takes more than its header could tell: a row group of Parquet with one long
/// document among short ones, a chat template that writes much, the ids of a text that is used as a whole.
class ReadingLimit {
 public:
  /// Both must outlive this. keeps_all: the ids of the whole file.
  ReadingLimit(const DataSource& source, const Encoder& encoder, bool keeps_all);
  /// UserError, naming the file and what would do, where the process has taken more than the limit.
  void check() const;

 private:
  const DataSource& source_;
  const Encoder& encoder_;
  bool keeps_all_;
  uint64_t before_;
};

}  // namespace lathe
