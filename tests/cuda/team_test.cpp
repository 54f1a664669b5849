// Several GPUs, or several devices on one, against one alone: the same bytes.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/device_team.h"
#include "lieq/diagnose/damage.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/layer_quantizer.h"
#include "tests/cuda/both_devices.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr Index kWindows = 16, kLength = 40, kPieces = 4;

/// The GPU of each device of a team; two of one number are two devices on one GPU.
class CudaTeam : public BothDevices, public testing::WithParamInterface<std::vector<int>> {
 protected:
  void SetUp() override {
    BothDevices::SetUp();
    if (IsSkipped()) return;
    for (const int gpu_index : GetParam()) {
      if (!Add(gpu_index)) GTEST_SKIP() << "there is no GPU of number " << gpu_index;
    }
    const TinyModelOptions options{.layers = 3, .hidden = 128, .intermediate = 192};
    MakeTinyModel(folder / "model", options);
    model = OpenModel(folder / "model");
    coarse = RandomQuantizedModel(folder / "coarse", options, {.bits = 2, .group_size = 32});
    for (Index i = 0; i < kWindows * kLength; ++i) {
      tokens.push_back(static_cast<TokenId>((i * i + 3 * i) % 250));
    }
    grids.fill({.bits = 2, .group_size = 32});
  }
  bool Add(int gpu_index) {
    try {
      pools.push_back(std::make_unique<ThreadPool>(1));
      devices.push_back(MakeCudaDevice(*pools.back(), {.index = gpu_index}));
    } catch (const Error&) {
      return false;
    }
    return true;
  }
  [[nodiscard]] DeviceTeam Team(std::size_t count) {
    std::vector<DeviceTeam::Member> members;
    for (std::size_t i = 0; i < count; ++i) members.push_back({*devices[i], *pools[i]});
    return {std::move(members), kPieces};
  }
  [[nodiscard]] DeviceTeam One() { return Team(1); }
  [[nodiscard]] DeviceTeam All() { return Team(devices.size()); }
  [[nodiscard]] View<const TokenId, 2> windows(Index count = kWindows) const {
    return {tokens.data(), count, kLength};
  }

  TempFolder folder;
  ModelFolder model, coarse;
  std::vector<TokenId> tokens;
  std::array<Grid, kSites> grids;
  std::vector<std::unique_ptr<ThreadPool>> pools;
  std::vector<std::unique_ptr<Device>> devices;
};

void ExpectSame(const QuantizedLayer& a, const QuantizedLayer& b) {
  for (const Site site : kAllSites) {
    const auto i = static_cast<std::size_t>(site);
    ASSERT_TRUE(a.matrices[i] != nullptr && b.matrices[i] != nullptr) << Name(site);
    EXPECT_TRUE(std::ranges::equal(a.matrices[i]->words(), b.matrices[i]->words())) << Name(site);
    const auto &one = a.matrices[i]->scales(), &other = b.matrices[i]->scales();
    EXPECT_EQ(std::memcmp(one.data(), other.data(), Size(one.size()) * sizeof(float)), 0)
        << Name(site);
    EXPECT_EQ(a.reports[i].error, b.reports[i].error) << Name(site);
  }
}

TEST_P(CudaTeam, AddsAndCopiesSumsOfOneAnother) {
  const Index rows = 70, n = 133;
  const Matrix<float> x = RandomMatrix(rows, n, 1);
  std::vector<std::unique_ptr<PlacedSums<double>>> grams;
  std::vector<std::unique_ptr<PlacedSums<float>>> crosses;
  for (const auto& device : devices) {
    const DeviceMatrix on = Uploaded(*device, x);
    CalibrationOps& ops = *device->calibration();
    grams.push_back(ops.MakeGram(n));
    crosses.push_back(ops.MakeCross(n, n));
    ops.GramUpdate(on.view(), *grams.back());
    ops.CrossGramUpdate(on.view(), on.view(), *crosses.back());
  }

  for (std::size_t i = 1; i < devices.size(); ++i) {
    grams[0]->Add(*grams[i]);
    crosses[0]->Add(*crosses[i]);
  }
  const auto copy = devices.back()->calibration()->MakeGram(n);
  copy->Copy(*grams[0]);

  const auto times = static_cast<double>(devices.size());
  const Matrix<double>&one = grams[1]->Host(), &all = grams[0]->Host(), &copied = copy->Host();
  const Matrix<float>&one_cross = crosses[1]->Host(), &all_cross = crosses[0]->Host();
  for (Index r = 0; r < n; ++r) {
    for (Index c = 0; c < n; ++c) {
      EXPECT_FLOAT_EQ(all_cross(r, c), static_cast<float>(times) * one_cross(r, c));
      if (c > r) continue;
      EXPECT_DOUBLE_EQ(all(r, c), times * one(r, c)) << r << ", " << c;
      EXPECT_EQ(copied(r, c), all(r, c)) << r << ", " << c;
    }
  }
}

