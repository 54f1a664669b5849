// The weights of a linear as floats, of which the host makes a copy once somebody wants one.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "lieq/device/device.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// One thread asks for the host's first.
class LinearFloats {
 public:
  LinearFloats(View<const float, 2> host)  // NOLINT(google-explicit-constructor): what it is
      : rows_(host.rows()), cols_(host.cols()), host_(host) {}
  LinearFloats(View<float, 2> host)  // NOLINT(google-explicit-constructor): the same
      : LinearFloats(View<const float, 2>(host)) {}
  /// Weights that lie on a device, all of them finite. widen: makes the host's.
  LinearFloats(const PreparedMatrix& placed, float largest, std::function<Matrix<float>()> widen)
      : rows_(placed.rows()),
        cols_(placed.cols()),
        placed_(&placed),
        largest_(largest),
        widen_(std::move(widen)) {}

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Index size() const noexcept { return rows_ * cols_; }
  [[nodiscard]] View<const float, 2> host() const {
    if (widen_ && widened_.size() == 0) {
      widened_ = widen_();
      host_ = std::as_const(widened_).view();
    }
    return host_;
  }
  /// Null where they are the host's alone.
  [[nodiscard]] const PreparedMatrix* placed() const noexcept { return placed_; }
  /// The largest magnitude, where it is known.
  [[nodiscard]] std::optional<float> largest() const noexcept { return largest_; }

 private:
  Index rows_, cols_;
  const PreparedMatrix* placed_ = nullptr;
  std::optional<float> largest_;
  std::function<Matrix<float>()> widen_;
  mutable Matrix<float> widened_;
  mutable View<const float, 2> host_;
};

}  // namespace lieq
