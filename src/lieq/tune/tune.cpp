#include "lieq/tune/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <numbers>
#include <numeric>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/device/sums.h"
#include "lieq/model/backward.h"
#include "lieq/model/forward.h"
#include "lieq/model/passes.h"

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

/// Gradients of a layer's numbers, and of those behind the last one.
class Gradients final : public WeightObserver {
 public:
  Gradients(TunedModel& model, Device& device, ThreadPool& pool)
      : model_(model),
        sums_(RequireCalibration(device)),
        norms_(device, pool, model.weights().config.rms_eps),
        pool_(pool) {}

  void Begin(Index layer) {
    layer_ = layer;
    for (auto& each : of_weights_) each.reset();
  }

  void OfLinear(Site site, DeviceView<const float> x, DeviceView<const float> dy) override {
    auto& sum = of_weights_[static_cast<std::size_t>(site)];
    if (sum == nullptr) sum = sums_.MakeCross(dy.cols(), x.cols());
    sums_.CrossGramUpdate(dy, x, *sum);
    if (model_.HasBias(layer_, site)) model_.AddBiasGradient(layer_, site, norms_.OfColumns(dy));
  }
  void OfNorm(LayerVector which, DeviceView<const float> x, DeviceView<const float> dy) override {
    model_.AddVectorGradient(layer_, which, norms_.Of(x, dy));
  }
  void OfFinalNorm(DeviceView<const float> x, DeviceView<const float> dy) override {
    model_.AddFinalNormGradient(norms_.Of(x, dy));
  }

  /// After all windows of the layer.
  void End() {
    for (const Site site : kAllSites) {
      auto& sum = of_weights_[static_cast<std::size_t>(site)];
      if (sum != nullptr) model_.AddMatrixGradient(layer_, site, sum->Host().view(), pool_);
      sum.reset();
    }
  }

 private:
  TunedModel& model_;
  CalibrationOps& sums_;
  NormSums norms_;
  ThreadPool& pool_;
  Index layer_ = 0;
  std::array<std::unique_ptr<PlacedSums<float>>, kSites> of_weights_;
};

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

constexpr std::size_t kPiece = std::size_t{1} << 15;  // numbers of a task

/// Calls `piece` for parts of all arrays in order: which array, its first number and how many.
void ForPieces(std::span<TunedNumbers> numbers, ThreadPool& pool,
               const std::function<void(std::size_t task, std::size_t array, std::size_t first,
                                        std::size_t count)>& piece) {
  std::vector<std::array<std::size_t, 2>> pieces;
  for (std::size_t n = 0; n < numbers.size(); ++n) {
    for (std::size_t i = 0; i < numbers[n].u.size(); i += kPiece) pieces.push_back({n, i});
  }
  pool.ParallelFor(static_cast<Index>(pieces.size()), [&](Index task, int) {
    const auto [array, first] = pieces[Size(task)];
    piece(Size(task), array, first, std::min(kPiece, numbers[array].u.size() - first));
  });
}

/// AdamW without decay.
class Adam {
 public:
  explicit Adam(std::span<TunedNumbers> numbers) {
    for (const TunedNumbers& each : numbers) {
      first_.emplace_back(each.u.size());
      second_.emplace_back(each.u.size());
    }
  }

  /// gradients: of the loss, times `scale`. share: of the highest rates.
  void Step(std::span<TunedNumbers> numbers, const TuneOptions& options, double share, double scale,
            ThreadPool& pool) {
    constexpr float kFirst = 0.9f, kSecond = 0.95f, kTiny = 1e-12f;
    ++steps_;
    const auto steps = static_cast<double>(steps_);
    const auto first_share = static_cast<float>(1 - std::pow(static_cast<double>(kFirst), steps));
    const auto second_share = static_cast<float>(1 - std::pow(static_cast<double>(kSecond), steps));
    ForPieces(numbers, pool, [&](std::size_t, std::size_t n, std::size_t begin, std::size_t count) {
      TunedNumbers& each = numbers[n];
      const bool codes = each.kind == TunedKind::kCode;
      const auto rate = static_cast<float>(share * (codes ? options.code_rate : options.rate) /
                                           static_cast<double>(first_share));
      const auto factor = static_cast<float>(scale);
      for (std::size_t i = begin; i < begin + count; ++i) {
        const float g = each.gradient[i] * factor;
        float &m = first_[n][i], &v = second_[n][i];
        m = kFirst * m + (1 - kFirst) * g;
        v = kSecond * v + (1 - kSecond) * g * g;
        each.u[i] -= rate * m / (std::sqrt(v / second_share) + kTiny);
      }
    });
  }

  void AddArrays(std::span<const TunedNumbers> numbers, std::vector<TunedArray>& arrays) {
    for (std::size_t n = 0; n < numbers.size(); ++n) {
      const auto add = [&](const char* what, std::vector<float>& values) {
        if (values.empty()) return;
        arrays.push_back(
            {numbers[n].name + what, DType::kF32, std::as_writable_bytes(std::span(values))});
      };
      add(": first moment", first_[n]);
      add(": second moment", second_[n]);
    }
  }
  void GoOnFrom(Index steps) { steps_ = steps; }

 private:
  std::vector<std::vector<float>> first_, second_;
  Index steps_ = 0;
};

double NormOf(std::span<TunedNumbers> numbers, ThreadPool& pool) {
  std::size_t most = 0;
  for (const TunedNumbers& each : numbers) most += each.u.size() / kPiece + 1;
  std::vector<double> squares(most);
  ForPieces(numbers, pool,
            [&](std::size_t task, std::size_t n, std::size_t begin, std::size_t count) {
              for (std::size_t i = begin; i < begin + count; ++i) {
                const auto g = static_cast<double>(numbers[n].gradient[i]);
                squares[task] += g * g;
              }
            });
  return std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
}

