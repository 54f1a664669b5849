#include "lieq/quantize/streams.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/model/passes.h"

namespace lieq {

ActivationStream::ActivationStream(const ModelConfig& config, Device& device, Forward& forward,
                                   Hidden hidden, bool at_once, Index most_kept, bool keeps_mixed,
                                   Padding padding)
    : config_(config),
      device_(device),
      forward_(forward),
      hidden_(std::move(hidden)),
      padding_(std::move(padding)),
      at_once_(at_once),
      keep_mixed_(keeps_mixed) {
  const Index rows = hidden_.x.rows();
  const Index batch = std::min(rows, forward.BatchWindows(hidden_.length) * hidden_.length);
  const Index gated = GatedWidth(config);
  keep_gated_ = !at_once && rows * gated <= most_kept;
  normed_ = device.Alloc(batch, config.hidden);
  mixed_ = device.Alloc(keep_mixed_ ? rows : batch, config.In(Site::kO));
  gated_ = device.Alloc(keep_gated_ ? rows : batch, gated);
  if (config.HasExperts()) routes_ = device.Alloc(rows, Width(config, LayerValue::kRoutes));
}

/// Where a walk to step `end` goes on: at the unit before, whose input is kept, or else as far back
/// as the stream is still the one that the input is made of.
std::size_t ActivationStream::Resumed(std::size_t end) const {
  std::size_t begin = end;
  while (begin > 0 && steps_[begin - 1].kind != StepKind::kProducts) --begin;
  if (begin == 0) return 0;
  const LayerValue input = steps_[--begin].from;
  if ((input == LayerValue::kMixed && keep_mixed_) ||
      (input == LayerValue::kGate && (keep_gated_ || at_once_)))
    return begin;
  while (begin > 0 && !AddsToStream(steps_[begin - 1])) --begin;
  return begin;
}

LayerValues ActivationStream::Walk(std::size_t begin, std::size_t end, Index first, Index rows) {
  LayerValues values(shape_);
  values[LayerValue::kStream] = hidden_.x.view().Rows(first, rows);
  values[LayerValue::kNormed] = normed_.view().Rows(0, rows);
  const Index mixed = config_.In(shape_, Site::kO);
  values[LayerValue::kMixed] = keep_mixed_
                                   ? mixed_.Shaped(hidden_.x.rows(), mixed).Rows(first, rows)
                                   : mixed_.Shaped(rows, mixed);
  const Index gated = Width(config_, shape_, LayerValue::kGate);
  values[LayerValue::kGate] = keep_gated_ ? gated_.Shaped(hidden_.x.rows(), gated).Rows(first, rows)
                                          : gated_.Shaped(rows, gated);
  if (!routes_.view().empty()) values[LayerValue::kRoutes] = routes_.view().Rows(first, rows);
  const std::vector<AttentionSpan> spans = WindowSpans(rows / hidden_.length, hidden_.length);
  for (const LayerStep& step : steps_.subspan(begin, end - begin)) {
    forward_.runner().Run(step, {.layer = layer_, .spans = spans}, values);
  }
  padding_.Clear(device_, values[LayerValue::kStream], first);
  return values;
}

DeviceView<const float> ActivationStream::Input(Unit unit, Index first, Index rows) {
  const std::size_t end = ProductsOf(steps_, unit);
  LayerValues values = Walk(Resumed(end), end, first, rows);
  const DeviceView<float> input = forward_.runner().UnitInput(steps_[end], values);
  LIEQ_ASSERT(padding_.empty() || input.rows() == rows);  // experts have rows of their own
  padding_.Clear(device_, input, first);
  return input;
}

void ActivationStream::Finish(Index first, Index rows) {
  (void)Walk(Resumed(steps_.size()), steps_.size(), first, rows);
}

void ActivationStream::Pass(Index first, Index rows) {
  (void)Walk(0, steps_.size(), first, rows);
}

}  // namespace lieq
