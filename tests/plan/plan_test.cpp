#include "lieq/plan/plan.h"

#include <gtest/gtest.h>

#include "lieq/plan/allocate.h"
#include "tests/support/row_grid.h"

namespace lieq {
namespace {

ModelConfig Config() {
  return {
      .layers = 2, .hidden = 128, .intermediate = 384, .heads = 6, .kv_heads = 2, .head_dim = 32};
}

TEST(UnitStoredBits, AreThoseOfTheMatricesThatAUnitIsMadeOf) {
  for (const int bits : kWidths) {
    for (const Index group : {0, 32, 64}) {
      for (const Offset offset : kAllOffsets) {
        const Grid grid{.bits = bits, .group_size = group, .offset = offset};
        for (const Unit unit : kAllUnits) {
          std::int64_t stored = 0;
          for (const Site site : SitesOf(unit)) {
            stored += QMatrix(Config().Out(site), Config().In(site), grid).stored_bits();
          }
          EXPECT_EQ(UnitStoredBits(Config(), 0, unit, grid), stored)
              << bits << " bits, groups of " << group << ", " << Name(unit);
        }
      }
    }
  }
}

TEST(Digest, TellsWidthsAndGridsApart) {
  Plan plan = UniformPlan({.bits = 2, .group_size = 64}, Config());
  const std::string digest = Digest(plan), widths = WidthDigest(plan);
  plan.ranking = "other";
  EXPECT_EQ(Digest(plan), digest);
  EXPECT_NE(digest, widths);
  const auto changed = [&](auto change) {
    Plan other = plan;
    Grid grid = plan.grids.At(1, Unit::kDown);
    change(grid);
    other.grids.Set(1, Unit::kDown, grid);
    EXPECT_EQ(WidthDigest(other) == widths, grid.bits == 2);
    return Digest(other) != digest;
  };
  EXPECT_TRUE(changed([](Grid& grid) { grid.group_size = 32; }));
  EXPECT_TRUE(changed([](Grid& grid) { grid.offset = Offset::kHalf; }));
  EXPECT_TRUE(changed([](Grid& grid) { grid = KQuantOfBits(2)->grid; }));
  EXPECT_TRUE(changed([](Grid& grid) { grid.bits = 3; }));
}

}  // namespace
}  // namespace lieq
