// Gradients of a quantized model's numbers against differences, and what training makes of them.
#include "lieq/tune/tune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/model/forward.h"
#include "lieq/quantize/gptq.h"
#include "lieq/tune/trainer.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr Index kWindows = 3, kLength = 12;

struct Case {
  std::string name, architecture;
  Grid grid;
  bool biases = false;
  std::optional<Grid> embedding = {}, head = {};  // none: floats
  bool tied = true;
  bool scaled = false;  // as Granite scales embeddings and logits
};

Grid Of(int bits, Index group, Offset offset = Offset::kSymmetric) {
  return {.bits = bits, .group_size = group, .offset = offset};
}

/// A tiny float model, the same rounded to nearest, and random windows.
struct Bench {
  explicit Bench(const Case& wanted, int threads = 2) : test(threads) {
    MakeTinyModel(temp.path() / "model", {.architecture = wanted.architecture,
                                          .layers = 2,
                                          .hidden = wanted.grid.k_quant ? 256 : 64,
                                          .intermediate = wanted.grid.k_quant ? 256 : 96,
                                          .heads = wanted.grid.k_quant ? 8 : 4,
                                          .kv_heads = 2,
                                          .head_dim = wanted.grid.k_quant ? 32 : 16,
                                          .vocab = 270,
                                          .tied = wanted.tied,
                                          .attention_bias = wanted.biases,
                                          .mlp_bias = wanted.biases,
                                          .dtype = DType::kF32});
    model = OpenModel(temp.path() / "model");
    if (wanted.scaled) {
      model.weights.config.embedding_multiplier = 3;
      model.weights.config.logits_scaling = 0.5;
    }
    quantized = model.weights;
    const auto rounded = [&](const AnyMatrix& weight, const Grid& grid, float times) {
      Matrix<float> wide(Rows(weight), Cols(weight));
      WidenRows(weight, 0, wide.view());
      for (Index i = 0; i < wide.size(); ++i) wide.data()[i] *= times;
      originals.push_back(std::make_shared<Matrix<float>>(std::move(wide)));
      LinearReport report;
      return std::make_shared<const QMatrix>(
          QuantizeRtn(originals.back()->view(), {}, grid, Clip::kNone, test.context, report));
    };
    for (LayerWeights& layer : quantized.layers) {
      for (Linear& linear : layer.linears) {
        linear.weight = rounded(linear.weight, wanted.grid, 3);  // else nothing is lost
      }
    }
    if (wanted.embedding) {
      quantized.embedding = rounded(model.weights.embedding, *wanted.embedding, 1);
      if (wanted.tied) quantized.head = quantized.embedding;
    }
    if (wanted.head) quantized.head = rounded(model.weights.head, *wanted.head, 1);
    std::size_t next = 0;
    for (LayerWeights& layer : model.weights.layers) {
      for (Linear& linear : layer.linears) {
        linear.weight = View<const float, 2>(originals[next++]->view());
      }
    }
    device = MakeCpuDevice(test.pool, {});
    Rng rng(5);
    ids.resize(Size(2 * kWindows * kLength));
    for (TokenId& id : ids) id = static_cast<TokenId>(rng.Below(270));
  }

  [[nodiscard]] View<const TokenId, 2> tokens() const { return {ids.data(), kWindows, kLength}; }
  [[nodiscard]] View<const TokenId, 2> held_out() const {
    return {ids.data() + kWindows * kLength, kWindows, kLength};
  }
  double Loss(TunedModel& tuned) {
    StageTimes times;
    return AddDivergenceGradients(model.weights, tuned, tokens(), Index{1} << 24, *device,
                                  test.context, times);
  }

  TempFolder temp;
  TestContext test;
  ModelFolder model;
  std::vector<std::shared_ptr<Matrix<float>>> originals;
  Weights quantized;
  std::unique_ptr<Device> device;
  std::vector<TokenId> ids;
};

Case EndsCase(std::string name, std::string architecture, std::optional<Grid> embedding,
              std::optional<Grid> head = {}, bool tied = true, bool scaled = false) {
  const bool k_quant = embedding && embedding->k_quant;
  return {.name = std::move(name),
          .architecture = std::move(architecture),
          .grid = k_quant ? KQuantOfBits(3)->grid : Of(3, 32),
          .embedding = embedding,
          .head = head,
          .tied = tied,
          .scaled = scaled};
}

