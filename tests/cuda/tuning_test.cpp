// Training on a GPU against the processor's.
#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/device/tuning_ops.h"
#include "lieq/model/backward.h"
#include "lieq/tune/trainer.h"
#include "lieq/tune/tune.h"
#include "tests/cuda/both_devices.h"
#include "tests/support/quantized_model.h"
#include "tests/support/random_qmatrix.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

constexpr Index kWindows = 6, kLength = 40;

class CudaTuning : public BothDevices {
 protected:
  void SetUp() override {
    BothDevices::SetUp();
    if (IsSkipped()) return;
    TinyModelOptions options{.architecture = "Qwen2ForCausalLM",
                             .layers = 2,
                             .hidden = 64,
                             .intermediate = 96,
                             .heads = 2,
                             .kv_heads = 1};
    MakeTinyModel(folder / "model", options);
    model = OpenModel(folder / "model");
    options.tied = false;
    MakeTinyModel(folder / "untied", options);
    untied = OpenModel(folder / "untied");
    for (Index i = 0; i < 2 * kWindows * kLength; ++i) {
      tokens.push_back(static_cast<TokenId>((i * i + 3 * i) % 250));
    }
  }
  /// ends: embedding and head too.
  [[nodiscard]] static Weights Quantized(const ModelFolder& model, const Grid& grid,
                                         bool ends = false) {
    Weights weights = model.weights;
    std::uint64_t seed = 1;
    if (ends) {
      const Grid of_ends{.bits = grid.bits + 1, .group_size = 16};
      const auto random = [&](const AnyMatrix& matrix) {
        return std::make_shared<const QMatrix>(
            RandomQMatrix(Rows(matrix), Cols(matrix), of_ends, 100 + seed++));
      };
      weights.embedding = random(weights.embedding);
      weights.head = weights.config.tied ? weights.embedding : random(weights.head);
    }
    for (LayerWeights& layer : weights.layers) {
      for (Linear& linear : layer.linears) {
        linear.weight = std::make_shared<const QMatrix>(
            RandomQMatrix(Rows(linear.weight), Cols(linear.weight), grid, seed++));
      }
    }
    return weights;
  }
  [[nodiscard]] Weights Quantized(const Grid& grid) const { return Quantized(model, grid); }
  [[nodiscard]] View<const TokenId, 2> windows() const {
    return {tokens.data(), kWindows, kLength};
  }
  [[nodiscard]] View<const TokenId, 2> held_out() const {
    return {tokens.data() + kWindows * kLength, kWindows, kLength};
  }

  TempFolder folder;
  ModelFolder model, untied;
  std::vector<TokenId> tokens;
};

const Grid kGrids[] = {{.bits = 2, .group_size = 32},
                       {.bits = 3, .group_size = 16, .offset = Offset::kFloat},
                       {.bits = 4, .group_size = 32, .offset = Offset::kInteger},
                       {.bits = 2, .group_size = 0, .offset = Offset::kHalf}};

TEST_F(CudaTuning, SumsOfColumnsAgreeWithTheDefinition) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {7, 33}, {900, 64}, {300, 577}}) {
    const Matrix<float> x = RandomMatrix(rows, cols, 1), dy = RandomMatrix(rows, cols, 2);
    std::vector<double> norms(Size(cols), 1.0), plain(Size(cols), 2.0);
    TuningOf(*gpu)->NormSums(Uploaded(*gpu, x).view(), Uploaded(*gpu, dy).view(), 1e-6, norms);
    TuningOf(*gpu)->ColumnSums(Uploaded(*gpu, dy).view(), plain);
    gpu->Sync();
    std::vector<double> of_norm(Size(cols), 1.0), of_plain(Size(cols), 2.0);
    for (Index r = 0; r < rows; ++r) {
      double squares = 0;
      for (const float value : x.view().Row(r)) squares += std::pow(static_cast<double>(value), 2);
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-6);
      for (Index c = 0; c < cols; ++c) {
        of_norm[Size(c)] += static_cast<double>(dy(r, c)) * static_cast<double>(x(r, c)) * inverse;
        of_plain[Size(c)] += static_cast<double>(dy(r, c));
      }
    }
    for (Index c = 0; c < cols; ++c) {
      ASSERT_NEAR(norms[Size(c)], of_norm[Size(c)], 1e-9);
      ASSERT_NEAR(plain[Size(c)], of_plain[Size(c)], 1e-9);
    }
  }
}

