#include "lieq/quantize/layer_quantizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

class LayerQuantizerTest : public testing::Test {
 protected:
  LayerQuantizerTest() {
    MakeTinyModel(folder / "model", {});
    model = OpenModel(folder / "model");
    for (Index i = 0; i < 4 * 24; ++i) {
      tokens.push_back(static_cast<TokenId>((i * i + 3 * i) % 250));
    }
    grids.fill({.bits = 2, .group_size = 32});
  }
  View<const TokenId, 2> windows() const { return {tokens.data(), 4, 24}; }

  TempFolder folder;
  ModelFolder model;
  std::vector<TokenId> tokens;
  std::array<Grid, kSites> grids;
  TestContext test;
  std::unique_ptr<Device> device = MakeCpuDevice(test.pool);
};

std::vector<std::uint32_t> Codes(const QuantizedLayer& layer) {
  std::vector<std::uint32_t> words;
  for (const auto& matrix : layer.matrices) {
    words.insert(words.end(), matrix->words().begin(), matrix->words().end());
  }
  return words;
}

TEST_F(LayerQuantizerTest, GoesOnFromFinishedLayersAsIfItHadNeverStopped) {
  LayerQuantizer whole(model.weights, *device, {}, windows(), test.context);
  std::vector<QuantizedLayer> layers;
  for (Index layer = 0; layer < model.weights.config.layers; ++layer) {
    layers.push_back(whole.Quantize(grids));
  }

  for (std::size_t finished = 1; finished < layers.size(); ++finished) {
    LayerQuantizer resumed(model.weights, *device, {}, windows(), test.context);
    for (std::size_t layer = 0; layer < finished; ++layer) resumed.Skip(layers[layer]);
    for (std::size_t layer = finished; layer < layers.size(); ++layer) {
      EXPECT_EQ(Codes(resumed.Quantize(grids)), Codes(layers[layer])) << layer;
    }
  }
}

TEST_F(LayerQuantizerTest, FollowsTheQuantizedModelsActivations) {
  // Quantizing at 8 bits hardly moves activations; at 2 bits it does, and later layers must see it.
  QuantOptions options;
  LayerQuantizer coarse(model.weights, *device, options, windows(), test.context);
  LayerQuantizer fine(model.weights, *device, options, windows(), test.context);
  std::array<Grid, kSites> fine_grids;
  fine_grids.fill({.bits = 8, .group_size = 32});

  (void)coarse.Quantize(grids);
  (void)fine.Quantize(fine_grids);

  EXPECT_NE(Codes(coarse.Quantize(grids)), Codes(fine.Quantize(grids)));
}

TEST_F(LayerQuantizerTest, RoundsWithoutCalibration) {
  QuantOptions options;
  options.method = "rtn";
  LayerQuantizer quantizer(model.weights, *device, options, {}, test.context);

  const QuantizedLayer layer = quantizer.Quantize(grids);

  for (const LinearReport& report : layer.reports) {
    EXPECT_GT(report.error, 0);
    EXPECT_LT(report.error, 0.3 * report.signal);
  }
}

TEST_F(LayerQuantizerTest, NamesTheLinearWhoseWeightsAreNotFinite) {
  const auto& held = std::get<View<const Bf16, 2>>(model.weights.layers[1].At(Site::kUp).weight);
  Matrix<float> broken(held.rows(), held.cols());
  WidenRows(held, 0, broken.view());
  broken(2, 5) = std::numeric_limits<float>::infinity();
  model.weights.layers[1].At(Site::kUp).weight = std::as_const(broken).view();
  QuantOptions options;
  options.method = "rtn";
  LayerQuantizer quantizer(model.weights, *device, options, {}, test.context);
  (void)quantizer.Quantize(grids);

  EXPECT_NE(ErrorOf([&] { return quantizer.Quantize(grids); }).find("layer 1, up, row 2, column 5"),
            std::string::npos);
}

TEST_F(LayerQuantizerTest, NamesTheLayerWhoseActivationsAreNotFinite) {
  model.weights.layers[0].mlp_norm[3] = std::numeric_limits<float>::quiet_NaN();
  LayerQuantizer quantizer(model.weights, *device, {}, windows(), test.context);

  const std::string message = ErrorOf([&] { return quantizer.Quantize(grids); });

  EXPECT_NE(message.find("layer 0, gate_up input"), std::string::npos) << message;
}

TEST_F(LayerQuantizerTest, StopsBetweenBatches) {
  std::stop_source stop;
  Context stopping{test.pool, test.log, test.progress, stop.get_token()};
  LayerQuantizer quantizer(model.weights, *device, {}, windows(), stopping);
  stop.request_stop();

  EXPECT_THROW((void)quantizer.Quantize(grids), Stopped);
}

TEST(CheckGroupSize, ListsTheSizesThatDivide) {
  ModelConfig config;
  config.hidden = 576;
  config.intermediate = 1536;
  config.heads = 9;
  config.kv_heads = 3;
  config.head_dim = 64;
  CheckGroupSize(config, 64);
  CheckGroupSize(config, 0);
  const std::string message = ErrorOf([&] {
    CheckGroupSize(config, 128);
    return 0;
  });
  EXPECT_NE(message.find("one of 16, 32, 48, 64, 96, 192, row"), std::string::npos) << message;
}

TEST_F(LayerQuantizerTest, EveryMethodResumesAndIgnoresThreads) {
  std::vector<QuantOptions> all;
  for (const Quantizer& row : Quantizers()) all.push_back({.method = std::string(row.name)});
  all.push_back({.drift = 1, .residual = 0, .rounds = 0});
  // Sixteen windows, so that two of them are held out.
  std::vector<TokenId> many;
  for (Index i = 0; i < 16 * 24; ++i) many.push_back(static_cast<TokenId>((i * i + 5 * i) % 250));
  const View<const TokenId, 2> sixteen(many.data(), 16, 24);
  for (const QuantOptions& options : all) {
    SCOPED_TRACE(options.method);
    LayerQuantizer whole(model.weights, *device, options, sixteen, test.context);
    std::vector<QuantizedLayer> layers;
    for (Index layer = 0; layer < model.weights.config.layers; ++layer) {
      layers.push_back(whole.Quantize(grids));
    }
    TestContext other(5);
    const auto other_device = MakeCpuDevice(other.pool);
    LayerQuantizer resumed(model.weights, *other_device, options, sixteen, other.context);
    resumed.Skip(layers[0]);
    for (std::size_t layer = 1; layer < layers.size(); ++layer) {
      EXPECT_EQ(Codes(resumed.Quantize(grids)), Codes(layers[layer])) << layer;
    }
  }
}

TEST_F(LayerQuantizerTest, RefinementNeverLosesOnTheWindowsHeldOut) {
  std::vector<TokenId> many;
  for (Index i = 0; i < 16 * 24; ++i) many.push_back(static_cast<TokenId>((i * i + 5 * i) % 250));
  LayerQuantizer quantizer(model.weights, *device, {}, {many.data(), 16, 24}, test.context);
  for (Index layer = 0; layer < model.weights.config.layers; ++layer) {
    for (const LinearReport& report : quantizer.Quantize(grids).reports) {
      EXPECT_LE(report.held_out, report.held_out_start);
      EXPECT_LT(report.error, report.start_error);
      EXPECT_GE(report.kept_rows, 0);
      EXPECT_LT(report.kept_rows, 1);
    }
  }
}

}  // namespace
}  // namespace lieq
