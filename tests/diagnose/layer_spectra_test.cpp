#include "lieq/diagnose/layer_spectra.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/diagnose/spectrum.h"
#include "lieq/linalg/linalg.h"
#include "tests/diagnose/memory_model.h"

namespace lieq {
namespace {

constexpr Index kTokens = 200;

/// Gram matrices of correlated inputs, the same for the same seed.
std::array<Matrix<double>, kUnits> Grams(const ModelConfig& config, std::uint64_t seed) {
  std::array<Matrix<double>, kUnits> grams;
  Rng rng(seed);
  for (const Unit unit : kAllUnits) {
    const Index in = config.In(SitesOf(unit).front());
    Matrix<double> h(kTokens, in);
    for (Index t = 0; t < kTokens; ++t) {
      const double common = rng.Normal();
      for (Index i = 0; i < in; ++i) h(t, i) = rng.Normal() + common * static_cast<double>(i % 3);
    }
    Matrix<double>& gram = grams[static_cast<std::size_t>(unit)] = Matrix<double>(in, in);
    Gram(h.view(), Transpose::kYes, gram.view());
  }
  return grams;
}

struct Bench {
  explicit Bench(int threads = 1) : pool(threads) {}
  ThreadPool pool;
  Log log;
  Progress progress;
  Context context{pool, log, progress, {}};

