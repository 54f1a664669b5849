#include "lieq/plan/grid_names.h"

#include <gtest/gtest.h>

#include "lieq/plan/plan.h"

namespace lieq {
namespace {

TEST(GridNames, AreReadAsTheyAreWritten) {
  for (const int bits : kWidths) {
    for (const Index group : {0, 16, 64, 100}) {
      for (const Offset offset : kAllOffsets) {
        const Grid grid{.bits = bits, .group_size = group, .offset = offset};
        const NamedGrid expected{grid, true, offset != Offset::kSymmetric};
        EXPECT_EQ(GridFromName(ShortName(grid)), expected) << ShortName(grid);
        EXPECT_EQ(GridFromName(Label(grid)), expected) << Label(grid);
      }
    }
  }
  for (const KQuant& row : KQuants()) {
    EXPECT_EQ(ShortName(row.grid), row.name);
    EXPECT_EQ(GridFromName(row.name), (NamedGrid{row.grid, true, true}));
  }
  EXPECT_EQ(ShortName({.bits = 2, .group_size = 64}), "w2g64");
  EXPECT_EQ(ShortName({.bits = 4, .group_size = 0, .offset = Offset::kHalf}), "w4g-1:half");
}

TEST(GridNames, MayLeaveTheGroupOut) {
  const auto named = GridFromName("w3");
  ASSERT_TRUE(named.has_value());
  EXPECT_EQ(named->grid.bits, 3);
  EXPECT_FALSE(named->says_group);
  EXPECT_FALSE(named->says_offset);
  EXPECT_TRUE(GridFromName("w3:half")->says_offset);
}

TEST(GridNames, AreNothingElse) {
  for (const char* text : {"",        "w",          "w7",
                           "w7g64",   "wg64",       "w2g",
                           "w2g0",    "w2g-2",      "w2g64g32",
                           "w2g64:",  "w2g64:left", "w2g64:half:half",
                           "w02g64x", "4",          "4:",
                           ":64",     "4:64:",      "4:64:half:",
                           "4:0",     "-4:64",      "w4g99999999999999999999",
                           "q9_k",    "16",         "float",
                           "W4G64",   "w4 g64",     "w4g64 "}) {
    EXPECT_FALSE(GridFromName(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace lieq
