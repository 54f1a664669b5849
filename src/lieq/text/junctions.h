// Which characters a merge may ever join: where none may, a text falls apart into pieces that are
// encoded one by one.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace lieq {

class Junctions {
 public:
  /// Learns that a token that ends as `left` is merged with one that begins as `right`.
  void Add(std::string_view left, std::string_view right);

  /// Whether a merge joins a token that ends with `left` and one that begins with `right`.
  [[nodiscard]] bool MayJoin(char32_t left, char32_t right) const noexcept;

 private:
  static constexpr std::size_t kAscii = 128;

  void Insert(std::uint64_t pair);
  [[nodiscard]] static std::size_t HashOf(std::uint64_t pair) noexcept;

  std::bitset<kAscii * kAscii> ascii_;
  std::vector<std::uint64_t> slots_;  // of other pairs; a power of two, at most half taken
  std::size_t taken_ = 0;
};

}  // namespace lieq
