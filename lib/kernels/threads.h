// CPU threads of parallel loops.
#pragma once

namespace lathe::kernels {

/// From now on the calling thread's parallel loops run on that thread alone; other threads keep their count.
/// For background work beside a computation that has the cores.
void stay_on_one_thread();

}  // namespace lathe::kernels
