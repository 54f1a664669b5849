// Sums of calibration, wherever they lie.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "lieq/device/device.h"

namespace lieq {

/// The one kind of sums of a device whose memory is the host's.
template <class T>
class HostSums final : public PlacedSums<T> {
 public:
  explicit HostSums(Matrix<T> sums) : sums_(std::move(sums)) {}

  [[nodiscard]] Index rows() const noexcept override { return sums_.rows(); }
  [[nodiscard]] Index cols() const noexcept override { return sums_.cols(); }
  [[nodiscard]] const Matrix<T>& Host() override { return sums_; }
  [[nodiscard]] Matrix<T> Take() override { return std::move(sums_); }
  void Diagonal(std::span<T> to) override {
    for (std::size_t i = 0; i < to.size(); ++i) {
      to[i] = sums_(static_cast<Index>(i), static_cast<Index>(i));
    }
  }
  void Set(View<const T, 2> values) override {
    LIEQ_ASSERT(values.rows() == rows() && values.cols() == cols());
    for (Index r = 0; r < rows(); ++r)
      std::ranges::copy(values.Row(r), sums_.view().Row(r).begin());
  }
  void Add(PlacedSums<T>& others) override {
    const Matrix<T>& more = others.Host();
    LIEQ_ASSERT(more.rows() == rows() && more.cols() == cols());
    for (Index r = 0; r < rows(); ++r) {
      for (Index c = 0; c < cols(); ++c) sums_(r, c) += more(r, c);
    }
  }
  void Copy(PlacedSums<T>& others) override { Set(others.Host().view()); }
  /// What the device adds to.
  [[nodiscard]] View<T, 2> view() noexcept { return sums_.view(); }

 private:
  Matrix<T> sums_;
};

/// Sums on a device or on the host, which has those of a device once it asks. One thread asks
/// first.
template <class T>
class Sums {
 public:
  Sums() = default;
  Sums(Matrix<T> host)  // NOLINT(google-explicit-constructor): a matrix is sums that are over
      : placed_(std::make_unique<HostSums<T>>(std::move(host))), began_as_matrix_(true) {}
  Sums(std::unique_ptr<PlacedSums<T>> placed)  // NOLINT(google-explicit-constructor): the same
      : placed_(std::move(placed)) {}

  [[nodiscard]] Index rows() const noexcept { return placed_ ? placed_->rows() : 0; }
  [[nodiscard]] Index cols() const noexcept { return placed_ ? placed_->cols() : 0; }
  [[nodiscard]] Index size() const noexcept { return rows() * cols(); }

  [[nodiscard]] const Matrix<T>& host() const {
    static const Matrix<T> none;
    return placed_ ? placed_->Host() : none;
  }
  [[nodiscard]] View<const T, 2> view() const { return host().view(); }
  [[nodiscard]] const T& operator()(Index row, Index col) const { return host()(row, col); }
  [[nodiscard]] Matrix<T> Clone() const { return host().Clone(); }
  [[nodiscard]] Matrix<T> Take() { return placed_ ? placed_->Take() : Matrix<T>(); }
  /// Of as many rows as columns.
  [[nodiscard]] std::vector<T> Diagonal() const {
    std::vector<T> diagonal(Size(rows()));
    if (placed_) placed_->Diagonal(diagonal);
    return diagonal;
  }

  /// What a device adds to; not to be asked where there are none.
  [[nodiscard]] PlacedSums<T>& placed() const { return *placed_; }
  /// The same for work on a device; null where there are none.
  [[nodiscard]] const PlacedSums<T>* get() const noexcept { return placed_.get(); }
  /// These += those of another device, where there are any; see PlacedSums::Add.
  void Add(const Sums& others) {
    if (placed_) placed_->Add(others.placed());
  }
  /// The same sums on a device; none of none.
  [[nodiscard]] Sums On(CalibrationOps& device) const {
    Sums copy = placed_ ? Empty(device) : Sums();
    if (placed_) copy.placed_->Copy(*placed_);
    return copy;
  }
  /// Puts those that began as a matrix on a device; the others are on it.
  void PlaceOn(CalibrationOps& device) {
    if (!began_as_matrix_ || !placed_) return;
    Sums placed = Empty(device);
    placed.placed_->Set(view());
    *this = std::move(placed);
  }

 private:
  /// Of this shape, at 0.
  [[nodiscard]] Sums Empty(CalibrationOps& device) const {
    if constexpr (std::is_same_v<T, double>) {
      return device.MakeGram(rows());
    } else {
      return device.MakeCross(rows(), cols());
    }
  }

  std::unique_ptr<PlacedSums<T>> placed_;
  bool began_as_matrix_ = false;
};

}  // namespace lieq