  LayerSpectra Measure(const MemoryModel& model, DiagnoseOptions options = {}, Index layer = 0) {
    if (options.settings.inputs == SpectrumInputs::kWeights) {
      return MeasureLayerWeights(model.weights.layers[0], model.weights.config,
                                 MeasureTwins(model.weights.config, options, context), layer,
                                 options, context);
    }
    return MeasureLayer(model.weights.layers[0], model.weights.config,
                        Grams(model.weights.config, 1), kTokens, layer, options, context);
  }
};

bool Same(const LayerSpectra& a, const LayerSpectra& b) {
  return a.compactness == b.compactness && a.top_k_energy == b.top_k_energy;
}

void SetRankOne(View<float, 2> w) {
  for (Index r = 0; r < w.rows(); ++r) {
    for (Index c = 0; c < w.cols(); ++c) w(r, c) = static_cast<float>((r + 1) * (c - 3)) * 1e-3f;
  }
}

void SetZero(View<float, 2> w) {
  for (Index r = 0; r < w.rows(); ++r) {
    for (float& value : w.Row(r)) value = 0;
  }
}

TEST(LayerSpectra, IsTheSameForAnyNumberOfThreads) {
  const MemoryModel model(MemoryModel::Config(1), 3);

  const LayerSpectra one = Bench(1).Measure(model);

  for (const int threads : {2, 3, 7}) {
    EXPECT_TRUE(Same(one, Bench(threads).Measure(model))) << threads << " threads";
  }
}

TEST(LayerSpectra, DrawsOtherTwinsForAnotherSeedOrLayer) {
  const MemoryModel model(MemoryModel::Config(1), 3);
  Bench bench;
  const LayerSpectra first = bench.Measure(model);

  EXPECT_TRUE(Same(first, bench.Measure(model)));
  EXPECT_FALSE(Same(first, bench.Measure(model, {.seed = 1})));
  EXPECT_FALSE(Same(first, bench.Measure(model, {}, 1)));
  EXPECT_FALSE(Same(first, bench.Measure(model, {.twins = 5})));
}

TEST(LayerSpectra, AveragesOverHeadsThenSites) {
  const MemoryModel model(MemoryModel::Config(1), 3);

  const LayerSpectra spectra = Bench().Measure(model);

  double sum = 0, energy = 0;
  for (const double value : spectra.compactness) sum += value;
  for (const double value : spectra.top_k_energy) energy += value;
  EXPECT_DOUBLE_EQ(spectra.MeanCompactness(), sum / 7);
  EXPECT_DOUBLE_EQ(spectra.MeanTopKEnergy(), energy / 7);
}

struct Variant {
  const char* name;
  SpectrumSettings settings;
};
class LayerSpectraVariant : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Settings, LayerSpectraVariant,
                         testing::Values(Variant{"Defaults", {}},
                                         Variant{"Qkv", {.projections = Projections::kQkv}},
                                         Variant{"Whole", {.heads = Heads::kWhole}},
                                         Variant{"Plain", {.energies = Energies::kPlain}},
                                         Variant{"Weights", {.inputs = SpectrumInputs::kWeights}},
                                         Variant{"All",
                                                 {.projections = Projections::kQkv,
                                                  .heads = Heads::kWhole,
                                                  .energies = Energies::kPlain,
                                                  .inputs = SpectrumInputs::kWeights}}),
                         [](const auto& variant) { return variant.param.name; });

TEST_P(LayerSpectraVariant, AgreesWithTheFormulaWrittenOut) {
  // Many twins, so that the means of ours and of plain Gaussian ones agree to a percent or so.
  const SpectrumSettings settings = GetParam().settings;
  const ModelConfig config = MemoryModel::Config(1);
  MemoryModel model(config, 3);
  SetRankOne(model.At(0, Site::kQ).view().Rows(config.head_dim, config.head_dim));  // head 1 of 4
  constexpr int kTwins = 1000;
  const auto spectrum = [&](Matrix<double>& w, const InputFactor& inputs) {
    std::vector<double> energies = settings.inputs == SpectrumInputs::kWeights
                                       ? WeightSpectrum(w.view())
                                       : Spectrum(w.view(), inputs);
    if (settings.energies == Energies::kPlain) {
      for (double& energy : energies) energy = std::sqrt(energy);
    }
    return energies;
  };

  const LayerSpectra spectra = Bench(2).Measure(model, {.twins = kTwins, .settings = settings});

  const std::size_t sites = settings.projections == Projections::kQkv ? 3 : 7;
  ASSERT_EQ(spectra.compactness.size(), sites);
  ASSERT_EQ(spectra.top_k_energy.size(), sites);
  Rng rng(99);
  auto grams = Grams(config, 1);
  for (const Site site : std::span(kAllSites).first(sites)) {
    const auto inputs =
        FactorInputs(grams[static_cast<std::size_t>(UnitOf(site))].Clone(), kTokens);
    ASSERT_TRUE(inputs.has_value());
    const bool by_head = settings.heads == Heads::kPerHead &&
                         (site == Site::kQ || site == Site::kK || site == Site::kV);
    const Index rows = by_head ? 12 : config.Out(site);
    const Index heads = config.Out(site) / rows;
    const Index k = std::max<Index>(1, std::min(rows, config.In(site)) / 10);
    double compactness = 0, energy = 0;
    for (Index head = 0; head < heads; ++head) {
      Matrix<double> w(rows, config.In(site));
      for (Index r = 0; r < rows; ++r) {
        for (Index c = 0; c < w.cols(); ++c) {
          w(r, c) = static_cast<double>(model.At(0, site)(head * rows + r, c));
        }
      }
      const std::vector<double> trained = spectrum(w, *inputs);
      double rank = 0, top = 0;
      for (int twin = 0; twin < kTwins; ++twin) {
        for (Index i = 0; i < w.size(); ++i) w.data()[i] = rng.Normal();
        const std::vector<double> random = spectrum(w, *inputs);
        rank += EffectiveRank(random) / kTwins;
        top += TopEnergy(random, k) / kTwins;
      }
      compactness += (rank - EffectiveRank(trained)) / rank / static_cast<double>(heads);
      energy += (TopEnergy(trained, k) - top) / static_cast<double>(heads);
    }
    const auto index = static_cast<std::size_t>(site);
    EXPECT_NEAR(spectra.compactness[index], compactness, 0.02) << Name(site);
    EXPECT_NEAR(spectra.top_k_energy[index], energy, 0.02) << Name(site);
  }
}

TEST_P(LayerSpectraVariant, IsTheSameForAnyNumberOfThreads) {
  const MemoryModel model(MemoryModel::Config(1), 3);
  const DiagnoseOptions options{.settings = GetParam().settings};

  const LayerSpectra one = Bench(1).Measure(model, options);

  EXPECT_TRUE(Same(one, Bench(2).Measure(model, options)));
  EXPECT_TRUE(Same(one, Bench(5).Measure(model, options)));
}

TEST(LayerSpectra, OfQkvReadNoOtherInputs) {
  const MemoryModel model(MemoryModel::Config(1), 3);
  const DiagnoseOptions options{.settings = {.projections = Projections::kQkv}};
  auto grams = Grams(model.weights.config, 1);
  for (const Unit unit : {Unit::kO, Unit::kGateUp, Unit::kDown}) {
    grams[static_cast<std::size_t>(unit)] = {};
  }
  Bench bench;

  const LayerSpectra spectra = MeasureLayer(model.weights.layers[0], model.weights.config,
                                            std::move(grams), kTokens, 0, options, bench.context);

  const LayerSpectra all = bench.Measure(model);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(spectra.compactness[i], all.compactness[i]);
}

TEST(Twins, AreMadeOnceForEachShape) {
  const ModelConfig config = MemoryModel::Config(3);
  Bench bench(2);
  const DiagnoseOptions options{.settings = {.inputs = SpectrumInputs::kWeights}};

  const TwinTable twins = MeasureTwins(config, options, bench.context);

  // A head of q, k or v; o; gate and up; down.
  ASSERT_EQ(twins.size(), 4u);
  for (const std::array<Index, 2> shape :
       {std::array<Index, 2>{12, 32}, {32, 48}, {56, 32}, {32, 56}}) {
    ASSERT_TRUE(twins.contains(shape));
    EXPECT_GT(twins.at(shape).effective_rank, 1);
    EXPECT_LT(twins.at(shape).effective_rank, std::min(shape[0], shape[1]));
  }
}

TEST(Twins, OfWeightsAloneFindUntrainedWeightsNotCompact) {
  double compactness = 0;
  constexpr int kModels = 40;
  for (std::uint64_t seed = 0; seed < kModels; ++seed) {
    const LayerSpectra spectra =
        Bench().Measure(MemoryModel(MemoryModel::Config(1), 100 + seed),
                        {.seed = seed, .settings = {.inputs = SpectrumInputs::kWeights}});
    compactness += spectra.MeanCompactness() / kModels;
  }

  EXPECT_NEAR(compactness, 0, 0.02);
}

TEST(LayerSpectra, UntrainedWeightsAreNotCompact) {
  // Weights drawn like the twins: the differences scatter around 0.
  double compactness = 0, energy = 0;
  constexpr int kModels = 40;
  for (int seed = 0; seed < kModels; ++seed) {
    const LayerSpectra spectra =
        Bench().Measure(MemoryModel(MemoryModel::Config(1), 100 + static_cast<std::uint64_t>(seed)),
                        {.seed = static_cast<std::uint64_t>(seed)});
    compactness += spectra.MeanCompactness() / kModels;
    energy += spectra.MeanTopKEnergy() / kModels;
  }

  EXPECT_NEAR(compactness, 0, 0.02);
  EXPECT_NEAR(energy, 0, 0.02);
}

TEST(LayerSpectra, NarrowWeightsAreCompact) {
  MemoryModel model(MemoryModel::Config(1), 3);
  for (const Site site : kAllSites) SetRankOne(model.At(0, site).view());

  const LayerSpectra spectra = Bench().Measure(model);

  for (const Site site : kAllSites) {
    EXPECT_GT(spectra.compactness[static_cast<std::size_t>(site)], 0.5) << Name(site);
    EXPECT_GT(spectra.top_k_energy[static_cast<std::size_t>(site)], 0.0) << Name(site);
  }
}

TEST(LayerSpectra, DoesNotDependOnTheScaleOfTheWeights) {
  MemoryModel model(MemoryModel::Config(1), 3);
  const LayerSpectra before = Bench().Measure(model);
  for (Matrix<float>& matrix : model.matrices) {
    for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] *= 1024;
  }

