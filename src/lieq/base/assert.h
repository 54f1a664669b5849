// Internal invariants: on in the dev and sanitizer presets, never reachable by input.
#pragma once

#include <cstdio>
#include <cstdlib>

#ifdef LIEQ_ENABLE_ASSERTS
#define LIEQ_ASSERT(condition)                                                               \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
#else
#define LIEQ_ASSERT(condition) ((void)sizeof(!(condition)))
#endif
