// Every driver on a device that does all that device.h allows: the bytes are the CPU's, and not one
// Sync can be left out.
#include "tests/support/strict_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/device/device_access.h"
#include "lieq/device/device_team.h"
#include "lieq/diagnose/damage.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/diagnose/importance.h"
#include "lieq/evaluate/answers.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/evaluate/divergence.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/evaluate/token_trees.h"
#include "lieq/model/backward.h"
#include "lieq/model/decoder.h"
#include "lieq/model/forward.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/layer_quantizer.h"
#include "lieq/transform/model_transformer.h"
#include "tests/support/device_matrices.h"
#include "tests/support/quantized_model.h"
#include "tests/support/random_matrix.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr Index kWindows = 16, kLength = 24;

/// Numbers as bytes, one after another.
class Bytes {
 public:
  template <class T>
    requires std::is_arithmetic_v<T>
  void Add(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <class T>
  void Add(std::span<T> values) {
    for (const auto value : values) Add(value);
  }
  template <class T>
  void Add(const std::vector<T>& values) {
    Add(std::span<const T>(values));
  }
  template <class T>
  void Add(const std::optional<T>& value) {
    Add(value.value_or(T{-1}));
  }
  void Add(const QMatrix& matrix) {
    Add(matrix.words());
    Add(std::span(matrix.scales().data(), Size(matrix.scales().size())));
  }
  void Add(const QuantizedLayer& layer) {
    for (const auto& matrix : layer.matrices) Add(*matrix);
  }
  [[nodiscard]] const std::string& all() const noexcept { return bytes_; }

 private:
  std::string bytes_;
};

/// What drivers are run on.
struct Bench {
  Bench() {
    const TinyModelOptions options{.architecture = "Qwen2ForCausalLM",
                                   .layers = 2,
                                   .hidden = 64,
                                   .intermediate = 128,
                                   .heads = 2,
                                   .kv_heads = 1};
    MakeTinyModel(folder / "model", options);
    model = OpenModel(folder / "model");
    coarse = RandomQuantizedModel(folder / "coarse", options, {.bits = 2, .group_size = 32});
    for (ModelFolder* each : {&model, &coarse}) {  // layers that are not alike
      each->weights.config.shapes = {{}, {.window = 5, .rotates = false}};
    }
    for (Index i = 0; i < kWindows * kLength; ++i) {
      tokens.push_back(static_cast<TokenId>((i * i + 3 * i) % 250));
    }
    grids.fill({.bits = 2, .group_size = 32});
  }
  [[nodiscard]] View<const TokenId, 2> windows(Index count = kWindows) const {
    return {tokens.data(), count, kLength};
  }

