// LATHE_CLONES: compiles a vectorisable loop for three instruction sets; the best one is chosen when the
// program starts. With -ffp-contract=off and a fixed order of operations the results are the same in all.
//
// LATHE_WIDE_CLONES(name, (parameters), arguments...): void name(parameters), which calls
// name_of<wide>(arguments...), to be inlined. `wide` where the instruction set has vectors of 16 lanes
// (lanes.h): g++ 12 makes scalar code of their comparisons and shuffles for any other, where it vectorises a
// plain loop.
#pragma once

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LATHE_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#define LATHE_WIDE_CLONES(name, parameters, ...)                                             \
  __attribute__((target("default"))) void name parameters { name##_of<false>(__VA_ARGS__); } \
  __attribute__((target("avx2"))) void name parameters { name##_of<false>(__VA_ARGS__); }    \
  __attribute__((target("avx512f"))) void name parameters { name##_of<true>(__VA_ARGS__); }
#else
#define LATHE_WIDE_CLONES(name, parameters, ...) \
  void name parameters { name##_of<true>(__VA_ARGS__); }
#define LATHE_CLONES  // sanitizers instrument the resolvers, which run before the sanitizer is ready
#endif
