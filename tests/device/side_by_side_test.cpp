// Rows of words side by side, whatever their number and length.
#include "lieq/device/cpu/side_by_side.h"

#include <gtest/gtest.h>

#include <vector>

namespace lieq {
namespace {

TEST(SideBySide, PutsEveryWordWhereItsRowAndPlaceSay) {
  for (std::ptrdiff_t count = 0; count <= 21; ++count) {
    for (std::size_t there = 0; there <= 16; ++there) {
      std::vector<std::vector<std::uint32_t>> words(there);
      std::array<const std::uint32_t*, 16> rows{};
      for (std::size_t lane = 0; lane < there; ++lane) {
        for (std::ptrdiff_t i = 0; i < count; ++i) {
          words[lane].push_back(static_cast<std::uint32_t>(1000 * (lane + 1)) +
                                static_cast<std::uint32_t>(i));
        }
        rows[lane] = words[lane].data();
      }
      constexpr std::uint32_t kUntouched = 7;
      std::vector<std::uint32_t> to(static_cast<std::size_t>(16 * count) + 1, kUntouched);

      SideBySide(rows, count, to.data());

      for (std::size_t at = 0; at + 1 < to.size(); ++at) {
        const std::size_t lane = at % 16, i = at / 16;
        EXPECT_EQ(to[at], lane < there ? words[lane][i] : 0u) << at;
      }
      EXPECT_EQ(to.back(), kUntouched);
    }
  }
}

}  // namespace
}  // namespace lieq
