// Functions whose loops are worth more than one instruction set.
#pragma once

// LIEQ_FOR_EACH_SET before a function: one body for each set, with all that it calls inside, and
// the best that the processor has is taken when the program starts. All of them add and round in
// the same order (no contraction), so results do not depend on it. Sanitizers run before that
// choice can be made, and other compilers and processors have one set.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LIEQ_FOR_EACH_SET [[gnu::target_clones("avx512f", "avx2", "default"), gnu::flatten]]
#else
#define LIEQ_FOR_EACH_SET
#endif
