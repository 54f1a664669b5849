#include "lieq/base/large_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>

namespace lieq {
namespace {

constexpr std::size_t kPage = std::size_t{1} << 21, kAlignment = 64;

constexpr std::size_t RoundedUp(std::size_t bytes, std::size_t step) {
  return (bytes + step - 1) / step * step;
}

/// Whole pages from the beginning of one on. `bytes` is a multiple of kPage.
std::shared_ptr<std::byte> NewSlab(std::size_t bytes) {
  const std::size_t mapped = bytes + kPage;
  void* begin = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (begin == MAP_FAILED) throw std::bad_alloc();
  const auto first = RoundedUp(reinterpret_cast<std::uintptr_t>(begin), kPage);
  auto* slab = reinterpret_cast<std::byte*>(first);
#if defined(MADV_HUGEPAGE)
  (void)::madvise(slab, bytes, MADV_HUGEPAGE);  // where it fails, pages are small
#endif
  return {slab, [begin, mapped](std::byte*) { ::munmap(begin, mapped); }};
}

}  // namespace

std::shared_ptr<std::byte> LargePages::Take(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  if (bytes > SIZE_MAX - 2 * kPage) throw std::bad_alloc();
  const std::size_t taken = RoundedUp(bytes, kAlignment);
  const std::scoped_lock lock(mutex_);
  if (taken <= size_ - used_) {
    std::byte* block = slab_.get() + used_;
    used_ += taken;
    return {slab_, block};
  }
  const std::size_t size = RoundedUp(std::max(taken, slab_bytes_), kPage);
  std::shared_ptr<std::byte> slab = NewSlab(size);
  if (size - taken > size_ - used_) {  // the one with more room is cut on
    slab_ = slab;
    size_ = size;
    used_ = taken;
  }
  return slab;
}

}  // namespace lieq
