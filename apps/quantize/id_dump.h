// --dump-ids: the calibration ids as a file.
#pragma once

#include "apps/quantize/requests.h"
#include "calib/data/calibration_set.h"
#include "recipes/recipe.h"

namespace lathe {

/// Whether dump_ids() may write its file, known before anything is read. UserError for another extension than
/// .safetensors and .npy, a file that exists (unless --overwrite), and, whatever the flags, a file that the
/// run reads or that lies in the model's or the output's folder (which is made anew).
void check_id_dump(const RunRequest& request, const Recipe& recipe);

/// Writes the file, where one is asked for. UserError as write_ids_file().
void dump_ids(const RunRequest& request, const CalibrationSet& set);

}  // namespace lathe
