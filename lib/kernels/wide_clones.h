// LATHE_WIDE_CLONES(name, (parameters), arguments...): void name(parameters), compiled for three instruction
// sets as LATHE_CLONES are, which calls name_of<wide>(arguments...), to be inlined. `wide` where there are
// vectors of 16 lanes (lanes.h): g++ 12 makes scalar code of their comparisons and shuffles for any other
// set, where it vectorises a plain loop.
#pragma once

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LATHE_WIDE_CLONES(name, parameters, ...)                                             \
  __attribute__((target("default"))) void name parameters { name##_of<false>(__VA_ARGS__); } \
  __attribute__((target("avx2"))) void name parameters { name##_of<false>(__VA_ARGS__); }    \
  __attribute__((target("avx512f"))) void name parameters { name##_of<true>(__VA_ARGS__); }
#else  // as in target_clones.h
#define LATHE_WIDE_CLONES(name, parameters, ...) \
  void name parameters { name##_of<true>(__VA_ARGS__); }
#endif
