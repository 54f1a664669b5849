#include "lieq/model/layer_places.h"

#include <algorithm>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

using enum LayerValue;

/// Whether the step reads what lies where it writes.
bool Changes(const LayerStep& step) {
  switch (step.kind) {
    case StepKind::kProducts:
      return AddsToStream(step);
    case StepKind::kRotate:
    case StepKind::kScale:
    case StepKind::kActivate:
      return true;
    default:
      return step.from == step.to;
  }
}

}  // namespace

LayerPlaces::LayerPlaces(const ModelConfig& config, const LayerShape& shape,
                         std::span<const LayerStep> steps, bool inputs) {
  const auto add = [&](LayerValue value) {
    places_.push_back({.value = value, .width = Width(config, shape, value)});
    return places_.size() - 1;
  };
  (void)add(kStream);  // kInput
  (void)add(kStream);  // kOutput
  std::array<std::size_t, kLayerValues> lies;
  lies.fill(kNone);
  const auto at = [&](LayerValue value) -> std::size_t& {
    return lies[static_cast<std::size_t>(value)];
  };
  at(kStream) = kInput;
  const auto last = std::ranges::find_if(steps.rbegin(), steps.rend(), AddsToStream);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const LayerStep& step = steps[i];
    Step& planned = steps_.emplace_back();
    const auto reads = [&](std::initializer_list<LayerValue> values) {
      std::ranges::transform(values, planned.reads.begin(), at);
      for (const LayerValue value : values) {
        LIEQ_ASSERT(at(value) != kNone);
        places_[at(value)].read = true;
      }
      needed_ = i;
    };
    const bool norm = step.kind == StepKind::kNorm || step.kind == StepKind::kHeadNorm;
    if (norm || (inputs && step.kind == StepKind::kProducts)) reads({step.from});
    if (step.kind == StepKind::kAttend) reads({kQ, kK, kV});
    if (step.kind == StepKind::kActivate) reads({kGate, kUp});

    const auto moved = [&](LayerValue value) {
      const std::size_t place = last != steps.rend() && &step == &*last ? kOutput : add(value);
      planned.writes.push_back({value, place});
      at(value) = place;
    };
    if (Changes(step)) {
      const std::size_t place = at(step.to);
      LIEQ_ASSERT(place != kNone);
      planned.moves = places_[place].read || place == kInput || &step == &*last;
      if (planned.moves) moved(step.to);
    } else if (step.kind == StepKind::kProducts) {
      for (const StepLinear& linear : step.linears) moved(linear.to);
    } else {
      moved(step.to);
    }
  }
  places_[kInput].read = places_[kOutput].read = false;
}

Index LayerPlaces::Elements(const Place& place, Index tokens) noexcept {
  constexpr Index kAligned = 64;  // 256 bytes: which kernel a library takes may depend on it
  return CeilDiv(place.width * tokens, kAligned) * kAligned;
}

Index LayerPlaces::Elements(Index tokens) const noexcept {
  Index all = 0;
  for (const Place& place : places_) {
    if (place.read) all += Elements(place, tokens);
  }
  return all;
}

}  // namespace lieq
