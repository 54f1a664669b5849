#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "lieq/device/sums.h"
#include "lieq/model/backward.h"
#include "lieq/tune/trainer.h"
#include "lieq/tune/tune.h"

namespace lieq {
namespace {

/// Sums of dy * x / rms(x) and of dy over rows, in double and in the order of rows.
class NormSums {
 public:
  NormSums(Device& device, ThreadPool& pool, double eps)
      : device_(device), pool_(pool), eps_(eps) {}

  std::span<const double> Of(DeviceView<const float> x_, DeviceView<const float> dy_) {
    const View<const float, 2> x = Downloaded(x_, x_host_), dy = Downloaded(dy_, dy_host_);
    inverse_.resize(Size(x.rows()));
    ForBlocks(x.rows(), [&](Index r) {
      double squares = 0;
      for (const float value : x.Row(r)) {
        squares += static_cast<double>(value) * static_cast<double>(value);
      }
      inverse_[Size(r)] = 1.0 / std::sqrt(squares / static_cast<double>(x.cols()) + eps_);
    });
    return Sum(dy, [&](Index r, Index c) {
      return static_cast<double>(x(r, c)) * inverse_[Size(r)] * static_cast<double>(dy(r, c));
    });
  }

  std::span<const double> OfColumns(DeviceView<const float> dy_) {
    const View<const float, 2> dy = Downloaded(dy_, dy_host_);
    return Sum(dy, [&](Index r, Index c) { return static_cast<double>(dy(r, c)); });
  }

 private:
  static constexpr Index kBlock = 64;

  template <class Function>
  void ForBlocks(Index count, const Function& call) {
    pool_.ParallelFor(CeilDiv(count, kBlock), [&](Index task, int) {
      const Index end = std::min(count, (task + 1) * kBlock);
      for (Index i = task * kBlock; i < end; ++i) call(i);
    });
  }

  /// A task takes some columns of all rows.
  template <class Term>
  std::span<const double> Sum(View<const float, 2> dy, const Term& term) {
    sums_.assign(Size(dy.cols()), 0.0);
    pool_.ParallelFor(CeilDiv(dy.cols(), kBlock), [&](Index task, int) {
      const Index begin = task * kBlock, end = std::min(dy.cols(), begin + kBlock);
      for (Index r = 0; r < dy.rows(); ++r) {
        for (Index c = begin; c < end; ++c) sums_[Size(c)] += term(r, c);
      }
    });
    return sums_;
  }

  View<const float, 2> Downloaded(DeviceView<const float> from, Matrix<float>& to) {
    if (to.rows() != from.rows() || to.cols() != from.cols()) {
      to = Matrix<float>(from.rows(), from.cols());
    }
    device_.Download(from, to.view());
    return to.view();
  }

  Device& device_;
  ThreadPool& pool_;
  double eps_;
  Matrix<float> x_host_, dy_host_;
  std::vector<double> sums_, inverse_;
};

/// dw [vocabulary, hidden]: a row of each token that was looked up takes the gradient of what was
/// found, times `factor`. Rows of dx in order; a task takes some columns of all.
void AddLookups(std::span<const TokenId> tokens, View<const float, 2> dx, float factor,
                View<float, 2> dw, ThreadPool& pool) {
  constexpr Index kBlock = 64;
  pool.ParallelFor(CeilDiv(dx.cols(), kBlock), [&](Index task, int) {
    const Index begin = task * kBlock, end = std::min(dx.cols(), begin + kBlock);
    for (Index r = 0; r < dx.rows(); ++r) {
      for (Index c = begin; c < end; ++c) dw(tokens[Size(r)], c) += factor * dx(r, c);
    }
  });
}

/// Gradients of a layer's numbers, of those behind the last one, and of the ends.
class Gradients final : public WeightObserver {
 public:
  Gradients(TunedModel& model, Device& device, ThreadPool& pool)
      : model_(model),
        device_(device),
        sums_(RequireCalibration(device)),
        norms_(device, pool, model.weights().config.rms_eps),
        pool_(pool) {}

  void Begin(Index layer) {
    layer_ = layer;
    for (auto& each : of_weights_) each.reset();
  }

