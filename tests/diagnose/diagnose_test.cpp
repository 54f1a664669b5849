#include "lieq/diagnose/diagnose.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/diagnose/activations.h"
#include "lieq/diagnose/diagnosis_json.h"
#include "lieq/model/forward.h"
#include "tests/diagnose/memory_model.h"

namespace lieq {
namespace {

constexpr Index kWindows = 5, kLength = 12;

class CountingProgress : public Progress {
 public:
  void Begin(std::string_view, std::string_view, std::int64_t total) override { total_ = total; }
  void Update(std::int64_t done, std::string_view) override { done_ = done; }
  void End() override { ++ended_; }

  std::int64_t total_ = 0, done_ = 0;
  int ended_ = 0;
};

struct Bench {
  explicit Bench(int threads = 2) : pool(threads) {}
  ThreadPool pool;
  std::unique_ptr<Device> device = MakeCpuDevice(pool);
  Log log;
  CountingProgress progress;
  std::stop_source stop;
  Context context{pool, log, progress, stop.get_token()};
};

struct Text {
  std::vector<TokenId> tokens = RandomTokens(kWindows, kLength, MemoryModel::Config().vocab, 8);
  View<const TokenId, 2> view{tokens.data(), kWindows, kLength};
};

/// Mean NLL of the model without one layer (none: -1), from the embedding on.
double PlainNll(const MemoryModel& model, Device& device, View<const TokenId, 2> text, Index skip) {
  Forward forward(model.weights, device, text.cols());
  Hidden hidden = forward.Embed(text);
  for (Index layer = 0; layer < model.weights.config.layers; ++layer) {
    if (layer != skip) forward.Layer(layer, hidden);
  }
  Matrix<double> nll(text.rows(), text.cols() - 1);
  forward.Nll(hidden, text, nll.view());
  double sum = 0;
  for (Index i = 0; i < nll.size(); ++i) sum += nll.data()[i];
  return sum / static_cast<double>(nll.size());
}

TEST(PerplexityDrop, IsThatOfRunsWithoutEachLayer) {
  const MemoryModel model(MemoryModel::Config(4), 3);
  const Text text;
  Bench bench;
  Diagnosis diagnosis;

  MeasurePerplexityDrop(model.weights, *bench.device, text.view, bench.context, diagnosis);

  const double base = PlainNll(model, *bench.device, text.view, -1);
  ASSERT_EQ(diagnosis.layers.size(), 4u);
  EXPECT_NEAR(diagnosis.base_perplexity.value(), std::exp(base), 1e-9);
  EXPECT_EQ(diagnosis.drop_windows, kWindows);
  EXPECT_EQ(diagnosis.context, kLength);
  for (Index layer = 0; layer < 4; ++layer) {
    const LayerDiagnosis& row = diagnosis.layers[Size(layer)];
    const double removed = PlainNll(model, *bench.device, text.view, layer);
    EXPECT_NEAR(row.nll_drop.value(), removed - base, 1e-12);
    EXPECT_NEAR(row.perplexity_drop.value(), std::exp(removed) - std::exp(base), 1e-9);
    EXPECT_GT(std::fabs(*row.nll_drop), 1e-3) << "removal changes nothing: nothing is tested";
    EXPECT_FALSE(row.compactness.has_value()) << "not measured is absent";
    ASSERT_EQ(row.window_nll_drop.size(), Size(kWindows));
    double mean = 0;
    for (const double drop_of_window : row.window_nll_drop) mean += drop_of_window / kWindows;
    EXPECT_NEAR(mean, *row.nll_drop, 1e-12) << "windows are of one length";
    const double first = PlainNll(model, *bench.device, text.view.Rows(0, 1), layer) -
                         PlainNll(model, *bench.device, text.view.Rows(0, 1), -1);
    EXPECT_NEAR(row.window_nll_drop.front(), first, 1e-5);
  }
  EXPECT_EQ(bench.progress.total_, 4);
  EXPECT_EQ(bench.progress.done_, 4);
  EXPECT_EQ(bench.progress.ended_, 1);
}

TEST(PerplexityDrop, DoesNotDependOnHowManyWindowsAreHeldAtOnce) {
  const MemoryModel model(MemoryModel::Config(), 3);
  const Text text;
  Bench bench;
  Diagnosis whole;
  MeasurePerplexityDrop(model.weights, *bench.device, text.view, bench.context, whole);

  for (const Index chunk : {1, 2, 5, 100}) {
    Diagnosis chunked;
    MeasurePerplexityDrop(model.weights, *bench.device, text.view, bench.context, chunked, chunk);

    // Products of other sizes may round otherwise: floats of some 1e-7.
    EXPECT_NEAR(*chunked.base_perplexity / *whole.base_perplexity, 1, 1e-5) << chunk;
    for (std::size_t i = 0; i < whole.layers.size(); ++i) {
      EXPECT_NEAR(*chunked.layers[i].nll_drop, *whole.layers[i].nll_drop, 1e-5) << chunk;
    }
    EXPECT_EQ(bench.progress.done_, bench.progress.total_);
  }
}

TEST(PerplexityDrop, OfALayerThatAddsNothingIsZero) {
  MemoryModel model(MemoryModel::Config(), 3);
  for (const Site site : {Site::kO, Site::kDown}) {
    Matrix<float>& matrix = model.At(1, site);
    for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = 0;
  }
  const Text text;
  Bench bench;
  Diagnosis diagnosis;

  MeasurePerplexityDrop(model.weights, *bench.device, text.view, bench.context, diagnosis);

  EXPECT_EQ(diagnosis.layers[1].nll_drop, 0);
  EXPECT_EQ(diagnosis.layers[1].perplexity_drop, 0);
  EXPECT_NE(diagnosis.layers[0].nll_drop, 0);
}

TEST(Spectra, AreThoseOfTheInputsThatEachLayerSees) {
  const MemoryModel model(MemoryModel::Config(), 3);
  const ModelConfig& config = model.weights.config;
  const Text text;
  Bench bench;
  Diagnosis diagnosis;

  MeasureSpectra(model.weights, *bench.device, text.view, {.seed = 4}, bench.context, diagnosis);

  Forward forward(model.weights, *bench.device, kLength);
  Hidden hidden = forward.Embed(text.view);
  ASSERT_EQ(diagnosis.layers.size(), 3u);
  for (Index layer = 0; layer < config.layers; ++layer) {
    std::array<Matrix<double>, kUnits> grams;
    forward.Layer(layer, hidden, [&](Unit unit, DeviceView<const float> input) {
      Matrix<float> h(input.rows(), input.cols());
      bench.device->Download(input, h.view());
      Matrix<double>& gram = grams[static_cast<std::size_t>(unit)];
      gram = Matrix<double>(h.cols(), h.cols());
      for (Index t = 0; t < h.rows(); ++t) {
        for (Index i = 0; i < h.cols(); ++i) {
          for (Index j = 0; j <= i; ++j) gram(i, j) += static_cast<double>(h(t, i)) * h(t, j);
        }
      }
    });
    const LayerSpectra expected =
        MeasureLayer(model.weights.layers[Size(layer)], config, std::move(grams),
                     kWindows * kLength, layer, {.seed = 4}, bench.context);
    const LayerDiagnosis& row = diagnosis.layers[Size(layer)];
    EXPECT_NEAR(row.compactness.value(), expected.MeanCompactness(), 1e-5);
    EXPECT_NEAR(row.top_k_energy.value(), expected.MeanTopKEnergy(), 1e-5);
    ASSERT_EQ(row.site_compactness.size(), std::size_t{kSites});
    ASSERT_EQ(row.site_top_k_energy.size(), std::size_t{kSites});
    EXPECT_FALSE(row.nll_drop.has_value()) << "not measured is absent";
  }
  EXPECT_EQ(diagnosis.spectrum_windows, kWindows);
  EXPECT_EQ(diagnosis.context, kLength);
  EXPECT_EQ(diagnosis.seed, 4u);
  EXPECT_EQ(diagnosis.twins, 4);
  EXPECT_EQ(diagnosis.top_fraction, 0.1);
  EXPECT_FALSE(diagnosis.base_perplexity.has_value());
  EXPECT_EQ(bench.progress.done_, 3);
  EXPECT_EQ(bench.progress.ended_, 1);
}

TEST(Spectra, ComeWithWhatEachLayerDoesToTheResidualStream) {
  const MemoryModel model(MemoryModel::Config(), 3);
  const Text text;
  Bench bench;
  Diagnosis whole, alone;

  MeasureSpectra(model.weights, *bench.device, text.view, {}, bench.context, whole);
  MeasureSpectra(model.weights, *bench.device, text.view, {.spectra = false}, bench.context, alone);

  Forward forward(model.weights, *bench.device, kLength);
  Hidden hidden = forward.Embed(text.view);
  Matrix<float> before(kWindows * kLength, model.weights.config.hidden), after = before.Clone();
  for (std::size_t layer = 0; layer < whole.layers.size(); ++layer) {
    bench.device->Download(hidden.x.view(), before.view());
    forward.Layer(static_cast<Index>(layer), hidden);
    bench.device->Download(hidden.x.view(), after.view());
    const ActivationMeasures expected =
        MeasureActivations(before.view(), after.view(), static_cast<Index>(layer), bench.context);
    for (const Diagnosis* diagnosis : {&whole, &alone}) {
      const LayerDiagnosis& row = diagnosis->layers[layer];
      EXPECT_EQ(row.block_influence, expected.block_influence);
      EXPECT_EQ(row.largest_activation, expected.largest);
      EXPECT_EQ(row.activation_ratio, expected.ratio);
    }
    EXPECT_FALSE(alone.layers[layer].compactness.has_value()) << "not measured is absent";
    EXPECT_TRUE(alone.layers[layer].site_compactness.empty());
  }
  EXPECT_EQ(alone.spectrum_windows, kWindows);
  EXPECT_EQ(alone.twins, 0);
}

TEST(Spectra, OfSomeLayersAreThoseOfAll) {
  const MemoryModel model(MemoryModel::Config(4), 3);
  const Text text;
  Bench bench;
  Diagnosis whole;
  MeasureSpectra(model.weights, *bench.device, text.view, {}, bench.context, whole);

  for (const std::vector<Index>& layers : {std::vector<Index>{}, {0}, {1, 2}, {0, 3}}) {
    Diagnosis some;
    MeasureSpectra(model.weights, *bench.device, text.view, {.layers = layers}, bench.context,
                   some);

    ASSERT_EQ(some.layers.size(), 4u);
    EXPECT_EQ(some.spectrum_windows, whole.spectrum_windows);
    EXPECT_EQ(some.twins, whole.twins);
    for (Index layer = 0; layer < 4; ++layer) {
      const LayerDiagnosis &row = some.layers[Size(layer)], &its = whole.layers[Size(layer)];
      const bool wanted = std::ranges::find(layers, layer) != layers.end();
      EXPECT_EQ(row.compactness, wanted ? its.compactness : std::nullopt);
      EXPECT_EQ(row.block_influence, wanted ? its.block_influence : std::nullopt);
      EXPECT_EQ(row.activation_ratio, wanted ? its.activation_ratio : std::nullopt);
      EXPECT_EQ(row.site_top_k_energy, wanted ? its.site_top_k_energy : std::vector<double>());
    }
  }
}

TEST(WeightSpectra, NeedNoTextAndAreThoseOfEachLayer) {
  const MemoryModel model(MemoryModel::Config(), 3);
  const DiagnoseOptions options{.seed = 4, .settings = {.inputs = SpectrumInputs::kWeights}};
  Bench bench;
  Diagnosis diagnosis;

  MeasureWeightSpectra(model.weights, options, bench.context, diagnosis);

  const TwinTable twins = MeasureTwins(model.weights.config, options, bench.context);
  ASSERT_EQ(diagnosis.layers.size(), 3u);
  for (Index layer = 0; layer < 3; ++layer) {
    const LayerSpectra expected =
        MeasureLayerWeights(model.weights.layers[Size(layer)], model.weights.config, twins, layer,
                            options, bench.context);
    EXPECT_EQ(diagnosis.layers[Size(layer)].compactness, expected.MeanCompactness());
    EXPECT_EQ(diagnosis.layers[Size(layer)].site_top_k_energy, expected.top_k_energy);
    EXPECT_FALSE(diagnosis.layers[Size(layer)].block_influence.has_value());
  }
  EXPECT_EQ(diagnosis.spectrum_windows, 0);
  EXPECT_EQ(diagnosis.context, 0);
  EXPECT_EQ(diagnosis.settings, options.settings);
  EXPECT_EQ(bench.progress.done_, 3);
}

TEST(Diagnose, GivesTheSameBytesForAnyNumberOfThreads) {
  const MemoryModel model(MemoryModel::Config(), 3);
  const Text text;
  const auto record = [&](int threads) {
    Bench bench(threads);
    Diagnosis diagnosis;
    MeasureSpectra(model.weights, *bench.device, text.view, {}, bench.context, diagnosis);
    MeasurePerplexityDrop(model.weights, *bench.device, text.view, bench.context, diagnosis);
    return ToJson(diagnosis).dump();
  };

  const std::string one = record(1);

  EXPECT_EQ(one, record(2));
  EXPECT_EQ(one, record(3));
}

std::optional<Problem> ProblemOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.problem();
  }
  return std::nullopt;
}

