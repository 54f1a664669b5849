#include "lieq/model/layer_steps.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

using enum LayerValue;

constexpr std::array kQkvLinears{StepLinear{Site::kQ, kQ}, StepLinear{Site::kK, kK},
                                 StepLinear{Site::kV, kV}};
constexpr std::array kOLinears{StepLinear{Site::kO, kStream}};
constexpr std::array kGateUpLinears{StepLinear{Site::kGate, kGate}, StepLinear{Site::kUp, kUp}};
constexpr std::array kDownLinears{StepLinear{Site::kDown, kStream}};

constexpr LayerStep Norm(PlacedVector PlacedLayer::* weight) {
  return {.kind = StepKind::kNorm, .from = kStream, .to = kNormed, .weight = weight};
}
constexpr LayerStep HeadNorm(LayerValue heads, PlacedVector PlacedLayer::* weight) {
  return {.kind = StepKind::kHeadNorm, .from = heads, .to = heads, .weight = weight};
}
constexpr LayerStep Products(Unit unit, LayerValue from, std::span<const StepLinear> linears) {
  return {.kind = StepKind::kProducts,
          .from = from,
          .to = linears.front().to,
          .unit = unit,
          .linears = linears};
}
constexpr LayerStep Plain(StepKind kind, LayerValue from, LayerValue to) {
  return {.kind = kind, .from = from, .to = to};
}

/// A step, and which layers have it; null: all.
struct Row {
  LayerStep step;
  bool (*had)(const ModelConfig& config, const LayerShape& shape) = nullptr;
  float (*factor)(const ModelConfig& config) = nullptr;  // of kScale; a layer has none that is 1
};
bool HasHeadNorms(const ModelConfig& config, const LayerShape& /*shape*/) {
  return config.qk_norm;
}
bool Rotates(const ModelConfig& /*config*/, const LayerShape& shape) {
  return shape.rotates;
}

/// Scores are divided by sqrt(head_dim) as they are made.
float QueryFactor(const ModelConfig& config) {
  if (config.attention_multiplier == 0) return 1;
  return static_cast<float>(config.attention_multiplier *
                            std::sqrt(static_cast<double>(config.head_dim)));
}
/// The factor of what a linear gives, on what it is given: sums of both are then of one kind.
float ResidualFactor(const ModelConfig& config) {
  return static_cast<float>(config.residual_multiplier);
}
constexpr Row Scale(LayerValue value, float (*factor)(const ModelConfig&)) {
  return {Plain(StepKind::kScale, value, value), nullptr, factor};
}

constexpr std::array kAttentionLayer{
    Row{Norm(&PlacedLayer::attention_norm)},
    Row{Products(Unit::kQkv, kNormed, kQkvLinears)},
    Row{HeadNorm(kQ, &PlacedLayer::q_norm), HasHeadNorms},
    Row{HeadNorm(kK, &PlacedLayer::k_norm), HasHeadNorms},
    Row{Plain(StepKind::kRotate, kQ, kQ), Rotates},
    Row{Plain(StepKind::kRotate, kK, kK), Rotates},
    Scale(kQ, QueryFactor),
    Row{Plain(StepKind::kAttend, kQ, kMixed)},
    Scale(kMixed, ResidualFactor),
    Row{Products(Unit::kO, kMixed, kOLinears)},
    Row{Norm(&PlacedLayer::mlp_norm)},
    Row{Products(Unit::kGateUp, kNormed, kGateUpLinears)},
    Row{Plain(StepKind::kActivate, kGate, kGate)},
    Scale(kGate, ResidualFactor),
    Row{Products(Unit::kDown, kGate, kDownLinears)},
};

std::span<const Row> RowsOf(Mixer mixer) {
  switch (mixer) {
    case Mixer::kAttention:
      return kAttentionLayer;
  }
  return {};
}

}  // namespace

Index Width(const ModelConfig& config, LayerValue value) noexcept {
  switch (value) {
    case kStream:
    case kNormed:
      return config.hidden;
    case kQ:
    case kMixed:
      return config.Out(Site::kQ);
    case kK:
    case kV:
      return config.Out(Site::kK);
    case kGate:
    case kUp:
      return config.Out(Site::kGate);
  }
  return 0;
}

std::vector<LayerStep> StepsOf(const ModelConfig& config, const LayerShape& shape) {
  std::vector<LayerStep> steps;
  for (const Row& row : RowsOf(shape.mixer)) {
    if (row.had != nullptr && !row.had(config, shape)) continue;
    const float factor = row.factor != nullptr ? row.factor(config) : 1;
    if (row.step.kind == StepKind::kScale && factor == 1) continue;
    steps.push_back(row.step);
    steps.back().factor = factor;
    if (row.step.kind == StepKind::kAttend) steps.back().window = shape.window;
  }
  return steps;
}

std::vector<LayerStep> UnitsOf(const ModelConfig& config, Index layer) {
  std::vector<LayerStep> units = StepsOf(config, config.Shape(layer));
  std::erase_if(units, [](const LayerStep& step) { return step.kind != StepKind::kProducts; });
  return units;
}

std::size_t ProductsOf(std::span<const LayerStep> steps, Unit unit) {
  const auto found = std::ranges::find_if(steps, [&](const LayerStep& step) {
    return step.kind == StepKind::kProducts && step.unit == unit;
  });
  LIEQ_ASSERT(found != steps.end());
  return static_cast<std::size_t>(found - steps.begin());
}

}  // namespace lieq
