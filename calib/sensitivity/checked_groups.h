// Groups whose KL is measured where the estimate by Fisher's information stands for it: a few of them, so
// that it is known how far the estimate is to be believed, at a small part of what measuring all would cost.
#pragma once

#include <cstdint>
#include <vector>

#include "calib/sensitivity/sensitivity.h"

namespace lathe {

/// Indices of `count` of the job's groups, in rising order: in equal parts of each role, and of these evenly
/// over the depth. All of them where there are no more.
std::vector<size_t> spread_groups(const SensitivityJob& job, int64_t count);

/// The job that measures KL of `job.checked` alone, under all that is tried on them, on four of its held-out
/// rows at most, evenly spread: KL needs far fewer tokens than the estimate does. No groups where none is
/// checked.
SensitivityJob checking_job(const SensitivityJob& job);

}  // namespace lathe