  WeightSums OfLinear(Site site, DeviceView<const float> x, DeviceView<const float> dy) override {
    auto& sum = of_weights_[static_cast<std::size_t>(site)];
    if (sum == nullptr) sum = sums_.MakeCross(dy.cols(), x.cols());
    if (model_.HasBias(layer_, site)) model_.AddBiasGradient(layer_, site, norms_.OfColumns(dy));
    return {sum.get()};
  }
  void OfNorm(LayerVector which, DeviceView<const float> x, DeviceView<const float> dy) override {
    model_.AddVectorGradient(layer_, which, norms_.Of(x, dy));
  }
  void OfFinalNorm(DeviceView<const float> x, DeviceView<const float> dy) override {
    model_.AddFinalNormGradient(norms_.Of(x, dy));
  }
  void OfHead(DeviceView<const float> x, DeviceView<const float> dy) override {
    const std::optional<End> end = model_.Trained(End::kHead);
    if (!end) return;
    auto& sum = of_ends_[static_cast<std::size_t>(*end)];
    if (sum == nullptr) sum = sums_.MakeCross(dy.cols(), x.cols());
    sums_.CrossGramUpdate(dy, x, *sum);
  }
  /// dx [tokens, hidden]: the gradient with respect to what the layers began with.
  void OfEmbedding(View<const TokenId, 2> tokens, DeviceView<const float> dx) {
    if (!model_.Trained(End::kEmbedding)) return;
    Lookups& lookups = lookups_.emplace_back();
    for (Index w = 0; w < tokens.rows(); ++w) {
      const auto row = tokens.Row(w);
      lookups.tokens.insert(lookups.tokens.end(), row.begin(), row.end());
    }
    lookups.dx = Matrix<float>(dx.rows(), dx.cols());
    device_.Download(dx, lookups.dx.view());
  }

  /// After all windows of the layer.
  void EndLayer() {
    for (const Site site : kAllSites) {
      auto& sum = of_weights_[static_cast<std::size_t>(site)];
      if (sum != nullptr) model_.AddMatrixGradient(layer_, site, sum->Host().view(), pool_);
      sum.reset();
    }
  }
  /// After all windows: lookups go to the sum of the head where both are one matrix.
  void EndEnds() {
    const ModelConfig& config = model_.weights().config;
    for (const End end : EndsIn(config)) {
      if (model_.Trained(end) != end) continue;
      auto& sum = of_ends_[static_cast<std::size_t>(end)];
      Matrix<float> dw = sum != nullptr ? sum->Take() : Matrix<float>(config.vocab, config.hidden);
      sum.reset();
      if (end == End::kEmbedding) {
        for (const Lookups& each : lookups_) {
          AddLookups(each.tokens, each.dx.view(), static_cast<float>(config.embedding_multiplier),
                     dw.view(), pool_);
        }
      }
      model_.AddEndGradient(end, dw.view(), pool_);
    }
    lookups_.clear();
  }

 private:
  struct Lookups {  // of a pass
    std::vector<TokenId> tokens;
    Matrix<float> dx;
  };

  TunedModel& model_;
  Device& device_;
  CalibrationOps& sums_;
  NormSums norms_;
  ThreadPool& pool_;
  Index layer_ = 0;
  std::array<std::unique_ptr<PlacedSums<float>>, kSites> of_weights_;
  std::array<std::unique_ptr<PlacedSums<float>>, kMostEnds> of_ends_;
  std::vector<Lookups> lookups_;
};

/// The sum of KL over all positions.
double DivergenceOf(const Weights& reference, const Weights& model, View<const TokenId, 2> windows,
                    Index at_once, Device& device, Context& context) {
  Forward taught(reference, device, windows.cols()), forward(model, device, windows.cols());
  Backward heads(model, device, windows.cols());
  double sum = 0;
  for (Index w = 0; w < windows.rows(); w += at_once) {
    const auto part = windows.Rows(w, std::min(at_once, windows.rows() - w));
    const Hidden wanted = Through(taught, part, reference.config.layers, context);
    const Hidden found = Through(forward, part, model.config.layers, context);
    const DeviceMatrix unused = device.Alloc(found.x.rows(), model.config.hidden);
    sum += heads.DivergenceHead(found, taught, wanted, unused.view());
  }
  return sum;
}

class HostTrainer final : public Trainer {
 public:
  HostTrainer(const Weights& reference, TunedModel& model, Index length, Index most_kept,
              Device& device, Context& context)
      : reference_(reference),
        model_(model),
        most_kept_(most_kept),
        at_once_(WindowsAtOnce(reference.config, length, most_kept)),
        device_(device),
        context_(context),
        adam_(model.numbers()) {}

