// Training on a device that holds what moves: models are placed once, matrices are rounded where
// they lie, and the host has norms and biases alone, which are few.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/device/sums.h"
#include "lieq/device/tuning_ops.h"
#include "lieq/model/backward.h"
#include "lieq/model/layer_vectors.h"
#include "lieq/model/passes.h"
#include "lieq/tune/trainer.h"

namespace lieq {
namespace {

constexpr Index kNotTrained = -1;

/// Bytes of a model's layers in the form that they are held in.
Index BytesOfLayers(const Weights& weights) {
  std::size_t bytes = 0;
  for (const LayerWeights& layer : weights.layers) {
    for (const Linear& linear : layer.linears) bytes += MappedBytes(linear.weight).size();
  }
  return static_cast<Index>(bytes);
}

/// Bytes of the sums that gradients of a layer's weights are, the most of any layer.
Index BytesOfSums(const Weights& weights) {
  Index most = 0;
  for (const LayerWeights& layer : weights.layers) {
    Index floats = 0;
    for (const Linear& linear : layer.linears) floats += Rows(linear.weight) * Cols(linear.weight);
    most = std::max(most, floats);
  }
  return most * Index{sizeof(float)};
}

Index BytesOfEnds(const TunedModel& model) {
  const ModelConfig& config = model.weights().config;
  Index ends = 0;
  for (const End end : EndsIn(config)) ends += model.Trained(end) == end;
  return ends * config.vocab * config.hidden * Index{sizeof(float)};
}

/// Numbers of matrices among those that are trained, or kNotTrained.
struct Places {
  std::vector<std::array<Index, kSites>> layers;
  std::array<Index, kMostEnds> ends{};
};

/// Gradients of a layer's numbers, and of the ends. What the host has to add is there after the
/// next Sync.
class GradientsOnDevice final : public WeightObserver {
 public:
  GradientsOnDevice(TunedModel& model, TrainedMatrices& matrices, const Places& places,
                    Device& device)
      : model_(model),
        matrices_(matrices),
        places_(places),
        ops_(*TuningOf(device)),
        sums_(RequireCalibration(device)) {}

  void Begin(Index layer) {
    layer_ = layer;
    begun_.fill(false);
  }
  WeightSums OfLinear(Site site, DeviceView<const float> x, DeviceView<const float> dy) override {
    const auto s = static_cast<std::size_t>(site);
    if (model_.HasBias(layer_, site)) {
      ops_.ColumnSums(dy, Later(dy.cols(), [this, site, layer = layer_](auto found) {
                        model_.AddBiasGradient(layer, site, found);
                      }));
    }
    if (places_.layers[Size(layer_)][s] == kNotTrained) return {};
    auto& sum = of_weights_[s];
    if (sum == nullptr || sum->rows() != dy.cols() || sum->cols() != x.cols()) {
      sum.reset();  // the old block goes before the new one comes
      sum = sums_.MakeCross(dy.cols(), x.cols());
    }
    return {.to = sum.get(), .add = std::exchange(begun_[s], true)};
  }
  void OfNorm(LayerVector which, DeviceView<const float> x, DeviceView<const float> dy) override {
    ops_.NormSums(x, dy, Eps(), Later(dy.cols(), [this, which, layer = layer_](auto found) {
                    model_.AddVectorGradient(layer, which, found);
                  }));
  }
  void OfFinalNorm(DeviceView<const float> x, DeviceView<const float> dy) override {
    ops_.NormSums(x, dy, Eps(),
                  Later(dy.cols(), [this](auto found) { model_.AddFinalNormGradient(found); }));
  }
  void OfHead(DeviceView<const float> x, DeviceView<const float> dy) override {
    if (auto* sum = SumOf(End::kHead)) sums_.CrossGramUpdate(dy, x, *sum);
  }
  /// dx [tokens, hidden]: the gradient with respect to what the layers began with.
  void OfEmbedding(View<const TokenId, 2> tokens, DeviceView<const float> dx) {
    PlacedSums<float>* sum = SumOf(End::kEmbedding);
    if (sum == nullptr) return;
    LIEQ_ASSERT(tokens.stride() == tokens.cols());
    ops_.AddRows(dx, {tokens.data(), Size(tokens.size())},
                 static_cast<float>(model_.weights().config.embedding_multiplier), *sum);
  }

