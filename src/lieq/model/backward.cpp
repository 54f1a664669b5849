#include "lieq/model/backward.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/model/forward.h"
#include "lieq/model/passes.h"

namespace lieq {
namespace {

/// Whether the gradient of the step reads what the step reads, beside weights.
bool GradientReadsInput(StepKind kind) {
  return kind != StepKind::kProducts && kind != StepKind::kRotate && kind != StepKind::kScale &&
         kind != StepKind::kSplit;
}

bool HasGradient(const LayerStep& step) {
  switch (step.kind) {
    case StepKind::kNorm:
    case StepKind::kHeadNorm:
    case StepKind::kProducts:
    case StepKind::kRotate:
    case StepKind::kAttend:
    case StepKind::kActivate:
    case StepKind::kScale:
    case StepKind::kSplit:
      return step.from != LayerValue::kOut;
    default:
      return false;
  }
}

/// Throws Error for a model with steps that have no gradient.
void RequireDifferentiable(const ModelConfig& config, StepRunner& runner) {
  bool good = config.logit_cap == 0 && config.attention_cap == 0;
  for (Index layer = 0; layer < config.layers; ++layer) {
    good = good && std::ranges::all_of(runner.Steps(layer), HasGradient);
  }
  if (good) return;
  throw Error({.what = "gradients of this architecture are not there",
               .where = config.architecture,
               .expected = "layers of norms, attention and a gated MLP, as Llama's",
               .hint = "quantize without what weighs tokens by their gradients"});
}

/// Whether a gradient reads the value itself: those of attention and of the activation.
bool IsReadBack(LayerValue value) {
  return value != LayerValue::kStream && value != LayerValue::kNormed &&
         value != LayerValue::kMixed;
}

}  // namespace

/// Some windows of a layer, on their way there and back.
struct Backward::Batch {
  std::span<const LayerStep> steps;
  const PlacedLayer& layer;
  std::vector<AttentionSpan> spans;  // windows side by side
  Index first = 0;                   // row of the layer where they begin
  LayerValues values, gradients;
  std::vector<DeviceView<float>> norm_inputs;  // [steps], of those that are norms
  WeightObserver* of_weights = nullptr;
  std::vector<DeviceView<float>> unit_inputs;  // [steps], of products, where they are observed
  std::size_t copies = 0;                      // of kept_ that are in use
};

Backward::Backward(const Weights& weights, Device& device, Index max_length)
    : weights_(weights),
      device_(device),
      gradients_(RequireGradients(device)),
      placed_(weights, device),
      runner_(weights.config, device, max_length) {
  RequireDifferentiable(weights.config, runner_);
}

void Backward::Head(const Hidden& hidden, View<const TokenId, 2> tokens, DeviceView<float> gradient,
                    Index first_window) {
  const ModelConfig& config = weights_.config;
  LIEQ_ASSERT(tokens.rows() == hidden.windows && tokens.cols() == hidden.length);
  LIEQ_ASSERT(hidden.length >= 2 && gradient.rows() == hidden.x.rows());
  const Index scored = hidden.length - 1;
  const Index chunk = std::clamp<Index>(kLogitElements / config.vocab, 1, scored);
  const PreparedMatrix& head = placed_.head();
  const Matrix<float> nothing(1, config.hidden);
  std::vector<double> nll(Size(chunk));
  for (Index w = 0; w < hidden.windows; ++w) {
    for (Index begin = 0; begin < scored; begin += chunk) {
      const Index rows = std::min(chunk, scored - begin), first = w * hidden.length + begin;
      const auto x = hidden.x.view().Rows(first, rows);
      const auto in = runner_.Own(LayerValue::kNormed, rows);
      const auto logits = Sized(device_, logits_, rows, config.vocab);
      const std::span<double> losses(nll.data(), Size(rows));
      device_.RmsNorm(x, placed_.final_norm(), config.rms_eps, in);
      device_.Matmul(in, head, {}, logits, false);
      gradients_.NllGradient(logits, tokens.Row(w).subspan(Size(begin + 1), Size(rows)), losses);
      device_.Sync();
      CheckFinite(losses, first_window + w, begin);
      gradients_.MatmulGradient(logits, head, in, false);
      gradients_.RmsNormGradient(x, placed_.final_norm(), config.rms_eps, in,
                                 gradient.Rows(first, rows), false);
    }
    device_.Upload(nothing.view(), gradient.Rows((w + 1) * hidden.length - 1, 1));
  }
}

double Backward::DivergenceHead(const Hidden& hidden, Forward& reference, const Hidden& taught,
                                DeviceView<float> gradient, WeightObserver* observer) {
  const ModelConfig& config = weights_.config;
  LIEQ_ASSERT(taught.x.rows() == hidden.x.rows() && gradient.rows() == hidden.x.rows());
  const Index all = hidden.x.rows();
  const Index chunk = std::clamp<Index>(kLogitElements / config.vocab, 1, all);
  const PreparedMatrix& head = placed_.head();
  std::vector<double> kl(Size(chunk));
  double sum = 0;
  for (Index first = 0; first < all; first += chunk) {
    const Index rows = std::min(chunk, all - first);
    const auto x = hidden.x.view().Rows(first, rows);
    const auto in = runner_.Own(LayerValue::kNormed, rows);
    const auto logits = Sized(device_, logits_, rows, config.vocab);
    const auto wanted = Sized(device_, reference_logits_, rows, config.vocab);
    const std::span<double> losses(kl.data(), Size(rows));
    reference.Logits(taught.x.view().Rows(first, rows), wanted);
    device_.RmsNorm(x, placed_.final_norm(), config.rms_eps, in);
    device_.Matmul(in, head, {}, logits, false);
    gradients_.KlGradient(logits, wanted, losses);
    device_.Sync();
    CheckFinite(losses, first / hidden.length, first % hidden.length);
    for (const double each : losses) sum += each;
    if (observer != nullptr) observer->OfHead(in, logits);
    gradients_.MatmulGradient(logits, head, in, false);
    if (observer != nullptr) observer->OfFinalNorm(x, in);
    gradients_.RmsNormGradient(x, placed_.final_norm(), config.rms_eps, in,
                               gradient.Rows(first, rows), false);
  }
  return sum;
}

void Backward::Layer(Index layer, const LayerWeights& weights, DeviceView<float> x, Index length,
                     DeviceView<float> gradient, const GradientObserver& observer,
                     WeightObserver* of_weights) {
  const PlacedLayer placed = Place(weights, device_);
  const std::span<const LayerStep> steps = runner_.Steps(layer);
  LIEQ_ASSERT(x.rows() == gradient.rows() && x.rows() % length == 0);
  const Index most = std::max<Index>(1, kGradientRows / length) * length;
  for (Index first = 0; first < x.rows(); first += most) {
    const Index rows = std::min(most, x.rows() - first);
    Batch batch{.steps = steps,
                .layer = placed,
                .spans = WindowSpans(rows / length, length),
                .first = first,
                .values = runner_.Values(layer),
                .gradients = runner_.Values(layer),
                .norm_inputs = std::vector<DeviceView<float>>(steps.size()),
                .of_weights = of_weights,
                .unit_inputs = std::vector<DeviceView<float>>(steps.size())};
    batch.values[LayerValue::kStream] = x.Rows(first, rows);
    batch.gradients[LayerValue::kStream] = gradient.Rows(first, rows);
    Recompute(batch);
    for (std::size_t step = steps.size(); step-- > 0;) Back(step, batch, observer);
  }
}

/// The layer forward from its input, as far as gradients read what it computes. They read values as
/// they were when a step read them: one that changes a norm's input gets a copy to work on.
void Backward::Recompute(Batch& batch) {
  const auto copy = [&](DeviceView<const float> value) { return Kept(value, batch); };
  const auto reads = [](const LayerStep& step) { return GradientReadsInput(step.kind); };
  const auto last = std::ranges::find_if(batch.steps.rbegin(), batch.steps.rend(), reads);
  for (std::size_t i = 0; i < batch.steps.size(); ++i) {
    const LayerStep& step = batch.steps[i];
    if (step.kind == StepKind::kNorm || step.kind == StepKind::kHeadNorm) {
      const auto input = runner_.Room(step.from, batch.values);
      batch.norm_inputs[i] = step.from == step.to ? copy(input) : input;
    }
    if (step.kind == StepKind::kProducts && batch.of_weights != nullptr) {
      batch.unit_inputs[i] = copy(runner_.Room(step.from, batch.values));
    }
    if (&step == &*last) return KeepUnitInputs(i, batch);  // what it writes, no gradient reads
    if (AddsToStream(step))
      batch.values[LayerValue::kStream] = copy(batch.values[LayerValue::kStream]);
    runner_.Run(step, {.layer = batch.layer, .spans = batch.spans}, batch.values);
  }
}

DeviceView<float> Backward::Kept(DeviceView<const float> value, Batch& batch) {
  if (batch.copies == kept_.size()) kept_.emplace_back();
  const auto to = Sized(device_, kept_[batch.copies++], value.rows(), value.cols());
  device_.Copy(value, to);
  return to;
}

/// The steps from the last one on whose input a gradient reads, for the inputs of the products
/// among them: on copies, so that what gradients read stays.
void Backward::KeepUnitInputs(std::size_t last, Batch& batch) {
  if (batch.of_weights == nullptr) return;
  LayerValues rest = batch.values;
  for (std::size_t i = last; i < batch.steps.size(); ++i) {
    const LayerStep& step = batch.steps[i];
    if (step.kind == StepKind::kProducts) {
      batch.unit_inputs[i] = Kept(runner_.Room(step.from, rest), batch);
    }
    if (AddsToStream(step)) continue;  // nobody reads it
    rest[step.to] = Kept(runner_.Room(step.to, rest), batch);
    runner_.Run(step, {.layer = batch.layer, .spans = batch.spans}, rest);
  }
}

/// Where the gradient goes: in the place of the value, which nobody reads on the way back, or in
/// one of its own.
DeviceView<float> Backward::GradientRoom(LayerValue value, Batch& batch) {
  DeviceView<float>& gradient = batch.gradients[value];
  if (gradient.empty()) {
    const auto place = runner_.Room(value, batch.values);
    gradient = IsReadBack(value) ? Sized(device_, gradients_of_[static_cast<std::size_t>(value)],
                                         place.rows(), place.cols())
                                 : place;
  }
  return gradient;
}

/// One step: from the gradient of what it wrote to that of what it read. The stream goes on past a
/// step that reads it, so that gradients add up there.
void Backward::Back(std::size_t index, Batch& batch, const GradientObserver& observer) {
  const ModelConfig& config = weights_.config;
  const LayerStep& step = batch.steps[index];
  const Index dim = config.head_dim;
  LayerValues& values = batch.values;
  LayerValues& gradients = batch.gradients;
  const bool from_stream = step.from == LayerValue::kStream;
  switch (step.kind) {
    case StepKind::kProducts: {
      if (observer) {
        for (const StepLinear& linear : step.linears) {
          observer(linear.site, batch.first, gradients[linear.to]);
        }
      }
      if (batch.of_weights != nullptr) {
        for (const StepLinear& linear : step.linears) {
          batch.of_weights->OfLinear(linear.site, batch.unit_inputs[index], gradients[linear.to]);
        }
      }
      bool add = from_stream;
      for (const StepLinear& linear : step.linears) {
        gradients_.MatmulGradient(gradients[linear.to], *batch.layer.At(linear.site).weight,
                                  GradientRoom(step.from, batch), add);
        add = true;
      }
      break;
    }
    case StepKind::kNorm:
      if (batch.of_weights != nullptr) {
        batch.of_weights->OfNorm(step.weight, batch.norm_inputs[index], gradients[step.to]);
      }
      gradients_.RmsNormGradient(batch.norm_inputs[index], batch.layer.At(step.weight),
                                 config.rms_eps, gradients[step.to], GradientRoom(step.from, batch),
                                 from_stream);
      break;
    case StepKind::kHeadNorm: {
      const auto heads = gradients[step.to].Reshaped(step.head);
      if (batch.of_weights != nullptr) {
        batch.of_weights->OfNorm(step.weight, batch.norm_inputs[index].Reshaped(step.head), heads);
      }
      gradients_.RmsNormGradient(batch.norm_inputs[index].Reshaped(step.head),
                                 batch.layer.At(step.weight), config.rms_eps, heads, heads, false);
      break;
    }
    case StepKind::kRotate:
      device_.Rope(gradients[step.to], runner_.rope(step.rope).back(), batch.spans, dim);
      break;
    case StepKind::kScale:
      device_.Scale(gradients[step.to], step.factor);
      break;
    case StepKind::kSplit:
      device_.Copy(
          gradients[step.to].Reshaped(step.part_width),
          GradientRoom(step.from, batch).Reshaped(step.head).Cols(step.part, step.part_width));
      break;
    case StepKind::kAttend:
      gradients_.AttentionGradient(values[LayerValue::kQ], values[LayerValue::kK],
                                   values[LayerValue::kV], gradients[step.to],
                                   {.windows = static_cast<Index>(batch.spans.size()),
                                    .length = batch.spans.front().length,
                                    .heads = config.heads,
                                    .kv_heads = config.kv_heads,
                                    .head_dim = dim,
                                    .window = step.window},
                                   GradientRoom(LayerValue::kQ, batch),
                                   GradientRoom(LayerValue::kK, batch),
                                   GradientRoom(LayerValue::kV, batch));
      break;
    case StepKind::kActivate:
      gradients_.SwiGluGradient(values[LayerValue::kGate], values[LayerValue::kUp],
                                gradients[step.to]);
      gradients[LayerValue::kGate] = values[LayerValue::kGate];
      gradients[LayerValue::kUp] = values[LayerValue::kUp];
      break;
    default:
      LIEQ_ASSERT(false);  // RequireDifferentiable
  }
}

OutputSensitivity MeasureOutputSensitivity(const Weights& weights, Device& device,
                                           View<const TokenId, 2> tokens, Context& context,
                                           Index most_kept) {
  const ModelConfig& config = weights.config;
  const Index length = tokens.cols(), layers = config.layers;
  LIEQ_ASSERT(tokens.rows() > 0 && length >= 2);
  const Index batch =
      std::clamp<Index>(most_kept / (layers * length * config.hidden), 1, tokens.rows());
  OutputSensitivity result;
  result.weights.resize(Size(layers));
  for (auto& layer : result.weights) {
    for (auto& unit : layer) unit.resize(Size(tokens.size()));
  }
  Forward forward(weights, device, length);
  Backward backward(weights, device, length);
  CalibrationOps& sums_of_rows = RequireCalibration(device);
  const DeviceMatrix kept = device.Alloc(layers * batch * length, config.hidden);
  const DeviceMatrix gradients = device.Alloc(batch * length, config.hidden);
  std::array<std::vector<double>, kUnits> sums;

  Index done = 0;
  context.progress.Begin("measuring gradients", "layer pass",
                         2 * layers * CeilDiv(tokens.rows(), batch));
  for (Index w = 0; w < tokens.rows(); w += batch) {
    const View<const TokenId, 2> part = tokens.Rows(w, std::min(batch, tokens.rows() - w));
    const Index rows = part.rows() * length;
    const auto input = [&](Index layer) { return kept.view().Rows(layer * rows, rows); };
    const auto gradient = gradients.view().Rows(0, rows);
    {
      Hidden hidden = forward.Embed(part);
      for (Index layer = 0; layer < layers; ++layer) {
        context.ThrowIfStopped();
        device.Copy(hidden.x.view(), input(layer));
        forward.Layer(layer, hidden);
        weights.ReleaseLayer(layer);
        context.progress.Update(++done);
      }
      backward.Head(hidden, part, gradient, w);
    }
    for (Index layer = layers - 1; layer >= 0; --layer) {
      context.ThrowIfStopped();
      for (auto& unit : sums) unit.assign(Size(rows), 0.0);
      backward.Layer(layer, weights.layers[Size(layer)], input(layer), length, gradient,
                     [&](Site site, Index first, DeviceView<const float> dy) {
                       auto& unit = sums[static_cast<std::size_t>(UnitOf(site))];
                       sums_of_rows.RowSquares(
                           dy, std::span(unit).subspan(Size(first), Size(dy.rows())));
                     });
      device.Sync();
      weights.ReleaseLayer(layer);
      for (const LayerStep& unit : UnitsOf(config, layer)) {
        const auto u = static_cast<std::size_t>(unit.unit);
        Index outs = 0;
        for (const StepLinear& linear : unit.linears) outs += config.Out(layer, linear.site);
        for (Index t = 0; t < rows; ++t) {
          const auto weight = static_cast<float>(sums[u][Size(t)] / static_cast<double>(outs));
          if (!std::isfinite(weight)) {
            throw Error({.what = "the gradient of the loss is not finite",
                         .where = "layer " + std::to_string(layer) + ", " +
                                  std::string(Name(unit.unit)) + ", window " +
                                  std::to_string(w + t / length),
                         .hint = "the weights hold or produce NaN or infinity"});
          }
          result.weights[Size(layer)][u][Size(w * length + t)] = weight;
        }
      }
      context.progress.Update(++done);
    }
  }
  context.progress.End();
  return result;
}

}  // namespace lieq
