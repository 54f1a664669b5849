// Text that a tiny model's tokenizer takes, and that depends on its seed alone.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace lieq {

/// Words of a small vocabulary in an order that the seed draws.
inline std::string Prose(std::uint64_t seed, int words) {
  constexpr std::array kWords{"the ", "river ", "of ",   "bread ",
                              "and ", "salt ",  "went ", "down. "};
  std::string text;
  std::uint64_t state = seed;
  for (int i = 0; i < words; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    text += kWords[state >> 61];
  }
  return text;
}

}  // namespace lieq
