// Rotary angles: computed on the host, placed on a device.
#pragma once

#include "lieq/device/device.h"
#include "lieq/model/config.h"

namespace lieq {

/// [positions, head_dim / 2] each.
struct RopeAngles {
  Matrix<float> cosine, sine;
};

/// cos and sin of positions 0 .. length - 1 (scalings as in Hugging Face transformers).
[[nodiscard]] RopeAngles MakeRopeAngles(const Rope& rope, Index head_dim, Index length);

/// The same on a device.
class PlacedRope {
 public:
  PlacedRope(const Rope& rope, Index head_dim, Index length, Device& device);
  [[nodiscard]] RopeTable table() const { return {cosine_.view(), sine_.view()}; }
  /// Turns by minus the angles: the transpose of the rotation.
  [[nodiscard]] RopeTable back() const { return {cosine_.view(), minus_sine_.view()}; }

 private:
  DeviceMatrix cosine_, sine_, minus_sine_;
};

}  // namespace lieq