const Case kCases[] = {
    {"symmetric", "LlamaForCausalLM", Of(2, 32), true},
    {"minima", "Qwen3ForCausalLM", Of(3, 16, Offset::kFloat)},
    {"zeros", "Qwen2ForCausalLM", Of(3, 32, Offset::kInteger)},
    {"half", "LlamaForCausalLM", Of(2, 16, Offset::kHalf)},
    {"row", "LlamaForCausalLM", Of(4, 0)},
    {"q2_k", "LlamaForCausalLM", KQuantOfBits(2)->grid},
    {"q3_k", "Qwen3ForCausalLM", KQuantOfBits(3)->grid},
    EndsCase("tied_ends", "Qwen2ForCausalLM", Of(4, 32)),
    EndsCase("scaled_ends", "LlamaForCausalLM", Of(3, 16), {}, true, true),
    EndsCase("own_head", "LlamaForCausalLM", Of(4, 0), Of(3, 64), false),
    EndsCase("embedding_alone", "Qwen3ForCausalLM", Of(2, 32), {}, false),
    EndsCase("head_alone", "LlamaForCausalLM", {}, Of(4, 16), false),
    EndsCase("q4_k_ends", "LlamaForCausalLM", KQuantOfBits(4)->grid),
};

std::vector<std::shared_ptr<const QMatrix>> MatricesOf(const Weights& weights) {
  std::vector<std::shared_ptr<const QMatrix>> all;
  const auto add = [&](const AnyMatrix& matrix) {
    const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
    if (packed != nullptr) all.push_back(*packed);
  };
  for (const LayerWeights& layer : weights.layers) {
    for (const Linear& linear : layer.linears) add(linear.weight);
  }
  add(weights.embedding);
  if (!weights.config.tied) add(weights.head);
  return all;
}

class GradientsOf : public testing::TestWithParam<Case> {};

/// Each kind of numbers is moved together, some up and some down, as far as rounding lets them.
TEST_P(GradientsOf, NumbersAreDifferencesOfTheLoss) {
  Bench bench(GetParam());
  TunedModel tuned(bench.quantized, DType::kF32);
  (void)bench.Loss(tuned);
  std::vector<std::vector<float>> gradients;
  for (const TunedNumbers& each : tuned.numbers()) gradients.push_back(each.gradient);
  std::size_t moved_arrays = 0;
  for (std::size_t n = 0; n < gradients.size(); ++n) {
    TunedNumbers& numbers = tuned.numbers()[n];
    // Scales have eight bits; what the loss bends by grows with the step.
    const bool coarse = numbers.kind == TunedKind::kScale || numbers.kind == TunedKind::kMinimum;
    const float step = coarse ? 0x1p-6f : 0x1p-9f;
    const auto loss_at = [&](float sign, std::vector<double>& values) {
      for (std::size_t i = 0; i < numbers.u.size(); ++i) {
        // Towards where the loss rises, so that differences do not cancel.
        numbers.u[i] = sign * (gradients[n][i] > 0 ? step : -step);
        values.push_back(static_cast<double>(numbers.Value(i, DType::kF32)));
      }
      tuned.Apply(bench.test.pool);
      const double loss = bench.Loss(tuned);
      std::ranges::fill(numbers.u, 0.0f);
      return loss;
    };
    std::vector<double> above, below;
    const double difference = loss_at(1, above) - loss_at(-1, below);
    double predicted = 0;
    for (std::size_t i = 0; i < numbers.u.size(); ++i) {
      if (numbers.unit[i] == 0) continue;
      predicted += static_cast<double>(gradients[n][i]) * (above[i] - below[i]) /
                   static_cast<double>(numbers.unit[i]);
    }
    EXPECT_NEAR(difference, predicted, 0.03 * std::fabs(predicted) + 2e-5)
        << numbers.name << " of " << GetParam().name;
    moved_arrays += predicted != 0;
  }
  EXPECT_GT(moved_arrays, gradients.size() / 2);
}
INSTANTIATE_TEST_SUITE_P(Cases, GradientsOf, testing::ValuesIn(kCases),
                         [](const auto& each) { return each.param.name; });

