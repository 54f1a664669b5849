#include "lieq/tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace lieq {
namespace {

TEST(F16, EveryPatternSurvivesTheWayToFloatAndBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const F16 value{static_cast<std::uint16_t>(bits)};
    const float wide = ToFloat(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(ToFloat(ToF16(wide))));
    } else {
      ASSERT_EQ(ToF16(wide).bits, bits);
    }
  }
}

TEST(F16, RoundsToTheNearestTiesToEven) {
  for (std::uint32_t bits = 0; bits < 0x7BFF; ++bits) {  // neighbours below infinity
    const float low = ToFloat(F16{static_cast<std::uint16_t>(bits)});
    const float high = ToFloat(F16{static_cast<std::uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;  // exact in float

    ASSERT_EQ(ToF16(middle).bits, bits + (bits & 1));
    ASSERT_EQ(ToF16(std::nextafter(middle, low)).bits, bits);
    ASSERT_EQ(ToF16(std::nextafter(middle, high)).bits, bits + 1);
  }
  EXPECT_TRUE(std::isinf(ToFloat(ToF16(65520.0f))));
  EXPECT_EQ(ToFloat(ToF16(65519.0f)), 65504.0f);
}

TEST(Bf16, RoundsToTheNearestTiesToEven) {
  EXPECT_EQ(ToFloat(ToBf16(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(ToFloat(ToBf16(1.0f + 3 * 0x1p-8f)), 1.0f + 0x1p-6f);
  EXPECT_EQ(ToFloat(ToBf16(-1.0f - 0x1.02p-8f)), -1.0f - 0x1p-7f);
  EXPECT_TRUE(std::isnan(ToFloat(ToBf16(std::nanf("")))));
  EXPECT_TRUE(std::isinf(ToFloat(ToBf16(3.4e38f))));
}

}  // namespace
}  // namespace lieq
