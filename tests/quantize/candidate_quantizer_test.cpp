#include "lieq/quantize/candidate_quantizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/quantize/layer_quantizer.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

class CandidateQuantizerTest : public testing::Test {
 protected:
  CandidateQuantizerTest() {
    MakeTinyModel(folder / "model", {.hidden = 64, .intermediate = 128, .heads = 2, .kv_heads = 1});
    model = OpenModel(folder / "model");
    for (Index i = 0; i < 4 * 24; ++i) {
      tokens.push_back(static_cast<TokenId>((i * i + 3 * i) % 250));
    }
  }
  View<const TokenId, 2> windows() const { return {tokens.data(), 4, 24}; }
  CandidateQuantizer Quantizer(const QuantOptions& options = {}) {
    return {model.weights, *device, options, windows(), test.context};
  }

  TempFolder folder;
  ModelFolder model;
  std::vector<TokenId> tokens;
  TestContext test;
  std::unique_ptr<Device> device = MakeCpuDevice(test.pool);
};

const std::vector<Grid> kCandidates{{.bits = 2, .group_size = 64},
                                    {.bits = 2, .group_size = 32},
                                    {.bits = 3, .group_size = 32, .offset = Offset::kInteger},
                                    {.bits = 2, .group_size = 64, .offset = Offset::kFloat},
                                    {.bits = 4, .group_size = 0}};

void ExpectSame(const QMatrix& a, const QMatrix& b) {
  EXPECT_EQ(a.grid(), b.grid());
  EXPECT_TRUE(std::ranges::equal(a.words(), b.words()));
  ASSERT_EQ(a.scales().size(), b.scales().size());
  ASSERT_EQ(a.zeros().size(), b.zeros().size());
  ASSERT_EQ(a.minima().size(), b.minima().size());
  for (Index row = 0; row < a.rows(); ++row) {
    EXPECT_TRUE(std::ranges::equal(a.scales().Row(row), b.scales().Row(row))) << row;
    if (a.zeros().size() > 0) {
      EXPECT_TRUE(std::ranges::equal(a.zeros().Row(row), b.zeros().Row(row))) << row;
    }
    if (a.minima().size() > 0) {
      EXPECT_TRUE(std::ranges::equal(a.minima().Row(row), b.minima().Row(row))) << row;
    }
  }
}

void ExpectSame(const QuantizedLayer& a, const QuantizedLayer& b) {
  for (std::size_t site = 0; site < kSites; ++site) {
    SCOPED_TRACE(Name(kAllSites[site]));
    ASSERT_EQ(a.matrices[site] == nullptr, b.matrices[site] == nullptr);
    if (a.matrices[site] == nullptr) continue;
    ExpectSame(*a.matrices[site], *b.matrices[site]);
    EXPECT_EQ(a.reports[site].error, b.reports[site].error);
    EXPECT_EQ(a.reports[site].signal, b.reports[site].signal);
  }
}

class EveryOrder : public CandidateQuantizerTest, public testing::WithParamInterface<ActOrder> {};
INSTANTIATE_TEST_SUITE_P(Orders, EveryOrder,
                         testing::Values(ActOrder::kNone, ActOrder::kStatic, ActOrder::kGroup),
                         [](const auto& row) { return std::string(Name(row.param)); });

TEST_P(EveryOrder, TheFirstUnitIsThatOfTheLayerQuantizerWhichSeesTheSameInputs) {
  const QuantOptions options{.act_order = GetParam()};

  const std::vector<QuantizedLayer> layer = Quantizer(options).Quantize(kCandidates);

  ASSERT_EQ(layer.size(), kCandidates.size());
  for (std::size_t c = 0; c < kCandidates.size(); ++c) {
    SCOPED_TRACE(c);
    std::array<Grid, kSites> grids;
    grids.fill(kCandidates[c]);
    LayerQuantizer whole(model.weights, *device, options, windows(), test.context);
    const QuantizedLayer expected = whole.Quantize(grids);
    for (const Site site : SitesOf(Unit::kQkv)) {
      const auto index = static_cast<std::size_t>(site);
      ASSERT_NE(layer[c].matrices[index], nullptr);
      ExpectSame(*layer[c].matrices[index], *expected.matrices[index]);
      EXPECT_EQ(layer[c].reports[index].error, expected.reports[index].error);
      EXPECT_EQ(layer[c].reports[index].signal, expected.reports[index].signal);
    }
  }
}

TEST_P(EveryOrder, ACandidateIsTheSameAloneAndBesideOthers) {
  // Groups of two sizes make two orders where whole groups are ordered: each needs its own factor.
  const QuantOptions options{.act_order = GetParam()};
  const std::vector<QuantizedLayer> together = Quantizer(options).Quantize(kCandidates);

  for (std::size_t c = 0; c < kCandidates.size(); ++c) {
    SCOPED_TRACE(c);
    const std::vector<QuantizedLayer> alone =
        Quantizer(options).Quantize(std::span(kCandidates).subspan(c, 1));
    ExpectSame(alone.front(), together[c]);
  }
}

