// The row awq.
#include <algorithm>
#include <cmath>
#include <utility>

#include "lieq/transform/channels.h"
#include "lieq/transform/transform_rows.h"

namespace lieq {
namespace {

/// Exponents are tried in twentieths: every second one, then both neighbours of the best.
constexpr int kSteps = 20;

/// A channel counts as at least this share of the largest one: dead ones would take any scale.
constexpr double kLeastShare = 1e-4;

/// Root mean squares of the channels, those that are never active as 0.
std::vector<double> ChannelSizes(const UnitStatistics& input, const InputChannels& channels) {
  std::vector<double> sizes(Size(channels.count));
  for (std::size_t j = 0; j < channels.channel.size(); ++j) {
    const auto column = static_cast<Index>(j);
    sizes[Size(channels.channel[j])] += input.gram(column, column);
  }
  for (double& size : sizes) size = std::sqrt(size);
  return sizes;
}

/// size ^ exponent over the geometric mean of its extremes, so that scales lie around 1.
std::vector<double> Scales(const std::vector<double>& sizes, double exponent) {
  const double largest = std::ranges::max(sizes);
  std::vector<double> scales(sizes.size(), 1.0);
  if (!(largest > 0) || exponent == 0) return scales;
  double least = largest;
  for (const double size : sizes) least = std::min(least, std::max(size, kLeastShare * largest));
  const double middle = std::sqrt(least * largest);
  for (std::size_t c = 0; c < sizes.size(); ++c) {
    scales[c] = std::pow(std::max(sizes[c], kLeastShare * largest) / middle, exponent);
  }
  return scales;
}

/// norm / s as it will be stored, and in `scales` the very factors between both: the fold stays
/// exact whatever the type. A channel whose norm leaves the type's normal numbers keeps a scale
/// of 1.
std::vector<float> DividedNorm(const std::vector<float>& norm, DType type,
                               std::vector<double>& scales) {
  const float least = type == DType::kF16 ? 0x1.0p-14F : 0x1.0p-126F;
  const float most = type == DType::kF16 ? 65504.0F : 0x1.0p127F;
  std::vector<float> divided = norm;
  for (std::size_t c = 0; c < norm.size(); ++c) {
    const float value = Stored(static_cast<float>(static_cast<double>(norm[c]) / scales[c]), type);
    if (std::fabs(value) >= least && std::fabs(value) <= most) {
      divided[c] = value;
      scales[c] = static_cast<double>(norm[c]) / static_cast<double>(value);
    } else {
      scales[c] = 1;
    }
  }
  return divided;
}

Matrix<float> ScaledColumns(View<const float, 2> w, const std::vector<double>& scales,
                            const InputChannels& channels) {
  Matrix<float> scaled(w.rows(), w.cols());
  for (Index r = 0; r < w.rows(); ++r) {
    for (Index c = 0; c < w.cols(); ++c) {
      scaled(r, c) = static_cast<float>(static_cast<double>(w(r, c)) *
                                        scales[Size(channels.channel[Size(c)])]);
    }
  }
  return scaled;
}

/// Sums of the inputs divided by the scales.
UnitStatistics Divided(const UnitStatistics& input, const std::vector<double>& scales,
                       const InputChannels& channels) {
  const Matrix<double>& gram = input.gram.host();
  const Index n = gram.rows();
  Matrix<double> divided(n, n);
  for (Index i = 0; i < n; ++i) {
    const double row = scales[Size(channels.channel[Size(i)])];
    for (Index j = 0; j < n; ++j) {
      divided(i, j) = gram(i, j) / (row * scales[Size(channels.channel[Size(j)])]);
    }
  }
  return {.gram = std::move(divided), .drift = {}, .missing = {}};
}

/// norm or writer: what takes in 1 / s.
void ScaleUnit(Unit unit, std::vector<float>* norm, Site writer, const LayerTask& task,
               FloatLayer& layer, UnitChoice& choice) {
  const auto sites = task.config.SitesOf(task.layer, unit);
  const Grid& grid = task.grids[static_cast<std::size_t>(sites.front())];
  UnitStatistics& input = task.inputs[static_cast<std::size_t>(unit)];
  const InputChannels channels = ChannelsOf(unit, task.config);
  const std::vector<double> sizes = ChannelSizes(input, channels);

  std::vector<double> best;
  std::vector<float> best_norm;
  int best_step = 0;
  const auto attempt = [&](int step) {
    const double exponent = static_cast<double>(step) / kSteps;
    std::vector<double> scales = Scales(sizes, exponent);
    std::vector<float> divided;
    if (norm != nullptr && step > 0) divided = DividedNorm(*norm, task.options.norm_type, scales);
    std::vector<Matrix<float>> scaled;
    std::vector<View<const float, 2>> views;
    for (const Site site : sites) {
      scaled.push_back(ScaledColumns(layer.At(site).view(), scales, channels));
      views.push_back(std::as_const(scaled.back()).view());
    }
    const double error = RoundingError(views, grid, Divided(input, scales, channels), false, task);
    if (step == 0) {
      choice = {.choice = "0", .before = error, .after = error};
    } else if (error < choice.after) {
      choice.after = error;
      choice.choice = std::to_string(exponent).substr(0, 4);
      best_step = step;
      best = std::move(scales);
      best_norm = std::move(divided);
    }
  };
  for (int step = 0; step <= kSteps; step += 2) attempt(step);
  const int middle = best_step;
  if (middle > 0) attempt(middle - 1);
  if (middle < kSteps) attempt(middle + 1);
  if (best.empty()) return;
  for (const Site site : sites) {
    layer.At(site) = ScaledColumns(layer.At(site).view(), best, channels);
  }
  input = Divided(input, best, channels);
  if (norm != nullptr) {
    *norm = best_norm;
    return;
  }
  Matrix<float>& w = layer.At(writer);
  std::vector<float>& bias = layer.Bias(writer);
  for (Index r = 0; r < w.rows(); ++r) {
    for (float& value : w.view().Row(r)) {
      value = static_cast<float>(static_cast<double>(value) / best[Size(r)]);
    }
    if (bias.empty()) continue;
    bias[Size(r)] = static_cast<float>(static_cast<double>(bias[Size(r)]) / best[Size(r)]);
  }
}

}  // namespace

void ScaleLayer(const LayerTask& task, FloatLayer& layer, LayerChoices& choices) {
  const auto choice = [&](Unit unit) -> UnitChoice& {
    return choices[static_cast<std::size_t>(unit)];
  };
  ScaleUnit(Unit::kQkv, &layer.attention_norm, Site::kV, task, layer, choice(Unit::kQkv));
  ScaleUnit(Unit::kO, nullptr, Site::kV, task, layer, choice(Unit::kO));
  ScaleUnit(Unit::kGateUp, &layer.mlp_norm, Site::kUp, task, layer, choice(Unit::kGateUp));
  ScaleUnit(Unit::kDown, nullptr, Site::kUp, task, layer, choice(Unit::kDown));
}

}  // namespace lieq
