// What stands behind the last token of a window enters nothing that drivers add up.
#include "lieq/model/padding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/diagnose/importance.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/ends.h"
#include "lieq/quantize/layer_quantizer.h"
#include "lieq/transform/model_transformer.h"
#include "tests/support/device_matrices.h"
#include "tests/support/error_of.h"
#include "tests/support/random_matrix.h"
#include "tests/support/strict_device.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

/// Windows [count, length] of which window w has the first lengths[w] tokens; `rest` behind them.
Matrix<TokenId> MakeWindows(std::span<const Index> lengths, Index length, TokenId rest = kNoToken) {
  Matrix<TokenId> windows(static_cast<Index>(lengths.size()), length);
  for (Index w = 0; w < windows.rows(); ++w) {
    for (Index i = 0; i < length; ++i) {
      const Index drawn = w * 24 + i;
      windows(w, i) =
          i < lengths[Size(w)] ? static_cast<TokenId>((drawn * drawn + 3 * drawn) % 250) : rest;
    }
  }
  return windows;
}

TEST(Padding, ClearsRowsBehindTheLastTokenWhateverTheyHold) {
  TestContext test(1);
  const auto device = MakeCpuDevice(test.pool);
  const std::vector<Index> lengths{3, 5, 0, 1, 5};
  const Matrix<TokenId> windows = MakeWindows(lengths, 5);
  const Padding padding(windows.view());
  EXPECT_EQ(padding.rows(), 2 + 5 + 4);

  for (const Index first : {0, 2, 4, 9, 11, 24}) {
    for (const Index count : {1, 5, 13, 25}) {
      if (first + count > 25) continue;
      Matrix<float> x = RandomMatrix(count, 7, 1);
      const Matrix<float> before = x.Clone();
      x(count - 1, 3) = std::numeric_limits<float>::quiet_NaN();
      const DeviceMatrix placed = Uploaded(*device, x);

      padding.Clear(*device, placed.view(), first);

      const Matrix<float> found = Downloaded(*device, placed);
      for (Index r = 0; r < count; ++r) {
        const bool token = (first + r) % 5 < lengths[Size((first + r) / 5)];
        for (Index c = 0; c < 7; ++c) {
          if (token && r == count - 1 && c == 3) {
            EXPECT_TRUE(std::isnan(found(r, c)));
          } else {
            EXPECT_EQ(found(r, c), token ? before(r, c) : 0.0f) << first << ' ' << r << ' ' << c;
          }
        }
      }
    }
  }
}

TEST(Padding, OfManyRowsIsClearedInParts) {
  TestContext test(1);
  const auto device = MakeCpuDevice(test.pool);
  const std::vector<Index> lengths{1, 2};
  const DeviceMatrix placed = Uploaded(*device, RandomMatrix(2 * 200, 3, 1));
  Padding(MakeWindows(lengths, 200).view()).Clear(*device, placed.view(), 0);

  const Matrix<float> found = Downloaded(*device, placed);
  for (Index r = 0; r < found.rows(); ++r) {
    EXPECT_EQ(found(r, 1) == 0, r != 0 && r != 200 && r != 201) << r;
  }
}

/// What drivers make of windows.
class PaddedWindows : public testing::Test {
 protected:
  PaddedWindows() {
    MakeTinyModel(folder / "model", {.architecture = "Qwen2ForCausalLM",
                                     .layers = 2,
                                     .hidden = 64,
                                     .intermediate = 128,
                                     .heads = 2,
                                     .kv_heads = 1});
    model = OpenModel(folder / "model");
    grids.fill({.bits = 2, .group_size = 32});
    for (Index w = 0; w < 16; ++w) mixed.push_back(w == 4 ? 1 : 24 - w);
  }

