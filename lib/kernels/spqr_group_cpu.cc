// SpQR's column loop on the CPU: threads over rows, which don't depend on each other. Compiled like
// group_quant_cpu.cc.
#include <ATen/Parallel.h>

#include "lib/kernels/spqr_group_rows.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

constexpr int64_t kRowsPerThread = 64;

// target_clones takes no templates.
LATHE_CLONES void round_rows(const SpqrGroup<float>& group, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) device::round_spqr_row(group.row(r), group.columns);
}
LATHE_CLONES void round_rows(const SpqrGroup<double>& group, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) device::round_spqr_row(group.row(r), group.columns);
}

}  // namespace

void spqr_group(const SpqrGroup<float>& group) {
  at::parallel_for(0, group.rows, kRowsPerThread,
                   [&](int64_t begin, int64_t end) { round_rows(group, begin, end); });
}
void spqr_group(const SpqrGroup<double>& group) {
  at::parallel_for(0, group.rows, kRowsPerThread,
                   [&](int64_t begin, int64_t end) { round_rows(group, begin, end); });
}

}  // namespace lathe::kernels::cpu
