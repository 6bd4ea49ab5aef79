// LATHE_CLONES: compiles a vectorisable loop for three instruction sets; the best one is chosen when the
// program starts. With -ffp-contract=off and a fixed order of operations the results are the same in all.
#pragma once

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LATHE_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define LATHE_CLONES  // sanitizers instrument the resolvers, which run before the sanitizer is ready
#endif
