// Operations of a GPU beside products, against the processor's.
#include <array>
#include <limits>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/tensor/dtype.h"
#include "tests/cuda/both_devices.h"
#include "tests/support/attention_cases.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class CudaOperations : public BothDevices {
 protected:
  /// What an operation makes of copies of x on either device.
  template <class Operation>
  std::array<Matrix<float>, 2> OnBoth(const Matrix<float>& x, const Operation& operation) {
    std::array<Matrix<float>, 2> results;
    for (const std::size_t i : {0u, 1u}) {
      Device& device = i == 0 ? *cpu : *gpu;
      const DeviceMatrix on = Uploaded(device, x);
      operation(device, on.view());
      results[i] = Downloaded(device, on);
    }
    return results;
  }
};

TEST_F(CudaOperations, MemoryComesBackAsItWentThere) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {7, 3}, {129, 1000}, {1, 5000000}, {3000, 2051}}) {
    const Matrix<float> x = RandomMatrix(rows, cols, 1);
    const DeviceMatrix on = Uploaded(*gpu, x), copy = gpu->Alloc(rows, cols);
    gpu->Copy(on.view(), copy.view());
    EXPECT_TRUE(SameBytes(Downloaded(*gpu, copy), x)) << rows << 'x' << cols;
  }
  // Rows with gaps between them, both ways.
  const Matrix<float> x = RandomMatrix(40, 9, 2);
  const DeviceMatrix wide = gpu->Alloc(40, 27);
  const DeviceView<float> part = wide.Shaped(120, 9).EveryRow(1, 3, 40);
  gpu->Upload(x.view(), part);
  Matrix<float> back(40, 12);
  gpu->Download(part, back.view().Cols(2, 9));
  EXPECT_EQ(LargestDifference(back.view().Cols(2, 9), x.view()), 0);
}

TEST_F(CudaOperations, FreedMemoryWaitsForWhatIsQueuedOnIt) {
  const Matrix<float> x = RandomMatrix(64, 4096, 3);
  const DeviceMatrix to = gpu->Alloc(64, 4096);
  for (int round = 0; round < 50; ++round) {
    const DeviceMatrix from = Uploaded(*gpu, x);
    gpu->Scale(from.view(), 2);
    gpu->Copy(from.view(), to.view());
  }
  const Matrix<float> y = Downloaded(*gpu, to);
  for (Index i = 0; i < y.size(); ++i) ASSERT_EQ(y.data()[i], 2 * x.data()[i]);
}

TEST_F(CudaOperations, RmsNormAgreesWithTheProcessors) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {5, 17}, {333, 64}, {70, 512}, {3, 513}, {40, 2560}}) {
    const Matrix<float> x = RandomMatrix(rows, cols, 1, 30), weight = RandomMatrix(1, cols, 2);
    const auto [a, b] = OnBoth(x, [&](Device& device, DeviceView<float> on) {
      device.RmsNorm(on, Uploaded(device, weight).view(), 1e-6, on);
    });
    EXPECT_LE(LargestDifference(a, b), 4e-6) << rows << 'x' << cols;
  }
}

TEST_F(CudaOperations, SwiGluAndScaleAndSubtractAgreeWithTheProcessors) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {7, 33}, {130, 1025}, {2, 9728}}) {
    Matrix<float> x = RandomMatrix(rows, cols, 1, 5);
    const Matrix<float> other = RandomMatrix(rows, cols, 2);
    x(0, 0) = rows == 7 ? 100.0f : -100.0f;  // where an exponential leaves float's range
    const auto [a, b] = OnBoth(x, [&](Device& device, DeviceView<float> on) {
      device.SwiGlu(on, Uploaded(device, other).view());
    });
    EXPECT_LE(LargestDifference(a, b), 4e-5) << rows << 'x' << cols;
    const auto [c, d] = OnBoth(x, [&](Device& device, DeviceView<float> on) {
      device.Scale(on, 0.7f);
      device.calibration()->Subtract(on, Uploaded(device, other).view(), 0.3f, on);
    });
    EXPECT_EQ(LargestDifference(c, d), 0) << rows << 'x' << cols;
  }
}

