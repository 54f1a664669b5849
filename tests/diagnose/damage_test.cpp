#include "lieq/diagnose/damage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "lieq/device/cpu/cpu_device.h"
#include "tests/diagnose/memory_model.h"
#include "tests/support/error_of.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

constexpr Index kLayers = 4, kWindows = 3, kLength = 12;

struct Bench {
  explicit Bench(int threads = 2) : test(threads), device(MakeCpuDevice(test.pool)) {}
  TestContext test;
  std::unique_ptr<Device> device;
};

class DamageTest : public testing::Test {
 protected:
  View<const TokenId, 2> text() const { return {tokens.data(), kWindows, kLength}; }
  DamageMeter Meter(Bench& bench, Index most_logits = DamageMeter::kMostLogits) const {
    return {whole.weights, *bench.device, text(), bench.test.context, most_logits};
  }

  /// A layer of the model with the linears of some units rounded at random.
  LayerWeights Changed(Index layer, std::initializer_list<Unit> units, std::uint64_t seed) const {
    LayerWeights weights = whole.weights.layers[Size(layer)];
    for (const Unit unit : units) {
      for (const Site site : SitesOf(unit)) {
        weights.At(site).weight = std::make_shared<const QMatrix>(
            RandomQMatrix(whole.weights.config.Out(site), whole.weights.config.In(site),
                          {.bits = 2, .group_size = 0}, seed++));
      }
    }
    return weights;
  }
  Weights With(const Weights& base, Index layer, const LayerWeights& weights) const {
    Weights model = base;
    model.layers[Size(layer)] = weights;
    return model;
  }
  /// Every linear of the model as codes.
  Weights Quantized() const {
    Weights model = whole.weights;
    for (Index layer = 0; layer < kLayers; ++layer) {
      model.layers[Size(layer)] =
          Changed(layer, {Unit::kQkv, Unit::kO, Unit::kGateUp, Unit::kDown}, 100 * Size(layer));
    }
    return model;
  }

  MemoryModel whole{MemoryModel::Config(kLayers), 3};
  std::vector<TokenId> tokens = RandomTokens(kWindows, kLength, whole.weights.config.vocab, 8);
};

void ExpectSame(const Damage& a, const Damage& b) {
  EXPECT_EQ(a.kl, b.kl);
  EXPECT_EQ(a.nll_rise, b.nll_rise);
  EXPECT_EQ(a.window_kl, b.window_kl);
  EXPECT_EQ(a.window_nll_rise, b.window_nll_rise);
}

/// Log probabilities of each next token by the model, [windows * positions, vocab].
Matrix<double> LogProbabilities(const Weights& model, Device& device, View<const TokenId, 2> text) {
  Forward forward(model, device, text.cols());
  Hidden hidden = forward.Embed(text);
  for (Index layer = 0; layer < model.config.layers; ++layer) forward.Layer(layer, hidden);
  const Index rows = text.size(), vocab = model.config.vocab;
  DeviceMatrix logits = device.Alloc(rows, vocab);
  forward.Logits(std::as_const(hidden.x).view(), logits.view());
  Matrix<float> host(rows, vocab);
  device.Download(logits.view(), host.view());
  Matrix<double> log_p(rows, vocab);
  for (Index r = 0; r < rows; ++r) {
    double sum = 0;
    for (Index c = 0; c < vocab; ++c) sum += std::exp(static_cast<double>(host(r, c)));
    for (Index c = 0; c < vocab; ++c) {
      log_p(r, c) = static_cast<double>(host(r, c)) - std::log(sum);
    }
  }
  return log_p;
}

/// The definition: means over positions first, offset + i * stride of each window.
Damage Plain(const Weights& whole, const Weights& model, Device& device,
             View<const TokenId, 2> text, Index offset = 0, Index stride = 1) {
  const Matrix<double> p = LogProbabilities(whole, device, text);
  const Matrix<double> q = LogProbabilities(model, device, text);
  Damage damage;
  for (Index w = 0; w < text.rows(); ++w) {
    double kl = 0, nll = 0, count = 0;
    for (Index i = offset; i < text.cols() - 1; i += stride) {
      const Index row = w * text.cols() + i;
      for (Index c = 0; c < p.cols(); ++c) kl += std::exp(p(row, c)) * (p(row, c) - q(row, c));
      nll += p(row, text(w, i + 1)) - q(row, text(w, i + 1));
      ++count;
    }
    damage.kl += kl / count / static_cast<double>(text.rows());
    damage.window_nll_rise.push_back(nll / count);
    damage.nll_rise += nll / count / static_cast<double>(text.rows());
  }
  return damage;
}