TEST_F(CandidateQuantizerTest, WhatDoesNotFitIsLeftOut) {
  // Rows of down have 192 columns, all others 128.
  MakeTinyModel(folder / "wide", {.layers = 1, .hidden = 128, .intermediate = 192});
  model = OpenModel(folder / "wide");
  const Grid wide{.bits = 2, .group_size = 128};
  EXPECT_TRUE(Fits(wide, model.weights.config, Unit::kGateUp));
  EXPECT_FALSE(Fits(wide, model.weights.config, Unit::kDown));
  EXPECT_TRUE(Fits({.group_size = 0}, model.weights.config, Unit::kDown));

  const std::vector<QuantizedLayer> layer =
      Quantizer().Quantize(std::vector<Grid>{wide, kCandidates[0]});

  for (const Site site : kAllSites) {
    const auto index = static_cast<std::size_t>(site);
    EXPECT_EQ(layer[0].matrices[index] == nullptr, site == Site::kDown) << Name(site);
    EXPECT_NE(layer[1].matrices[index], nullptr) << Name(site);
  }
  EXPECT_EQ(layer[0].reports[static_cast<std::size_t>(Site::kDown)].signal, 0);
}

TEST_F(CandidateQuantizerTest, SkippingALayerLeavesTheNextOnesAsTheyAre) {
  CandidateQuantizer all = Quantizer(), some = Quantizer();
  std::vector<std::vector<QuantizedLayer>> layers;
  for (int layer = 0; layer < 3; ++layer) layers.push_back(all.Quantize(kCandidates));

  some.Skip();
  EXPECT_EQ(some.next_layer(), 1);
  for (std::size_t layer = 1; layer < 3; ++layer) {
    const std::vector<QuantizedLayer> result = some.Quantize(kCandidates);
    for (std::size_t c = 0; c < kCandidates.size(); ++c) ExpectSame(result[c], layers[layer][c]);
  }
}

TEST_F(CandidateQuantizerTest, LaterLayersSeeTheFloatModelWhateverCandidatesThereWere) {
  CandidateQuantizer coarse = Quantizer(), fine = Quantizer();
  (void)coarse.Quantize(std::vector<Grid>{{.bits = 2, .group_size = 0}});
  (void)fine.Quantize(std::vector<Grid>{{.bits = 8, .group_size = 32}});

  ExpectSame(coarse.Quantize(kCandidates)[0], fine.Quantize(kCandidates)[0]);
}

TEST_F(CandidateQuantizerTest, ErrorsOfCandidatesCompare) {
  const std::vector<QuantizedLayer> layer = Quantizer().Quantize(kCandidates);

  for (std::size_t site = 0; site < kSites; ++site) {
    for (std::size_t c = 1; c < kCandidates.size(); ++c) {
      EXPECT_EQ(layer[c].reports[site].signal, layer[0].reports[site].signal) << "one matrix";
    }
    EXPECT_LT(layer[2].reports[site].error, layer[0].reports[site].error) << "3 bits beat 2";
  }
}

TEST_F(CandidateQuantizerTest, RoundsWithoutCalibration) {
  QuantOptions options;
  options.method = "rtn";
  CandidateQuantizer quantizer(model.weights, *device, options, {}, test.context);
  LayerQuantizer expected(model.weights, *device, options, {}, test.context);
  std::array<Grid, kSites> grids;
  grids.fill(kCandidates[1]);
  for (int layer = 0; layer < 2; ++layer) {
    const std::vector<QuantizedLayer> result = quantizer.Quantize(kCandidates);
    const QuantizedLayer whole = expected.Quantize(grids);
    for (std::size_t site = 0; site < kSites; ++site) {
      ExpectSame(*result[1].matrices[site], *whole.matrices[site]);
    }
  }
}

TEST_F(CandidateQuantizerTest, IsTheSameForAnyNumberOfThreads) {
  const std::vector<QuantizedLayer> first = Quantizer().Quantize(kCandidates);
  for (const int threads : {1, 3}) {
    TestContext other(threads);
    const auto its_device = MakeCpuDevice(other.pool);
    CandidateQuantizer quantizer(model.weights, *its_device, {}, windows(), other.context);
    const std::vector<QuantizedLayer> result = quantizer.Quantize(kCandidates);
    for (std::size_t c = 0; c < kCandidates.size(); ++c) ExpectSame(result[c], first[c]);
  }
}

TEST_F(CandidateQuantizerTest, NamesTheLayerWhoseActivationsAreNotFinite) {
  model.weights.layers[1].mlp_norm[3] = std::numeric_limits<float>::quiet_NaN();
  CandidateQuantizer quantizer = Quantizer();
  (void)quantizer.Quantize(kCandidates);

  const std::string message = ErrorOf([&] { return quantizer.Quantize(kCandidates); });

  EXPECT_NE(message.find("layer 1, gate_up input"), std::string::npos) << message;
}

TEST_F(CandidateQuantizerTest, StopsBetweenLayers) {
  std::stop_source stop;
  Context stopping{test.pool, test.log, test.progress, stop.get_token()};
  CandidateQuantizer quantizer(model.weights, *device, {}, windows(), stopping);
  stop.request_stop();

  EXPECT_THROW((void)quantizer.Quantize(kCandidates), Stopped);
  EXPECT_THROW(quantizer.Skip(), Stopped);
}

}  // namespace
}  // namespace lieq
