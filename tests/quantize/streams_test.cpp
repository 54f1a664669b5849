// The streams of calibration against the pass forward: one table of steps, walked in two ways.
#include "lieq/quantize/streams.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/quantize/stream_plan.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr Index kWindows = 5, kLength = 700;  // three batches, the last one smaller

/// One layer of all windows: what the units read, and the stream behind it. Row after row.
struct Passed {
  std::array<std::vector<float>, kUnits> inputs;
  std::vector<float> after;
  bool operator==(const Passed&) const = default;
};

class StreamsTest : public testing::Test {
 protected:
  StreamsTest() {
    MakeTinyModel(folder / "model",
                  {.hidden = 32, .intermediate = 48, .heads = 2, .kv_heads = 1, .head_dim = 8});
    model = OpenModel(folder / "model");
    model.weights.config.shapes = {{}, {.window = 9}, {.rotates = false}};
    forward.emplace(model.weights, *device, kLength);
    Rng rng(3);
    for (Index i = 0; i < tokens.size(); ++i) {
      tokens.data()[i] = static_cast<TokenId>(rng.Below(256));
    }
  }

  void Add(DeviceView<const float> rows, std::vector<float>& to) {
    Matrix<float> host(rows.rows(), rows.cols());
    device->Download(rows, host.view());
    to.insert(to.end(), host.data(), host.data() + host.size());
  }

  std::vector<Passed> ByForward() {
    std::vector<Passed> layers;
    Hidden hidden = forward->Embed(tokens.view());
    for (Index layer = 0; layer < model.weights.config.layers; ++layer) {
      Passed& passed = layers.emplace_back();
      forward->Layer(layer, hidden, [&](Unit unit, DeviceView<const float> input) {
        Add(input, passed.inputs[static_cast<std::size_t>(unit)]);
      });
      Add(hidden.x.view(), passed.after);
    }
    return layers;
  }

  ActivationStream Stream(bool at_once, Index most_kept, bool keeps_mixed = true) {
    return {
        model.weights.config, *device, *forward, forward->Embed(tokens.view()), at_once, most_kept,
        keeps_mixed};
  }

  template <class Function>
  void ForBatches(const Function& batch) {
    const Index most = forward->BatchWindows(kLength) * kLength, rows = kWindows * kLength;
    for (Index first = 0; first < rows; first += most) batch(first, std::min(most, rows - first));
  }

  std::vector<Passed> ByUnits(bool at_once, Index most_kept, bool keeps_mixed = true) {
    std::vector<Passed> layers;
    ActivationStream stream = Stream(at_once, most_kept, keeps_mixed);
    for (Index layer = 0; layer < model.weights.config.layers; ++layer) {
      Passed& passed = layers.emplace_back();
      stream.SetLayer(layer, Place(model.weights.layers[Size(layer)], *device));
      for (const Unit unit : kAllUnits) {
        ForBatches([&](Index first, Index rows) {
          Add(stream.Input(unit, first, rows), passed.inputs[static_cast<std::size_t>(unit)]);
          if (at_once && unit == Unit::kDown) stream.Finish(first, rows);
        });
      }
      if (!at_once) ForBatches([&](Index first, Index rows) { stream.Finish(first, rows); });
      Add(stream.residual(0, stream.rows()), passed.after);
    }
    return layers;
  }

  TempFolder folder;
  ModelFolder model;
  Matrix<TokenId> tokens{kWindows, kLength};
  TestContext test;
  std::unique_ptr<Device> device = MakeCpuDevice(test.pool);
  std::optional<Forward> forward;
};

TEST_F(StreamsTest, GiveWhatThePassForwardGivesWhateverIsKept) {
  const std::vector<Passed> expected = ByForward();

  EXPECT_EQ(ByUnits(/*at_once=*/false, kMostKeptFloats), expected);
  EXPECT_EQ(ByUnits(/*at_once=*/false, /*most_kept=*/0), expected);
  EXPECT_EQ(ByUnits(/*at_once=*/true, kMostKeptFloats), expected);
  for (const bool at_once : {false, true}) {
    EXPECT_EQ(ByUnits(at_once, /*most_kept=*/0, /*keeps_mixed=*/false), expected);
  }
}

TEST_F(StreamsTest, PassALayerAtOnce) {
  const std::vector<Passed> expected = ByForward();
  for (const bool at_once : {false, true}) {
    ActivationStream stream = Stream(at_once, kMostKeptFloats);
    for (Index layer = 0; layer < model.weights.config.layers; ++layer) {
      stream.SetLayer(layer, Place(model.weights.layers[Size(layer)], *device));
      ForBatches([&](Index first, Index rows) { stream.Pass(first, rows); });
      std::vector<float> after;
      Add(stream.residual(0, stream.rows()), after);
      EXPECT_EQ(after, expected[Size(layer)].after) << "layer " << layer;
    }
  }
}

TEST_F(StreamsTest, GoOnWithALinearThatWasReplaced) {
  Weights other = model.weights;
  other.layers[1].At(Site::kO) = other.layers[0].At(Site::kO);
  std::vector<float> expected;
  Forward with_other(other, *device, kLength);
  Hidden hidden = with_other.Embed(tokens.view());
  with_other.Layer(1, hidden);
  Add(hidden.x.view(), expected);

  ActivationStream stream = Stream(/*at_once=*/false, kMostKeptFloats);
  stream.SetLayer(1, Place(model.weights.layers[1], *device));
  for (const Unit unit : kAllUnits) {
    ForBatches([&](Index first, Index rows) { (void)stream.Input(unit, first, rows); });
    if (unit == Unit::kO) stream.Replace(Site::kO, other.layers[1].At(Site::kO));
  }
  ForBatches([&](Index first, Index rows) { stream.Finish(first, rows); });
  std::vector<float> found;
  Add(stream.residual(0, stream.rows()), found);

  EXPECT_EQ(found, expected);
}

TEST(StreamPlan, KeepsLessTheLowerTheBoundAndSaysWhatWouldDo) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {});
  const ModelFolder model = OpenModel(folder / "model");
  const Weights& weights = model.weights;
  constexpr Index kRows = Index{1} << 24, kBatch = 2048;
  for (const char* method : {"gptq", "best"}) {
    const QuantOptions options = WithDefaults({.method = method});
    const bool two = options.corrects();
    const StreamPlan free = PlanStreams(weights, options, kRows, kBatch, 0);
    EXPECT_TRUE(free.keeps_mixed && !free.reference_outside && !free.quantized_outside);
    EXPECT_EQ(free.bytes, 0);
    // Bounds fall by a twentieth until nothing fits: never is more kept than before.
    int outside = 0;
    bool mixed = true;
    Index bound = Index{1} << 40;
    std::string refused;
    while (refused.empty()) {
      try {
        const StreamPlan plan = PlanStreams(weights, options, kRows, kBatch, bound);
        EXPECT_LE(plan.bytes, static_cast<double>(bound));
        const int now = (plan.reference_outside ? 1 : 0) + (plan.quantized_outside ? 1 : 0);
        EXPECT_GE(now, outside);
        EXPECT_LE(plan.keeps_mixed, mixed);
        EXPECT_EQ(plan.reference_outside && !two, false);
        outside = now;
        mixed = plan.keeps_mixed;
      } catch (const Error& error) {
        refused = error.problem().expected;
      }
      bound = bound / 20 * 19;
    }
    EXPECT_EQ(outside, two ? 2 : 1);
    EXPECT_FALSE(mixed);
    EXPECT_EQ(refused.rfind("about ", 0), 0u) << refused;
  }
}

}  // namespace
}  // namespace lieq