void ExpectNear(const Damage& a, const Damage& b) {
  EXPECT_NEAR(a.kl, b.kl, 1e-5);
  EXPECT_NEAR(a.nll_rise, b.nll_rise, 1e-5);
  ASSERT_EQ(a.window_nll_rise.size(), b.window_nll_rise.size());
  for (std::size_t w = 0; w < a.window_nll_rise.size(); ++w) {
    EXPECT_NEAR(a.window_nll_rise[w], b.window_nll_rise[w], 1e-5);
  }
}

TEST_F(DamageTest, OfTheWholeModelIsNothing) {
  Bench bench;
  DamageMeter meter = Meter(bench);

  ExpectSame(meter.Model(whole.weights), {.window_kl = std::vector<double>(kWindows, 0.0),
                                          .window_nll_rise = std::vector<double>(kWindows, 0.0)});
  EXPECT_EQ(meter.stride(), 1);
}

TEST_F(DamageTest, IsTheDivergenceAndTheRiseOfTheLoss) {
  Bench bench;
  const Weights model = Quantized();

  const Damage damage = Meter(bench).Model(model);

  EXPECT_GT(damage.kl, 0.01);
  ExpectNear(damage, Plain(whole.weights, model, *bench.device, text()));
}

TEST_F(DamageTest, IsTheMeanOfItsWindows) {
  Bench bench;
  const Damage damage = Meter(bench).Model(Quantized());

  double sum = 0;
  for (const double rise : damage.window_nll_rise) sum += rise;
  EXPECT_EQ(damage.window_nll_rise.size(), Size(kWindows));
  EXPECT_NEAR(damage.nll_rise, sum / kWindows, 1e-15);
}

TEST_F(DamageTest, KnowsTheLossOfTheWholeModel) {
  Bench bench;
  const Matrix<double> log_p = LogProbabilities(whole.weights, *bench.device, text());
  double nll = 0;
  for (Index w = 0; w < kWindows; ++w) {
    for (Index i = 0; i + 1 < kLength; ++i) nll -= log_p(w * kLength + i, text()(w, i + 1));
  }

  EXPECT_NEAR(Meter(bench).whole_nll(), nll / (kWindows * (kLength - 1)), 1e-5);
}

TEST_F(DamageTest, OfAVariantIsThatOfTheModelWithTheLayerReplaced) {
  Bench bench;
  DamageMeter meter = Meter(bench);
  const Weights mix = Quantized();
  for (const Weights* base : {&std::as_const(whole.weights), &mix}) {
    std::vector<LayerWeights> changed;
    std::vector<LayerVariant> variants;
    const std::vector<std::pair<Index, Unit>> where{
        {0, Unit::kQkv}, {0, Unit::kDown}, {2, Unit::kO}, {kLayers - 1, Unit::kGateUp}};
    for (const auto& [layer, unit] : where) {
      LayerWeights weights = base->layers[Size(layer)];
      const LayerWeights other = Changed(layer, {unit}, 7);
      for (const Site site : SitesOf(unit)) weights.At(site) = other.At(site);
      changed.push_back(std::move(weights));
    }
    for (std::size_t i = 0; i < where.size(); ++i) {
      variants.push_back({where[i].first, [&changed, i] { return changed[i]; }});
    }

    const std::vector<Damage> damages = meter.Variants(*base, variants);

    ASSERT_EQ(damages.size(), variants.size() + 1);
    for (std::size_t i = 0; i < where.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_GT(damages[i].kl, 1e-6);
      ExpectSame(damages[i], meter.Model(With(*base, where[i].first, changed[i])));
    }
    ExpectSame(damages.back(), meter.Model(*base));
  }
}