  const LayerSpectra after = Bench().Measure(model);

  EXPECT_TRUE(Same(before, after)) << "a power of two changes no digit";
}

TEST(LayerSpectra, AnIdleProjectionIsFullyCompactAndAnIdleInputSaysNothing) {
  MemoryModel model(MemoryModel::Config(1), 3);
  SetZero(model.At(0, Site::kUp).view());
  auto grams = Grams(model.weights.config, 1);
  grams[static_cast<std::size_t>(Unit::kDown)] = Matrix<double>(56, 56);
  Bench bench;

  const LayerSpectra spectra = MeasureLayer(model.weights.layers[0], model.weights.config,
                                            std::move(grams), kTokens, 0, {}, bench.context);

  EXPECT_EQ(spectra.compactness[static_cast<std::size_t>(Site::kUp)], 1);
  EXPECT_EQ(spectra.compactness[static_cast<std::size_t>(Site::kDown)], 0);
  EXPECT_EQ(spectra.top_k_energy[static_cast<std::size_t>(Site::kDown)], 0);
}

std::optional<Problem> ProblemOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.problem();
  }
  return std::nullopt;
}

TEST(LayerSpectra, NamesLayerAndSiteOfWhatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const Site site : kAllSites) {
      MemoryModel model(MemoryModel::Config(1), 3);
      model.At(0, site)(1, 2) = bad;
      Bench bench(2);

      const auto problem = ProblemOf([&] { (void)bench.Measure(model, {}, 7); });

      ASSERT_TRUE(problem.has_value());
      EXPECT_EQ(problem->where, "layer 7, " + std::string(Name(site)));
    }
  }
}