  [[nodiscard]] std::vector<std::uint8_t> Codes(const QuantizedLayer& layer) const {
    std::vector<std::uint8_t> codes;
    for (const auto& matrix : layer.matrices) {
      std::vector<std::uint8_t> row(Size(matrix->cols()));
      for (Index r = 0; r < matrix->rows(); ++r) {
        matrix->GetRow(r, row);
        codes.insert(codes.end(), row.begin(), row.end());
      }
    }
    return codes;
  }
  [[nodiscard]] std::vector<std::uint8_t> Quantized(Device& device, const QuantOptions& options,
                                                    const Matrix<TokenId>& windows) {
    LayerQuantizer quantizer(model.weights, device, options, windows.view(), test.context);
    std::vector<std::uint8_t> codes;
    for (Index layer = 0; layer < 2; ++layer) {
      const auto of_layer = Codes(quantizer.Quantize(grids));
      codes.insert(codes.end(), of_layer.begin(), of_layer.end());
    }
    return codes;
  }

  TestContext test{2};
  TempFolder folder;
  ModelFolder model;
  std::array<Grid, kSites> grids;
  const std::vector<Index> full = std::vector<Index>(16, 24);
  std::vector<Index> mixed;  // lengths of windows
};

/// The share of codes in which two results differ.
double Apart(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  Index differ = 0;
  for (std::size_t i = 0; i < a.size(); ++i) differ += a[i] != b[i] ? 1 : 0;
  return static_cast<double>(differ) / static_cast<double>(a.size());
}

TEST_F(PaddedWindows, AreQuantizedOnAsTheirTokensAlone) {
  const auto device = MakeCpuDevice(test.pool);
  for (const QuantOptions& options : {QuantOptions{.method = "gptq"}, QuantOptions{}}) {
    const auto made = [&](const std::vector<Index>& lengths, Index length,
                          TokenId rest = kNoToken) {
      return Quantized(*device, options, MakeWindows(lengths, length, rest));
    };
    const auto alone = made(full, 24);

    // Sums over more rows have their adds in another order, which moves single codes. Two windows
    // are held out: of up to 31 rows each they are judged by tokens, as those of 24 are.
    constexpr double kMost = 0.03;
    EXPECT_LE(Apart(made(full, 30), alone), kMost) << options.method;
    EXPECT_LE(Apart(made(mixed, 31), made(mixed, 24)), kMost) << options.method;
    EXPECT_GT(Apart(made(full, 40, 0), alone), 0.05) << options.method << ": tokens would count";
  }
}

TEST_F(PaddedWindows, GiveTheSameOnADeviceWhoseMemoryIsItsOwn) {
  const auto cpu = MakeCpuDevice(test.pool);
  StrictDevice strict(test.pool);

  EXPECT_EQ(Quantized(strict, {}, MakeWindows(mixed, 24)),
            Quantized(*cpu, {}, MakeWindows(mixed, 24)));
}

TEST_F(PaddedWindows, MakeTheCandidatesOfTheirTokensAlone) {
  const auto device = MakeCpuDevice(test.pool);
  const auto made = [&](const Matrix<TokenId>& windows) {
    CandidateQuantizer quantizer(model.weights, *device, {}, windows.view(), test.context);
    const std::array wanted{Grid{.bits = 2, .group_size = 32}};
    (void)quantizer.Quantize(wanted);
    return Codes(quantizer.Quantize(wanted).front());
  };

  EXPECT_EQ(made(MakeWindows(full, 40)), made(MakeWindows(full, 24)));
  EXPECT_EQ(made(MakeWindows(mixed, 40)), made(MakeWindows(mixed, 24)));
  EXPECT_NE(made(MakeWindows(mixed, 40)), made(MakeWindows(mixed, 40, 0)));
}

