// Takes the bytes of a fuzzer apart into small decisions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lieq {

class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

  [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }

  /// The next byte; 0 behind the end, so that every input means something.
  std::uint8_t Byte() noexcept {
    if (rest_.empty()) return 0;
    const std::uint8_t byte = rest_[0];
    rest_ = rest_.subspan(1);
    return byte;
  }

  /// 0 .. bound - 1; bound at most 256.
  std::uint32_t Below(std::uint32_t bound) noexcept { return Byte() % bound; }

  /// True for one byte in sixteen: what happens seldom must not happen all the time.
  bool Rarely() noexcept { return Byte() % 16 == 15; }

  /// A number of the kind that breaks size computations, or eight bytes as they come.
  std::uint64_t Number() noexcept {
    constexpr std::array<std::uint64_t, 16> kEdges{0,
                                                   1,
                                                   2,
                                                   7,
                                                   255,
                                                   65535,
                                                   100'000'000,
                                                   100'000'001,
                                                   0x7FFFFFFF,
                                                   0x80000000,
                                                   0xFFFFFFFF,
                                                   0x100000000,
                                                   0x3FFFFFFFFFFFFFFF,
                                                   0x7FFFFFFFFFFFFFFF,
                                                   0x8000000000000000,
                                                   0xFFFFFFFFFFFFFFFF};
    const std::uint8_t choice = Byte();
    if (choice < 64) return kEdges[choice % kEdges.size()];
    if (choice < 192) return Byte();
    std::uint64_t number = 0;
    for (int i = 0; i < 8; ++i) number = number << 8 | Byte();
    return number;
  }

  [[nodiscard]] std::span<const std::uint8_t> Rest() const noexcept { return rest_; }
  [[nodiscard]] std::string_view Text() const noexcept {
    return {reinterpret_cast<const char*>(rest_.data()), rest_.size()};
  }

 private:
  std::span<const std::uint8_t> rest_;
};

}  // namespace lieq
