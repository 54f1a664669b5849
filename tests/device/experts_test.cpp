// The operations that mixtures of experts need, against the plainest code there is.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "lieq/device/cpu/cpu_device.h"
#include "lieq/device/mixer_ops.h"
#include "tests/support/random_matrix.h"

namespace lieq {
namespace {

struct Routed {
  std::vector<Index> experts;
  std::vector<double> shares;
};

/// Of one row: softmax over all, the largest first.
Routed Reference(std::span<const float> x, View<const float, 2> router, Index used,
                 bool normalised) {
  std::vector<double> p(Size(router.rows()));
  for (Index e = 0; e < router.rows(); ++e) {
    double logit = 0;
    for (Index i = 0; i < router.cols(); ++i) {
      logit += static_cast<double>(x[Size(i)]) * static_cast<double>(router(e, i));
    }
    p[Size(e)] = std::exp(logit);
  }
  const double all = std::accumulate(p.begin(), p.end(), 0.0);
  Routed routed;
  double chosen = 0;
  for (Index j = 0; j < used; ++j) {
    const auto best = std::ranges::max_element(p);
    routed.experts.push_back(best - p.begin());
    routed.shares.push_back(*best / all);
    chosen += *best / all;
    *best = -1;
  }
  if (normalised) {
    for (double& share : routed.shares) share /= chosen;
  }
  return routed;
}

DeviceMatrix Placed(Device& device, View<const float, 2> values) {
  DeviceMatrix placed = device.Alloc(values.rows(), values.cols());
  device.Upload(values, placed.view());
  return placed;
}

Matrix<float> Fetched(Device& device, const DeviceMatrix& from) {
  Matrix<float> values(from.rows(), from.cols());
  device.Download(from.view(), values.view());
  return values;
}

TEST(Route, ChoosesTheLikeliestWhateverElseIsThereAndForAnyThreads) {
  for (const auto& [rows, hidden, experts, used] :
       {std::array<Index, 4>{1, 8, 4, 1}, {37, 19, 8, 2}, {64, 40, 5, 5}, {17, 3, 1, 1}}) {
    const Matrix<float> x = RandomMatrix(rows, hidden, 1),
                        router = RandomMatrix(experts, hidden, 2);
    const View<const float, 2> flat{router.data(), 1, router.size()};
    for (const bool normalised : {false, true}) {
      std::vector<Matrix<float>> found;
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        const auto device = MakeCpuDevice(pool);
        const DeviceMatrix routes = device->Alloc(rows, 2 * used);
        device->mixers()->Route(Placed(*device, x.view()).view(), Placed(*device, flat).view(),
                                normalised, routes.view());
        found.push_back(Fetched(*device, routes));
        // A row alone goes where it goes among others.
        const DeviceMatrix alone = device->Alloc(1, 2 * used);
        device->mixers()->Route(Placed(*device, x.view().Rows(rows - 1, 1)).view(),
                                Placed(*device, flat).view(), normalised, alone.view());
        EXPECT_TRUE(std::ranges::equal(Fetched(*device, alone).view().Row(0),
                                       found.back().view().Row(rows - 1)));
      }
      EXPECT_TRUE(std::equal(found[0].data(), found[0].data() + found[0].size(), found[1].data()));
      for (Index r = 0; r < rows; ++r) {
        const Routed expected = Reference(x.view().Row(r), router.view(), used, normalised);
        for (Index j = 0; j < used; ++j) {
          EXPECT_EQ(found[0](r, j), static_cast<float>(expected.experts[Size(j)]));
          EXPECT_NEAR(found[0](r, used + j), expected.shares[Size(j)], 1e-6);
        }
      }
    }
  }
}

TEST(Route, TakesTheLowerOfEquals) {
  ThreadPool pool(1);
  const auto device = MakeCpuDevice(pool);
  const std::vector<float> x{1, 1}, router{0, 0, 1, 1, 0, 0, 1, 1};  // four experts
  const DeviceMatrix routes = device->Alloc(1, 6);
  device->mixers()->Route(Placed(*device, {x.data(), 1, 2}).view(),
                          Placed(*device, {router.data(), 1, 8}).view(), true, routes.view());
  const Matrix<float> found = Fetched(*device, routes);
  EXPECT_EQ(found(0, 0), 1.0f);
  EXPECT_EQ(found(0, 1), 3.0f);
  EXPECT_EQ(found(0, 2), 0.0f);
}

TEST(AddRouted, AddsWhatExpertsGiveByTheirShares) {
  constexpr Index kRows = 23, kUsed = 3, kCols = 11;
  const Matrix<float> given = RandomMatrix(kRows * kUsed, kCols, 3);
  Matrix<float> routes = RandomMatrix(kRows, 2 * kUsed, 4);
  std::vector<Index> places(Size(kRows * kUsed));
  for (std::size_t i = 0; i < places.size(); ++i) {
    places[i] = static_cast<Index>((i * 7 + 5) % places.size());  // 7 and 69 share no divisor
  }
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  const Matrix<float> start = RandomMatrix(kRows, kCols, 5);
  const DeviceMatrix to = Placed(*device, start.view());

  device->mixers()->AddRouted(Placed(*device, given.view()).view(), places,
                              Placed(*device, routes.view()).view(), to.view());

  const Matrix<float> found = Fetched(*device, to);
  for (Index r = 0; r < kRows; ++r) {
    for (Index c = 0; c < kCols; ++c) {
      double expected = static_cast<double>(start(r, c));
      for (Index j = 0; j < kUsed; ++j) {
        expected += static_cast<double>(routes(r, kUsed + j)) *
                    static_cast<double>(given(places[Size(r * kUsed + j)], c));
      }
      EXPECT_NEAR(found(r, c), expected, 1e-5);
    }
  }
}

}  // namespace
}  // namespace lieq
