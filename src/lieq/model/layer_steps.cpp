#include "lieq/model/layer_steps.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

using enum LayerValue;

constexpr std::array kQkvLinears{StepLinear{Site::kQ, kQ}, StepLinear{Site::kK, kK},
                                 StepLinear{Site::kV, kV}};
constexpr std::array kWideQkvLinears{StepLinear{Site::kQ, kWide}, StepLinear{Site::kK, kK},
                                     StepLinear{Site::kV, kV}};
constexpr std::array kDeltaLinears{StepLinear{Site::kQ, kWide}, StepLinear{Site::kK, kSide}};
constexpr std::array kOLinears{StepLinear{Site::kO, kStream}};
constexpr std::array kOOutLinears{StepLinear{Site::kO, kOut}};
constexpr std::array kGateUpLinears{StepLinear{Site::kGate, kGate}, StepLinear{Site::kUp, kUp}};
constexpr std::array kWideGateLinears{StepLinear{Site::kGate, kWideGate}};
constexpr std::array kDownLinears{StepLinear{Site::kDown, kStream}};
constexpr std::array kDownOutLinears{StepLinear{Site::kDown, kOut}};

/// Rows of a layer one after another.
class Steps {
 public:
  Steps(const ModelConfig& config, const LayerShape& shape) : config_(config), shape_(shape) {}

  [[nodiscard]] std::vector<LayerStep> All() && {
    Before(LayerVector::kAttentionNorm);
    switch (shape_.mixer) {
      case Mixer::kAttention:
        Attention();
        break;
      case Mixer::kGatedDelta:
        GatedDelta();
        break;
      case Mixer::kShortConv:
        ShortConv();
        break;
    }
    Scale(kMixed, residual());
    After(Unit::kO, kMixed, kOLinears, kOOutLinears, LayerVector::kAttentionPostNorm);
    Before(LayerVector::kMlpNorm);
    Mlp();
    Scale(kGate, residual());
    After(Unit::kDown, kGate, kDownLinears, kDownOutLinears, LayerVector::kMlpPostNorm);
    return std::move(steps_);
  }

 private:
  /// What goes into a block: normed, or as it is.
  void Before(LayerVector norm) {
    if (Has(config_, shape_, norm)) {
      Add({.kind = StepKind::kNorm, .from = kStream, .to = kNormed, .weight = norm});
    } else {
      Plain(StepKind::kCopy, kStream, kNormed);  // whoever changes it leaves the stream alone
    }
  }
  /// What comes out of a block: added, or normed first.
  void After(Unit unit, LayerValue from, std::span<const StepLinear> adding,
             std::span<const StepLinear> giving, LayerVector norm) {
    if (!Has(config_, shape_, norm)) return Products(unit, from, adding);
    Products(unit, from, giving);
    Add({.kind = StepKind::kNorm, .from = kOut, .to = kOut, .weight = norm});
    Plain(StepKind::kAdd, kOut, kStream);
  }

  void Attention() {
    const Index dim = config_.head_dim, queries = Width(config_, shape_, kQ),
                keys = Width(config_, shape_, kK);
    if (config_.fused_qkv) {
      Products(Unit::kQkv, kNormed, std::span(kWideQkvLinears).first(1));
      const Index wide = queries + 2 * keys;
      Split(kWide, kQ, wide, 0, queries);
      Split(kWide, kK, wide, queries, keys);
      Split(kWide, kV, wide, queries + keys, keys);
    } else if (config_.gated_attention) {
      Products(Unit::kQkv, kNormed, kWideQkvLinears);
      Split(kWide, kQ, 2 * dim, 0, dim);
      Split(kWide, kSide, 2 * dim, dim, dim);
    } else {
      Products(Unit::kQkv, kNormed, kQkvLinears);
    }
    const auto norm_heads = [&] {
      HeadNorm(kQ, LayerVector::kQNorm, config_.whole_qk_norm ? queries : dim);
      HeadNorm(kK, LayerVector::kKNorm, config_.whole_qk_norm ? keys : dim);
    };
    if (config_.qk_norm && !config_.late_qk_norm) norm_heads();
    for (const LayerValue value : {kQ, kK, kV}) {
      if (config_.qkv_clip == 0) break;
      Add({.kind = StepKind::kClip,
           .from = value,
           .to = value,
           .factor = static_cast<float>(config_.qkv_clip)});
    }
    if (shape_.rotates) {
      const RopeUse use = shape_.local_rope ? RopeUse::kLocal : RopeUse::kRope;
      Rotate(kQ, config_.temperature != 0 ? RopeUse::kTempered : use);
      Rotate(kK, use);
    }
    if (config_.qk_norm && config_.late_qk_norm) norm_heads();
    Scale(kQ, QueryFactor());
    Add({.kind = StepKind::kAttend, .from = kQ, .to = kMixed, .window = shape_.window});
    if (config_.gated_attention) Plain(StepKind::kGateBy, kSide, kMixed);
  }

