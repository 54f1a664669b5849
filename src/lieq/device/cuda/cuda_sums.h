// Sums of calibration in the memory of a GPU.
#pragma once

#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "lieq/device/cuda/add_sums.h"
#include "lieq/device/cuda/kernels.h"
#include "lieq/device/cuda/queue.h"
#include "lieq/device/device.h"

namespace lieq::cuda {

/// Of Gram matrices, in double, the lower triangle; the others whole. The host has nothing of them
/// until it asks.
template <class T>
class CudaSums final : public PlacedSums<T> {
 public:
  static constexpr bool kLower = std::is_same_v<T, double>;

  CudaSums(Queue& queue, Index rows, Index cols)
      : queue_(queue), rows_(rows), cols_(cols), block_(queue.Take(bytes())) {
    Check(cudaMemsetAsync(block_, 0, bytes(), queue.stream()), "clearing sums");
  }
  ~CudaSums() override { queue_.Give(block_); }
  CudaSums(const CudaSums&) = delete;
  CudaSums& operator=(const CudaSums&) = delete;

  [[nodiscard]] Index rows() const noexcept override { return rows_; }
  [[nodiscard]] Index cols() const noexcept override { return cols_; }
  [[nodiscard]] const Matrix<T>& Host() override {
    if (host_.size() == 0 && rows_ * cols_ > 0) {
      host_ = Matrix<T>(rows_, cols_);
      ForParts([&](Index first, Index count, std::size_t row_bytes) {
        queue_.Download(data() + first * cols_, Size(cols_) * sizeof(T),
                        host_.view().Row(first).data(), Size(cols_) * sizeof(T), row_bytes, count);
      });
    }
    return host_;
  }
  [[nodiscard]] Matrix<T> Take() override {
    (void)Host();
    queue_.Give(std::exchange(block_, nullptr));
    return std::move(host_);
  }
  void Diagonal(std::span<T> to) override {
    LIEQ_ASSERT(rows_ == cols_ && static_cast<Index>(to.size()) == rows_);
    Scratch scratch(queue_);
    T* found = scratch.Get<T>(rows_);
    cuda::Diagonal(data(), rows_, found, queue_.stream());
    queue_.Download(found, to.size_bytes(), to.data(), to.size_bytes(), to.size_bytes(), 1);
  }
  void Set(View<const T, 2> values) override {
    LIEQ_ASSERT(values.rows() == rows_ && values.cols() == cols_);
    ForParts([&](Index first, Index count, std::size_t row_bytes) {
      queue_.Upload(values.Row(first).data(), Size(values.stride()) * sizeof(T),
                    data() + first * cols_, Size(cols_) * sizeof(T), row_bytes, count);
    });
  }

  void Add(PlacedSums<T>& others) override {
    const auto& more = static_cast<CudaSums&>(others);
    LIEQ_ASSERT(more.rows_ == rows_ && more.cols_ == cols_);
    if (&more.queue_ == &queue_) {
      return cuda::AddTo(more.data(), rows_ * cols_, data(), queue_.stream());
    }
    constexpr Index kMost = Index{1} << 23;  // at a time
    Scratch scratch(queue_);
    for (Index at = 0; at < rows_ * cols_; at += kMost) {
      const Index count = std::min(kMost, rows_ * cols_ - at);
      T* part = scratch.Get<T>(count);
      queue_.CopyFrom(more.queue_, more.data() + at, part, Size(count) * sizeof(T));
      cuda::AddTo(part, count, data() + at, queue_.stream());
    }
  }
  void Copy(PlacedSums<T>& others) override {
    const auto& those = static_cast<CudaSums&>(others);
    LIEQ_ASSERT(those.rows_ == rows_ && those.cols_ == cols_);
    queue_.CopyFrom(those.queue_, those.data(), data(), bytes());
  }

  /// [rows, cols] without gaps.
  [[nodiscard]] T* data() const noexcept { return static_cast<T*>(block_); }

 private:
  [[nodiscard]] std::size_t bytes() const noexcept { return Size(rows_ * cols_) * sizeof(T); }
  /// Rows of a triangle go no farther than the last of a part does.
  template <class Use>
  void ForParts(const Use& use) const {
    constexpr Index kRows = 512;
    for (Index first = 0; first < rows_; first += kRows) {
      const Index count = std::min(kRows, rows_ - first);
      use(first, count, Size(kLower ? first + count : cols_) * sizeof(T));
    }
  }

  Queue& queue_;
  Index rows_, cols_;
  void* block_;
  Matrix<T> host_;
};

/// Where the sums of this device lie.
template <class T>
[[nodiscard]] T* DataOf(const PlacedSums<T>& sums) {
  return static_cast<const CudaSums<T>&>(sums).data();
}

}  // namespace lieq::cuda