TEST(Diagnose, NamesTheLayerWhereNumbersEnd) {
  MemoryModel model(MemoryModel::Config(), 3);
  model.At(1, Site::kUp)(3, 4) = std::numeric_limits<float>::infinity();
  const Text text;
  Bench bench;
  Diagnosis diagnosis;

  const auto spectra = ProblemOf([&] {
    MeasureSpectra(model.weights, *bench.device, text.view, {}, bench.context, diagnosis);
  });
  const auto drop = ProblemOf([&] {
    MeasurePerplexityDrop(model.weights, *bench.device, text.view, bench.context, diagnosis);
  });

  ASSERT_TRUE(spectra && drop);
  EXPECT_EQ(spectra->where, "layer 1, down") << "the input of down is the first to be infinite";
  EXPECT_TRUE(drop->where.starts_with("with layer 0 left out: window 0")) << drop->where;
  EXPECT_EQ(bench.progress.ended_, 2);
}

TEST(Diagnose, RefusesWindowsThatHoldNothingToMeasure) {
  const MemoryModel model(MemoryModel::Config(), 3);
  const Text text;
  Bench bench;
  Diagnosis diagnosis;
  const auto measure = [&](View<const TokenId, 2> tokens) {
    MeasurePerplexityDrop(model.weights, *bench.device, tokens, bench.context, diagnosis);
  };

  EXPECT_TRUE(ProblemOf([&] { measure({text.tokens.data(), 0, kLength}); }));
  EXPECT_TRUE(ProblemOf([&] { measure({text.tokens.data(), 3, 1}); }));
  measure(text.view);
  const auto lengths = ProblemOf([&] {
    MeasureSpectra(model.weights, *bench.device, {text.tokens.data(), 2, kLength + 1}, {},
                   bench.context, diagnosis);
  });
  ASSERT_TRUE(lengths);
  EXPECT_EQ(lengths->expected, "12 tokens in a window");
  EXPECT_EQ(lengths->found, "13");
}

TEST(Diagnose, StopsWhenAsked) {
  const MemoryModel model(MemoryModel::Config(), 3);
  const Text text;
  Bench bench;
  Diagnosis diagnosis;
  bench.stop.request_stop();

  EXPECT_THROW(
      MeasureSpectra(model.weights, *bench.device, text.view, {}, bench.context, diagnosis),
      Stopped);
  EXPECT_THROW(
      MeasurePerplexityDrop(model.weights, *bench.device, text.view, bench.context, diagnosis),
      Stopped);
  EXPECT_EQ(bench.progress.ended_, 2);
}

}  // namespace
}  // namespace lieq
