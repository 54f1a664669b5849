#include "lieq/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lieq {

namespace {

/// transformers, modeling_rope_utils.py, _compute_llama3_parameters: long wavelengths are stretched
/// by `factor`, short ones kept, those between interpolated.
double Llama3Frequency(const Rope& rope, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double turns = rope.original_context / wavelength;
  const double kept = std::clamp(
      (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
  return (1.0 - kept) * frequency / rope.factor + kept * frequency;
}

/// The dimension whose frequency turns so often within the original context.
double DimensionOfTurns(const Rope& rope, Index head_dim, double turns) {
  return static_cast<double>(head_dim) *
         std::log(rope.original_context / (turns * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(rope.theta));
}

/// The same file, _compute_yarn_parameters: between two dimensions, from kept to stretched.
double YarnFrequency(const Rope& rope, Index head_dim, Index i, double frequency) {
  double low = DimensionOfTurns(rope, head_dim, rope.beta_fast);
  double high = DimensionOfTurns(rope, head_dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;  // no step without a width
  const double stretched = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  return stretched * frequency / rope.factor + (1.0 - stretched) * frequency;
}

double ScaledFrequency(const Rope& rope, Index head_dim, Index i) {
  const double frequency =
      std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  switch (rope.scaling) {
    case RopeScaling::kLinear:
      return frequency / rope.factor;
    case RopeScaling::kLlama3:
      return Llama3Frequency(rope, frequency);
    case RopeScaling::kYarn:
      return YarnFrequency(rope, head_dim, i, frequency);
    case RopeScaling::kNone:
      break;
  }
  return frequency;
}

}  // namespace

RopeAngles MakeRopeAngles(const Rope& rope, Index head_dim, Index length) {
  const Index half = head_dim / 2;
  RopeAngles angles{Matrix<float>(length, half), Matrix<float>(length, half)};
  for (Index i = 0; i < half; ++i) {
    // The reference holds frequencies and angles in float; double angles of float frequencies stay
    // within its rounding.
    const auto step = static_cast<double>(static_cast<float>(ScaledFrequency(rope, head_dim, i)));
    for (Index p = 0; p < length; ++p) {
      const double angle = static_cast<double>(p) * step;
      angles.cosine(p, i) = static_cast<float>(std::cos(angle) * rope.attention_factor);
      angles.sine(p, i) = static_cast<float>(std::sin(angle) * rope.attention_factor);
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