/// In the order of rows, as the host adds them: to the bit.
TEST_F(CudaTuning, RowsAreAddedInOrder) {
  for (const auto& [rows, cols, targets] :
       {std::array<Index, 3>{1, 1, 1}, {7, 33, 3}, {900, 64, 270}, {300, 577, 1}}) {
    const Matrix<float> x = RandomMatrix(rows, cols, 1), before = RandomMatrix(targets, cols, 2);
    std::vector<TokenId> to(Size(rows));
    for (Index r = 0; r < rows; ++r) to[Size(r)] = static_cast<TokenId>((r * r + r / 3) % targets);
    const float factor = rows == 7 ? 3.25f : 1;
    const auto sums = gpu->calibration()->MakeCross(targets, cols);
    sums->Set(before.view());

    TuningOf(*gpu)->AddRows(Uploaded(*gpu, x).view(), to, factor, *sums);

    Matrix<float> expected = before.Clone();
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) expected(to[Size(r)], c) += factor * x(r, c);
    }
    ASSERT_TRUE(SameBytes(sums->Host(), expected)) << rows << " rows of " << cols;
  }
}

/// Gradients of embedding and head in one matrix, or in two.
TEST_F(CudaTuning, EndsFallAsOnTheProcessor) {
  for (const ModelFolder* of : {&model, &untied}) {
    for (const bool codes : {false, true}) {
      const Weights weights = Quantized(*of, kGrids[0], /*ends=*/true);
      ASSERT_TRUE(TrainsOn(*gpu, weights));
      const TuneOptions options{
          .steps = 8, .batch = 3, .rate = 0.02, .code_rate = 0.05, .checks = 4};
      TuneResult results[3];
      std::vector<float> scales[3];
      for (const std::size_t i : {0u, 1u, 2u}) {
        TunedModel tuned(weights, DType::kBF16,
                         {.codes = codes, .reference = &of->weights, .on_device = i > 0});
        results[i] = Tune(of->weights, tuned, windows(), held_out(), options, i == 0 ? *cpu : *gpu,
                          test.context);
        for (const TunedMatrix& each : tuned.Matrices()) {
          if (!each.end) continue;
          const auto scale = each.matrix->scales();
          scales[i].insert(scales[i].end(), scale.data(), scale.data() + scale.size());
        }
      }
      EXPECT_NEAR(results[0].losses.front(), results[1].losses.front(),
                  1e-5 * results[0].losses.front());
      EXPECT_NEAR(results[0].after(), results[1].after(), 0.03 * results[0].before());
      EXPECT_LT(results[1].after(), results[1].before());
      EXPECT_EQ(results[1].losses, results[2].losses);
      EXPECT_EQ(scales[1], scales[2]);
      EXPECT_FALSE(scales[1].empty());
      // Most scales go where the processor's go; a step of a gradient near 0 may have either sign.
      std::size_t near = 0;
      for (std::size_t n = 0; n < scales[0].size(); ++n) {
        near += std::fabs(scales[0][n] - scales[1][n]) <= 0.02f * std::fabs(scales[0][n]);
      }
      EXPECT_GT(near, scales[0].size() * 4 / 5);
    }
  }
}

