#include "lieq/device/cpu/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/error_of.h"
#include "tests/support/kernel_rows.h"

namespace lieq {
namespace {

/// Values that are hard on kernels, then ordinary ones.
std::vector<float> Values(std::size_t n, std::uint64_t seed, double size) {
  constexpr float kHard[] = {0.0f, -0.0f, 1e-38f, -1e-38f, 88.0f, -88.0f, 3.0f, -200.0f};
  Rng rng(seed);
  std::vector<float> values(n);
  for (float& value : values) {
    value = rng.Below(5) == 0 ? kHard[rng.Below(8)] : static_cast<float>(size * rng.Normal());
  }
  return values;
}

const std::vector<std::size_t> kSizes{1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 576, 1537};

TEST(Kernels, SoftmaxIsNearTheDoubleOneAndTheSameInEveryRow) {
  for (const std::size_t n : kSizes) {
    const std::vector<float> x = Values(n, n, 4);
    std::vector<double> expected(n);
    const double most = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += expected[i] = std::exp(0.25 * (x[i] - most));
    std::vector<float> scalar = x;
    kScalarKernels.softmax(scalar.data(), 0.25f, static_cast<std::ptrdiff_t>(n));

    ForKernelRows([&](const KernelSet& row) {
      std::vector<float> y = x;
      row.softmax(y.data(), 0.25f, static_cast<std::ptrdiff_t>(n));

      ASSERT_EQ(std::memcmp(y.data(), scalar.data(), n * sizeof(float)), 0);
      // exp within 2e-7, its argument within 1e-7 * |x| / 4, the sum of n within sqrt(n) * 6e-8
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(y[i], expected[i] / sum, 1e-5);
    });
  }
}

TEST(Kernels, LogSumExpIsNearTheDoubleOneAndTheSameInEveryRow) {
  for (const std::size_t n : kSizes) {
    const std::vector<float> x = Values(n, n + 1, 5);
    const double most = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (const float value : x) sum += std::exp(static_cast<double>(value) - most);
    const double expected = most + std::log(sum);
    const double scalar = kScalarKernels.log_sum_exp(x.data(), static_cast<std::ptrdiff_t>(n));

    ForKernelRows([&](const KernelSet& row) {
      const double y = row.log_sum_exp(x.data(), static_cast<std::ptrdiff_t>(n));
      ASSERT_EQ(y, scalar);
      ASSERT_NEAR(y, expected, 1e-6);
    });
  }
}

TEST(Kernels, LogSumExpDoesNotHideWhatIsNotFinite) {
  for (const std::size_t n : {1u, 16u, 40u}) {
    for (std::size_t at = 0; at < n; ++at) {
      std::vector<float> x(n, 1.0f);
      x[at] = std::numeric_limits<float>::quiet_NaN();
      ForKernelRows([&](const KernelSet& row) {
        EXPECT_FALSE(std::isfinite(row.log_sum_exp(x.data(), static_cast<std::ptrdiff_t>(n))));
      });
      x[at] = std::numeric_limits<float>::infinity();
      ForKernelRows([&](const KernelSet& row) {
        EXPECT_FALSE(std::isfinite(row.log_sum_exp(x.data(), static_cast<std::ptrdiff_t>(n))));
      });
    }
  }
}

/// KL(softmax(a) || softmax(b)) in double.
double DoubleKl(const std::vector<float>& a, const std::vector<float>& b) {
  const auto log_sum = [](const std::vector<float>& x) {
    const double most = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (const float value : x) sum += std::exp(static_cast<double>(value) - most);
    return most + std::log(sum);
  };
  const double log_a = log_sum(a), log_b = log_sum(b);
  double kl = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    kl += std::exp(static_cast<double>(a[i]) - log_a) *
          ((static_cast<double>(a[i]) - log_a) - (static_cast<double>(b[i]) - log_b));
  }
  return kl;
}

double Kl(const KernelSet& row, const std::vector<float>& a, const std::vector<float>& b) {
  const auto n = static_cast<std::ptrdiff_t>(a.size());
  return row.softmax_kl(a.data(), b.data(), row.log_sum_exp(a.data(), n),
                        row.log_sum_exp(b.data(), n), n);
}

TEST(Kernels, SoftmaxKlIsNearTheDoubleOneAndTheSameInEveryRow) {
  for (const std::size_t n : kSizes) {
    const std::vector<float> a = Values(n, n + 8, 5), b = Values(n, n + 9, 5);
    const double expected = DoubleKl(a, b), scalar = Kl(kScalarKernels, a, b);

    ForKernelRows([&](const KernelSet& row) {
      const double kl = Kl(row, a, b);
      ASSERT_EQ(kl, scalar) << n;
      // the logarithm of the sum, up to 88, and differences up to 300, rounded to float
      ASSERT_NEAR(kl, expected, 3e-5 + 5e-6 * expected) << n;
    });
  }
}

TEST(Kernels, SoftmaxKlOfARowAndItselfIsNothing) {
  for (const std::size_t n : kSizes) {
    const std::vector<float> a = Values(n, n + 10, 5);
    ForKernelRows([&](const KernelSet& row) { ASSERT_EQ(Kl(row, a, a), 0) << n; });
  }
}

TEST(Kernels, SoftmaxKlTellsSmallDivergencesApart) {
  // Logits of a large model, moved by about 1.4e-3: some 1e-6 nats. Differences of logarithms of
  // probabilities that were rounded to float first would be 1e-6 off each.
  for (const std::size_t n : {100u, 1537u, 50000u}) {
    Rng rng(n);
    std::vector<float> a(n), b(n);
    for (std::size_t i = 0; i < n; ++i) {
      a[i] = static_cast<float>(15 + 3 * rng.Normal());
      b[i] = a[i] + static_cast<float>(1.4e-3 * rng.Normal());
    }
    const double expected = DoubleKl(a, b);
    ASSERT_GT(expected, 1e-7);
    ASSERT_LT(expected, 5e-6);
    // The two logarithms of sums differ from the true ones by some 1e-8.
    ForKernelRows([&](const KernelSet& row) { ASSERT_NEAR(Kl(row, a, b), expected, 4e-8) << n; });
  }
}

TEST(Kernels, SoftmaxKlDoesNotHideWhatIsNotFinite) {
  for (const std::size_t n : {1u, 16u, 40u}) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      for (std::size_t at = 0; at < n; ++at) {
        const std::vector<float> good(n, 1.0f);
        std::vector<float> broken = good;
        broken[at] = bad;
        ForKernelRows([&](const KernelSet& row) {
          ASSERT_FALSE(std::isfinite(Kl(row, broken, good))) << bad << " at " << at << " of " << n;
          ASSERT_FALSE(std::isfinite(Kl(row, good, broken))) << bad << " at " << at << " of " << n;
        });
      }
    }
  }
}

