#include "lieq/serve/stop_text.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "lieq/base/rng.h"

namespace lieq {
namespace {

/// By the definition, letter by letter.
std::string UpToAStop(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t n = 1; n <= text.size(); ++n) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, n).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return text.substr(0, n - longest);
  }
  return text;
}

class StopTextProperty : public testing::TestWithParam<std::uint64_t> {};

TEST_P(StopTextProperty, IsTheTextBeforeTheFirstStopHoweverItComes) {
  Rng rng(GetParam());
  const auto text = [&](std::uint32_t most) {
    std::string letters;
    for (std::uint32_t i = rng.Below(most) + 1; i > 0; --i) {
      letters += static_cast<char>('a' + static_cast<int>(rng.Below(2)));
    }
    return letters;
  };
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<std::string> stops;
    for (std::uint32_t i = rng.Below(3); i > 0; --i) stops.push_back(text(7));
    const std::string whole = text(40);
    StopText filter(stops);
    std::string through;
    for (std::size_t at = 0; at < whole.size() && !filter.hit();) {
      const std::size_t count = 1 + rng.Below(4);
      through += filter.Add(std::string_view(whole).substr(at, count));
      at += count;
      // Nothing is let through that might have to be taken back, and no more is held than a stop.
      ASSERT_TRUE(UpToAStop(whole, stops).starts_with(through)) << whole;
      if (filter.hit()) break;
      ASSERT_LE(std::min(at, whole.size()) - through.size(), 6u);
    }
    const bool hit = filter.hit();
    through += filter.Finish();
    EXPECT_EQ(through, UpToAStop(whole, stops)) << whole;
    EXPECT_EQ(hit, UpToAStop(whole, stops) != whole);
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, StopTextProperty, testing::Range<std::uint64_t>(0, 10));

}  // namespace
}  // namespace lieq
