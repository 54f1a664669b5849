#include "lieq/model/step_runner.h"

#include "lieq/base/assert.h"
#include "lieq/model/passes.h"

namespace lieq {

StepRunner::StepRunner(const ModelConfig& config, Device& device, Index max_length)
    : config_(config), device_(device), rope_(config.rope, config.head_dim, max_length, device) {
  for (Index layer = 0; layer < config.layers; ++layer) {
    steps_.push_back(StepsOf(config, config.Shape(layer)));
  }
}

DeviceView<float> StepRunner::Own(LayerValue value, Index rows) {
  return Sized(device_, own_[static_cast<std::size_t>(value)], rows, Width(config_, value));
}

DeviceView<float> StepRunner::Room(LayerValue value, LayerValues& values) {
  DeviceView<float>& view = values[value];
  if (view.empty()) view = Own(value, values[LayerValue::kStream].rows());
  return view;
}

void StepRunner::Run(const LayerStep& step, const StepContext& context, LayerValues& values) {
  const Index dim = config_.head_dim;
  const auto from = Room(step.from, values), to = Room(step.to, values);
  switch (step.kind) {
    case StepKind::kNorm:
      device_.RmsNorm(from, (context.layer.*step.weight)->view(), config_.rms_eps, to);
      break;
    case StepKind::kHeadNorm:
      device_.RmsNorm(from.Reshaped(dim), (context.layer.*step.weight)->view(), config_.rms_eps,
                      to.Reshaped(dim));
      break;
    case StepKind::kProducts: {
      std::vector<Product> products;
      products.reserve(step.linears.size());
      for (const StepLinear& linear : step.linears) {
        products.push_back(ProductOf(context.layer.At(linear.site), Room(linear.to, values)));
      }
      device_.Products(from, products, AddsToStream(step));
      break;
    }
    case StepKind::kRotate:
      device_.Rope(to, rope_.table(), context.spans, dim);
      break;
    case StepKind::kAttend:
      Attend(step, context, values);
      break;
    case StepKind::kScale:
      device_.Scale(to, step.factor);
      break;
    case StepKind::kActivate:
      device_.SwiGlu(to, Room(LayerValue::kUp, values));
      break;
  }
}

void StepRunner::Attend(const LayerStep& step, const StepContext& context, LayerValues& values) {
  const DeviceView<const float> q = Room(LayerValue::kQ, values), k = Room(LayerValue::kK, values),
                                v = Room(LayerValue::kV, values);
  const DeviceView<float> out = Room(step.to, values);
  const AttentionHeads heads{.heads = config_.heads,
                             .kv_heads = config_.kv_heads,
                             .head_dim = config_.head_dim,
                             .window = step.window};
  if (context.cache == nullptr) return device_.Attention(q, k, v, heads, context.spans, out);
  for (const AttentionSpan& span : context.spans) {
    device_.Store(k.Rows(span.begin, span.length), *context.cache->keys, span.keys);
    device_.Store(v.Rows(span.begin, span.length), *context.cache->values, span.keys);
  }
  device_.CachedAttention(q, *context.cache->keys, *context.cache->values, heads, context.spans,
                          out);
}

}  // namespace lieq
