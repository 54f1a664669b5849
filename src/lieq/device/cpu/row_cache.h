// Keys or values of tokens that went before, in one of the types that a cache may have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "lieq/device/cpu/kernels.h"
#include "lieq/device/device.h"
#include "lieq/tensor/view.h"

namespace lieq {

class CpuRowCache final : public RowCache {
 public:
  /// Memory is not touched before it is stored to, so that the system gives what is used alone.
  CpuRowCache(CacheType type, Index rows, Index heads, Index head_dim);

  [[nodiscard]] CacheType type() const noexcept { return type_; }
  /// from [heads * head_dim] becomes the row.
  void Store(const KernelSet& kernels, std::span<const float> from, Index row);
  /// to [head_dim] = a head of the row.
  void Widen(const KernelSet& kernels, Index row, Index head, std::span<float> to) const;
  /// [rows, heads * head_dim], of type kFloat.
  [[nodiscard]] View<const float, 2> floats() const noexcept;

 private:
  template <class T>
  [[nodiscard]] T* At(Index row, Index head) const noexcept {
    return reinterpret_cast<T*>(values_.get()) + (row * heads_ + head) * head_dim_;
  }

  CacheType type_;
  Index rows_, heads_, head_dim_;
  std::unique_ptr<std::byte[]> values_;  // [rows, heads * head_dim] of the type
  std::unique_ptr<float[]> scales_;      // [rows, heads], of type kInt8
};

}  // namespace lieq