/// Each window once before any comes again.
class Order {
 public:
  Order(Index windows, std::uint64_t seed) : order_(Size(windows)), rng_(seed) {
    std::iota(order_.begin(), order_.end(), Index{0});
    next_ = order_.size();
  }
  Index Next() {
    if (next_ == order_.size()) {
      for (std::size_t i = order_.size(); i > 1; --i) {
        std::swap(order_[i - 1], order_[rng_.Below(static_cast<std::uint32_t>(i))]);
      }
      next_ = 0;
    }
    return order_[next_++];
  }

 private:
  std::vector<Index> order_;
  Rng rng_;
  std::size_t next_ = 0;
};

/// As a share of the highest rate.
double RateAt(Index step, const TuneOptions& options) {
  const double all = static_cast<double>(options.steps), at = static_cast<double>(step);
  const double warm = std::max(1.0, all * options.warm_up);
  const double falling = 0.5 + 0.5 * std::cos(std::numbers::pi * at / all);
  return std::min(1.0, (at + 1) / warm) * falling;
}

/// Mean KL over all positions.
double Divergence(const Weights& reference, const Weights& model, View<const TokenId, 2> windows,
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
  return sum / static_cast<double>(windows.size());
}

}  // namespace

double TuneResult::after() const {
  const auto found = std::ranges::find(checks, kept, &TuneCheck::step);
  return found == checks.end() ? before() : found->held_out;
}

double AddDivergenceGradients(const Weights& reference, TunedModel& model,
                              View<const TokenId, 2> windows, Index most_kept, Device& device,
                              Context& context) {
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
      const Hidden wanted = Through(taught, part, layers, context);
      Hidden hidden = forward.Embed(part);
      for (Index layer = 0; layer < layers; ++layer) {
        context.ThrowIfStopped();
        device.Copy(hidden.x.view(), input(layer));
        forward.Layer(layer, hidden);
      }
      sum += backward.DivergenceHead(hidden, taught, wanted, of_stream, &gradients);
    }
    for (Index layer = layers - 1; layer >= 0; --layer) {
      context.ThrowIfStopped();
      gradients.Begin(layer);
      backward.Layer(layer, weights.layers[Size(layer)], input(layer), length, of_stream, {},
                     &gradients);
      gradients.End();
    }
  }
  return sum;
}

TuneResult Tune(const Weights& reference, TunedModel& model, View<const TokenId, 2> windows,
                View<const TokenId, 2> held_out, const TuneOptions& options, Device& device,
                Context& context, TuneStore* store) {
  LIEQ_ASSERT(windows.rows() > 0 && held_out.rows() > 0 && windows.cols() >= 2);
  LIEQ_ASSERT(options.steps > 0 && options.batch > 0);
  TuneResult result;
  const std::span<TunedNumbers> numbers = model.numbers();
  const Index at_once = WindowsAtOnce(reference.config, windows.cols(), options.most_kept);
  Adam adam(numbers);
  const auto arrays = [&] {
    std::vector<TunedArray> all = model.Arrays();
    adam.AddArrays(numbers, all);
    return all;
  };
  const auto write = [&](Index step) {
    if (store != nullptr) store->Write(step, arrays(), result);
  };
  const auto check = [&](Index step) {
    model.Apply(context.pool);
    const double kl = Divergence(reference, model.weights(), held_out, at_once, device, context);
    const bool better = result.checks.empty() || kl < result.after();
    result.checks.push_back({step, kl});
    if (!better) return;
    result.kept = step;
    result.moved_codes = model.moved_codes();
    model.Keep();
  };
  model.Apply(context.pool);
  model.Keep();
  Index step = store != nullptr ? store->Read(arrays(), result) : 0;
  Order order(windows.rows(), options.seed);
  for (Index i = 0; i < step * options.batch; ++i) (void)order.Next();
  adam.GoOnFrom(step);
  model.Apply(context.pool);
  Matrix<TokenId> batch(options.batch, windows.cols());
  const auto tokens = static_cast<double>(batch.size());
  const Index every = std::max<Index>(1, options.steps / std::max<Index>(1, options.checks));
  context.progress.Begin("tuning", "step", options.steps);
  if (step == 0) check(0);
  for (; step < options.steps; ++step) {
    for (Index b = 0; b < options.batch; ++b) {
      std::ranges::copy(windows.Row(order.Next()), batch.view().Row(b).begin());
    }
    for (TunedNumbers& each : numbers) std::ranges::fill(each.gradient, 0.0f);
    double kl = 0;
    try {
      kl = AddDivergenceGradients(reference, model, batch.view(), options.most_kept, device,
                                  context) /
           tokens;
    } catch (const Stopped&) {
      write(step);
      throw;
    }
    result.losses.push_back(kl);
    const double norm = NormOf(numbers, context.pool) / tokens;
    if (!std::isfinite(norm)) {
      throw Error({.what = "a gradient is not finite",
                   .where = "tuning, step " + std::to_string(step),
                   .hint = "a smaller --rate"});
    }
    const double scale = options.clip > 0 && norm > options.clip ? options.clip / norm : 1.0;
    adam.Step(numbers, options, RateAt(step, options), scale / tokens, context.pool);
    if ((step + 1) % every == 0 || step + 1 == options.steps) {
      check(step + 1);
      if (step + 1 < options.steps) write(step + 1);
    } else {
      model.Apply(context.pool);
    }
    context.progress.Update(
        step + 1, fmt::format("KL {:.4f}, held out {:.4f}", kl, result.checks.back().held_out));
  }
  model.Restore(context.pool);
  context.progress.End();
  return result;
}

}  // namespace lieq