TEST_P(CudaTeam, EvaluatesToTheBytesOfOne) {
  ScoredText text{.ids = tokens, .bos = {}, .windows = {}, .length = kLength};
  for (Index w = 0; w < kWindows; ++w) text.windows.push_back({w * 20, 30 + w % 2, 0});
  for (const ModelFolder* each : {&model, &coarse}) {
    EXPECT_EQ(MeasurePerplexity(each->weights, All(), text, test.context).window_nll,
              MeasurePerplexity(each->weights, One(), text, test.context).window_nll);
  }
}

TEST_P(CudaTeam, MeasuresTheDamageThatOneMeasures) {
  std::vector<LayerVariant> variants;
  for (Index layer = 0; layer < 3; ++layer) {
    variants.insert(variants.end(), 3,
                    {layer, [&, layer] { return coarse.weights.layers[Size(layer)]; }});
  }
  DamageMeter one(model.weights, One(), windows(3), test.context);
  DamageMeter all(model.weights, All(), windows(3), test.context);

  const auto expected = one.Variants(model.weights, variants);
  const auto found = all.Variants(model.weights, variants);

  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].window_kl, expected[i].window_kl) << i;
    EXPECT_EQ(found[i].window_nll_rise, expected[i].window_nll_rise) << i;
  }
}

TEST_P(CudaTeam, QuantizesToTheBytesOfOne) {
  for (const char* method : {"gptq", "best"}) {
    LayerQuantizer one(model.weights, One(), {.method = method}, windows(), test.context);
    LayerQuantizer all(model.weights, All(), {.method = method}, windows(), test.context);
    for (Index layer = 0; layer < 3; ++layer) {
      const QuantizedLayer expected = one.Quantize(grids), found = all.Quantize(grids);
      SCOPED_TRACE(std::string(method) + ", layer " + std::to_string(layer));
      ExpectSame(found, expected);
    }
  }
}

TEST_P(CudaTeam, MakesTheCandidatesThatOneMakes) {
  const std::vector<Grid> some{{.bits = 2, .group_size = 32}, {.bits = 4, .group_size = 64}};
  CandidateQuantizer one(model.weights, One(), {.method = "gptq"}, windows(), test.context);
  CandidateQuantizer all(model.weights, All(), {.method = "gptq"}, windows(), test.context);
  std::vector<std::vector<QuantizedLayer>> found(3);
  for (Index first = 0; first < 3; first = all.next_layer()) {
    const Index count = std::min<Index>(all.together(), 3 - first);
    all.Quantize(std::vector(Size(count), some), [&](Index layer, std::vector<QuantizedLayer> its) {
      found[Size(layer)] = std::move(its);
    });
  }
  for (const std::vector<QuantizedLayer>& layer : found) {
    const std::vector<QuantizedLayer> expected = one.Quantize(some);
    ASSERT_EQ(layer.size(), expected.size());
    for (std::size_t c = 0; c < expected.size(); ++c) ExpectSame(layer[c], expected[c]);
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaTeam,
                         testing::Values(std::vector{0, 0}, std::vector{0, 0, 0}, std::vector{0, 1},
                                         std::vector{1, 0}),
                         [](const auto& test) {
                           std::string name;
                           for (const int gpu : test.param) name += "Gpu" + std::to_string(gpu);
                           return name;
                         });

}  // namespace
}  // namespace lieq