  /// After all windows of the layer.
  void EndLayer() {
    for (std::size_t s = 0; s < kSites; ++s) {
      if (begun_[s]) matrices_.AddGradient(places_.layers[Size(layer_)][s], *of_weights_[s]);
    }
  }
  /// After all windows.
  void EndEnds() {
    for (std::size_t e = 0; e < kMostEnds; ++e) {
      if (of_ends_[e] == nullptr) continue;
      matrices_.AddGradient(places_.ends[e], *of_ends_[e]);
      of_ends_[e].reset();
    }
  }
  /// After Sync.
  void Deliver() {
    for (auto& [sums, deliver] : pending_) deliver(std::span<const double>(sums));
    pending_.clear();
  }
  void Forget() {
    pending_.clear();
    for (auto& each : of_ends_) each.reset();
  }

 private:
  using Delivery = std::function<void(std::span<const double>)>;

  [[nodiscard]] double Eps() const { return model_.weights().config.rms_eps; }
  /// Where the gradient goes of the matrix that the end reads; null: it stays.
  [[nodiscard]] PlacedSums<float>* SumOf(End end) {
    const std::optional<End> trained = model_.Trained(end);
    if (!trained) return nullptr;
    auto& sum = of_ends_[static_cast<std::size_t>(*trained)];
    const ModelConfig& config = model_.weights().config;
    if (sum == nullptr) sum = sums_.MakeCross(config.vocab, config.hidden);
    return sum.get();
  }
  std::span<double> Later(Index count, Delivery deliver) {
    pending_.emplace_back(std::vector<double>(Size(count)), std::move(deliver));
    return pending_.back().first;
  }

  TunedModel& model_;
  TrainedMatrices& matrices_;
  const Places& places_;
  TuningOps& ops_;
  CalibrationOps& sums_;
  Index layer_ = 0;
  std::array<std::unique_ptr<PlacedSums<float>>, kSites> of_weights_;  // of a layer, then the next
  std::array<bool, kSites> begun_{};                                   // of this one
  std::array<std::unique_ptr<PlacedSums<float>>, kMostEnds> of_ends_;
  std::deque<std::pair<std::vector<double>, Delivery>> pending_;  // never moved in memory
};

class DeviceTrainer final : public Trainer {
 public:
  DeviceTrainer(const Weights& reference, TunedModel& model, Index length,
                const TuneOptions& options, Device& device, Context& context)
      : reference_(reference),
        model_(model),
        device_(device),
        context_(context),
        matrices_(model.Matrices()),
        trained_(Train()),
        adam_(model.numbers()),
        at_once_(WindowsAtOnce(reference.config, length, std::max(options.most_kept, kMostKept))),
        most_saved_(options.most_saved),
        taught_(reference, device, length),
        forward_(model.weights(), device, length),
        gradients_(model, *trained_, places_, device) {
    Hold(reference.embedding);
    Hold(reference.head);
    Hold(model.weights().embedding);
    Hold(model.weights().head);
    const Index needed =
        BytesOfLayers(reference) + BytesOfEnds(model) + kMostKept * Index{sizeof(float)} + kAround;
    if (needed > TuningOf(device)->free_memory()) return;  // they go there one by one
    for (const LayerWeights& layer : reference.layers) {
      for (const Linear& linear : layer.linears) Hold(linear.weight);
    }
  }

