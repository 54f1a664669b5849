// Non-owning views and the owning matrix.
//
// Matrices are row-major, [rows, cols]; weights are [out, in] and y = x Wᵀ. The last dimension is
// contiguous. View<const T> is the default argument type; a view never owns.
#pragma once

#include <array>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/types.h"

namespace lieq {

template <class T, int Rank>
class View;

/// [rows, cols] with a row stride >= cols, in elements.
template <class T>
class View<T, 2> {
 public:
  constexpr View() = default;
  constexpr View(T* data, Index rows, Index cols, Index stride)
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {
    LIEQ_ASSERT(rows >= 0 && cols >= 0 && stride >= cols);
  }
  constexpr View(T* data, Index rows, Index cols) : View(data, rows, cols, cols) {}
  /// A view of mutable elements is a view of constant ones.
  template <class U>
    requires std::is_same_v<const U, T>
  constexpr View(View<U, 2> other)  // NOLINT(google-explicit-constructor): a widening conversion
      : View(other.data(), other.rows(), other.cols(), other.stride()) {}

  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr Index rows() const noexcept { return rows_; }
  [[nodiscard]] constexpr Index cols() const noexcept { return cols_; }
  [[nodiscard]] constexpr Index stride() const noexcept { return stride_; }
  [[nodiscard]] constexpr Index size() const noexcept { return rows_ * cols_; }

  [[nodiscard]] constexpr T& operator()(Index row, Index col) const {
    LIEQ_ASSERT(row >= 0 && row < rows_ && col >= 0 && col < cols_);
    return data_[row * stride_ + col];
  }
  [[nodiscard]] constexpr std::span<T> Row(Index row) const {
    LIEQ_ASSERT(row >= 0 && row < rows_);
    return {data_ + row * stride_, Size(cols_)};
  }
  [[nodiscard]] constexpr View Rows(Index begin, Index count) const {
    LIEQ_ASSERT(begin >= 0 && count >= 0 && begin + count <= rows_);
    return {data_ + begin * stride_, count, cols_, stride_};
  }
  [[nodiscard]] constexpr View Cols(Index begin, Index count) const {
    LIEQ_ASSERT(begin >= 0 && count >= 0 && begin + count <= cols_);
    return {data_ + begin, rows_, count, stride_};
  }

 private:
  T* data_ = nullptr;
  Index rows_ = 0, cols_ = 0, stride_ = 0;
};

/// Owns [rows, cols] elements, 64-byte aligned, rows contiguous, zero at first. Moves; never copies
/// by accident (Clone says it).
template <class T>
class Matrix {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Matrix() = default;
  Matrix(Index rows, Index cols) : rows_(rows), cols_(cols) {
    LIEQ_ASSERT(rows >= 0 && cols >= 0);
    if (rows * cols == 0) return;
    // calloc-like zero pages matter: a large buffer that is filled step by step costs memory only
    // as it fills. aligned_alloc gives no zeros, so align inside a calloc block.
    void* block = std::calloc(Size(rows * cols) * sizeof(T) + 63, 1);
    if (block == nullptr) throw std::bad_alloc();
    block_.reset(block);
    const auto address = reinterpret_cast<std::uintptr_t>(block);
    data_ = reinterpret_cast<T*>((address + 63) / 64 * 64);
  }
  Matrix(Matrix&& other) noexcept { Swap(other); }
  Matrix& operator=(Matrix&& other) noexcept {
    Matrix moved(std::move(other));
    Swap(moved);
    return *this;
  }

  [[nodiscard]] Matrix Clone() const {
    Matrix copy(rows_, cols_);
    for (Index i = 0; i < rows_ * cols_; ++i) copy.data_[i] = data_[i];
    return copy;
  }

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Index size() const noexcept { return rows_ * cols_; }
  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] View<T, 2> view() noexcept { return {data_, rows_, cols_}; }
  [[nodiscard]] View<const T, 2> view() const noexcept { return {data_, rows_, cols_}; }
  [[nodiscard]] T& operator()(Index row, Index col) { return view()(row, col); }
  [[nodiscard]] const T& operator()(Index row, Index col) const { return view()(row, col); }

 private:
  struct Free {
    void operator()(void* block) const noexcept { std::free(block); }
  };
  void Swap(Matrix& other) noexcept {
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
    std::swap(data_, other.data_);
    std::swap(block_, other.block_);
  }

  Index rows_ = 0, cols_ = 0;
  T* data_ = nullptr;
  std::unique_ptr<void, Free> block_;
};

}  // namespace lieq
