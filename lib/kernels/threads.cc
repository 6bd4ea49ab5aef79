#include "lib/kernels/threads.h"

#include <ATen/Parallel.h>
#include <omp.h>

namespace lathe::kernels {

void stay_on_one_thread() {
  at::get_num_threads();  // ATen sets a thread's count at its first parallel call: let that be before
  omp_set_num_threads(1);
}

}  // namespace lathe::kernels