TEST_F(PaddedWindows, AreTransformedByTheirTokensAlone) {
  const auto device = MakeCpuDevice(test.pool);
  const auto made = [&](const Matrix<TokenId>& windows) {
    const std::vector<std::string> names{"awq"};
    ModelTransformer transformer(model.weights, *device, ResolveTransforms(names),
                                 {.clip = Clip::kNone}, windows.view(), test.context);
    std::vector<float> values;
    for (Index layer = 0; layer < 2; ++layer) {
      const TransformedLayer transformed = transformer.Next(grids);
      for (const Matrix<float>& w : transformed.layer.weights) {
        values.insert(values.end(), w.data(), w.data() + w.size());
      }
    }
    return values;
  };
  const std::vector<float> alone = made(MakeWindows(full, 24)),
                           padded = made(MakeWindows(full, 40));

  ASSERT_EQ(padded.size(), alone.size());
  for (std::size_t i = 0; i < alone.size(); ++i) {
    ASSERT_NEAR(padded[i], alone[i], 1e-6 * std::fabs(static_cast<double>(alone[i]))) << i;
  }
  EXPECT_NE(made(MakeWindows(full, 40, 0)), alone);
}

TEST_F(PaddedWindows, AddUpToTheImportanceOfEachAlone) {
  const auto device = MakeCpuDevice(test.pool);
  const auto measured = [&](const Matrix<TokenId>& windows) {
    return MeasureImportance(model.weights, *device, windows.view(), test.context);
  };
  const Importance all = measured(MakeWindows(mixed, 24));
  Importance sum;
  for (std::size_t w = 0; w < mixed.size(); ++w) {
    const Matrix<TokenId> windows = MakeWindows(mixed, 24);
    Matrix<TokenId> one(1, mixed[w]);
    std::copy_n(windows.view().Row(static_cast<Index>(w)).begin(), one.cols(), one.data());
    const Importance of_one = measured(one);
    sum.tokens += of_one.tokens;
    if (sum.squares.empty()) {
      sum.squares = of_one.squares;
      continue;
    }
    for (std::size_t layer = 0; layer < sum.squares.size(); ++layer) {
      for (std::size_t unit = 0; unit < kUnits; ++unit) {
        for (std::size_t i = 0; i < sum.squares[layer][unit].size(); ++i) {
          sum.squares[layer][unit][i] += of_one.squares[layer][unit][i];
        }
      }
    }
  }

  EXPECT_EQ(all.tokens, sum.tokens);
  for (std::size_t layer = 0; layer < sum.squares.size(); ++layer) {
    for (std::size_t unit = 0; unit < kUnits; ++unit) {
      for (std::size_t i = 0; i < sum.squares[layer][unit].size(); ++i) {
        const double expected = sum.squares[layer][unit][i];
        // Products of few rows add in another order than those of many: float, 1e-7 a step.
        ASSERT_NEAR(all.squares[layer][unit][i], expected, 1e-4 * expected + 1e-12);
      }
    }
  }
}

TEST_F(PaddedWindows, MeasureTheEndsByTheirTokensAlone) {
  const auto device = MakeCpuDevice(test.pool);
  const auto measured = [&](const Matrix<TokenId>& windows) {
    return MeasureEnds(model.weights, *device, windows.view(), test.context);
  };
  const EndStatistics alone = measured(MakeWindows(full, 24)),
                      padded = measured(MakeWindows(full, 40)),
                      filled = measured(MakeWindows(full, 40, 0));

  EXPECT_EQ(padded.tokens, 16 * 24);
  for (Index i = 0; i < alone.gram.size(); ++i) {  // of floats, in tiles: 1e-7 a step
    ASSERT_NEAR(padded.gram.data()[i], alone.gram.data()[i],
                1e-5 * std::fabs(alone.gram.data()[i]) + 1e-4);
  }
  EXPECT_GT(alone.lookup, 0);
  EXPECT_NEAR(padded.lookup, alone.lookup, 1e-6 * alone.lookup);
  EXPECT_GT(std::fabs(filled.lookup - alone.lookup), 1e-4 * alone.lookup);
}

TEST_F(PaddedWindows, AreRefusedByWhoeverKnowsNothingOfThem) {
  const auto device = MakeCpuDevice(test.pool);
  Forward forward(model.weights, *device, 24);
  EXPECT_THAT(ErrorOf([&] { (void)forward.Embed(MakeWindows(mixed, 24).view()); }),
              HasSubstr("token id outside"));
}

}  // namespace
}  // namespace lieq