TEST_F(DamageTest, WithoutVariantsIsThatOfTheBase) {
  Bench bench;
  DamageMeter meter = Meter(bench);
  const Weights mix = Quantized();

  const std::vector<Damage> damages = meter.Variants(mix, {});

  ASSERT_EQ(damages.size(), 1u);
  ExpectSame(damages.front(), meter.Model(mix));
}

TEST_F(DamageTest, ScoresEveryStridethPositionWhereLogitsAreTooMany) {
  const Index vocab = whole.weights.config.vocab, all = kWindows * (kLength - 1) * vocab;
  const Weights model = Quantized();
  struct Case {
    Index most, stride, offset;
  };
  for (const Case& c : {Case{all, 1, 0}, Case{all - 1, 2, 1}, Case{all / 2 - 1, 3, 1},
                        Case{all / 4, 5, 2}, Case{1, kLength - 1, 5}}) {
    Bench bench;
    DamageMeter meter = Meter(bench, c.most);

    EXPECT_EQ(meter.stride(), c.stride) << c.most;
    ExpectNear(meter.Model(model),
               Plain(whole.weights, model, *bench.device, text(), c.offset, c.stride));
    ExpectSame(meter.Model(whole.weights), {.window_kl = std::vector<double>(kWindows, 0.0),
                                            .window_nll_rise = std::vector<double>(kWindows, 0.0)});
  }
}

TEST_F(DamageTest, IsTheSameForAnyNumberOfThreads) {
  std::optional<std::vector<Damage>> first;
  for (const int threads : {1, 2, 3}) {
    Bench bench(threads);
    const LayerWeights changed = Changed(1, {Unit::kGateUp}, 5);
    const std::vector<LayerVariant> variants{{1, [&] { return changed; }}};
    const std::vector<Damage> damages = Meter(bench).Variants(Quantized(), variants);

    if (!first) first = damages;
    ASSERT_EQ(damages.size(), 2u);
    for (std::size_t i = 0; i < damages.size(); ++i) ExpectSame(damages[i], (*first)[i]);
  }
}

TEST_F(DamageTest, CallsForTheWeightsOfEachVariantOnce) {
  Bench bench;
  int calls = 0;
  const std::vector<LayerVariant> variants(3, {2, [&] {
                                                 ++calls;
                                                 return whole.weights.layers[2];
                                               }});

  const std::vector<Damage> damages = Meter(bench).Variants(whole.weights, variants);

  EXPECT_EQ(calls, 3);
  for (const Damage& damage : damages) EXPECT_EQ(damage.kl, 0);
}

TEST_F(DamageTest, CountsThePassesThroughLayers) {
  const auto nothing = [] { return LayerWeights{}; };
  const std::vector<LayerVariant> variants{{0, nothing}, {0, nothing}, {3, nothing}, {9, nothing}};

  EXPECT_EQ(DamageMeter::LayerPasses(10, {}), 10);
  EXPECT_EQ(DamageMeter::LayerPasses(10, variants), 10 + 10 + 10 + 7 + 1);
}

TEST_F(DamageTest, NamesTheRunThatIsNotFinite) {
  Bench bench;
  DamageMeter meter = Meter(bench);
  LayerWeights broken = whole.weights.layers[2];
  broken.mlp_norm[5] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<LayerVariant> variants{{2, [&] { return broken; }}};

  EXPECT_NE(ErrorOf([&] {
              return meter.Variants(whole.weights, variants);
            }).find("a variant of layer 2, window 0"),
            std::string::npos);
  EXPECT_NE(
      ErrorOf([&] { return meter.Model(With(whole.weights, 2, broken)); }).find("a mix, window 0"),
      std::string::npos);
}

TEST_F(DamageTest, StopsWhenAskedTo) {
  Bench bench;
  std::stop_source stop;
  Context stopping{bench.test.pool, bench.test.log, bench.test.progress, stop.get_token()};
  DamageMeter meter(whole.weights, *bench.device, text(), stopping);
  stop.request_stop();

  EXPECT_THROW((void)meter.Model(whole.weights), Stopped);
}

}  // namespace
}  // namespace lieq