  double AddGradients(View<const TokenId, 2> windows) override {
    return AddDivergenceGradients(reference_, model_, windows, most_kept_, device_, context_,
                                  times());
  }
  void ClearGradients() override {
    for (TunedNumbers& each : model_.numbers()) std::ranges::fill(each.gradient, 0.0f);
  }
  double GradientSquares() override { return SquaresOf(model_.numbers(), context_.pool); }
  void Step(const AdamSteps& steps) override { adam_.Step(model_.numbers(), steps, context_.pool); }
  void Apply() override { model_.Apply(context_.pool); }
  double Divergence(View<const TokenId, 2> windows) override {
    return DivergenceOf(reference_, model_.weights(), windows, at_once_, device_, context_);
  }
  void Keep() override { model_.Keep(); }
  void Restore() override { model_.Restore(context_.pool); }
  std::vector<TunedArray> Arrays() override {
    std::vector<TunedArray> all = model_.Arrays();
    adam_.AddArrays(model_.numbers(), all);
    return all;
  }
  void TakeArrays() override {}
  bool far() const noexcept override { return false; }

 private:
  const Weights& reference_;
  TunedModel& model_;
  const Index most_kept_, at_once_;
  Device& device_;
  Context& context_;
  Adam adam_;
};

}  // namespace

/// The state of a model after its last layer.
Hidden Through(Forward& forward, View<const TokenId, 2> tokens, Index layers, Context& context) {
  Hidden hidden = forward.Embed(tokens);
  for (Index layer = 0; layer < layers; ++layer) {
    context.ThrowIfStopped();
    forward.Layer(layer, hidden);
  }
  return hidden;
}

/// Windows that a pass holds the inputs of all layers of.
Index WindowsAtOnce(const ModelConfig& config, Index length, Index most_kept) {
  return std::max<Index>(1, most_kept / (config.layers * length * config.hidden));
}

double AddDivergenceGradients(const Weights& reference, TunedModel& model,
                              View<const TokenId, 2> windows, Index most_kept, Device& device,
                              Context& context, StageTimes& times) {
  const Weights& weights = model.weights();
  const ModelConfig& config = weights.config;
  const Index length = windows.cols(), layers = config.layers;
  const Index at_once = std::min(WindowsAtOnce(config, length, most_kept), windows.rows());
  Forward taught(reference, device, length), forward(weights, device, length);
  Backward backward(weights, device, length);
  Gradients gradients(model, device, context.pool);
  const DeviceMatrix kept = device.Alloc(layers * at_once * length, config.hidden);
  const DeviceMatrix gradient = device.Alloc(at_once * length, config.hidden);
  double sum = 0;
  for (Index w = 0; w < windows.rows(); w += at_once) {
    const auto part = windows.Rows(w, std::min(at_once, windows.rows() - w));
    const Index rows = part.rows() * length;
    const auto input = [&](Index layer) { return kept.view().Rows(layer * rows, rows); };
    const auto of_stream = gradient.view().Rows(0, rows);
    {
      const auto timed = [&](std::string_view stage, const auto& work) {
        const StageTimes::Timer timer = times.Time(stage);
        Hidden hidden = work();
        device.Sync();
        return hidden;
      };
      const Hidden wanted =
          timed(step::kTeacher, [&] { return Through(taught, part, layers, context); });
      const Hidden hidden = timed(step::kForward, [&] {
        Hidden stream = forward.Embed(part);
        for (Index layer = 0; layer < layers; ++layer) {
          context.ThrowIfStopped();
          device.Copy(stream.x.view(), input(layer));
          forward.Layer(layer, stream);
        }
        return stream;
      });
      const StageTimes::Timer timer = times.Time(step::kHead);
      sum += backward.DivergenceHead(hidden, taught, wanted, of_stream, &gradients);
      device.Sync();
    }
    const StageTimes::Timer timer = times.Time(step::kBackward);
    for (Index layer = layers - 1; layer >= 0; --layer) {
      context.ThrowIfStopped();
      gradients.Begin(layer);
      backward.Layer(layer, weights.layers[Size(layer)], input(layer), length, of_stream, {},
                     &gradients);
      gradients.EndLayer();
    }
    gradients.OfEmbedding(part, of_stream);
  }
  const StageTimes::Timer timer = times.Time(step::kHead);
  gradients.EndEnds();
  return sum;
}

std::unique_ptr<Trainer> MakeHostTrainer(const Weights& reference, TunedModel& model, Index length,
                                         const TuneOptions& options, Device& device,
                                         Context& context) {
  return std::make_unique<HostTrainer>(reference, model, length, options.most_kept, device,
                                       context);
}

}  // namespace lieq
