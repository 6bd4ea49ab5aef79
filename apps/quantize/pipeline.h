// What the command line does, as lists of passes.
#pragma once

#include "apps/quantize/requests.h"

namespace lathe {

/// `quantize --recipe ...`: checkpoint in, artefact and report out (or only the plan, with --dry-run).
void run_pipeline(const RunRequest& request);

/// `quantize eval ...`: perplexity, and divergence from a reference.
void run_eval(const EvalRequest& request);

}  // namespace lathe