  TempFolder folder;
  ModelFolder model, coarse;
  std::vector<TokenId> tokens;
  std::array<Grid, kSites> grids;
  int runs = 0;
};

void Quantize(Bench& bench, const QuantOptions& options, const DeviceTeam& devices,
              Context& context, Bytes& result) {
  LayerQuantizer quantizer(bench.model.weights, devices, options, bench.windows(), context);
  for (Index layer = 0; layer < 2; ++layer) result.Add(quantizer.Quantize(bench.grids));
}

struct Driver {
  const char* name;
  void (*run)(Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result);
};

const Driver kDrivers[] = {
    {"Evaluate",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       for (const ModelFolder* model : {&bench.model, &bench.coarse}) {
         const PerplexityResult found =
             MeasurePerplexity(model->weights, devices, bench.windows(3), context);
         result.Add(found.perplexity);
         result.Add(found.window_nll);
       }
     }},
    {"EvaluateBatches",  // each window another length than the one before: a batch of its own
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       ScoredText text{.ids = bench.tokens, .bos = {}, .windows = {}, .length = kLength};
       for (Index w = 0; w < kWindows; ++w) text.windows.push_back({w * 20, 20 + w % 2, 0});
       result.Add(MeasurePerplexity(bench.model.weights, devices, text, context).window_nll);
       const auto file = bench.folder / ("states" + std::to_string(bench.runs++));
       const auto states =
           ReferenceStates::Make(bench.model.weights, devices, text,
                                 std::vector<bool>(Size(kWindows), true), "1", file, context);
       result.Add(MeasureDivergence(bench.coarse.weights, bench.model.weights, states, devices,
                                    text, context)
                      .mean_kl);
     }},
    {"Compare",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       const ScoredText text =
           CutScored(bench.tokens, FindConvention("plain"), kLength, 0, 0, {}, "text");
       const auto file = bench.folder / ("states" + std::to_string(bench.runs++));
       const auto states =
           ReferenceStates::Make(bench.model.weights, devices, text,
                                 std::vector<bool>(text.windows.size(), true), "1", file, context);
       const DivergenceResult found = MeasureDivergence(bench.coarse.weights, bench.model.weights,
                                                        states, devices, text, context);
       for (const double value : {found.mean_kl, found.median_kl, found.kl_99, found.largest_kl,
                                  found.same_top, found.top_overlap, found.flips, found.ratio,
                                  found.model.perplexity, found.reference.perplexity}) {
         result.Add(value);
       }
     }},
    {"ScoreSequences",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       std::vector<ScoredSequence> sequences;
       for (const Index length : {9, 5, 12}) {
         sequences.push_back({{bench.tokens.begin(), bench.tokens.begin() + length}, 3});
         sequences.push_back(sequences.back());
         sequences.back().ids.back() = 7;
       }
       const SequenceScores scores =
           ScoreSequences(bench.model.weights, devices, sequences, "scoring", context);
       result.Add(scores.log_likelihoods);
     }},
    {"Diagnose",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       Diagnosis found;
       MeasureSpectra(bench.model.weights, devices.first(), bench.windows(2), {}, context, found);
       MeasurePerplexityDrop(bench.model.weights, devices.first(), bench.windows(2), context, found,
                             1);
       result.Add(found.base_perplexity);
       for (const LayerDiagnosis& layer : found.layers) {
         result.Add(layer.compactness);
         result.Add(layer.top_k_energy);
         result.Add(layer.block_influence);
         result.Add(layer.nll_drop);
         result.Add(layer.site_compactness);
       }
     }},
    {"Importance",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       const Importance found =
           MeasureImportance(bench.model.weights, devices.first(), bench.windows(2), context);
       for (const auto& layer : found.squares) {
         for (const std::vector<double>& squares : layer) result.Add(squares);
       }
     }},
    {"QuantizeInSequence", [](Bench& bench, const DeviceTeam& devices, Context& context,
                              Bytes& result) { Quantize(bench, {}, devices, context, result); }},
    {"QuantizeByGptq",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       Quantize(bench, {.method = "gptq"}, devices, context, result);
     }},
    {"QuantizeShortWindows",
     [](Bench& bench, const DeviceTeam& team, Context& context, Bytes& result) {
       Matrix<TokenId> windows(kWindows, kLength);
       for (Index w = 0; w < kWindows; ++w) {
         for (Index i = 0; i < kLength; ++i) {
           windows(w, i) = i < kLength - w ? bench.windows()(w, i) : kNoToken;
         }
       }
       LayerQuantizer quantizer(bench.model.weights, team, {}, windows.view(), context);
       for (Index layer = 0; layer < 2; ++layer) result.Add(quantizer.Quantize(bench.grids));
     }},
    {"ResumeQuantizing",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       const QuantOptions options{.method = "gptq"};
       LayerQuantizer whole(bench.model.weights, devices, options, bench.windows(), context);
       const QuantizedLayer first = whole.Quantize(bench.grids);
       LayerQuantizer resumed(bench.model.weights, devices, options, bench.windows(), context);
       resumed.Skip(first);
       result.Add(resumed.Quantize(bench.grids));
     }},
    {"Candidates",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       CandidateQuantizer quantizer(bench.model.weights, devices, {}, bench.windows(4), context);
       const std::array grids{Grid{.bits = 2, .group_size = 32}, Grid{.bits = 4, .group_size = 64}};
       for (Index layer = 0; layer < 2; ++layer) {
         for (const QuantizedLayer& candidate : quantizer.Quantize(grids)) result.Add(candidate);
       }
     }},
    {"CandidatesOfSomeLayersTogether",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       CandidateQuantizer quantizer(bench.model.weights, devices, {.method = "gptq"},
                                    bench.windows(7), context);
       const std::vector<Grid> grids{{.bits = 2, .group_size = 32}, {.bits = 4, .group_size = 64}};
       for (Index first = 0; first < 2;) {
         const Index count = std::min<Index>(quantizer.together(), 2 - first);
         std::vector<std::vector<QuantizedLayer>> found(Size(count));
         quantizer.Quantize(std::vector(Size(count), grids),
                            [&](Index layer, std::vector<QuantizedLayer> codes) {
                              found[Size(layer - first)] = std::move(codes);
                            });
         for (const auto& layer : found) {
           for (const QuantizedLayer& candidate : layer) result.Add(candidate);
         }
         first += count;
       }
     }},
    {"Damage",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       const auto add = [&](const Damage& damage) {
         result.Add(damage.window_kl);
         result.Add(damage.window_nll_rise);
       };
       DamageMeter meter(bench.model.weights, devices, bench.windows(3), context, 3 * 8 * 288);
       add(meter.Model(bench.coarse.weights));
       const std::array variants{LayerVariant{0, [&] { return bench.coarse.weights.layers[0]; }},
                                 LayerVariant{1, [&] { return bench.coarse.weights.layers[1]; }}};
       for (const Damage& damage : meter.Variants(bench.model.weights, variants)) add(damage);
     }},
    {"Transform",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       const std::vector<std::string> names{"rotate", "awq"};
       ModelTransformer transformer(bench.model.weights, devices.first(), ResolveTransforms(names),
                                    {.clip = Clip::kNone}, bench.windows(), context);
       for (Index layer = 0; layer < 2; ++layer) {
         const TransformedLayer found = transformer.Next(bench.grids);
         for (const Matrix<float>& w : found.layer.weights) {
           result.Add(std::span(w.data(), Size(w.size())));
         }
       }
     }},
    {"Gradients",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       const OutputSensitivity found = MeasureOutputSensitivity(
           bench.model.weights, devices.first(), bench.windows(2), context);
       for (const auto& layer : found.weights) {
         for (const std::vector<float>& unit : layer) result.Add(unit);
       }
     }},
    {"SavedActivations",
     [](Bench& bench, const DeviceTeam& devices, Context&, Bytes& result) {
       Device& device = devices.first();
       const Weights& weights = bench.model.weights;
       const Index windows = 3, rows = windows * kLength, width = weights.config.hidden;
       Forward forward(weights, device, kLength);
       Backward backward(weights, device, kLength);
       Hidden hidden = forward.Embed(bench.windows(windows));
       const DeviceMatrix middle = device.Alloc(rows, width), end = device.Alloc(rows, width);
       std::array<SavedActivations, 2> saved;
       backward.LayerForward(0, weights.layers[0], hidden.x.view(), kLength, middle.view(),
                             &saved[0]);
       backward.LayerForward(1, weights.layers[1], middle.view(), kLength, end.view(), &saved[1]);
       const DeviceMatrix gradient = device.Alloc(rows, width);
       Hidden last{device.Alloc(rows, width), windows, kLength};
       device.Copy(end.view(), last.x.view());
       backward.Head(last, bench.windows(windows), gradient.view());
       backward.LayerBack(1, weights.layers[1], middle.view(), kLength, saved[1], gradient.view());
       backward.LayerBack(0, weights.layers[0], hidden.x.view(), kLength, saved[0],
                          gradient.view());
       Matrix<float> found(rows, width);
       device.Download(gradient.view(), found.view());
       result.Add(std::span(found.data(), Size(found.size())));
     }},
    {"Answer",
     [](Bench& bench, const DeviceTeam& devices, Context& context, Bytes& result) {
       const std::vector<std::vector<TokenId>> prompts{{1, 2, 3}, {7}, {5, 4}};
       const Index vocab = bench.coarse.weights.config.vocab;
       for (const Answer& answer :
            AnswerPrompts(bench.coarse.weights, devices.first(), prompts, vocab, {}, 4, context)) {
         for (const TokenId token : answer.ids) result.Add(static_cast<double>(token));
       }
     }},
    {"Generate",
     [](Bench& bench, const DeviceTeam& devices, Context&, Bytes& result) {
       for (const ModelFolder* model : {&bench.model, &bench.coarse}) {
         Decoder decoder(model->weights, devices.first(), 2, kLength);
         Matrix<float> logits(2, model->weights.config.vocab);
         for (const Index count : {9, 1, 1, 3}) {
           decoder.Append(bench.windows(2).Cols(decoder.length(), count), logits.view());
           result.Add(std::span(logits.data(), Size(logits.size())));
         }
       }
     }},
};