TEST(LayerSpectra, OfWeightsAloneNameWhatIsNotFinite) {
  MemoryModel model(MemoryModel::Config(1), 3);
  model.At(0, Site::kGate)(1, 2) = std::numeric_limits<float>::quiet_NaN();

  const auto problem = ProblemOf([&] {
    (void)Bench(2).Measure(model, {.settings = {.inputs = SpectrumInputs::kWeights}}, 7);
  });

  ASSERT_TRUE(problem.has_value());
  EXPECT_EQ(problem->where, "layer 7, gate");
}

TEST(LayerSpectra, NamesLayerAndUnitWhoseInputIsNotFinite) {
  const MemoryModel model(MemoryModel::Config(1), 3);
  for (const Unit unit : kAllUnits) {
    auto grams = Grams(model.weights.config, 1);
    grams[static_cast<std::size_t>(unit)](3, 1) = std::numeric_limits<double>::infinity();
    Bench bench(2);

    const auto problem = ProblemOf([&] {
      (void)MeasureLayer(model.weights.layers[0], model.weights.config, std::move(grams), kTokens,
                         7, {}, bench.context);
    });

    ASSERT_TRUE(problem.has_value());
    EXPECT_EQ(problem->where, "layer 7, " + std::string(Name(unit)));
  }
}

TEST(LayerSpectra, RefusesOptionsOutOfRange) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NO_THROW(CheckOptions({}));
  EXPECT_NO_THROW(CheckOptions({.twins = 1, .top_fraction = 1}));
  EXPECT_THROW(CheckOptions({.twins = 0}), Error);
  EXPECT_THROW(CheckOptions({.twins = 100000}), Error);
  EXPECT_THROW(CheckOptions({.top_fraction = 0}), Error);
  EXPECT_THROW(CheckOptions({.top_fraction = 1.01}), Error);
  EXPECT_THROW(CheckOptions({.top_fraction = kNan}), Error);
}

TEST(LayerSpectra, StopsWhenAsked) {
  const MemoryModel model(MemoryModel::Config(1), 3);
  std::stop_source source;
  ThreadPool pool(2);
  Log log;
  Progress progress;
  Context context{pool, log, progress, source.get_token()};
  source.request_stop();

  EXPECT_THROW((void)MeasureLayer(model.weights.layers[0], model.weights.config,
                                  Grams(model.weights.config, 1), kTokens, 0, {}, context),
               Stopped);
}

}  // namespace
}  // namespace lieq
