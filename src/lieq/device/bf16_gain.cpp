#include "lieq/device/bf16_gain.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <utility>
#include <vector>

#include "lieq/device/devices.h"

namespace lieq {
namespace {

constexpr Index kRows = 1024;  // tokens of a window
/// Outputs and inputs: square as those of attention, wide and long as those of the MLP.
constexpr std::array<std::array<Index, 2>, 3> kShapes{{{1024, 1024}, {3072, 1024}, {1024, 3072}}};
constexpr int kRounds = 3;  // the fastest of them counts: what else runs only makes one slower

/// The least seconds of a product among the rounds, in each arithmetic.
std::array<double, 2> Seconds(const std::array<Device*, 2>& devices, Index outs, Index ins) {
  using Clock = std::chrono::steady_clock;
  std::array<double, 2> least;
  least.fill(std::numeric_limits<double>::infinity());
  Matrix<float> w(outs, ins), x(kRows, ins);
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(i % 13) * 0.01f - 0.06f;
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i % 17) * 0.1f - 0.8f;
  struct Work {
    DeviceMatrix from, to;
    Prepared matrix;
  };
  std::vector<Work> works;
  for (Device* device : devices) {
    works.push_back({device->Alloc(kRows, ins), device->Alloc(kRows, outs),
                     device->Prepare(AnyMatrix(std::as_const(w).view()))});
    device->Upload(std::as_const(x).view(), works.back().from.view());
  }
  for (int round = 0; round <= kRounds; ++round) {  // the first touches all pages
    for (std::size_t d = 0; d < devices.size(); ++d) {
      const auto begin = Clock::now();
      devices[d]->Matmul(works[d].from.view(), *works[d].matrix, {}, works[d].to.view(), false);
      devices[d]->Sync();
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      if (round > 0) least[d] = std::min(least[d], seconds);
    }
  }
  return least;
}

}  // namespace

double Bf16Gain(std::string_view device, ThreadPool& pool, DeviceOptions options) {
  if (!FindDevice(device).row.has_bf16()) return 0;
  options.arithmetic = Arithmetic::kFloat32;
  const auto plain = MakeDevice(device, pool, options);
  options.arithmetic = Arithmetic::kBf16;
  const auto rounded = MakeDevice(device, pool, options);
  double sums[2] = {0, 0};
  for (const auto& [outs, ins] : kShapes) {
    const std::array<double, 2> seconds = Seconds({plain.get(), rounded.get()}, outs, ins);
    sums[0] += seconds[0];
    sums[1] += seconds[1];
  }
  return sums[0] / sums[1];
}

}  // namespace lieq
