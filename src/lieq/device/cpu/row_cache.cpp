#include "lieq/device/cpu/row_cache.h"

#include <algorithm>
#include <array>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

constexpr std::array<std::size_t, kCacheTypeNames.size()> kBytes{
    sizeof(float), sizeof(std::uint16_t), sizeof(std::int8_t)};  // of a number, by type

}  // namespace

CpuRowCache::CpuRowCache(CacheType type, Index rows, Index heads, Index head_dim)
    : type_(type),
      rows_(rows),
      heads_(heads),
      head_dim_(head_dim),
      values_(std::make_unique_for_overwrite<std::byte[]>(Size(rows * heads * head_dim) *
                                                          kBytes[static_cast<std::size_t>(type)])) {
  if (type == CacheType::kInt8) {
    scales_ = std::make_unique_for_overwrite<float[]>(Size(rows * heads));
  }
}

void CpuRowCache::Store(const KernelSet& kernels, std::span<const float> from, Index row) {
  LIEQ_ASSERT(row >= 0 && row < rows_ && static_cast<Index>(from.size()) == heads_ * head_dim_);
  switch (type_) {
    case CacheType::kFloat:
      std::ranges::copy(from, At<float>(row, 0));
      break;
    case CacheType::kF16:
      kernels.narrow_f16(from.data(), At<std::uint16_t>(row, 0), heads_ * head_dim_);
      break;
    case CacheType::kInt8:
      for (Index head = 0; head < heads_; ++head) {
        scales_[Size(row * heads_ + head)] = kernels.round_int8(
            from.data() + head * head_dim_, At<std::int8_t>(row, head), head_dim_);
      }
      break;
  }
}

void CpuRowCache::Widen(const KernelSet& kernels, Index row, Index head,
                        std::span<float> to) const {
  switch (type_) {
    case CacheType::kFloat:
      std::copy_n(At<const float>(row, head), head_dim_, to.data());
      break;
    case CacheType::kF16:
      kernels.widen_f16(At<const std::uint16_t>(row, head), to.data(), head_dim_);
      break;
    case CacheType::kInt8:
      kernels.widen_int8(At<const std::int8_t>(row, head), scales_[Size(row * heads_ + head)],
                         to.data(), head_dim_);
      break;
  }
}

View<const float, 2> CpuRowCache::floats() const noexcept {
  LIEQ_ASSERT(type_ == CacheType::kFloat);
  return {At<const float>(0, 0), rows_, heads_ * head_dim_};
}

}  // namespace lieq
