#include "lieq/plan/plan.h"

#include <gtest/gtest.h>

#include "lieq/plan/allocate.h"

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
          EXPECT_EQ(UnitStoredBits(Config(), unit, grid), stored)
              << bits << " bits, groups of " << group << ", " << Name(unit);
        }
      }
    }
  }
}

TEST(Digest, TellsWidthsAndGridsApart) {
  Plan plan = UniformPlan(2, Config());
  const std::string plain = Digest(plan);
  EXPECT_EQ(Digest(plan), plain);
  plan.ranking = "other";
  EXPECT_EQ(Digest(plan), plain);
  std::array<Grid, kUnits> grids;
  grids.fill({.bits = 2, .group_size = 64});
  plan.grids.assign(2, grids);
  const std::string grouped = Digest(plan);
  EXPECT_NE(grouped, plain);
  const auto changed = [&](auto change) {
    Plan other = plan;
    change(other.grids[1][3]);
    return Digest(other) != grouped;
  };
  EXPECT_TRUE(changed([](Grid& grid) { grid.group_size = 32; }));
  EXPECT_TRUE(changed([](Grid& grid) { grid.offset = Offset::kHalf; }));
  EXPECT_TRUE(changed([](Grid& grid) { grid = KQuantOfBits(2)->grid; }));
  plan.grids.clear();
  plan.bits[0][2] = 3;
  EXPECT_NE(Digest(plan), plain);
}

}  // namespace
}  // namespace lieq