/// Of groups of any size, which several kernels take: by the sum of their squares.
TEST_F(CudaTuning, GradientsOfScalesAreSumsOverTheirGroups) {
  constexpr Index kRows = 7, kCols = 768;
  const Matrix<float> dw = RandomMatrix(kRows, kCols, 1);
  const auto sums = gpu->calibration()->MakeCross(kRows, kCols);
  sums->Set(dw.view());
  std::uint64_t seed = 0;
  for (const int bits : {2, 3, 4, 5, 8}) {
    for (const Index group : {16, 32, 48, 64, 96, 128, 256, 0}) {
      for (const Offset offset : kAllOffsets) {
        const auto q = std::make_shared<const QMatrix>(RandomQMatrix(
            kRows, kCols, {.bits = bits, .group_size = group, .offset = offset}, ++seed));
        const std::vector<TrainedStart> starts{{q, /*codes=*/seed % 2 == 0}};
        const auto trained = TuningOf(*gpu)->Train(starts);

        trained->AddGradient(0, *sums);

        double squares = 0;
        std::vector<std::uint8_t> codes(Size(kCols));
        for (Index r = 0; r < kRows; ++r) {
          q->GetRow(r, codes);
          for (Index g = 0; g < kCols / q->group_columns(); ++g) {
            const double scale = static_cast<double>(q->scales()(r, g));
            const double zero = q->zeros().size() > 0
                                    ? static_cast<double>(q->zeros()(r, g))
                                    : static_cast<double>(q->grid().shared_zero());
            double of_codes = 0, of_ones = 0;
            for (Index c = g * q->group_columns(); c < (g + 1) * q->group_columns(); ++c) {
              const double d = static_cast<double>(dw(r, c));
              of_codes += d * (static_cast<double>(codes[Size(c)]) - zero);
              of_ones += d;
              if (starts[0].codes) squares += d * scale * d * scale;
            }
            squares += std::pow(scale * of_codes, 2);
            if (q->minima().size() > 0) squares += std::pow(scale * of_ones, 2);
          }
        }
        ASSERT_NEAR(trained->GradientSquares(), squares, 1e-5 * squares)
            << bits << " bits in groups of " << group;
      }
    }
  }
}

/// What the device rounds is what the host makes of the same numbers, to the bit.
TEST_F(CudaTuning, NumbersAreRoundedAsTheHostRoundsThem) {
  for (const Grid& grid : kGrids) {
    const Weights weights = Quantized(grid);
    TunedModel tuned(weights, DType::kF32, {.codes = true, .reference = &model.weights});
    const std::vector<TunedMatrix> matrices = tuned.Matrices();
    std::vector<TrainedStart> starts;
    for (const TunedMatrix& each : matrices) starts.push_back({each.matrix, true});
    const auto trained = TuningOf(*gpu)->Train(starts);
    std::vector<std::array<std::vector<float>, 3>> u(matrices.size());
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const Index at = static_cast<Index>(i);
      trained->Write(
          at, {.scale = {}, .minimum = {}, .code = {.u = tuned.numbers()[matrices[i].code].u}});
      const auto dw =
          gpu->calibration()->MakeCross(matrices[i].matrix->rows(), matrices[i].matrix->cols());
      dw->Set(RandomMatrix(dw->rows(), dw->cols(), i + 1).view());
      trained->AddGradient(at, *dw);
    }
    for (TunedNumbers& each : tuned.numbers()) std::ranges::fill(each.gradient, 0.0f);
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const Matrix<float> dw =
          RandomMatrix(matrices[i].matrix->rows(), matrices[i].matrix->cols(), i + 1);
      tuned.AddMatrixGradient(matrices[i].layer, matrices[i].site, dw.view(), test.pool);
    }
    const double squares = SquaresOf(tuned.numbers(), test.pool);
    EXPECT_NEAR(trained->GradientSquares(), squares, 1e-5 * squares);
    Adam adam(tuned.numbers());
    for (Index step = 1; step <= 3; ++step) {
      const AdamSteps steps{Adam::Next(0.05, 1, step), Adam::Next(0.3, 1, step)};
      trained->Step(steps.numbers, steps.codes);
      adam.Step(tuned.numbers(), steps, test.pool);
      tuned.Apply(test.pool);
      for (TunedNumbers& each : tuned.numbers()) std::ranges::fill(each.gradient, 0.0f);
      for (std::size_t i = 0; i < matrices.size(); ++i) {
        const TunedMatrix& matrix = matrices[i];
        const auto compare = [&](std::size_t number, auto part) {
          if (number == TunedMatrix::kNone) return;
          std::vector<float> found(tuned.numbers()[number].u.size());
          TrainedArrays<float, std::uint32_t> to;
          (to.*part).u = found;
          trained->Read(static_cast<Index>(i), to);
          for (std::size_t n = 0; n < found.size(); ++n) {
            ASSERT_NEAR(found[n], tuned.numbers()[number].u[n], 2e-4)
                << tuned.numbers()[number].name;
          }
          tuned.numbers()[number].u = found;  // small differences do not add up
        };
        using Arrays = TrainedArrays<float, std::uint32_t>;
        compare(matrix.scale, &Arrays::scale);
        compare(matrix.minimum, &Arrays::minimum);
        compare(matrix.code, &Arrays::code);
      }
      tuned.Apply(test.pool);
      for (std::size_t i = 0; i < matrices.size(); ++i) {
        const auto& q = *std::get<std::shared_ptr<const QMatrix>>(
            tuned.weights().layers[Size(matrices[i].layer)].At(matrices[i].site).weight);
        Matrix<float> expected(q.rows(), q.cols());
        q.Dequantize(0, expected.view());
        std::vector<TokenId> rows(Size(q.rows()));
        for (std::size_t r = 0; r < rows.size(); ++r) rows[r] = static_cast<TokenId>(r);
        const DeviceMatrix on = gpu->Alloc(q.rows(), q.cols());
        gpu->EmbedRows(*trained->matrix(static_cast<Index>(i)), rows, on.view());
        ASSERT_TRUE(SameBytes(Downloaded(*gpu, on), expected)) << q.grid().bits << " bits";
      }
    }
  }
}

