// The ids of a calibration set as a file that other tools read, and that Lathe reads back as a data source.
#pragma once

#include <filesystem>

#include "calib/data/calibration_set.h"

namespace lathe {

/// UserError for another extension than .safetensors and .npy.
void check_ids_file(const std::filesystem::path& file);

/// .safetensors: "input_ids" I64 [samples, length] and, where samples differ in length, "lengths" I64
/// [samples], and where tokens have weights, "token_weights" F32 as the ids. .npy: int64 [samples, length];
/// UserError where samples differ in length or tokens have weights, which it can't say.
/// UserError naming the file where the disk fails; then the old file stands there, or none.
void write_ids_file(const std::filesystem::path& file, const CalibrationSet& set);
/// Is that what write_ids_file() writes? UserError where it can't be read.
bool holds_ids(const std::filesystem::path& file, const CalibrationSet& set);

}  // namespace lathe
