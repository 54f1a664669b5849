// A counter-based random generator: value i of stream s under seed k depends on (k, s, i) alone, so
// results do not depend on the order of calls, on threads, or on the standard library.
#pragma once

#include <cmath>
#include <cstdint>

namespace lieq {

class Rng {
 public:
  explicit constexpr Rng(std::uint64_t seed, std::uint64_t stream = 0) noexcept
      : key_(Mix(seed ^ Mix(stream + 0x9E3779B97F4A7C15u))) {}

  /// 64 uniform bits (the finalizer of SplitMix64 over a Weyl sequence).
  constexpr std::uint64_t Bits() noexcept { return Mix(key_ + ++counter_ * 0x9E3779B97F4A7C15u); }

  /// Uniform in [0, 1), 53 bits.
  constexpr double Uniform() noexcept { return static_cast<double>(Bits() >> 11) * 0x1.0p-53; }

  /// Uniform in 0..bound-1; bound >= 1. The bias of the multiply-shift method is below 2^-32.
  constexpr std::uint32_t Below(std::uint32_t bound) noexcept {
    return static_cast<std::uint32_t>(((Bits() >> 32) * bound) >> 32);
  }

  /// Standard normal (Box-Muller, both halves used).
  double Normal() noexcept {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
    const double angle = 6.283185307179586476925 * Uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

 private:
  static constexpr std::uint64_t Mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  std::uint64_t key_;
  std::uint64_t counter_ = 0;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace lieq
