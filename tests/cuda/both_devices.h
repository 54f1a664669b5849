// A GPU beside the processor, for tests that compare the two.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <span>

#include "lieq/device/cpu/cpu_device.h"
#include "lieq/device/cuda/cuda_device.h"
#include "tests/support/device_matrices.h"
#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {

/// Tests of it are skipped where there is no GPU.
class BothDevices : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasCudaDevice()) {
      GTEST_SKIP() << "no NVIDIA GPU here, or a build without LIEQ_CUDA (docs/gpu.md)";
    }
    gpu = MakeCudaDevice(test.pool);
  }

  TestContext test{2};
  std::unique_ptr<Device> cpu = MakeCpuDevice(test.pool), gpu;
};

/// While one lives, devices are made without NVIDIA's libraries.
class WithoutLibraries {
 public:
  WithoutLibraries() { ::setenv("LIEQ_CUDA_LIBRARIES", "none", 1); }
  ~WithoutLibraries() { ::unsetenv("LIEQ_CUDA_LIBRARIES"); }
  WithoutLibraries(const WithoutLibraries&) = delete;
  WithoutLibraries& operator=(const WithoutLibraries&) = delete;
};

/// The largest difference of two matrices, where both hold numbers; where one alone does, infinity.
[[nodiscard]] inline double LargestDifference(View<const float, 2> a, View<const float, 2> b) {
  double largest = 0;
  for (Index r = 0; r < a.rows(); ++r) {
    for (Index c = 0; c < a.cols(); ++c) {
      if (std::isnan(a(r, c)) && std::isnan(b(r, c))) continue;
      const double difference = static_cast<double>(a(r, c)) - static_cast<double>(b(r, c));
      if (a(r, c) == b(r, c)) continue;
      largest = std::isfinite(difference) ? std::max(largest, std::fabs(difference)) : INFINITY;
    }
  }
  return largest;
}
[[nodiscard]] inline double LargestDifference(const Matrix<float>& a, const Matrix<float>& b) {
  return LargestDifference(a.view(), b.view());
}

/// Sums of k products of float: k * 2^-24 of the sum of magnitudes bounds any order of adding.
[[nodiscard]] inline double SumBound(double magnitude, Index terms) {
  return magnitude * static_cast<double>(terms + 3) * 0x1p-24;
}

}  // namespace lieq