TEST(Kernels, SoftmaxKlReadsNothingPastTheEnd) {
  for (std::size_t n = 1; n <= 48; ++n) {
    std::vector<float> a = Values(n + 1, n + 11, 2), b = Values(n + 1, n + 12, 2);
    const std::vector<float> short_a(a.begin(), a.end() - 1), short_b(b.begin(), b.end() - 1);
    a[n] = b[n] = std::numeric_limits<float>::quiet_NaN();
    const auto size = static_cast<std::ptrdiff_t>(n);
    ForKernelRows([&](const KernelSet& row) {
      const double log_a = row.log_sum_exp(a.data(), size), log_b = row.log_sum_exp(b.data(), size);
      ASSERT_EQ(row.softmax_kl(a.data(), b.data(), log_a, log_b, size), Kl(row, short_a, short_b))
          << n;
    });
  }
}

TEST(Kernels, RmsNormIsNearTheDoubleOneAndTheSameInEveryRow) {
  for (const std::size_t n : kSizes) {
    const std::vector<float> x = Values(n, n + 2, 100), weight = Values(n, n + 3, 1);
    double squares = 0;
    for (const float value : x) squares += static_cast<double>(value) * value;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
    std::vector<float> scalar(n), y(n);
    const auto size = static_cast<std::ptrdiff_t>(n);
    kScalarKernels.rms_norm(x.data(), weight.data(), 1e-6, scalar.data(), size);

    ForKernelRows([&](const KernelSet& row) {
      row.rms_norm(x.data(), weight.data(), 1e-6, y.data(), size);
      ASSERT_EQ(std::memcmp(y.data(), scalar.data(), n * sizeof(float)), 0);
      for (std::size_t i = 0; i < n; ++i) {
        const double expected = x[i] * scale * weight[i];
        ASSERT_NEAR(y[i], expected, 2e-7 * std::fabs(expected) + 1e-37);
      }
    });
  }
}

TEST(Kernels, SwiGluIsNearTheDoubleOneAndTheSameInEveryRow) {
  for (const std::size_t n : kSizes) {
    const std::vector<float> gate = Values(n, n + 4, 3), up = Values(n, n + 5, 3);
    std::vector<float> scalar = gate;
    const auto size = static_cast<std::ptrdiff_t>(n);
    kScalarKernels.swiglu(scalar.data(), up.data(), size);

    ForKernelRows([&](const KernelSet& row) {
      std::vector<float> y = gate;
      row.swiglu(y.data(), up.data(), size);
      ASSERT_EQ(std::memcmp(y.data(), scalar.data(), n * sizeof(float)), 0);
      for (std::size_t i = 0; i < n; ++i) {
        const double g = gate[i], expected = g / (1 + std::exp(-g)) * up[i];
        ASSERT_NEAR(y[i], expected, 1e-6 * std::fabs(expected) + 1e-30);
      }
    });
  }
}