TEST_F(CudaOperations, RopeTurnsRowsOfSpansAlone) {
  for (const Index half : {1, 3, 32, 64}) {
    const Matrix<float> cosine = RandomMatrix(40, half, 1), sine = RandomMatrix(40, half, 2);
    const std::vector<AttentionSpan> spans{{.begin = 0, .length = 4, .past = 3},
                                           {.begin = 5, .length = 11, .past = 29}};
    const auto [a, b] =
        OnBoth(RandomMatrix(17, 3 * 2 * half, 3), [&](Device& device, DeviceView<float> on) {
          const DeviceMatrix cosines = Uploaded(device, cosine), sines = Uploaded(device, sine);
          device.Rope(on, {cosines.view(), sines.view()}, spans, 2 * half);
        });
    EXPECT_LE(LargestDifference(a, b), 2e-6) << half;
  }
}

TEST_F(CudaOperations, AttentionAgreesWithTheProcessorsForSpansOfAnyPastAndWindow) {
  const auto rounded = MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16});
  std::vector<AttentionCase> cases = AttentionCases();
  const AttentionCase wide[] = {
      // heads that other kernels take, and widths that fill no tile
      {{2, 1, 128}, 600, {{0, 300, 0, 0, 0}, {300, 300, 300, 0, 0}}},
      {{4, 2, 64}, 2, {{0, 1, 1, 1, 0}}},
      {{6, 2, 80}, 1800, {{0, 1, 700, 700, 0}, {1, 1, 1600, 700, 900}}},
      {{2, 2, 256}, 782, {{0, 131, 260, 260, 0}, {131, 131, 651, 260, 391}}},
      {{2, 2, 256}, 300, {{0, 2, 260, 260, 0}}},
      {{3, 1, 128, 50}, 500, {{0, 500, 0, 0, 0}}},
      {{2, 1, 30}, 160, {{0, 160, 0, 0, 0}}},  // rows of no multiple of 16 bytes
      {{2, 1, 65}, 500, {{0, 200, 0, 0, 0}, {200, 150, 200, 200, 0}, {350, 150, 350, 200, 0}}},
      {{2, 2, 130, 200}, 782, {{0, 131, 260, 260, 0}, {131, 131, 651, 260, 391}}},
  };
  cases.insert(cases.end(), std::begin(wide), std::end(wide));
  for (const AttentionCase& one : cases) {
    const AttentionHeads& heads = one.heads;
    const Index rows = one.rows();
    for (const double size : {1.0, 12.0}) {  // scores of some hundred: one token has all the weight
      const Matrix<float> q = RandomMatrix(rows, heads.heads * heads.head_dim, 1, size);
      Matrix<float> k = RandomMatrix(one.key_rows, heads.kv_heads * heads.head_dim, 2);
      Matrix<float> v = RandomMatrix(one.key_rows, heads.kv_heads * heads.head_dim, 3);
      std::vector<bool> read(Size(one.key_rows));
      for (const AttentionSpan& span : one.spans) {
        for (Index t = 0; t < span.past; ++t) read[Size(span.past_keys + t)] = true;
        for (Index t = 0; t < span.length; ++t) read[Size(span.keys + t)] = true;
      }
      for (Index r = 0; r < one.key_rows; ++r) {  // what nobody sees must not count
        if (read[Size(r)]) continue;
        std::ranges::fill(k.view().Row(r), kNaN);
        std::ranges::fill(v.view().Row(r), kNaN);
      }
      const auto [a, b] =
          OnBoth(RandomMatrix(rows, heads.heads * heads.head_dim, 4),
                 [&](Device& device, DeviceView<float> out) {
                   device.Attention(Uploaded(device, q).view(), Uploaded(device, k).view(),
                                    Uploaded(device, v).view(), heads, one.spans, out);
                 });
      EXPECT_LE(LargestDifference(a, b), size == 1 ? 5e-6 : 5e-5)
          << heads.head_dim << " columns, window " << heads.window << ", " << rows << " rows";
      // Of factors of 16 bits: scores are that far off, and weights with them.
      const DeviceMatrix out = rounded->Alloc(rows, heads.heads * heads.head_dim);
      rounded->Attention(Uploaded(*rounded, q).view(), Uploaded(*rounded, k).view(),
                         Uploaded(*rounded, v).view(), heads, one.spans, out.view());
      EXPECT_LE(LargestDifference(a, Downloaded(*rounded, out)), size == 1 ? 1e-4 : 1e-3)
          << heads.head_dim << " columns, window " << heads.window << ", " << rows << " rows";
    }
  }
}

