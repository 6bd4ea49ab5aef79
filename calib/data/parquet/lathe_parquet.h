// The functions of liblathe_parquet.so: columns of a Parquet file, row by row.
//
// A module of its own, opened when a .parquet file is read (parquet_reader.cc): Arrow and Parquet are 60 MB
// of libraries that no other run needs. Plain C types, so that no C++ library type crosses the boundary; no
// exception does either.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

enum LatheParquetKind : int32_t {
  kLatheParquetNull = 0,
  kLatheParquetText = 1,  // bytes of a string or binary cell; not checked for UTF-8
  kLatheParquetJson = 2,  // anything else (numbers, lists, structs), as JSON in UTF-8
};

struct LatheParquetCell {
  LatheParquetKind kind;
  const char* data;  // valid during the call; not terminated
  size_t size;
};

/// Called for each row, counted from 0, with a cell of each column asked for, in that order; other than 0
/// stops the reading.
typedef int (*LatheParquetVisit)(void* context, int64_t row, const LatheParquetCell* cells);
/// Called for each top-level column with its name and Arrow type, both terminated.
typedef void (*LatheParquetColumn)(void* context, const char* name, const char* type);

/// 0: fine. 1: `error` (of `error_size` bytes, terminated) says why not.
int lathe_parquet_columns(const char* path, LatheParquetColumn column, void* context, char* error,
                          size_t error_size);

/// What a file's footer says of columns.
struct LatheParquetSizes {
  uint64_t rows;          // of the file
  uint64_t bytes;         // uncompressed
  uint64_t group_bytes;   // of them in the row group that has most
  uint64_t group_values;  // numbers and strings in the one that has most
  uint64_t batch_bytes;   // of as many rows as are read together, on the average
};
/// 0: fine. 1: `error` says why not. `names`: `count` top-level columns of the file.
int lathe_parquet_sizes(const char* path, const char* const* names, size_t count, LatheParquetSizes* sizes,
                        char* error, size_t error_size);

/// 0: read, or stopped by `visit`. 1: `error` says why not. `names`: `count` top-level columns of the file.
int lathe_parquet_read(const char* path, const char* const* names, size_t count, LatheParquetVisit visit,
                       void* context, char* error, size_t error_size);
}
