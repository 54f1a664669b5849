#include "lieq/pipeline/bandwidth.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/stopwatch.h"
#include "lieq/base/types.h"

namespace lieq {
namespace {

constexpr Index kWords = Index{1} << 25;       // 256 MiB of 64 bits
constexpr Index kBlockWords = Index{1} << 17;  // 1 MiB
constexpr int kPasses = 5;

/// Eight sums side by side, so that no addition waits for the one before.
std::uint64_t Sum(const std::uint64_t* words) {
  std::array<std::uint64_t, 8> sums{};
  for (Index i = 0; i < kBlockWords; i += 8) {
    for (std::size_t j = 0; j < sums.size(); ++j) sums[j] ^= words[i + static_cast<Index>(j)];
  }
  std::uint64_t sum = 0;
  for (const std::uint64_t one : sums) sum ^= one;
  return sum;
}

}  // namespace

double ReadBandwidth(ThreadPool& pool) {
  std::vector<std::uint64_t> words(Size(kWords), 1);
  std::atomic<std::uint64_t> sink = 0;  // so that the reads are not left out
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Stopwatch watch;
    pool.ParallelFor(kWords / kBlockWords,
                     [&](Index block, int) { sink ^= Sum(words.data() + block * kBlockWords); });
    best = std::max(best, static_cast<double>(kWords) * sizeof(std::uint64_t) / watch.seconds());
  }
  return best;
}

double CopyBandwidth(Device& device) {
  if (device.memory_bound() > 0) return 0;
  constexpr Index kRows = 1 << 13, kCols = 1 << 13;  // floats: 256 MiB
  constexpr int kCopies = 20;
  DeviceMatrix from, to;
  try {
    from = device.Alloc(kRows, kCols);
    to = device.Alloc(kRows, kCols);
  } catch (const Error&) {  // the model fills it: then there is nothing to compare with
    return 0;
  }
  device.Copy(from.view(), to.view());
  device.Sync();
  const Stopwatch watch;
  for (int i = 0; i < kCopies; ++i) device.Copy(from.view(), to.view());
  device.Sync();
  const double bytes = 2.0 * kCopies * kRows * kCols * sizeof(float);
  return bytes / watch.seconds();
}

}  // namespace lieq
