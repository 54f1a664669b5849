#include "lieq/quantize/streams.h"

#include <algorithm>
#include <utility>

#include "lieq/base/assert.h"

namespace lieq {

ActivationStream::ActivationStream(const ModelConfig& config, Device& device, Forward& forward,
                                   Hidden hidden, bool at_once)
    : device_(device), forward_(forward), hidden_(std::move(hidden)), at_once_(at_once) {
  const Index rows = hidden_.x.rows();
  const Index batch = std::min(rows, forward.BatchWindows(hidden_.length) * hidden_.length);
  keep_gated_ = !at_once && rows * config.intermediate <= kMostKeptFloats;
  in_ = device.Alloc(batch, config.hidden);
  attention_ = device.Alloc(rows, config.In(Site::kO));
  gated_ = device.Alloc(keep_gated_ ? rows : batch, config.intermediate);
}

DeviceView<float> ActivationStream::Gated(Index first, Index rows) {
  return keep_gated_ ? gated_.view().Rows(first, rows) : gated_.view().Rows(0, rows);
}

DeviceView<const float> ActivationStream::Input(Unit unit, Index first, Index rows) {
  LayerSteps& steps = forward_.steps();
  const DeviceView<float> x = hidden_.x.view().Rows(first, rows);
  const DeviceView<float> in = in_.view().Rows(0, rows);
  const DeviceView<float> attention = attention_.view().Rows(first, rows);
  switch (unit) {
    case Unit::kQkv:
      steps.QkvInput(layer_, x, in);
      return in;
    case Unit::kO:
      steps.QkvInput(layer_, x, in);
      steps.AttentionOutput(layer_, in, hidden_.length, attention);
      return attention;
    case Unit::kGateUp:
      steps.AddO(layer_, attention, x);
      steps.MlpInput(layer_, x, in);
      return in;
    case Unit::kDown:
      steps.MlpInput(layer_, x, in);
      steps.Gated(layer_, in, Gated(first, rows));
      return Gated(first, rows);
  }
  LIEQ_ASSERT(false);
  return in;
}

void ActivationStream::Finish(Index first, Index rows) {
  LayerSteps& steps = forward_.steps();
  const DeviceView<float> x = hidden_.x.view().Rows(first, rows);
  if (!keep_gated_ && !at_once_) {
    const DeviceView<float> in = in_.view().Rows(0, rows);
    steps.MlpInput(layer_, x, in);
    steps.Gated(layer_, in, Gated(first, rows));
  }
  steps.AddDown(layer_, Gated(first, rows), x);
}

}  // namespace lieq
