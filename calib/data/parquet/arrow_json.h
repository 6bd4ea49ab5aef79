// A cell of an Arrow array as JSON.
#pragma once

#include <arrow/array.h>

#include <nlohmann/json.hpp>

namespace lathe::parquet_module {

/// Lists become arrays, structs objects (fields in the schema's order), nulls null. Throws
/// std::runtime_error naming the type for what has no place in calibration data (timestamps, decimals, maps).
nlohmann::ordered_json json_of(const arrow::Array& array, int64_t index);

}  // namespace lathe::parquet_module
