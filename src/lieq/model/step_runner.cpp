#include "lieq/model/step_runner.h"

#include <algorithm>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/model/expert_routes.h"
#include "lieq/model/passes.h"

namespace lieq {

namespace {

/// The columns that a split takes, as rows of its heads.
DeviceView<const float> PartOf(const LayerStep& step, DeviceView<float> from) {
  return from.Reshaped(step.head).Cols(step.part, step.part_width);
}

bool NeedsMixers(const LayerStep& step) {
  switch (step.kind) {
    case StepKind::kAdd:
    case StepKind::kMultiply:
    case StepKind::kGateBy:
    case StepKind::kActivateGelu:
    case StepKind::kConvolve:
    case StepKind::kConvolveSwish:
    case StepKind::kDelta:
    case StepKind::kClip:
    case StepKind::kRoute:
      return true;
    default:
      return false;
  }
}

}  // namespace

StepRunner::StepRunner(const ModelConfig& config, Device& device, Index max_length)
    : config_(config),
      device_(device),
      mixers_(device.mixers()),
      rope_(config.rope, config.RotaryDim(), max_length, device) {
  if (config.local_rope) {
    local_rope_.emplace(*config.local_rope, config.RotaryDim(), max_length, device);
  }
  if (config.temperature != 0) tempered_rope_.emplace(config, max_length, device);
  for (Index layer = 0; layer < config.layers; ++layer) {
    steps_.push_back(StepsOf(config, config.Shape(layer)));
    if (config.attention_cap != 0 || std::ranges::any_of(steps_.back(), NeedsMixers)) {
      (void)RequireMixers(device, config.architecture);
    }
  }
}

const PlacedRope& StepRunner::rope(RopeUse use) const noexcept {
  return use == RopeUse::kLocal && local_rope_         ? *local_rope_
         : use == RopeUse::kTempered && tempered_rope_ ? *tempered_rope_
                                                       : rope_;
}

DeviceView<float> StepRunner::Own(LayerValue value, Index rows, const LayerShape& shape) {
  return Sized(device_, own_[static_cast<std::size_t>(value)], rows, Width(config_, shape, value));
}

DeviceView<float> StepRunner::Room(LayerValue value, LayerValues& values) {
  DeviceView<float>& view = values[value];
  if (view.empty()) view = Own(value, values[LayerValue::kStream].rows(), values.shape());
  return view;
}

void StepRunner::Run(const LayerStep& step, const StepContext& context, LayerValues& values) {
  const auto from = Room(step.from, values), to = Room(step.to, values);
  switch (step.kind) {
    case StepKind::kNorm:
      device_.RmsNorm(from, context.layer.At(step.weight), config_.rms_eps, to);
      break;
    case StepKind::kHeadNorm:
      device_.RmsNorm(from.Reshaped(step.head), context.layer.At(step.weight), config_.rms_eps,
                      to.Reshaped(step.head));
      break;
    case StepKind::kProducts: {
      if (step.experts) return RunExperts(step, context, values);
      std::vector<Product> products;
      products.reserve(step.linears.size());
      for (const StepLinear& linear : step.linears) {
        products.push_back(ProductOf(context.layer.At(linear.site), Room(linear.to, values)));
      }
      device_.Products(from, products, AddsToStream(step));
      break;
    }
    case StepKind::kRotate:
      device_.Rope(to, rope(step.rope).table(), context.spans, config_.head_dim);
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
    case StepKind::kSplit:
      device_.Copy(PartOf(step, from), to.Reshaped(step.part_width));
      break;
    case StepKind::kCopy:
      device_.Copy(from, to);
      break;
    case StepKind::kSwishInto:
      device_.SwiGlu(from, to);
      device_.Copy(from, to);
      break;
    default:
      RunBeyond(step, context, values);
  }
}

void StepRunner::RunInto(const LayerStep& step, const StepContext& context, LayerValues& values,
                         DeviceView<float> into) {
  const DeviceView<float> before = Room(step.to, values);
  if (step.kind == StepKind::kHeadNorm) {
    device_.RmsNorm(before.Reshaped(step.head), context.layer.At(step.weight), config_.rms_eps,
                    into.Reshaped(step.head));
    values[step.to] = into;
    return;
  }
  values[step.to] = into;
  if (step.kind == StepKind::kActivate) {
    return device_.SwiGluInto(before, Room(LayerValue::kUp, values), into);
  }
  device_.Copy(before, into);
  Run(step, context, values);
}

/// Steps that the first architectures do not have.
void StepRunner::RunBeyond(const LayerStep& step, const StepContext& context, LayerValues& values) {
  const auto from = Room(step.from, values), to = Room(step.to, values);
  const auto vector = [&](LayerVector which) {
    const PlacedVector& placed = context.layer.vectors[static_cast<std::size_t>(which)];
    return placed ? DeviceView<const float>(placed->view()) : DeviceView<const float>();
  };
  const auto state = [&](DeviceMatrix LayerCache::* kept) {
    return context.cache == nullptr
               ? SequenceState{}
               : SequenceState{(context.cache->*kept).view(), context.cache->capacity};
  };
  switch (step.kind) {
    case StepKind::kAdd:
      return mixers_->Add(from, to);
    case StepKind::kMultiply:
      return mixers_->Multiply(to, from);
    case StepKind::kGateBy:
      return mixers_->MultiplyBySigmoid(to, from);
    case StepKind::kActivateGelu:
      return mixers_->GeluGlu(to, Room(LayerValue::kUp, values));
    case StepKind::kConvolve:
    case StepKind::kConvolveSwish:
      return mixers_->Convolve(from,
                               {.weight = vector(LayerVector::kConv),
                                .bias = vector(LayerVector::kConvBias),
                                .kernel = config_.conv_kernel,
                                .swish = step.kind == StepKind::kConvolveSwish},
                               context.spans, state(&LayerCache::conv), to);
    case StepKind::kDelta:
      return mixers_->GatedDelta(from, Room(LayerValue::kNormed, values),
                                 {.key_heads = config_.delta.key_heads,
                                  .value_heads = config_.delta.value_heads,
                                  .key_dim = config_.delta.key_dim,
                                  .value_dim = config_.delta.value_dim,
                                  .decay_input = vector(LayerVector::kDeltaA),
                                  .strength_input = vector(LayerVector::kDeltaB),
                                  .decay = vector(LayerVector::kDeltaDecay),
                                  .shift = vector(LayerVector::kDeltaShift)},
                                 context.spans, state(&LayerCache::delta), to);
    case StepKind::kClip:
      return mixers_->Clip(to, step.factor);
    case StepKind::kRoute:
      return mixers_->Route(from, vector(step.weight), config_.experts.normalised, to);
    default:
      LIEQ_ASSERT(false);
  }
}

DeviceView<float> StepRunner::UnitInput(const LayerStep& unit, LayerValues& values) {
  const DeviceView<float> whole = Room(unit.from, values);
  const bool by_slot = unit.experts && unit.from == LayerValue::kGate;
  return by_slot ? whole.Reshaped(config_.experts.inner) : whole;
}

/// Rows are gathered by expert, so that each has one product, and go back to their slots, or what
/// comes of them is added up for each token.
void StepRunner::RunExperts(const LayerStep& step, const StepContext& context,
                            LayerValues& values) {
  const DeviceView<float> input = UnitInput(step, values),
                          routes = Room(LayerValue::kRoutes, values);
  Matrix<float> chosen(routes.rows(), routes.cols());
  device_.Download(routes, chosen.view());
  const ExpertRoutes by_expert = RoutesOf(std::as_const(chosen).view(), config_.experts.count);
  const bool adds = AddsToStream(step);
  const auto slots = static_cast<Index>(by_expert.slots.size());
  const DeviceView<float> rows = Sized(device_, routed_[0], slots, input.cols());
  mixers_->Gather(input, adds ? by_expert.slots : by_expert.tokens, rows);

  std::vector<DeviceView<float>> given;
  for (const StepLinear& linear : step.linears) {
    const Index out = config_.Out(values.shape(), linear.site) / config_.experts.count;
    given.push_back(Sized(device_, routed_[given.size() + 1], slots, out));
  }
  for (Index expert = 0; expert < config_.experts.count; ++expert) {
    const Index first = by_expert.begin[Size(expert)], count = by_expert.count(expert);
    if (count == 0) continue;
    std::vector<Product> products;
    for (std::size_t i = 0; i < given.size(); ++i) {
      const PlacedLinear& linear = context.layer.At(step.linears[i].site);
      products.push_back(
          {.w = *linear.experts[Size(expert)], .bias = {}, .y = given[i].Rows(first, count)});
    }
    device_.Products(rows.Rows(first, count), products, /*add=*/false);
  }
  if (adds)
    return mixers_->AddRouted(given.front(), by_expert.places, routes, Room(step.to, values));
  for (std::size_t i = 0; i < given.size(); ++i) {
    const DeviceView<float> to = Room(step.linears[i].to, values);
    mixers_->Gather(given[i], by_expert.places, to.Reshaped(config_.experts.inner));
  }
}

void StepRunner::Attend(const LayerStep& step, const StepContext& context, LayerValues& values) {
  const DeviceView<const float> q = Room(LayerValue::kQ, values), k = Room(LayerValue::kK, values),
                                v = Room(LayerValue::kV, values);
  const DeviceView<float> out = Room(step.to, values);
  const AttentionHeads heads{.heads = config_.heads,
                             .kv_heads = config_.kv_heads,
                             .head_dim = config_.head_dim,
                             .window = step.window,
                             .cap = static_cast<float>(config_.attention_cap)};
  if (context.cache == nullptr) return device_.Attention(q, k, v, heads, context.spans, out);
  for (const AttentionSpan& span : context.spans) {
    device_.Store(k.Rows(span.begin, span.length), *context.cache->keys, span.keys);
    device_.Store(v.Rows(span.begin, span.length), *context.cache->values, span.keys);
  }
  device_.CachedAttention(q, *context.cache->keys, *context.cache->values, heads, context.spans,
                          out);
}

}  // namespace lieq
