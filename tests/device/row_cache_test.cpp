// Keys and values that are held in fewer bits, and attention on them.
#include "lieq/device/cpu/row_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "lieq/device/cpu/cpu_device.h"
#include "lieq/tensor/dtype.h"
#include "tests/support/attention_cases.h"
#include "tests/support/device_matrices.h"
#include "tests/support/kernel_rows.h"
#include "tests/support/random_matrix.h"

namespace lieq {
namespace {

TEST(HalfKernels, WidenEveryHalf) {
  std::vector<std::uint16_t> halves(1u << 16);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  ForKernelRows([&](const KernelSet& row) {
    std::vector<float> wide(halves.size());
    row.widen_f16(halves.data(), wide.data(), static_cast<std::ptrdiff_t>(halves.size()));
    for (std::size_t i = 0; i < halves.size(); ++i) {
      const float expected = ToFloat(F16{halves[i]});
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(wide[i])) << i;
      } else {
        ASSERT_EQ(std::memcmp(&wide[i], &expected, sizeof(float)), 0) << i;
      }
    }
  });
}

TEST(HalfKernels, RoundToTheNearestHalfAndStopAtTheLargest) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // Of each finite half: itself, halfway to the next, and right beside that.
  std::vector<float> values{65504.0f, 65519.0f, 65520.0f, 1e9f,       3.4e38f,
                            1e-8f,    1e-45f,   0.0f,     5.9604e-8f, 2.9802322e-8f};
  for (std::uint32_t i = 0; i + 1 < 0x7C00; ++i) {
    const float low = ToFloat(F16{static_cast<std::uint16_t>(i)});
    const float middle = low + (ToFloat(F16{static_cast<std::uint16_t>(i + 1)}) - low) / 2;
    for (const float value :
         {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, kInfinity)}) {
      values.push_back(value);
    }
  }
  const std::size_t count = values.size();
  for (std::size_t i = 0; i < count; ++i) values.push_back(-values[i]);
  ForKernelRows([&](const KernelSet& row) {
    std::vector<std::uint16_t> halves(values.size());
    row.narrow_f16(values.data(), halves.data(), static_cast<std::ptrdiff_t>(values.size()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float bounded = std::min(65504.0f, std::max(-65504.0f, values[i]));
      ASSERT_EQ(halves[i], ToF16(bounded).bits) << values[i];
    }
    for (const std::ptrdiff_t n : {1, 8}) {  // by the tail, and by a vector
      std::vector<float> bad(8, kInfinity);
      row.narrow_f16(bad.data(), halves.data(), n);
      EXPECT_EQ(halves[0], 0x7C00);
      bad.assign(8, std::nanf(""));
      row.narrow_f16(bad.data(), halves.data(), n);
      EXPECT_TRUE(std::isnan(ToFloat(F16{halves[0]})));
    }
  });
}

TEST(ByteKernels, LieWithinHalfAStepAndAreTheSameInEveryRow) {
  for (const Index n : {1, 5, 16, 31, 64, 128, 200}) {
    for (const double size : {1.0, 1e-30, 1e30}) {
      const Matrix<float> x = RandomMatrix(1, n, static_cast<std::uint64_t>(n), size);
      std::vector<std::int8_t> codes(Size(n)), expected(Size(n));
      const float scale = kScalarKernels.round_int8(x.data(), expected.data(), n);
      ForKernelRows([&](const KernelSet& row) {
        ASSERT_EQ(row.round_int8(x.data(), codes.data(), n), scale);
        ASSERT_EQ(codes, expected);
        Matrix<float> wide(1, n);
        row.widen_int8(codes.data(), scale, wide.data(), n);
        for (Index i = 0; i < n; ++i) {
          ASSERT_NEAR(wide(0, i), x(0, i), 0.501 * static_cast<double>(scale));
        }
      });
    }
  }
}

TEST(ByteKernels, SayWhatIsNotFiniteAndTakeZeros) {
  ForKernelRows([&](const KernelSet& row) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      for (const std::size_t at : {std::size_t{0}, std::size_t{18}}) {
        std::vector<float> x(20, 1.0f);
        x[at] = bad;
        std::vector<std::int8_t> codes(20);
        EXPECT_FALSE(std::isfinite(row.round_int8(x.data(), codes.data(), 20)));
      }
    }
    const std::vector<float> zeros(20), tiny(20, 1e-44f);
    std::vector<std::int8_t> codes(20, 3);
    EXPECT_EQ(row.round_int8(zeros.data(), codes.data(), 20), 0.0f);
    EXPECT_EQ(codes, std::vector<std::int8_t>(20));
    EXPECT_TRUE(std::isfinite(row.round_int8(tiny.data(), codes.data(), 20)));
  });
}