  void GatedDelta() {
    Products(Unit::kQkv, kNormed, kDeltaLinears);
    Plain(StepKind::kConvolveSwish, kWide, kQ);
    Plain(StepKind::kDelta, kQ, kMixed);
    HeadNorm(kMixed, LayerVector::kDeltaNorm, config_.delta.value_dim);
    Plain(StepKind::kSwishInto, kSide, kMixed);
  }

  void ShortConv() {
    const Index hidden = config_.hidden;
    Products(Unit::kQkv, kNormed, std::span(kWideQkvLinears).first(1));
    Split(kWide, kQ, 3 * hidden, 0, hidden);
    Split(kWide, kSide, 3 * hidden, hidden, hidden);
    Split(kWide, kMixed, 3 * hidden, 2 * hidden, hidden);
    Plain(StepKind::kMultiply, kMixed, kQ);
    Plain(StepKind::kConvolve, kQ, kMixed);
    Plain(StepKind::kMultiply, kSide, kMixed);
  }

  void Mlp() {
    const Index inner = config_.intermediate;
    if (shape_.experts) {
      Add({.kind = StepKind::kRoute,
           .from = kNormed,
           .to = kRoutes,
           .weight = LayerVector::kRouter});
      Products(Unit::kGateUp, kNormed, kGateUpLinears);
    } else if (config_.fused_gate_up) {
      Products(Unit::kGateUp, kNormed, kWideGateLinears);
      Split(kWideGate, kGate, 2 * inner, 0, inner);
      Split(kWideGate, kUp, 2 * inner, inner, inner);
    } else {
      Products(Unit::kGateUp, kNormed, kGateUpLinears);
    }
    Plain(config_.activation == Activation::kSilu ? StepKind::kActivate : StepKind::kActivateGelu,
          kGate, kGate);
  }

  void Add(const LayerStep& step) { steps_.push_back(step); }
  void Plain(StepKind kind, LayerValue from, LayerValue to) {
    Add({.kind = kind, .from = from, .to = to});
  }
  void Products(Unit unit, LayerValue from, std::span<const StepLinear> linears) {
    Add({.kind = StepKind::kProducts,
         .from = from,
         .to = linears.front().to,
         .unit = unit,
         .linears = linears,
         .experts = shape_.experts && (unit == Unit::kGateUp || unit == Unit::kDown)});
  }
  void Split(LayerValue from, LayerValue to, Index head, Index part, Index width) {
    Add({.kind = StepKind::kSplit,
         .from = from,
         .to = to,
         .head = head,
         .part = part,
         .part_width = width});
  }
  void HeadNorm(LayerValue heads, LayerVector weight, Index head) {
    Add({.kind = StepKind::kHeadNorm, .from = heads, .to = heads, .weight = weight, .head = head});
  }
  void Rotate(LayerValue heads, RopeUse rope) {
    Add({.kind = StepKind::kRotate, .from = heads, .to = heads, .rope = rope});
  }
  /// None that is 1.
  void Scale(LayerValue value, float factor) {
    if (factor == 1) return;
    Add({.kind = StepKind::kScale, .from = value, .to = value, .factor = factor});
  }

  /// Scores are divided by sqrt(head_dim) as they are made.
  [[nodiscard]] float QueryFactor() const {
    if (config_.attention_multiplier == 0) return 1;
    return static_cast<float>(config_.attention_multiplier *
                              std::sqrt(static_cast<double>(config_.head_dim)));
  }
  /// The factor of what a linear gives, on what it is given: sums of both are then of one kind.
  [[nodiscard]] float residual() const { return static_cast<float>(config_.residual_multiplier); }

  const ModelConfig& config_;
  const LayerShape& shape_;
  std::vector<LayerStep> steps_;
};

}  // namespace

Index Width(const ModelConfig& config, const LayerShape& shape, LayerValue value) noexcept {
  const bool delta = shape.mixer == Mixer::kGatedDelta, conv = shape.mixer == Mixer::kShortConv;
  switch (value) {
    case kStream:
    case kNormed:
    case kOut:
      return config.hidden;
    case kQ:
      if (delta) return config.delta.channels();
      return conv ? config.hidden : config.heads * config.head_dim;
    case kMixed:
    case kSide:
      return config.In(shape, Site::kO);
    case kK:
    case kV:
      return config.kv_heads * config.head_dim;
    case kGate:
    case kUp:
      return shape.experts ? config.experts.used * config.experts.inner : config.intermediate;
    case kWide:
      return config.Out(shape, Site::kQ);
    case kWideGate:
      return config.Out(shape, Site::kGate);
    case kRoutes:
      return 2 * config.experts.used;
  }
  return 0;
}

Index GatedWidth(const ModelConfig& config) noexcept {
  Index most = Width(config, config.shapes.empty() ? LayerShape{} : config.shapes.front(), kGate);
  for (const LayerShape& shape : config.shapes) most = std::max(most, Width(config, shape, kGate));
  return most;
}

std::vector<LayerStep> StepsOf(const ModelConfig& config, const LayerShape& shape) {
  return Steps(config, shape).All();
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
