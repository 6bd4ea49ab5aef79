// One artefact's codes, scales and zero points in another format, without calibrating again.
#pragma once

#include "apps/quantize/requests.h"

namespace lathe {

/// Reads one linear at a time, writes it, and compares what stands on disk with what was read. Weights and
/// configuration are those of a run straight into the format. UserError where the folder is not quantised,
/// or where the format can't hold its codes exactly: known before anything is written. CheckFailed as
/// require_none().
void run_convert(const ConvertRequest& request);

}  // namespace lathe