TEST_F(CudaOperations, HeadsThatAreTooWideAreRefusedByName) {
  const DeviceMatrix x = gpu->Alloc(1, 300);
  const std::vector<AttentionSpan> spans{{.length = 1}};
  const Problem problem = ProblemOf([&] {
    gpu->Attention(x.view(), x.view(), x.view(), {1, 1, 300}, spans, x.view());
    return 0;
  });
  EXPECT_EQ(problem.found, "300");
}

TEST_F(CudaOperations, LossesAgreeWithTheProcessors) {
  for (const auto& [rows, vocab] : {std::pair<Index, Index>{1, 1}, {50, 333}, {3, 40001}}) {
    const Matrix<float> reference = RandomMatrix(rows, vocab, 11, 3);
    const Matrix<float> logits = RandomMatrix(rows, vocab, 12, 3);
    std::vector<TokenId> targets;
    std::vector<TokenPick> picks;
    for (Index r = 0; r < rows; ++r) {
      targets.push_back(static_cast<TokenId>(r * 37 % vocab));
      for (Index again = 0; again < 3; ++again) {
        picks.push_back({r * 5 % rows, static_cast<TokenId>((r + again) % vocab)});
      }
    }
    std::array<std::vector<double>, 2> nll, log_probabilities, kl;
    for (const std::size_t i : {0u, 1u}) {
      Device& device = i == 0 ? *cpu : *gpu;
      const DeviceMatrix a = Uploaded(device, reference), b = Uploaded(device, logits);
      nll[i].resize(Size(rows));
      kl[i].resize(Size(rows));
      log_probabilities[i].resize(picks.size());
      device.SoftmaxKl(a.view(), b.view(), kl[i]);
      device.LogProbabilities(b.view(), picks, log_probabilities[i]);
      device.LogSoftmaxNll(b.view(), targets, nll[i]);
      device.Sync();
    }
    for (std::size_t r = 0; r < Size(rows); ++r) {
      EXPECT_NEAR(nll[0][r], nll[1][r], 1e-6);
      EXPECT_NEAR(kl[0][r], kl[1][r], 2e-6 * (1 + kl[0][r]));  // two exponentials of float
    }
    for (std::size_t i = 0; i < picks.size(); ++i) {
      EXPECT_NEAR(log_probabilities[0][i], log_probabilities[1][i], 1e-6);
    }
  }
}

TEST_F(CudaOperations, ALogitThatIsNotFiniteMakesTheLossNaN) {
  for (const float bad : {kNaN, kInfinity, -kInfinity}) {
    Matrix<float> logits = RandomMatrix(2, 700, 1);
    logits(0, 600) = bad;
    const std::vector<TokenId> targets{3, 4};
    std::vector<double> nll(2);
    const DeviceMatrix on = Uploaded(*gpu, logits);
    gpu->LogSoftmaxNll(on.view(), targets, nll);
    gpu->Sync();
    EXPECT_TRUE(std::isnan(nll[0])) << bad;
    EXPECT_TRUE(std::isfinite(nll[1])) << bad;
  }
}

TEST_F(CudaOperations, TopColumnsAreTheProcessors) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {3, 5}, {9, 69}, {40, 70}, {5, 1000}, {2, 40001}}) {
    Matrix<float> x = RandomMatrix(rows, cols, 11);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) {
        if (r % 4 == 1) x(r, c) = std::round(x(r, c));            // many equals, both zeros
        if (r % 4 == 2) x(r, c) = static_cast<float>(c);          // each is larger than all before
        if (r % 4 == 3) x(r, c) = c % 7 == 2 ? 0.F : -kInfinity;  // masked but for a few
      }
      if (r == 0) x(r, cols - 1) = x(r, cols / 2) = kInfinity;
    }
    for (const Index k : {Index{1}, std::min<Index>(10, cols), std::min<Index>(70, cols)}) {
      Matrix<TokenId> expected(rows, k), found(rows, k);
      cpu->TopColumns(Uploaded(*cpu, x).view(), expected.view());
      const DeviceMatrix on = Uploaded(*gpu, x);
      gpu->TopColumns(on.view(), found.view());
      gpu->Sync();
      for (Index r = 0; r < rows; ++r) {
        EXPECT_TRUE(std::ranges::equal(found.view().Row(r), expected.view().Row(r)))
            << rows << 'x' << cols << ", row " << r << ", k " << k;
      }
    }
  }
}