class CachedAttentionOf : public testing::TestWithParam<CacheType> {
 protected:
  /// What a cache makes of the rows.
  [[nodiscard]] Matrix<float> Rounded(const Matrix<float>& x, Index heads, Index dim) const {
    CpuRowCache cache(GetParam(), x.rows(), heads, dim);
    Matrix<float> rounded(x.rows(), x.cols());
    for (Index r = 0; r < x.rows(); ++r) {
      cache.Store(kScalarKernels, x.view().Row(r), r);
      for (Index h = 0; h < heads; ++h) {
        cache.Widen(kScalarKernels, r, h, rounded.view().Row(r).subspan(Size(h * dim), Size(dim)));
      }
    }
    return rounded;
  }

  [[nodiscard]] Matrix<float> Attended(const AttentionCase& test, const Matrix<float>& q,
                                       const Matrix<float>& k, const Matrix<float>& v,
                                       int threads) const {
    ThreadPool pool(threads);
    const auto device = MakeCpuDevice(pool, {.cache = GetParam()});
    const auto cached = [&](const Matrix<float>& x) {
      auto cache = device->AllocCache(x.rows(), test.heads.kv_heads, test.heads.head_dim);
      const Index first = x.rows() / 2;  // in two parts, the later one first
      const DeviceMatrix all = Uploaded(*device, x);
      device->Store(all.view().Rows(first, x.rows() - first), *cache, first);
      device->Store(all.view().Rows(0, first), *cache, 0);
      return cache;
    };
    const DeviceMatrix out = Uploaded(*device, Matrix<float>(q.rows(), q.cols()));
    device->CachedAttention(Uploaded(*device, q).view(), *cached(k), *cached(v), test.heads,
                            test.spans, out.view());
    return Downloaded(*device, out);
  }
};

TEST_P(CachedAttentionOf, IsAttentionOnWhatTheCacheHolds) {
  std::vector<AttentionCase> cases = AttentionCases();
  cases.push_back({{8, 1, 8}, 450, {{0, 150, 300, 300, 0}}});  // more than a tile, and than a block
  cases.push_back({{2, 1, 4, 5}, 490, {{0, 200, 290, 290, 0}}});
  for (const AttentionCase& test : cases) {
    const AttentionHeads& heads = test.heads;
    const Matrix<float> q = RandomMatrix(test.rows(), heads.heads * heads.head_dim, 1, 3);
    const Matrix<float> k = RandomMatrix(test.key_rows, heads.kv_heads * heads.head_dim, 2);
    const Matrix<float> v = RandomMatrix(test.key_rows, heads.kv_heads * heads.head_dim, 3);
    ThreadPool pool(2);
    const auto plain = MakeCpuDevice(pool);
    const DeviceMatrix expected = Uploaded(*plain, Matrix<float>(q.rows(), q.cols()));
    plain->Attention(Uploaded(*plain, q).view(),
                     Uploaded(*plain, Rounded(k, heads.kv_heads, heads.head_dim)).view(),
                     Uploaded(*plain, Rounded(v, heads.kv_heads, heads.head_dim)).view(), heads,
                     test.spans, expected.view());
    const Matrix<float> wanted = Downloaded(*plain, expected);

    const Matrix<float> found = Attended(test, q, k, v, 3);

    EXPECT_TRUE(SameBytes(found, Attended(test, q, k, v, 1)));
    for (Index i = 0; i < found.size(); ++i) {
      // Of values near 1: the same products of float, added by blocks.
      ASSERT_NEAR(found.data()[i], wanted.data()[i], 1e-5) << "element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CachedAttentionOf,
                         testing::Values(CacheType::kFloat, CacheType::kF16, CacheType::kInt8),
                         [](const auto& type) { return std::string(Name(type.param)); });

TEST(RowCache, RoundsByItsType) {
  const Matrix<float> x = RandomMatrix(3, 24, 5);
  const auto error = [&](CacheType type) {
    CpuRowCache cache(type, 3, 2, 12);
    double worst = 0;
    std::vector<float> wide(12);
    for (Index r = 0; r < 3; ++r) {
      cache.Store(kScalarKernels, x.view().Row(r), r);
      for (Index h = 0; h < 2; ++h) {
        cache.Widen(kScalarKernels, r, h, wide);
        for (Index i = 0; i < 12; ++i) {
          worst = std::max(worst, std::abs(static_cast<double>(wide[Size(i)] - x(r, h * 12 + i))));
        }
      }
    }
    return worst;
  };
  EXPECT_EQ(error(CacheType::kFloat), 0);
  EXPECT_GT(error(CacheType::kF16), 0);
  EXPECT_LT(error(CacheType::kF16), 2e-3);
  EXPECT_GT(error(CacheType::kInt8), 2e-3);
  EXPECT_LT(error(CacheType::kInt8), 2e-2);
}

}  // namespace
}  // namespace lieq