TEST_F(CudaTuning, FallsAsTheProcessorsDoesAndIsTheSameBytesEachTime) {
  for (const Grid& grid : kGrids) {
    for (const bool codes : {false, true}) {
      const Weights weights = Quantized(grid);
      ASSERT_TRUE(TrainsOn(*gpu, weights));
      const TuneOptions options{
          .steps = 8, .batch = 3, .rate = 0.02, .code_rate = 0.05, .checks = 4};
      TuneResult results[3];
      std::vector<std::uint32_t> words[3];
      for (const std::size_t i : {0u, 1u, 2u}) {
        TunedModel tuned(weights, DType::kBF16,
                         {.codes = codes, .reference = &model.weights, .on_device = i > 0});
        results[i] = Tune(model.weights, tuned, windows(), held_out(), options,
                          i == 0 ? *cpu : *gpu, test.context);
        for (const TunedMatrix& each : tuned.Matrices()) {
          const auto& q = *std::get<std::shared_ptr<const QMatrix>>(
              tuned.weights().layers[Size(each.layer)].At(each.site).weight);
          words[i].insert(words[i].end(), q.words().begin(), q.words().end());
        }
      }
      EXPECT_NEAR(results[0].losses.front(), results[1].losses.front(), 1e-5);
      EXPECT_NEAR(results[0].after(), results[1].after(), 0.03 * results[0].before());
      EXPECT_EQ(results[1].losses, results[2].losses);
      EXPECT_EQ(results[1].after(), results[2].after());
      EXPECT_EQ(words[1], words[2]);
      // What was measured of the device's state is what the host has of it.
      EXPECT_EQ(results[1].moved_codes == 0, words[1] == words[0] || !codes);
    }
  }
}

/// What training makes of a model, and what it said of the activations that it held.
struct Trained {
  TuneResult result;
  std::vector<std::byte> numbers;
  std::string said;
};

Trained TrainedOn(Device& device, ThreadPool& pool, const Weights& reference,
                  const Weights& weights, View<const TokenId, 2> windows,
                  const TuneOptions& options) {
  Trained trained;
  const Log log([&](LogLevel, std::string_view text) { trained.said += text; });
  Progress progress;
  Context context{pool, log, progress, {}};
  TunedModel tuned(weights, DType::kBF16,
                   {.codes = true, .reference = &reference, .on_device = true});
  trained.result = Tune(reference, tuned, windows, windows.Rows(0, 2), options, device, context);
  for (const TunedArray& each : tuned.Arrays()) {
    trained.numbers.insert(trained.numbers.end(), each.bytes.begin(), each.bytes.end());
  }
  return trained;
}

