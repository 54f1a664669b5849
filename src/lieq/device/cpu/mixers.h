// The processor's MixerOps. Each output is made by one thread, in the order of the tokens: the same
// bits for any number of threads, and on any processor.
#pragma once

#include "lieq/base/thread_pool.h"
#include "lieq/device/mixer_ops.h"

namespace lieq {

class CpuMixers final : public MixerOps {
 public:
  explicit CpuMixers(ThreadPool& pool) : pool_(pool) {}

  void Add(DeviceView<const float> from, DeviceView<float> to) override;
  void Multiply(DeviceView<float> x, DeviceView<const float> by) override;
  void MultiplyBySigmoid(DeviceView<float> x, DeviceView<const float> by) override;
  void GeluGlu(DeviceView<float> gate, DeviceView<const float> up) override;
  void SoftCap(DeviceView<float> x, float cap) override;
  void Convolve(DeviceView<const float> x, const ConvolutionWeights& weights,
                std::span<const AttentionSpan> spans, const SequenceState& state,
                DeviceView<float> y) override;
  void GatedDelta(DeviceView<const float> qkv, DeviceView<const float> normed,
                  const DeltaWeights& weights, std::span<const AttentionSpan> spans,
                  const SequenceState& state, DeviceView<float> out) override;
  void Clip(DeviceView<float> x, float limit) override;
  void Route(DeviceView<const float> normed, DeviceView<const float> router, bool normalised,
             DeviceView<float> routes) override;
  void Gather(DeviceView<const float> from, std::span<const Index> rows,
              DeviceView<float> to) override;
  void AddRouted(DeviceView<const float> from, std::span<const Index> rows,
                 DeviceView<const float> routes, DeviceView<float> to) override;

 private:
  template <class Function>
  void ForElements(DeviceView<float> x, DeviceView<const float> with, const Function& f);

  ThreadPool& pool_;
};

/// score = cap tanh(scale score / cap), in place: attention's, before the softmax.
void CapScores(float* scores, float scale, float cap, Index count);

}  // namespace lieq