/// What a scale's gradient is made of: that of a code is dw * scale, that of its scale, per share
/// of it, the sum of dw * scale * (code - zero).
TEST_P(GradientsOf, CodesAddUpToThoseOfTheirScales) {
  Bench bench(GetParam());
  TunedModel tuned(bench.quantized, DType::kF32,
                   {.codes = true, .reference = &bench.model.weights});
  tuned.Apply(bench.test.pool);
  (void)bench.Loss(tuned);
  const auto matrices = MatricesOf(bench.quantized);
  const std::vector<float>* of_codes = nullptr;
  std::size_t next = 0;
  for (const TunedNumbers& each : tuned.numbers()) {
    if (each.kind == TunedKind::kCode) of_codes = &each.gradient;
    if (each.kind != TunedKind::kScale && each.kind != TunedKind::kSuper) continue;
    const QMatrix& q = *matrices[next++];
    ASSERT_EQ(of_codes->size(), Size(q.rows() * q.cols()));
    const Index span = q.cols() / (static_cast<Index>(each.u.size()) / q.rows());
    std::vector<std::uint8_t> codes(Size(q.cols()));
    for (std::size_t i = 0; i < each.u.size(); ++i) {
      const Index first = static_cast<Index>(i) * span, r = first / q.cols();
      q.GetRow(r, codes);
      double sum = 0, size = 0;
      for (Index c = first % q.cols(), k = 0; k < span; ++k, ++c) {
        const float zero = q.zeros().size() > 0
                               ? static_cast<float>(q.zeros()(r, c / q.group_columns()))
                               : q.grid().shared_zero();
        const double term = static_cast<double>((*of_codes)[Size(first + k)]) *
                            static_cast<double>(static_cast<float>(codes[Size(c)]) - zero);
        sum += term;
        size += std::fabs(term);
      }
      ASSERT_NEAR(each.gradient[i], sum, 1e-5 * size + 1e-12) << each.name;
    }
  }
  EXPECT_EQ(next, matrices.size());
}

std::vector<std::vector<std::uint32_t>> CodesOf(const Weights& weights) {
  std::vector<std::vector<std::uint32_t>> codes;
  for (const auto& matrix : MatricesOf(weights)) {
    const auto words = matrix->words();
    codes.emplace_back(words.begin(), words.end());
  }
  return codes;
}

TEST(Tune, LowersTheDivergenceOfWindowsHeldOutAndMovesNoCode) {
  Bench bench(kCases[0]);
  TunedModel tuned(bench.quantized, DType::kBF16);

  const TuneResult result =
      Tune(bench.model.weights, tuned, bench.tokens(), bench.held_out(),
           {.steps = 12, .batch = 3, .rate = 0.02, .checks = 4}, *bench.device, bench.test.context);

  ASSERT_EQ(result.losses.size(), 12u);
  for (const std::string_view part : {step::kTeacher, step::kForward, step::kHead, step::kBackward,
                                      step::kUpdate, step::kChecks}) {
    const auto found = std::ranges::find(
        result.times.stages(), part, [](const auto& each) { return std::string_view(each.first); });
    ASSERT_NE(found, result.times.stages().end()) << part;
    EXPECT_GT(found->second, 0) << part;
  }
  EXPECT_LT(result.losses.back(), 0.9 * result.losses.front());
  EXPECT_EQ(result.checks.front().step, 0);
  EXPECT_LT(result.after(), result.before());
  EXPECT_EQ(CodesOf(tuned.weights()), CodesOf(bench.quantized));
  bool moved = false;
  for (std::size_t l = 0; l < tuned.weights().layers.size(); ++l) {
    for (const Site site : kAllSites) {
      const auto& was =
          *std::get<std::shared_ptr<const QMatrix>>(bench.quantized.layers[l].At(site).weight);
      const auto& is =
          *std::get<std::shared_ptr<const QMatrix>>(tuned.weights().layers[l].At(site).weight);
      for (Index i = 0; i < is.scales().size(); ++i) {
        const float scale = is.scales().data()[i];
        ASSERT_EQ(scale, RoundScale(scale)) << "as files hold it";
        moved = moved || scale != was.scales().data()[i];
      }
    }
    for (const float norm : tuned.weights().layers[l].mlp_norm) {
      ASSERT_EQ(norm, Stored(norm, DType::kBF16));
    }
  }
  EXPECT_TRUE(moved);
}