class Drivers : public testing::TestWithParam<Driver> {
 protected:
  /// What it makes; of an Error, its text.
  std::string Run(const DeviceTeam& devices) {
    Bytes result;
    try {
      GetParam().run(bench, devices, test.context, result);
    } catch (const Error& error) {
      return error.what();
    }
    return result.all();
  }
  TestContext test{2};
  Bench bench;
};

TEST_P(Drivers, GiveTheSameBytesWhereResultsComeLateAndMemoryIsTheDevices) {
  const auto cpu = MakeCpuDevice(test.pool);
  StrictDevice strict(test.pool);

  const std::string expected = Run(*cpu), found = Run(strict);

  EXPECT_GT(expected.size(), 40U);
  EXPECT_TRUE(found == expected);
}

TEST_P(Drivers, NeedEachOfTheirSyncs) {
  StrictDevice counting(test.pool);
  const std::string expected = Run(counting);
  for (int sync = 0; sync < counting.syncs(); ++sync) {
    StrictDevice without(test.pool);
    without.LeaveOut(sync);
    EXPECT_FALSE(Run(without) == expected) << "Sync " << sync << " of " << counting.syncs();
  }
}

/// Strict devices with threads of their own.
struct Several {
  Several(Index count, Index pieces) {
    std::vector<DeviceTeam::Member> members;
    for (Index i = 0; i < count; ++i) {
      pools.push_back(std::make_unique<ThreadPool>(1 + static_cast<int>(i % 2)));
      devices.push_back(std::make_unique<StrictDevice>(*pools.back()));
      members.push_back({*devices.back(), *pools.back()});
    }
    team.emplace(std::move(members), pieces);
  }
  std::vector<std::unique_ptr<ThreadPool>> pools;
  std::vector<std::unique_ptr<StrictDevice>> devices;
  std::optional<DeviceTeam> team;
};