/// All activations held, some and none, and none for want of memory; one batch of a layer, and two.
TEST_F(CudaTuning, NothingDependsOnTheActivationsThatAreHeld) {
  const Index many = kGradientRows / kLength + 9;
  Matrix<TokenId> text(many, kLength);
  for (Index i = 0; i < text.size(); ++i) {
    text.data()[i] = static_cast<TokenId>((i * i + 5 * i) % 250);
  }
  const View<const TokenId, 2> windows = std::as_const(text).view();
  const Weights weights = Quantized(kGrids[0]);
  for (const Arithmetic arithmetic : {Arithmetic::kFloat32, Arithmetic::kBf16}) {
    const auto device = MakeCudaDevice(test.pool, {.arithmetic = arithmetic});
    for (const Index batch : {Index{3}, many}) {
      TuneOptions options{.steps = 3, .batch = batch, .rate = 0.02, .code_rate = 0.05, .checks = 1};
      const Index of_layer =
          Backward(weights, *device, kLength).SavedFloats(1, batch, kLength) * Index{sizeof(float)};
      const Trained all = TrainedOn(*device, test.pool, model.weights, weights, windows, options);
      EXPECT_NE(all.said.find("activations of 2 of 2 layers"), std::string::npos) << all.said;
      for (const auto& [most, layers] : {std::pair<Index, int>{of_layer, 1}, {of_layer - 1, 0}}) {
        options.most_saved = most;

        const Trained found =
            TrainedOn(*device, test.pool, model.weights, weights, windows, options);

        const std::string expected = "activations of " + std::to_string(layers) + " of 2 layers";
        EXPECT_NE(found.said.find(expected), std::string::npos) << found.said;
        EXPECT_EQ(found.result.losses, all.result.losses);
        EXPECT_EQ(found.result.after(), all.result.after());
        EXPECT_TRUE(found.numbers == all.numbers);
      }
      const auto small =
          MakeCudaDevice(test.pool, {.arithmetic = arithmetic, .memory_bytes = Index{1} << 30});
      options.most_saved = std::numeric_limits<Index>::max();
      const Trained bounded =
          TrainedOn(*small, test.pool, model.weights, weights, windows, options);
      EXPECT_NE(bounded.said.find("activations of 0 of 2 layers"), std::string::npos)
          << bounded.said;
      EXPECT_EQ(bounded.result.losses, all.result.losses);
      EXPECT_TRUE(bounded.numbers == all.numbers);
      EXPECT_LE(small->peak_memory(), Index{1} << 30);
    }
  }
}

/// Keeps what is written, and ends the run where it is written first.
class Memory final : public TuneStore {
 public:
  Index Read(std::span<const TunedArray> arrays, TuneResult& result) override {
    if (step_ == 0) return 0;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      std::ranges::copy(kept_.at(i), arrays[i].bytes.begin());
    }
    result = result_;
    return step_;
  }
  void Write(Index step, std::span<const TunedArray> arrays, const TuneResult& result) override {
    step_ = step;
    result_ = result;
    for (const TunedArray& each : arrays) kept_.emplace_back(each.bytes.begin(), each.bytes.end());
  }

 private:
  Index step_ = 0;
  TuneResult result_;
  std::vector<std::vector<std::byte>> kept_;
};

/// Asks for a stop after some steps.
class StopAfter final : public Progress {
 public:
  explicit StopAfter(Index steps) : steps_(steps) {}
  void Update(Index done, std::string_view) override {
    if (done == steps_) source.request_stop();
  }
  std::stop_source source;

 private:
  Index steps_;
};

TEST_F(CudaTuning, GoesOnFromWhereItWasStopped) {
  const Weights weights = Quantized(kGrids[1]);
  const TuneOptions options{.steps = 6, .batch = 2, .rate = 0.02, .code_rate = 0.1, .checks = 3};
  const TunedParts parts{.codes = true, .reference = &model.weights, .on_device = true};
  TunedModel whole(weights, DType::kBF16, parts);
  const TuneResult expected =
      Tune(model.weights, whole, windows(), held_out(), options, *gpu, test.context);
  Memory store;
  StopAfter progress(3);
  Context stopped{test.pool, test.log, progress, progress.source.get_token()};
  {
    TunedModel first(weights, DType::kBF16, parts);
    EXPECT_THROW(Tune(model.weights, first, windows(), held_out(), options, *gpu, stopped, &store),
                 Stopped);
  }
  TunedModel second(weights, DType::kBF16, parts);

  const TuneResult found =
      Tune(model.weights, second, windows(), held_out(), options, *gpu, test.context, &store);

  EXPECT_EQ(found.losses, expected.losses);
  EXPECT_EQ(found.kept, expected.kept);
  EXPECT_EQ(found.after(), expected.after());
  EXPECT_EQ(found.moved_codes, expected.moved_codes);
}

}  // namespace
}  // namespace lieq
