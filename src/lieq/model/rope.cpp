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

/// The same file, _compute_dynamic_ntk_parameters: another theta.
double ThetaFor(const Rope& rope, Index dim, Index length) {
  const auto turned = static_cast<double>(dim), sequence = static_cast<double>(length);
  if (rope.scaling != RopeScaling::kDynamic || sequence <= rope.original_context) return rope.theta;
  const double stretch = rope.factor * sequence / rope.original_context - (rope.factor - 1);
  return rope.theta * std::pow(stretch, turned / (turned - 2));
}

double ScaledFrequency(const Rope& rope, Index head_dim, Index length, Index i) {
  const double frequency = std::pow(ThetaFor(rope, head_dim, length),
                                    -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  switch (rope.scaling) {
    case RopeScaling::kLinear:
      return frequency / rope.factor;
    case RopeScaling::kLlama3:
      return Llama3Frequency(rope, frequency);
    case RopeScaling::kYarn:
      return YarnFrequency(rope, head_dim, i, frequency);
    case RopeScaling::kLongRope: {
      const bool longer = static_cast<double>(length) > rope.original_context;
      return frequency / (longer ? rope.long_factors : rope.short_factors)[Size(i)];
    }
    case RopeScaling::kDynamic:
    case RopeScaling::kNone:
      break;
  }
  return frequency;
}

}  // namespace

RopeAngles MakeRopeAngles(const Rope& rope, Index dim, Index length) {
  const Index half = dim / 2;
  RopeAngles angles{Matrix<float>(length, half), Matrix<float>(length, half)};
  for (Index i = 0; i < half; ++i) {
    // The reference holds frequencies and angles in float; double angles of float frequencies stay
    // within its rounding.
    const auto step =
        static_cast<double>(static_cast<float>(ScaledFrequency(rope, dim, length, i)));
    for (Index p = 0; p < length; ++p) {
      const double angle = static_cast<double>(p) * step;
      angles.cosine(p, i) = static_cast<float>(std::cos(angle) * rope.attention_factor);
      angles.sine(p, i) = static_cast<float>(std::sin(angle) * rope.attention_factor);
    }
  }
  return angles;
}

namespace {

RopeAngles TemperedAngles(const ModelConfig& config, Index length) {
  RopeAngles angles = MakeRopeAngles(config.rope, config.RotaryDim(), length);
  for (Index p = 0; p < length; ++p) {
    const double turns = std::floor(static_cast<double>(p) / config.temperature_context);
    const auto factor = static_cast<float>(1 + config.temperature * std::log1p(turns));
    for (float& value : angles.cosine.view().Row(p)) value *= factor;
    for (float& value : angles.sine.view().Row(p)) value *= factor;
  }
  return angles;
}

}  // namespace

PlacedRope::PlacedRope(RopeAngles angles, Device& device)
    : cosine_(device.Alloc(angles.cosine.rows(), angles.cosine.cols())),
      sine_(device.Alloc(angles.cosine.rows(), angles.cosine.cols())),
      minus_sine_(device.Alloc(angles.cosine.rows(), angles.cosine.cols())) {
  device.Upload(angles.cosine.view(), cosine_.view());
  device.Upload(angles.sine.view(), sine_.view());
  for (Index i = 0; i < angles.sine.size(); ++i) angles.sine.data()[i] = -angles.sine.data()[i];
  device.Upload(angles.sine.view(), minus_sine_.view());
}

PlacedRope::PlacedRope(const Rope& rope, Index dim, Index length, Device& device)
    : PlacedRope(MakeRopeAngles(rope, dim, length), device) {}

PlacedRope::PlacedRope(const ModelConfig& tempered, Index length, Device& device)
    : PlacedRope(TemperedAngles(tempered, length), device) {}

}  // namespace lieq