TEST_P(Drivers, GiveTheSameBytesOnSeveralDevicesAsOnOne) {
  for (const Index pieces : {1, 4, 8}) {
    const std::string expected = Run(*Several(1, pieces).team);
    EXPECT_GT(expected.size(), 40U);
    for (const Index devices : {2, 3, 9}) {
      EXPECT_TRUE(Run(*Several(devices, pieces).team) == expected)
          << devices << " devices, " << pieces << " pieces";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Drivers, testing::ValuesIn(kDrivers),
                         [](const auto& test) { return std::string(test.param.name); });

/// What is said beforehand is what is taken, once.
TEST(SavedActivations, TakeTheMemoryThatIsSaidAndOnlyOnce) {
  TestContext test;
  StrictDevice device(test.pool);
  const Bench bench;
  const Weights& weights = bench.model.weights;
  const Index batch = Backward::BatchWindows(kLength);
  Backward backward(weights, device, kLength);
  for (const Index windows : {Index{1}, Index{7}, batch, 2 * batch + 3}) {
    const Index rows = windows * kLength;
    const DeviceMatrix x = device.Alloc(rows, weights.config.hidden),
                       y = device.Alloc(rows, weights.config.hidden);
    device.Upload(RandomMatrix(rows, weights.config.hidden, 1).view(), x.view());
    for (Index layer = 0; layer < 2; ++layer) {
      const auto pass = [&](SavedActivations* saved) {
        const Index before = device.allocated();
        backward.LayerForward(layer, weights.layers[Size(layer)], x.view(), kLength, y.view(),
                              saved);
        return device.allocated() - before;
      };
      (void)pass(nullptr);  // what is the backward pass's own
      SavedActivations saved;
      const Index said = backward.SavedFloats(layer, windows, kLength);
      // Norms of the layer are placed with each pass.
      const Index norms = pass(nullptr);

      EXPECT_EQ(pass(&saved), said + norms) << windows << " windows";
      EXPECT_EQ(saved.floats(), said);
      EXPECT_EQ(pass(&saved), norms) << "the second time";
    }
  }
}

TEST(StrictDevice, LetsNobodyElseTouchItsMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  TestContext test(1);
  StrictDevice device(test.pool);
  const Matrix<float> host = RandomMatrix(2, 3, 1);
  const DeviceMatrix matrix = Uploaded(device, host);
  const volatile float* inside = DeviceAccess::Pointer(matrix.view());

  EXPECT_DEATH((void)*inside, "");
  EXPECT_TRUE(SameBytes(Downloaded(device, matrix), host));
}

TEST(StrictDevice, BringsSumsWithTheSyncAndNotBefore) {
  TestContext test(1);
  StrictDevice device(test.pool);
  const DeviceMatrix x = Uploaded(device, RandomMatrix(1, 3, 1));
  const Matrix<float> values = Downloaded(device, x);
  std::vector<double> sums{1, 2, 3};

  device.ColumnSquares(x.view(), sums);
  device.ColumnSquares(x.view(), sums);
  for (const double sum : sums) EXPECT_TRUE(std::isnan(sum));
  device.Sync();

  for (Index i = 0; i < 3; ++i) {
    const auto value = static_cast<double>(values(0, i));
    EXPECT_DOUBLE_EQ(sums[Size(i)], static_cast<double>(i + 1) + value * value + value * value);
  }
  EXPECT_EQ(device.syncs(), 1);
}

}  // namespace
}  // namespace lieq
