#include "lieq/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lieq {

RopeAngles MakeRopeAngles(const Rope& rope, Index head_dim, Index length) {
  const Index half = head_dim / 2;
  RopeAngles angles{Matrix<float>(length, half), Matrix<float>(length, half)};
  for (Index i = 0; i < half; ++i) {
    double frequency =
        std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (rope.llama3) {
      // Long wavelengths are stretched by `factor`, short ones kept, those between interpolated
      // (transformers, modeling_rope_utils.py, _compute_llama3_parameters).
      const double wavelength = 2.0 * std::numbers::pi / frequency;
      const double turns = rope.original_context / wavelength;
      const double kept = std::clamp(
          (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0,
          1.0);
      frequency = (1.0 - kept) * frequency / rope.factor + kept * frequency;
    }
    // The reference holds frequencies and angles in float; double angles of float frequencies stay
    // within its rounding.
    const auto step = static_cast<double>(static_cast<float>(frequency));
    for (Index p = 0; p < length; ++p) {
      const double angle = static_cast<double>(p) * step;
      angles.cosine(p, i) = static_cast<float>(std::cos(angle));
      angles.sine(p, i) = static_cast<float>(std::sin(angle));
    }
  }
  return angles;
}

PlacedRope::PlacedRope(const Rope& rope, Index head_dim, Index length, Device& device)
    : cosine_(device.Alloc(length, head_dim / 2)),
      sine_(device.Alloc(length, head_dim / 2)),
      minus_sine_(device.Alloc(length, head_dim / 2)) {
  RopeAngles angles = MakeRopeAngles(rope, head_dim, length);
  device.Upload(angles.cosine.view(), cosine_.view());
  device.Upload(angles.sine.view(), sine_.view());
  for (Index i = 0; i < angles.sine.size(); ++i) angles.sine.data()[i] = -angles.sine.data()[i];
  device.Upload(angles.sine.view(), minus_sine_.view());
}

}  // namespace lieq