/// Both ends of a tied model are one matrix before and after, and each gives it what it should.
TEST(Tune, MovesTheEndsThatAreQuantized) {
  for (const Case& each : kCases) {
    if (!each.embedding && !each.head) continue;
    Bench bench(each);
    TunedModel tuned(bench.quantized, DType::kBF16);

    const TuneResult result = Tune(bench.model.weights, tuned, bench.tokens(), bench.tokens(),
                                   {.steps = 6, .batch = 3, .rate = 0.01, .checks = 3},
                                   *bench.device, bench.test.context);

    EXPECT_LT(result.after(), result.before()) << each.name;
    const Weights &is = tuned.weights(), &was = bench.quantized;
    const auto moved = [](const AnyMatrix& a, const AnyMatrix& b) {
      const auto& codes = *std::get<std::shared_ptr<const QMatrix>>(a);
      const auto& before = *std::get<std::shared_ptr<const QMatrix>>(b);
      Index count = 0;
      for (Index r = 0; r < codes.rows(); ++r) {
        Matrix<float> x(1, codes.cols()), y(1, codes.cols());
        codes.Dequantize(r, x.view());
        before.Dequantize(r, y.view());
        count += !std::ranges::equal(x.view().Row(0), y.view().Row(0));
      }
      return count;
    };
    if (each.embedding) {
      EXPECT_GT(moved(is.embedding, was.embedding), 0) << each.name;
    } else {
      EXPECT_TRUE((std::holds_alternative<View<const float, 2>>(is.embedding)));
    }
    if (each.head) {
      EXPECT_GT(moved(is.head, was.head), 200) << each.name << ": all tokens take part";
    }
    if (each.tied) {
      EXPECT_EQ(std::get<std::shared_ptr<const QMatrix>>(is.head),
                std::get<std::shared_ptr<const QMatrix>>(is.embedding));
    }
    EXPECT_EQ(CodesOf(is), CodesOf(was));
  }
}

TEST(Tune, BeginsWithTheCodesThatWereGiven) {
  for (const Case& each : kCases) {
    Bench bench(each);
    for (const float towards : {0.0f, 0.5f, 1.0f}) {
      TunedModel tuned(bench.quantized, DType::kF32,
                       {.codes = true, .reference = &bench.model.weights, .towards = towards});
      tuned.Apply(bench.test.pool);
      EXPECT_EQ(CodesOf(tuned.weights()), CodesOf(bench.quantized)) << each.name << towards;
      EXPECT_EQ(tuned.moved_codes(bench.test.pool), 0);
      TunedModel by_threads(bench.quantized, DType::kF32,
                            {.codes = true,
                             .reference = &bench.model.weights,
                             .towards = towards,
                             .pool = &bench.test.pool});
      ASSERT_EQ(by_threads.numbers().size(), tuned.numbers().size());
      for (std::size_t i = 0; i < tuned.numbers().size(); ++i) {
        EXPECT_EQ(by_threads.numbers()[i].u, tuned.numbers()[i].u) << tuned.numbers()[i].name;
      }
    }
  }
}

TEST(Tune, OfCodesTooGoesFurther) {
  Bench bench(kCases[0]);
  const auto tune = [&](TunedModel& tuned) {
    return Tune(bench.model.weights, tuned, bench.tokens(), bench.tokens(),
                {.steps = 20, .batch = 3, .rate = 0.01, .code_rate = 0.05, .checks = 4},
                *bench.device, bench.test.context);
  };
  TunedModel scales(bench.quantized, DType::kBF16);
  TunedModel codes(bench.quantized, DType::kBF16,
                   {.codes = true, .reference = &bench.model.weights});
  const double of_scales = tune(scales).after();

  const TuneResult result = tune(codes);

  EXPECT_LT(result.after(), 0.9 * of_scales);
  std::int64_t moved = 0;
  for (std::size_t l = 0; l < bench.quantized.layers.size(); ++l) {
    for (const Site site : kAllSites) {
      const auto matrix = [&](const Weights& weights) {
        return std::get<std::shared_ptr<const QMatrix>>(weights.layers[l].At(site).weight);
      };
      const auto was = matrix(bench.quantized), is = matrix(codes.weights());
      std::vector<std::uint8_t> a(Size(was->cols())), b(a.size());
      for (Index r = 0; r < was->rows(); ++r) {
        was->GetRow(r, a);
        is->GetRow(r, b);
        for (std::size_t c = 0; c < a.size(); ++c) moved += a[c] != b[c];
      }
    }
  }
  EXPECT_GT(moved, 0);
  EXPECT_EQ(result.moved_codes, moved);
}