  double AddGradients(View<const TokenId, 2> windows) override {
    try {
      const double sum = AddPasses(windows);
      device_.Sync();
      gradients_.Deliver();
      return sum;
    } catch (...) {
      device_.Sync();  // what is queued writes to where sums wait to be delivered
      gradients_.Forget();
      throw;
    }
  }
  void ClearGradients() override {
    for (TunedNumbers& each : model_.numbers()) std::ranges::fill(each.gradient, 0.0f);
    if (std::exchange(stepped_, false)) return;  // a step leaves none
    trained_->ClearGradients();
  }
  double GradientSquares() override {
    return SquaresOf(model_.numbers(), context_.pool) + trained_->GradientSquares();
  }
  void Step(const AdamSteps& steps) override {
    trained_->Step(steps.numbers, steps.codes);
    adam_.Step(model_.numbers(), steps, context_.pool);
    stepped_ = true;
  }
  /// Layers take norms and biases with them whenever they run.
  void Apply() override { model_.ApplyVectors(); }
  double Divergence(View<const TokenId, 2> windows) override {
    Backward heads(model_.weights(), device_, windows.cols());
    double sum = 0;
    for (Index w = 0; w < windows.rows(); w += at_once_) {
      const auto part = windows.Rows(w, std::min(at_once_, windows.rows() - w));
      const Hidden wanted = Through(taught_, part, reference_.config.layers, context_);
      const Hidden found = Student(part);
      const auto unused = Sized(device_, gradient_, found.x.rows(), reference_.config.hidden);
      sum += heads.DivergenceHead(found, taught_, wanted, unused);
    }
    return sum;
  }

  void Keep() override {
    model_.Keep();  // of vectors; the rest is overwritten when it is asked for
    trained_->Keep();
  }
  void Restore() override {
    Fetch(/*moments=*/false);
    model_.Restore(context_.pool);
  }
  std::vector<TunedArray> Arrays() override {
    Fetch(/*moments=*/true);
    std::vector<TunedArray> all = model_.Arrays();
    adam_.AddArrays(model_.numbers(), all);
    return all;
  }
  void TakeArrays() override {
    for (std::size_t i = 0; i < matrices_.size(); ++i) {
      const TunedMatrix& matrix = matrices_[i];
      const auto numbers =
          [&](std::size_t at) -> TrainedArrays<const float, const std::uint32_t>::Numbers {
        if (at == TunedMatrix::kNone) return {};
        return {.u = model_.numbers()[at].u,
                .first = adam_.first(at),
                .second = adam_.second(at),
                .kept = model_.KeptNumbers(at)};
      };
      trained_->Write(static_cast<Index>(i), {.scale = numbers(matrix.scale),
                                              .minimum = numbers(matrix.minimum),
                                              .code = numbers(matrix.code),
                                              .kept_words = model_.KeptWords(matrix)});
    }
    trained_->Round();
    stepped_ = false;
  }
  bool far() const noexcept override { return true; }

 private:
  static constexpr Index kMostKept = Index{1} << 29;  // of a device, whose memory is large
  // Bytes of the rest: logits, values of a layer, sums of its weights, what products widen.
  static constexpr Index kAround = Index{3} << 30;

