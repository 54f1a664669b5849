#include "lieq/diagnose/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "lieq/device/cpu/cpu_device.h"
#include "lieq/model/forward.h"
#include "tests/diagnose/memory_model.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

Matrix<TokenId> RandomTokens(Index windows, Index length, Index vocab) {
  Rng rng(3);
  Matrix<TokenId> tokens(windows, length);
  for (Index i = 0; i < tokens.size(); ++i) {
    tokens.data()[i] = static_cast<TokenId>(rng.Below(static_cast<std::uint32_t>(vocab)));
  }
  return tokens;
}

Importance Measure(const MemoryModel& model, View<const TokenId, 2> tokens, int threads) {
  ThreadPool pool(threads);
  Log log;
  Progress progress;
  Context context{pool, log, progress, {}};
  const auto device = MakeCpuDevice(pool);
  return MeasureImportance(model.weights, *device, tokens, context);
}

TEST(Importance, IsTheDiagonalOfTheGramMatrixOfEachUnit) {
  const MemoryModel model(MemoryModel::Config(), 1);
  const Matrix<TokenId> tokens = RandomTokens(3, 11, model.weights.config.vocab);
  const Importance found = Measure(model, tokens.view(), 2);
  EXPECT_EQ(found.tokens, 33);
  ASSERT_EQ(found.squares.size(), 3u);

  ThreadPool pool(1);
  const auto device = MakeCpuDevice(pool);
  Forward forward(model.weights, *device, tokens.cols());
  Hidden hidden = forward.Embed(tokens.view());
  for (Index layer = 0; layer < 3; ++layer) {
    forward.Layer(layer, hidden, [&](Unit unit, DeviceView<const float> input) {
      const auto sums = device->calibration()->MakeGram(input.cols());
      device->calibration()->GramUpdate(input, *sums);
      const Matrix<double> gram = sums->Take();
      const auto& squares = found.squares[Size(layer)][static_cast<std::size_t>(unit)];
      ASSERT_EQ(static_cast<Index>(squares.size()), input.cols());
      for (Index i = 0; i < input.cols(); ++i) {
        EXPECT_NEAR(squares[Size(i)], gram(i, i), 1e-5 * gram(i, i) + 1e-12) << Name(unit) << i;
      }
    });
  }
}

TEST(Importance, IsTheSameForAnyNumberOfThreads) {
  const MemoryModel model(MemoryModel::Config(), 2);
  const Matrix<TokenId> tokens = RandomTokens(2, 9, model.weights.config.vocab);
  EXPECT_EQ(Measure(model, tokens.view(), 1).squares, Measure(model, tokens.view(), 5).squares);
}

TEST(Importance, NamesTheChannelThatIsNotFinite) {
  MemoryModel model(MemoryModel::Config(), 2);
  model.At(1, Site::kUp)(7, 0) = std::numeric_limits<float>::infinity();
  const Matrix<TokenId> tokens = RandomTokens(2, 9, model.weights.config.vocab);
  EXPECT_THAT(ErrorOf([&] { (void)Measure(model, tokens.view(), 1); }),
              testing::HasSubstr("layer 1, down, channel 7"));
}

}  // namespace
}  // namespace lieq
