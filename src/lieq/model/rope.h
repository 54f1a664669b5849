// Rotary angles: computed on the host, placed on a device.
#pragma once

#include "lieq/device/device.h"
#include "lieq/model/config.h"

namespace lieq {

/// [positions, dim / 2] each, where `dim` dimensions of each head turn.
struct RopeAngles {
  Matrix<float> cosine, sine;
};

/// cos and sin of positions 0 .. length - 1 (scalings as in Hugging Face transformers). Scalings
/// that go by the length of a sequence take `length` for it, the longest that will be run.
[[nodiscard]] RopeAngles MakeRopeAngles(const Rope& rope, Index dim, Index length);

/// The same on a device.
class PlacedRope {
 public:
  PlacedRope(const Rope& rope, Index dim, Index length, Device& device);
  /// Of queries whose scores grow with their position: ModelConfig::temperature.
  PlacedRope(const ModelConfig& tempered, Index length, Device& device);
  [[nodiscard]] RopeTable table() const { return {cosine_.view(), sine_.view()}; }
  /// Turns by minus the angles: the transpose of the rotation.
  [[nodiscard]] RopeTable back() const { return {cosine_.view(), minus_sine_.view()}; }

 private:
  PlacedRope(RopeAngles angles, Device& device);

  DeviceMatrix cosine_, sine_, minus_sine_;
};

}  // namespace lieq