  double AddPasses(View<const TokenId, 2> windows) {
    const Index length = windows.cols(), layers = reference_.config.layers;
    Backward backward(model_.weights(), device_, length);  // it places the norm before the head
    double sum = 0;
    for (Index w = 0; w < windows.rows(); w += at_once_) {
      const auto part = windows.Rows(w, std::min(at_once_, windows.rows() - w));
      const Index rows = part.rows() * length, hidden_columns = reference_.config.hidden;
      const auto kept = Sized(device_, kept_, layers * rows, hidden_columns);
      const auto of_stream = Sized(device_, gradient_, rows, hidden_columns);
      const auto input = [&](Index layer) { return kept.Rows(layer * rows, rows); };
      if (part.rows() > planned_) PlanSaved(backward, part.rows(), length);
      const auto saved = [&](Index layer) {
        const Index i = layer - (layers - static_cast<Index>(saved_.size()));
        return i < 0 ? nullptr : &saved_[Size(i)];
      };
      {
        const auto timed = [&](std::string_view stage, const auto& work) {
          const StageTimes::Timer timer = times().Time(stage);
          Hidden hidden = work();
          device_.Sync();
          return hidden;
        };
        const Hidden wanted =
            timed(step::kTeacher, [&] { return Through(taught_, part, layers, context_); });
        const Hidden hidden = timed(step::kForward, [&] {
          Hidden stream = forward_.Embed(part);
          device_.Copy(stream.x.view(), input(0));
          for (Index layer = 0; layer < layers; ++layer) {
            context_.ThrowIfStopped();
            const bool last = layer + 1 == layers;
            backward.LayerForward(layer, model_.weights().layers[Size(layer)], input(layer), length,
                                  last ? stream.x.view() : input(layer + 1), saved(layer));
          }
          return stream;
        });
        const StageTimes::Timer timer = times().Time(step::kHead);
        sum += backward.DivergenceHead(hidden, taught_, wanted, of_stream, &gradients_);
        device_.Sync();
      }
      const StageTimes::Timer timer = times().Time(step::kBackward);
      for (Index layer = layers - 1; layer >= 0; --layer) {
        context_.ThrowIfStopped();
        gradients_.Begin(layer);
        const LayerWeights& weights = model_.weights().layers[Size(layer)];
        if (SavedActivations* there = saved(layer)) {
          backward.LayerBack(layer, weights, input(layer), length, *there, of_stream, {},
                             &gradients_);
        } else {
          backward.Layer(layer, weights, input(layer), length, of_stream, {}, &gradients_);
        }
        gradients_.EndLayer();
      }
      gradients_.OfEmbedding(part, of_stream);
      device_.Sync();
    }
    const StageTimes::Timer timer = times().Time(step::kHead);
    gradients_.EndEnds();
    device_.Sync();
    return sum;
  }

  /// Layers whose activations are held from the pass forward until their way back: the last ones,
  /// as many as fit beside what a step takes else. The others run again. What both models hold, and
  /// inputs of all layers, are there already.
  void PlanSaved(const Backward& backward, Index windows, Index length) {
    planned_ = windows;
    saved_.clear();
    const Index layers = reference_.config.layers;
    const auto bytes = [&](Index layer, Index count) {
      return backward.SavedFloats(layer, count, length) * Index{sizeof(float)};
    };
    // A layer that runs again, with its gradients, and one in the passes forward of both models.
    Index of_batches = 0;
    for (Index layer = 0; layer < layers; ++layer) {
      const Index there_and_back = std::min(windows, Backward::BatchWindows(length));
      of_batches = std::max(of_batches, 2 * bytes(layer, there_and_back) +
                                            2 * bytes(layer, forward_.BatchWindows(length)));
    }
    const Index streams = 2 * windows * length * reference_.config.hidden * Index{sizeof(float)};
    constexpr Index kBeside = Index{3} << 29;  // logits, what products round and widen
    const Index rest =
        of_batches + streams + BytesOfSums(reference_) + BytesOfEnds(model_) + kBeside;
    const Index free = std::min(most_saved_, TuningOf(device_)->free_memory() - rest);
    Index held = 0, taken = 0;
    while (held < layers) {
      const Index more = bytes(layers - 1 - held, windows);
      if (taken + more > free) break;
      taken += more;
      ++held;
    }
    saved_.resize(Size(held));
    context_.log.Debug(fmt::format(
        "activations of {} of {} layers stay on the device until their way back, {:.1f} GB; {}",
        held, layers, static_cast<double>(taken) * 1e-9,
        held == layers ? "no layer runs again" : "the other layers run again"));
  }

