// Memory on pages of 2 MiB, where the system has them.
//
// A stream of codes meets a new page of 4 KiB every few hundred nanoseconds, and each one that is
// touched for the first time costs as much as packing it. A matrix of a small model is smaller than
// a large page, or lies across two: so what is held together is cut from the same slabs.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>

namespace lieq {

class LargePages {
 public:
  /// Bytes of a slab, the address space that blocks are cut from; memory is taken as it is touched.
  explicit LargePages(std::size_t slab_bytes = std::size_t{64} << 20) : slab_bytes_(slab_bytes) {}

  /// Zeros, 64-byte aligned; an empty one of 0 bytes. A slab is given back with the last block that
  /// lies in it. Any thread may ask. Throws std::bad_alloc.
  [[nodiscard]] std::shared_ptr<std::byte> Take(std::size_t bytes);

 private:
  std::mutex mutex_;
  const std::size_t slab_bytes_;
  std::shared_ptr<std::byte> slab_;  // that the next blocks are cut from, while it lasts
  std::size_t size_ = 0, used_ = 0;  // of it
};

}  // namespace lieq
