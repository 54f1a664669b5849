// Places of a layer's values: what a gradient reads is there when the way back begins.
#include "lieq/model/layer_places.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace lieq {
namespace {

ModelConfig Tiny() {
  ModelConfig config;
  config.layers = 1;
  config.hidden = 40;
  config.intermediate = 72;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 12;
  config.vocab = 270;
  return config;
}

/// Layers whose steps all have gradients.
std::vector<ModelConfig> Layers() {
  std::vector<ModelConfig> all(8, Tiny());
  all[1].qk_norm = true;
  all[2].qk_norm = all[2].late_qk_norm = true;
  all[3].residual_multiplier = 0.5;
  all[3].attention_multiplier = 0.3;
  all[4].fused_qkv = all[4].fused_gate_up = true;
  all[5].shapes = {{.rotates = false}};
  all[6].qk_norm = all[6].whole_qk_norm = true;
  all[7].qk_norm = true;
  all[7].residual_multiplier = 2;
  all[7].shapes = {{.window = 4, .rotates = false}};
  return all;
}

/// Runs the steps on what stands for contents: each change makes new ones.
class Walk {
 public:
  Walk(std::span<const LayerStep> steps, const LayerPlaces& places)
      : steps_(steps), places_(places), contents_(places.places().size(), 0) {
    lies_[LayerValue::kStream] = LayerPlaces::kInput;
  }
  void Run(std::size_t i) {
    const LayerPlaces::Step& step = places_.step(i);
    for (const std::size_t place : step.reads) {
      if (place == LayerPlaces::kNone) continue;
      if (place != LayerPlaces::kInput) {
        EXPECT_TRUE(places_.places()[place].read);
      }
      read_.push_back({place, contents_[place]});
    }
    if (step.writes.empty()) contents_[lies_.at(steps_[i].to)] = ++next_;  // in its place
    for (const auto& [value, place] : step.writes) {
      EXPECT_NE(place, LayerPlaces::kInput);
      contents_[place] = ++next_;
      lies_[value] = place;
    }
  }
  void ExpectAllThere() const {
    for (const auto& [place, contents] : read_) EXPECT_EQ(contents_[place], contents) << place;
  }
  [[nodiscard]] std::size_t at(LayerValue value) const { return lies_.at(value); }
  [[nodiscard]] std::size_t reads() const noexcept { return read_.size(); }

 private:
  std::span<const LayerStep> steps_;
  const LayerPlaces& places_;
  std::vector<int> contents_;
  std::map<LayerValue, std::size_t> lies_;
  std::vector<std::pair<std::size_t, int>> read_;
  int next_ = 0;
};

TEST(LayerPlaces, NoStepChangesWhatAGradientReads) {
  for (const ModelConfig& config : Layers()) {
    const std::vector<LayerStep> steps = StepsOf(config, config.Shape(0));
    for (const bool inputs : {false, true}) {
      const LayerPlaces places(config, config.Shape(0), steps, inputs);
      Walk walk(steps, places);
      std::size_t before_last = 0;
      for (std::size_t i = 0; i < steps.size(); ++i) {
        if (i == places.needed()) before_last = walk.reads();
        walk.Run(i);
      }

      walk.ExpectAllThere();
      EXPECT_EQ(walk.at(LayerValue::kStream), LayerPlaces::kOutput);
      // No step behind the last that is needed reads for its gradient, but the one right there.
      EXPECT_EQ(places.needed() + 1 == steps.size(), inputs);
      EXPECT_GT(walk.reads(), before_last);
      Index elements = 0, widths = 0;
      for (const LayerPlaces::Place& place : places.places()) {
        if (!place.read) continue;
        EXPECT_EQ(LayerPlaces::Elements(place, 7) % 64, 0);
        EXPECT_GE(LayerPlaces::Elements(place, 7), 7 * place.width);
        elements += LayerPlaces::Elements(place, 7);
        widths += place.width;
      }
      EXPECT_EQ(places.Elements(7), elements);
      EXPECT_EQ(places.Elements(64), 64 * widths);
      EXPECT_EQ(places.Elements(0), 0);
    }
  }
}

/// Of Qwen3's layer: what docs/tuning.md says of a token.
TEST(LayerPlaces, HoldEachValueThatIsReadOnce) {
  ModelConfig config = Tiny();
  config.qk_norm = true;
  const LayerPlaces places(config, {}, StepsOf(config, {}), /*inputs=*/true);
  std::map<LayerValue, int> count;
  for (const LayerPlaces::Place& place : places.places()) count[place.value] += place.read;

  EXPECT_EQ(count[LayerValue::kStream], 1) << "behind attention";
  EXPECT_EQ(count[LayerValue::kNormed], 2);
  EXPECT_EQ(count[LayerValue::kQ], 2) << "before its norm, and turned";
  EXPECT_EQ(count[LayerValue::kK], 2);
  EXPECT_EQ(count[LayerValue::kV], 1);
  EXPECT_EQ(count[LayerValue::kMixed], 1);
  EXPECT_EQ(count[LayerValue::kGate], 2) << "the product and its activation";
  EXPECT_EQ(count[LayerValue::kUp], 1);
}

}  // namespace
}  // namespace lieq