  std::unique_ptr<TrainedMatrices> Train() {
    places_.layers.resize(model_.weights().layers.size());
    for (auto& sites : places_.layers) sites.fill(kNotTrained);
    places_.ends.fill(kNotTrained);
    std::vector<TrainedStart> starts;
    for (const TunedMatrix& matrix : matrices_) {
      Index& place =
          matrix.end ? places_.ends[static_cast<std::size_t>(*matrix.end)]
                     : places_.layers[Size(matrix.layer)][static_cast<std::size_t>(matrix.site)];
      place = static_cast<Index>(starts.size());
      starts.push_back({.matrix = matrix.matrix, .codes = matrix.code != TunedMatrix::kNone});
    }
    auto trained = TuningOf(device_)->Train(starts);
    for (std::size_t i = 0; i < matrices_.size(); ++i) {
      if (!starts[i].codes) continue;
      trained->Write(static_cast<Index>(i), {.code = {.u = model_.numbers()[matrices_[i].code].u}});
    }
    return trained;
  }

  void Hold(const AnyMatrix& matrix) {
    if (Rows(matrix) > 0) held_.push_back(TuningOf(device_)->Hold(matrix));
  }

  /// The model's state after its last layer.
  Hidden Student(View<const TokenId, 2> tokens) {
    Hidden hidden = forward_.Embed(tokens);
    for (Index layer = 0; layer < reference_.config.layers; ++layer) {
      context_.ThrowIfStopped();
      forward_.Layer(layer, model_.weights().layers[Size(layer)], hidden);
    }
    return hidden;
  }

  /// What the device holds into the model and the moments of the host.
  void Fetch(bool moments) {
    for (std::size_t i = 0; i < matrices_.size(); ++i) {
      const TunedMatrix& matrix = matrices_[i];
      const auto numbers = [&](std::size_t at) -> TrainedArrays<float, std::uint32_t>::Numbers {
        if (at == TunedMatrix::kNone) return {};
        TunedNumbers& each = model_.numbers()[at];
        if (moments) adam_.MakeRoom(at, each.u.size());
        return {.u = moments ? std::span(each.u) : std::span<float>(),
                .first = moments ? adam_.first(at) : std::span<float>(),
                .second = moments ? adam_.second(at) : std::span<float>(),
                .kept = model_.KeptNumbers(at)};
      };
      trained_->Read(static_cast<Index>(i), {.scale = numbers(matrix.scale),
                                             .minimum = numbers(matrix.minimum),
                                             .code = numbers(matrix.code),
                                             .kept_words = model_.KeptWords(matrix)});
    }
  }

  const Weights& reference_;
  TunedModel& model_;
  Device& device_;
  Context& context_;
  const std::vector<TunedMatrix> matrices_;
  Places places_;  // among matrices_
  std::unique_ptr<TrainedMatrices> trained_;
  Adam adam_;
  std::vector<Prepared> held_;  // ends, and layers of the float model where there is room
  const Index at_once_, most_saved_;
  Forward taught_, forward_;
  GradientsOnDevice gradients_;
  DeviceMatrix kept_, gradient_;
  std::vector<SavedActivations> saved_;  // of the last layers
  Index planned_ = 0;                    // windows that they were planned for
  bool stepped_ = true;                  // gradients are 0
};

}  // namespace

bool TrainsOn(Device& device, const Weights& model) {
  if (TuningOf(device) == nullptr || device.calibration() == nullptr) return false;
  const auto held = [](const AnyMatrix& matrix) {
    const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
    return packed == nullptr || *packed == nullptr || !(*packed)->grid().k_quant;
  };
  return held(model.embedding) && held(model.head) &&
         std::ranges::all_of(model.layers, [&](const LayerWeights& layer) {
           return std::ranges::all_of(layer.linears,
                                      [&](const Linear& linear) { return held(linear.weight); });
         });
}

std::unique_ptr<Trainer> MakeDeviceTrainer(const Weights& reference, TunedModel& model,
                                           Index length, const TuneOptions& options, Device& device,
                                           Context& context) {
  LIEQ_ASSERT(model.on_device() && TrainsOn(device, model.weights()));
  return std::make_unique<DeviceTrainer>(reference, model, length, options, device, context);
}

}  // namespace lieq