TEST_F(CudaOperations, ResultsComeWithTheNextSyncOrDownloadAndNotBefore) {
  const DeviceMatrix x = Uploaded(*gpu, RandomMatrix(20, 50, 1));
  std::vector<double> sums(20, 1);
  gpu->calibration()->RowSquares(x.view(), sums);
  gpu->calibration()->RowSquares(x.view(), sums);
  EXPECT_EQ(sums, std::vector<double>(20, 1));
  Matrix<float> row(1, 50);
  gpu->Download(x.view().Rows(0, 1), row.view());
  double squares = 0;
  for (const float value : row.view().Row(0)) {
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  EXPECT_NEAR(sums[0], 1 + 2 * squares, 1e-9);
}

TEST_F(CudaOperations, SquaresAddToWhatIsThere) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {65, 7}, {2048, 300}}) {
    const Matrix<float> x = RandomMatrix(rows, cols, 5);
    std::array<std::vector<double>, 2> of_rows, of_columns;
    for (const std::size_t i : {0u, 1u}) {
      Device& device = i == 0 ? *cpu : *gpu;
      const DeviceMatrix on = Uploaded(device, x);
      of_rows[i].resize(Size(rows), 3);
      of_columns[i].resize(Size(cols), 3);
      for (int round = 0; round < 2; ++round) {
        device.calibration()->RowSquares(on.view(), of_rows[i]);
        device.calibration()->ColumnSquares(on.view(), of_columns[i]);
      }
      device.Sync();
    }
    for (std::size_t r = 0; r < Size(rows); ++r) {
      EXPECT_NEAR(of_rows[0][r], of_rows[1][r], 1e-12 * of_rows[0][r]);
    }
    for (std::size_t c = 0; c < Size(cols); ++c) {
      EXPECT_NEAR(of_columns[0][c], of_columns[1][c], 1e-12 * of_columns[0][c]);
    }
  }
}

TEST_F(CudaOperations, GramsAddTheLowerTriangleAloneWithinTheBoundOfFloatSums) {
  for (const auto& [rows, n] : {std::pair<Index, Index>{1, 1}, {5, 3}, {700, 65}, {3000, 200}}) {
    const Matrix<float> x = CorrelatedInputs(rows, n, 9);
    const Matrix<double> expected = GramOf(x.view());
    const DeviceMatrix on = Uploaded(*gpu, x);
    const auto sums = gpu->calibration()->MakeGram(n);
    gpu->calibration()->GramUpdate(on.view(), *sums);
    gpu->calibration()->GramUpdate(on.view().Rows(0, rows), *sums);
    std::vector<double> diagonal(Size(n));
    sums->Diagonal(diagonal);
    const Matrix<double>& gram = sums->Host();
    for (Index i = 0; i < n; ++i) ASSERT_EQ(diagonal[Size(i)], gram(i, i));
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j <= i; ++j) {
        const double size = std::sqrt(expected(i, i) * expected(j, j));
        ASSERT_NEAR(gram(i, j), 2 * expected(i, j), 2 * SumBound(size, std::min<Index>(rows, 512)));
      }
    }
  }
}

TEST_F(CudaOperations, GramsInBf16AreThoseOfRoundedInputsWithinTheirBound) {
  const auto rounded = MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16});
  for (const auto& [rows, n] : {std::pair<Index, Index>{5, 3}, {700, 65}, {5000, 136}}) {
    Matrix<float> x = CorrelatedInputs(rows, n, 9);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = ToFloat(ToBf16(x.data()[i]));
    const Matrix<double> expected = GramOf(x.view());
    const DeviceMatrix on = Uploaded(*rounded, x);
    const auto sums = rounded->calibration()->MakeGram(n);
    rounded->calibration()->GramUpdate(on.view(), *sums);
    const Matrix<double> gram = sums->Take();
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j <= i; ++j) {
        // Tensor cores cut what they add to 22 bits or so; 3e-5 was seen over 8,192 rows.
        ASSERT_NEAR(gram(i, j), expected(i, j), 3e-5 * std::sqrt(expected(i, i) * expected(j, j)));
      }
    }
  }
}

