// Attention on the processor: scores of a tile of queries, softmax, values.
#pragma once

#include <algorithm>
#include <span>

#include "lieq/base/thread_pool.h"
#include "lieq/device/cpu/kernels.h"
#include "lieq/device/cpu/products.h"
#include "lieq/device/cpu/row_cache.h"
#include "lieq/device/device.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Rows of scores in one softmax block: by shapes alone, so that results do not depend on the
/// number of threads.
inline constexpr Index kAttentionRows = 128;

/// Of the `visible` tokens up to one, those that lie too far back for it.
[[nodiscard]] constexpr Index BeyondWindow(Index visible, Index window) noexcept {
  return window == 0 ? 0 : std::max<Index>(0, visible - window);
}

class CpuAttention {
 public:
  /// All outlive this.
  CpuAttention(ThreadPool& pool, const KernelSet& kernels, WorkerScratch& scratch)
      : pool_(pool), kernels_(kernels), scratch_(scratch) {}

  /// As Device::Attention.
  void Attend(View<const float, 2> q, View<const float, 2> k, View<const float, 2> v,
              const AttentionHeads& heads, std::span<const AttentionSpan> spans,
              View<float, 2> out);
  /// As Device::CachedAttention. Both caches have one type.
  void Attend(View<const float, 2> q, const CpuRowCache& k, const CpuRowCache& v,
              const AttentionHeads& heads, std::span<const AttentionSpan> spans,
              View<float, 2> out);

 private:
  struct GroupTask;  // query heads that share a key head, over some tokens of a span
  void Run(const GroupTask& task, int worker);
  void Softmax(float* scores, float scale, float cap, Index count) const;

  ThreadPool& pool_;
  const KernelSet& kernels_;
  WorkerScratch& scratch_;
};

}  // namespace lieq