TEST(Kernels, GradientsAreTheSameInEveryRowAndStopAtTheEnd) {
  // Their values are checked by gradients_test.cpp.
  for (const std::size_t n : kSizes) {
    const std::vector<float> x = Values(n + 1, n + 20, 2), y = Values(n + 1, n + 21, 2);
    const std::vector<float> z = Values(n + 1, n + 22, 2);
    const auto size = static_cast<std::ptrdiff_t>(n);
    const auto results = [&](const KernelSet& row) {
      std::vector<std::vector<float>> all{x, y, z, z, y, x};
      row.probabilities(all[0].data(), row.log_sum_exp(x.data(), size), size);
      row.softmax_gradient(x.data(), all[1].data(), 0.3f, size);
      row.rms_norm_gradient(x.data(), y.data(), 1e-6, z.data(), all[2].data(), false, size);
      row.rms_norm_gradient(x.data(), y.data(), 1e-6, z.data(), all[3].data(), true, size);
      row.swiglu_gradient(all[4].data(), all[5].data(), z.data(), size);
      EXPECT_EQ((std::vector{all[0][n], all[1][n], all[2][n], all[3][n], all[4][n], all[5][n]}),
                (std::vector{x[n], y[n], z[n], z[n], y[n], x[n]}));
      return all;
    };
    const auto scalar = results(kScalarKernels);

    ForKernelRows([&](const KernelSet& row) {
      const auto found = results(row);
      for (std::size_t i = 0; i < found.size(); ++i) {
        ASSERT_EQ(std::memcmp(found[i].data(), scalar[i].data(), n * sizeof(float)), 0) << i;
      }
      ASSERT_EQ(row.sum_squares(x.data(), size), kScalarKernels.sum_squares(x.data(), size));
    });
  }
}

TEST(Kernels, RopeRotatesPairsAndIsTheSameInEveryRow) {
  for (const std::size_t half : {1u, 8u, 16u, 32u, 33u, 64u}) {
    const std::vector<float> x = Values(2 * half, half, 2);
    std::vector<float> cosine(half), sine(half);
    for (std::size_t i = 0; i < half; ++i) {
      cosine[i] = std::cos(static_cast<float>(i));
      sine[i] = std::sin(static_cast<float>(i));
    }
    ForKernelRows([&](const KernelSet& row) {
      std::vector<float> y = x;
      row.rope(y.data(), cosine.data(), sine.data(), static_cast<std::ptrdiff_t>(half));
      for (std::size_t i = 0; i < half; ++i) {
        ASSERT_EQ(y[i], x[i] * cosine[i] - x[half + i] * sine[i]);
        ASSERT_EQ(y[half + i], x[half + i] * cosine[i] + x[i] * sine[i]);
      }
    });
  }
}

TEST(Kernels, WidensEveryBf16Pattern) {
  std::vector<std::uint16_t> narrow(0x10000 + 3);
  std::iota(narrow.begin(), narrow.end(), std::uint16_t{0});
  std::vector<float> wide(narrow.size());
  ForKernelRows([&](const KernelSet& row) {
    row.widen_bf16(narrow.data() + 1, wide.data(), static_cast<std::ptrdiff_t>(narrow.size() - 1));
    for (std::size_t i = 0; i + 1 < narrow.size(); ++i) {
      const float expected = ToFloat(Bf16{narrow[i + 1]});
      ASSERT_EQ(std::memcmp(&wide[i], &expected, sizeof(float)), 0);
    }
  });
}

TEST(Kernels, AddsExactlyAndWritesNothingPastTheEnd) {
  for (const std::size_t n : kSizes) {
    const std::vector<float> from = Values(n, n + 6, 2);
    ForKernelRows([&](const KernelSet& row) {
      std::vector<float> to = Values(n + 1, n + 7, 2);
      std::vector<double> wide(to.begin(), to.end());
      const std::vector<float> before = to;

      row.add(from.data(), to.data(), static_cast<std::ptrdiff_t>(n));
      row.add_to_double(from.data(), wide.data(), static_cast<std::ptrdiff_t>(n));

      for (std::size_t i = 0; i < n; ++i) {
        ASSERT_EQ(to[i], before[i] + from[i]);
        ASSERT_EQ(wide[i], static_cast<double>(before[i]) + static_cast<double>(from[i]));
      }
      ASSERT_EQ(to[n], before[n]);
      ASSERT_EQ(wide[n], static_cast<double>(before[n]));
    });
  }
}

TEST(ChooseKernels, NamesTheRowsThereAre) {
  EXPECT_EQ(ChooseKernels("scalar").name, "scalar");
  EXPECT_NE(ErrorOf([] { return ChooseKernels("mmx").name; }).find("scalar"), std::string::npos);
}

}  // namespace
}  // namespace lieq