TEST(Tune, KeepsWhatItBeganWithWhereNothingIsBetter) {
  Bench bench(kCases[3]);
  TunedModel tuned(bench.quantized, DType::kF32, {.codes = true});

  const TuneResult result = Tune(bench.model.weights, tuned, bench.tokens(), bench.held_out(),
                                 {.steps = 2, .batch = 1, .rate = 30, .code_rate = 3, .checks = 2},
                                 *bench.device, bench.test.context);

  EXPECT_EQ(result.kept, 0);
  EXPECT_EQ(result.after(), result.before());
  for (std::size_t l = 0; l < tuned.weights().layers.size(); ++l) {
    EXPECT_EQ(tuned.weights().layers[l].mlp_norm, bench.quantized.layers[l].mlp_norm);
  }
  EXPECT_EQ(CodesOf(tuned.weights()), CodesOf(bench.quantized));
  EXPECT_EQ(result.moved_codes, 0);
}

/// Keeps what is written, and ends the run at one of the writes.
class Memory final : public TuneStore {
 public:
  explicit Memory(int last = -1) : left_(last) {}
  Index Read(std::span<const TunedArray> arrays, TuneResult& result) override {
    if (step_ == 0) return 0;
    EXPECT_EQ(arrays.size(), kept_.size());
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      EXPECT_EQ(arrays[i].bytes.size(), kept_[i].size()) << arrays[i].name;
      std::ranges::copy(kept_[i], arrays[i].bytes.begin());
    }
    result = result_;
    return step_;
  }
  void Write(Index step, std::span<const TunedArray> arrays, const TuneResult& result) override {
    step_ = step;
    result_ = result;
    kept_.clear();
    for (const TunedArray& each : arrays) kept_.emplace_back(each.bytes.begin(), each.bytes.end());
    if (left_-- == 0) throw Stopped();
  }

 private:
  int left_;
  Index step_ = 0;
  TuneResult result_;
  std::vector<std::vector<std::byte>> kept_;
};

TEST(Tune, GoesOnFromWhereItWasStopped) {
  const auto tune = [](TuneStore& store, TuneResult& result) {
    Bench bench(kCases[1]);
    TunedModel tuned(bench.quantized, DType::kBF16, {.codes = true});
    result = Tune(bench.model.weights, tuned, bench.tokens(), bench.held_out(),
                  {.steps = 6, .batch = 2, .rate = 0.02, .code_rate = 0.1, .checks = 3},
                  *bench.device, bench.test.context, &store);
    std::vector<float> all;
    for (const TunedNumbers& each : tuned.numbers()) {
      all.insert(all.end(), each.u.begin(), each.u.end());
    }
    return all;
  };
  Memory whole, stopped(1);
  TuneResult of_whole, of_stopped;
  const std::vector<float> wanted = tune(whole, of_whole);

  EXPECT_THROW((void)tune(stopped, of_stopped), Stopped);
  const std::vector<float> found = tune(stopped, of_stopped);

  EXPECT_EQ(found, wanted);
  EXPECT_EQ(of_stopped.losses, of_whole.losses);
  EXPECT_EQ(of_stopped.checks.size(), of_whole.checks.size());
  EXPECT_EQ(of_stopped.kept, of_whole.kept);
  EXPECT_EQ(of_stopped.moved_codes, of_whole.moved_codes);
}

TEST(Tune, GivesTheSameNumbersForAnyNumberOfThreads) {
  const auto numbers = [](const Case& of, int threads) {
    Bench bench(of, threads);
    TunedModel tuned(bench.quantized, DType::kBF16, {.codes = true});
    (void)Tune(bench.model.weights, tuned, bench.tokens(), bench.held_out(),
               {.steps = 3, .batch = 2, .most_kept = 2 * kLength * 64}, *bench.device,
               bench.test.context);
    std::vector<float> all;
    for (const TunedNumbers& each : tuned.numbers()) {
      all.insert(all.end(), each.u.begin(), each.u.end());
    }
    return all;
  };
  for (const Case& each : {kCases[1], kCases[7], kCases[9]}) {
    EXPECT_EQ(numbers(each, 1), numbers(each, 3)) << each.name;
  }
}

}  // namespace
}  // namespace lieq
