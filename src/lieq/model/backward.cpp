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

}  // namespace

/// A layer on its way there, or back, or both.
struct Backward::LayerCall {
  Index layer;
  const LayerWeights& weights;
  DeviceView<float> x, y;  // y: empty on the way back alone
  Index length;
  bool inputs;  // of products are saved, for the gradients of their weights
  DeviceView<float> gradient = {};
};

/// Some windows of it.
struct Backward::Batch {
  std::span<const LayerStep> steps;
  const LayerPlaces& places;
  const PlacedLayer& layer;
  std::vector<AttentionSpan> spans;    // windows side by side
  Index first = 0;                     // row of the layer where they begin
  std::vector<DeviceView<float>> lie;  // [places]
  LayerValues values, gradients;
};

Backward::Backward(const Weights& weights, Device& device, Index max_length)
    : weights_(weights),
      device_(device),
      gradients_(RequireGradients(device)),
      placed_(weights, device),
      runner_(weights.config, device, max_length) {
  RequireDifferentiable(weights.config, runner_);
  for (Index layer = 0; layer < weights.config.layers; ++layer) {
    for (const bool inputs : {false, true}) {
      places_[inputs ? 1 : 0].emplace_back(weights.config, weights.config.Shape(layer),
                                           runner_.Steps(layer), inputs);
    }
  }
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

const LayerPlaces& Backward::PlacesOf(Index layer, bool inputs) const {
  return places_[inputs ? 1 : 0][Size(layer)];
}

Index Backward::BatchWindows(Index length) noexcept {
  return std::max<Index>(1, kGradientRows / length);
}

Index Backward::SavedFloats(Index layer, Index windows, Index length) const {
  const LayerPlaces& places = PlacesOf(layer, /*inputs=*/true);
  const Index batch = BatchWindows(length), rest = windows % batch;
  return windows / batch * places.Elements(batch * length) + places.Elements(rest * length);
}

void Backward::Layer(Index layer, const LayerWeights& weights, DeviceView<float> x, Index length,
                     DeviceView<float> gradient, const GradientObserver& observer,
                     WeightObserver* of_weights) {
  const bool inputs = of_weights != nullptr;
  const LayerCall call{.layer = layer,
                       .weights = weights,
                       .x = x,
                       .y = {},
                       .length = length,
                       .inputs = inputs,
                       .gradient = gradient};
  ForBatches(call, nullptr, [&](Batch& batch) {
    Forth(batch.places.needed(), batch);
    Back(batch, observer, of_weights);
  });
}

void Backward::LayerForward(Index layer, const LayerWeights& weights, DeviceView<float> x,
                            Index length, DeviceView<float> y, SavedActivations* saved) {
  LIEQ_ASSERT(y.rows() == x.rows());
  const LayerCall call{
      .layer = layer, .weights = weights, .x = x, .y = y, .length = length, .inputs = true};
  ForBatches(call, saved, [&](Batch& batch) { Forth(batch.steps.size(), batch); });
}

void Backward::LayerBack(Index layer, const LayerWeights& weights, DeviceView<float> x,
                         Index length, SavedActivations& saved, DeviceView<float> gradient,
                         const GradientObserver& observer, WeightObserver* of_weights) {
  LIEQ_ASSERT(saved.floats() >= SavedFloats(layer, x.rows() / length, length));
  const LayerCall call{.layer = layer,
                       .weights = weights,
                       .x = x,
                       .y = {},
                       .length = length,
                       .inputs = true,
                       .gradient = gradient};
  ForBatches(call, &saved, [&](Batch& batch) { Back(batch, observer, of_weights); });
}

/// Whole windows, as many as a batch takes. saved: holds all of them, one after another; null: what
/// is saved of one is gone with the next.
template <class Use>
void Backward::ForBatches(const LayerCall& call, SavedActivations* saved, const Use& use) {
  const Index length = call.length, all = call.x.rows();
  LIEQ_ASSERT(all % length == 0 && (call.gradient.empty() || call.gradient.rows() == all));
  const PlacedLayer placed = Place(call.weights, device_);
  const LayerPlaces& places = PlacesOf(call.layer, call.inputs);
  const Index most = std::min(BatchWindows(length) * length, all);
  const Index floats =
      saved == nullptr ? places.Elements(most) : SavedFloats(call.layer, all / length, length);
  const DeviceView<float> memory =
      Sized(device_, saved == nullptr ? own_.memory_ : saved->memory_, floats, 1);
  Index taken = 0;
  for (Index first = 0; first < all; first += most) {
    const Index rows = std::min(most, all - first), needed = places.Elements(rows);
    Batch batch{.steps = runner_.Steps(call.layer),
                .places = places,
                .layer = placed,
                .spans = WindowSpans(rows / length, length),
                .first = first,
                .lie = Lay(places, call, first, rows, memory.Rows(taken, needed)),
                .values = runner_.Values(call.layer),
                .gradients = runner_.Values(call.layer)};
    batch.values[LayerValue::kStream] = batch.lie[LayerPlaces::kInput];
    if (!call.gradient.empty()) {
      batch.gradients[LayerValue::kStream] = call.gradient.Rows(first, rows);
    }
    use(batch);
    if (saved != nullptr) taken += needed;
  }
}

/// Where the places of rows first .. first + rows - 1 lie: those that gradients read in `memory`,
/// the others in what the runner has for their values.
std::vector<DeviceView<float>> Backward::Lay(const LayerPlaces& places, const LayerCall& call,
                                             Index first, Index rows, DeviceView<float> memory) {
  std::vector<DeviceView<float>> lie;
  Index begin = 0;
  for (std::size_t i = 0; i < places.places().size(); ++i) {
    const LayerPlaces::Place& place = places.places()[i];
    if (i == LayerPlaces::kInput) {
      lie.push_back(call.x.Rows(first, rows));
    } else if (i == LayerPlaces::kOutput) {
      lie.push_back(call.y.empty() ? DeviceView<float>() : call.y.Rows(first, rows));
    } else if (place.read) {
      const Index elements = LayerPlaces::Elements(place, rows);
      lie.push_back(memory.Rows(begin, elements).Shaped(rows, place.width));
      begin += elements;
    } else {
      lie.push_back(runner_.Own(place.value, rows, weights_.config.Shape(call.layer)));
    }
  }
  return lie;
}

/// The first steps of the layer, forward.
void Backward::Forth(std::size_t steps, Batch& batch) {
  const StepContext context{.layer = batch.layer, .spans = batch.spans};
  for (std::size_t i = 0; i < steps; ++i) {
    const LayerStep& step = batch.steps[i];
    const LayerPlaces::Step& planned = batch.places.step(i);
    if (planned.moves) {
      runner_.RunInto(step, context, batch.values, batch.lie[planned.writes.front().place]);
      continue;
    }
    for (const auto& [value, place] : planned.writes) batch.values[value] = batch.lie[place];
    runner_.Run(step, context, batch.values);
  }
}

void Backward::Back(Batch& batch, const GradientObserver& observer, WeightObserver* of_weights) {
  for (std::size_t step = batch.steps.size(); step-- > 0;) Back(step, batch, observer, of_weights);
}

/// Where the gradient goes: the runner's own memory, which nothing on the way back reads.
DeviceView<float> Backward::GradientRoom(LayerValue value, Batch& batch) {
  DeviceView<float>& gradient = batch.gradients[value];
  if (gradient.empty()) {
    gradient =
        runner_.Own(value, batch.gradients[LayerValue::kStream].rows(), batch.gradients.shape());
  }
  return gradient;
}

/// One step: from the gradient of what it wrote to that of what it read. The stream goes on past a
/// step that reads it, so that gradients add up there.
void Backward::Back(std::size_t index, Batch& batch, const GradientObserver& observer,
                    WeightObserver* of_weights) {
  const ModelConfig& config = weights_.config;
  const LayerStep& step = batch.steps[index];
  const Index dim = config.head_dim;
  LayerValues& gradients = batch.gradients;
  // What it reads, as it was when the step read it.
  const auto read = [&](std::size_t i) { return batch.lie[batch.places.step(index).reads[i]]; };
  const bool from_stream = step.from == LayerValue::kStream;
  switch (step.kind) {
    case StepKind::kProducts: {
      if (observer) {
        for (const StepLinear& linear : step.linears) {
          observer(linear.site, batch.first, gradients[linear.to]);
        }
      }
      const bool weights = of_weights != nullptr;
      const DeviceView<float> x = weights ? read(0) : DeviceView<float>();
      std::vector<ProductGradient> products;
      for (const StepLinear& linear : step.linears) {
        const DeviceView<float> dy = gradients[linear.to];
        products.push_back(
            {.w = *batch.layer.At(linear.site).weight,
             .dy = dy,
             .of_weights = weights ? of_weights->OfLinear(linear.site, x, dy) : WeightSums()});
      }
      gradients_.ProductsGradient(x, products, GradientRoom(step.from, batch), from_stream);
      break;
    }
    case StepKind::kNorm:
      if (of_weights != nullptr) {
        of_weights->OfNorm(step.weight, read(0), gradients[step.to]);
      }
      gradients_.RmsNormGradient(read(0), batch.layer.At(step.weight), config.rms_eps,
                                 gradients[step.to], GradientRoom(step.from, batch), from_stream);
      break;
    case StepKind::kHeadNorm: {
      const auto heads = gradients[step.to].Reshaped(step.head);
      if (of_weights != nullptr) {
        of_weights->OfNorm(step.weight, read(0).Reshaped(step.head), heads);
      }
      gradients_.RmsNormGradient(read(0).Reshaped(step.head), batch.layer.At(step.weight),
                                 config.rms_eps, heads, heads, false);
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
      gradients_.AttentionGradient(read(0), read(1), read(2), gradients[step.to],
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
      gradients_.SwiGluGradient(read(0), read(1), gradients[step.to]);
      gradients[LayerValue::kGate] = read(0);
      gradients[LayerValue::kUp] = read(1);
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
