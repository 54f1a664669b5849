#include "lieq/base/free_memory.h"

#include <malloc.h>

namespace lieq {

void ReturnFreedMemory() noexcept {
#if defined(__GLIBC__)
  (void)::malloc_trim(0);
#endif
}

}  // namespace lieq