TEST_F(CudaOperations, CrossGramsAgreeWithTheProcessors) {
  for (const auto& [rows, m, n] :
       {std::array<Index, 3>{1, 1, 1}, {5, 3, 2}, {100, 65, 130}, {1500, 7, 70}}) {
    const Matrix<float> a = RandomMatrix(rows, m, 9), b = RandomMatrix(rows, n, 10);
    std::array<Matrix<float>, 2> crosses{RandomMatrix(m, n, 11), RandomMatrix(m, n, 11)};
    for (const std::size_t i : {0u, 1u}) {
      Device& device = i == 0 ? *cpu : *gpu;
      const DeviceMatrix on_a = Uploaded(device, a), on_b = Uploaded(device, b);
      const auto sums = device.calibration()->MakeCross(m, n);
      sums->Set(crosses[i].view());
      device.calibration()->CrossGramUpdate(on_a.view(), on_b.view(), *sums);
      device.calibration()->CrossGramUpdate(on_a.view(), on_b.view(), *sums);
      crosses[i] = sums->Take();
    }
    // Factors are normal numbers: products of them are 1 on average.
    EXPECT_LE(LargestDifference(crosses[0], crosses[1]),
              4 * SumBound(4 * static_cast<double>(rows), 2 * rows));
  }
}

TEST_F(CudaOperations, CachedAttentionAgreesWithTheProcessorsOnTheSameType) {
  const std::vector<AttentionCase> cases{
      {{4, 2, 64}, 20, {{0, 1, 9, 9, 0}}},
      {{6, 2, 80}, 900, {{0, 200, 500, 500, 0}, {200, 1, 890, 100, 700}}},
      {{2, 1, 128, 40}, 300, {{0, 3, 200, 200, 0}}},
  };
  for (const CacheType type : {CacheType::kFloat, CacheType::kF16}) {
    const auto on_cpu = MakeCpuDevice(test.pool, {.cache = type});
    const auto on_gpu = MakeCudaDevice(test.pool, {.cache = type});
    const auto rounded =
        MakeCudaDevice(test.pool, {.arithmetic = Arithmetic::kBf16, .cache = type});
    for (const AttentionCase& one : cases) {
      const AttentionHeads& heads = one.heads;
      const Index rows = one.rows();
      const Matrix<float> q = RandomMatrix(rows, heads.heads * heads.head_dim, 1);
      Matrix<float> k = RandomMatrix(one.key_rows, heads.kv_heads * heads.head_dim, 2);
      const Matrix<float> v = RandomMatrix(one.key_rows, heads.kv_heads * heads.head_dim, 3);
      k(0, 0) = 1e6f;  // beyond f16
      const auto attended = [&](Device& device) {
        const auto cached = [&](const Matrix<float>& x) {
          auto cache = device.AllocCache(x.rows(), heads.kv_heads, heads.head_dim);
          device.Store(Uploaded(device, x).view(), *cache, 0);
          return cache;
        };
        const DeviceMatrix out = Uploaded(device, Matrix<float>(q.rows(), q.cols()));
        device.CachedAttention(Uploaded(device, q).view(), *cached(k), *cached(v), heads, one.spans,
                               out.view());
        return Downloaded(device, out);
      };
      const Matrix<float> expected = attended(*on_cpu);
      EXPECT_LE(LargestDifference(expected, attended(*on_gpu)), 1e-4) << Name(type);
      // Of factors of 16 bits, as above.
      EXPECT_LE(LargestDifference(expected, attended(*rounded)), 1e-3) << Name(type);
    }
  }
  EXPECT_NE(ErrorOf([&] {
              return MakeCudaDevice(test.pool, {.cache = CacheType::kInt8})->AllocCache(1, 1, 8);
            }).find("--kv-cache"),
            std::string::npos);
}

TEST_F(CudaOperations, RoundRowsGivesTheProcessorsBytes) {
  for (const Index group : {1, 32, 64, 100, 1000}) {
    for (const int bits : {2, 4, 8}) {
      const Matrix<float> x = RandomMatrix(37, 200, 5);
      const auto rounded = [&](Device& device) {
        const DeviceMatrix placed = Uploaded(device, x);
        device.calibration()->RoundRows(placed.view(), group, bits);
        return Downloaded(device, placed);
      };
      EXPECT_TRUE(SameBytes(rounded(*cpu), rounded(*gpu))) << group << ", " << bits;
    }
  }
}

}  // namespace
}  // namespace lieq
