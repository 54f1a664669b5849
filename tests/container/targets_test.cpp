#include "lieq/container/targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/tensor/dtype.h"
#include "tests/support/error_of.h"
#include "tests/support/random_qmatrix.h"

namespace lieq {
namespace {

using testing::HasSubstr;

constexpr std::array kGroups{Index{16}, Index{32}, Index{64}, Index{128}, Index{256}, Index{0}};

template <class Visit>
void ForEveryGrid(const Visit& visit) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Offset offset : kAllOffsets) {
      for (const Index group : kGroups) {
        visit(Grid{.bits = bits, .group_size = group, .offset = offset});
      }
    }
  }
}

TEST(Targets, TheGridThatEnginesShareIsHeldByEveryContainer) {
  for (const ContainerTarget& row : Targets()) {
    for (const int bits : {2, 4}) {
      EXPECT_TRUE(row.holds({.bits = bits, .group_size = 64}, 512)) << row.name << ' ' << bits;
    }
    EXPECT_EQ(&FindTarget(row.name), &row);
  }
}

TEST(Targets, AnyHoldsWhatThereIs) {
  ForEveryGrid([](const Grid& grid) { EXPECT_TRUE(FindTarget("any").holds(grid, 512)); });
}

TEST(Targets, CompressedTensorsHoldsWhatIsWrittenUnderItsName) {
  ForEveryGrid([](const Grid& grid) {
    EXPECT_EQ(FindTarget("compressed-tensors").holds(grid, 512), !NeedsOwnMethod(grid));
  });
}

TEST(Targets, GptqHoldsNoRowsThatEndInsideAWord) {
  const ContainerTarget& gptq = FindTarget("gptq");

  EXPECT_TRUE(gptq.holds({.bits = 3, .group_size = 32}, 96));
  EXPECT_FALSE(gptq.holds({.bits = 3, .group_size = 24}, 72));
  EXPECT_FALSE(gptq.holds({.bits = 2, .group_size = 64, .offset = Offset::kHalf}, 512));
  for (const int bits : {5, 6}) EXPECT_FALSE(gptq.holds({.bits = bits, .group_size = 64}, 512));
}

TEST(Targets, MlxHoldsGridsWhoseBiasesAreValuesOfF16) {
  const ContainerTarget& mlx = FindTarget("mlx");
  int held = 0, refused = 0;
  ForEveryGrid([&](const Grid& grid) {
    const Index group = GroupColumns(grid, 512);
    const bool size = group == 32 || group == 64 || group == 128;
    // What any scale of 8 significant bits and any zero-point give.
    bool exact = true;
    for (int mantissa = 128; mantissa < 256; ++mantissa) {
      const float scale = RoundScale(static_cast<float>(mantissa) / 1024);
      const int zeros = grid.offset == Offset::kInteger ? grid.levels() : 1;
      for (int zero = 0; zero < zeros && grid.offset != Offset::kFloat; ++zero) {
        const float z = zeros > 1 ? static_cast<float>(zero) : grid.shared_zero();
        exact = exact && ToFloat(ToF16(-scale * z)) == -scale * z;
      }
    }

    EXPECT_EQ(mlx.holds(grid, 512), size && exact)
        << grid.bits << ' ' << Name(grid.offset) << ' ' << grid.group_size;
    ++(mlx.holds(grid, 512) ? held : refused);
  });
  EXPECT_GT(held, 20);
  EXPECT_GT(refused, 20);
}

TEST(Targets, GgufHoldsWhatItsTypesHoldAtTheirOwnWidth) {
  const ContainerTarget& gguf = FindTarget("gguf");
  const auto holds = [&](int bits, Offset offset, Index group) {
    return gguf.holds({.bits = bits, .group_size = group, .offset = offset}, 512);
  };

  EXPECT_TRUE(holds(2, Offset::kSymmetric, 64)) << "Q2_0";
  EXPECT_FALSE(holds(2, Offset::kSymmetric, 32));
  EXPECT_TRUE(holds(2, Offset::kHalf, 256)) << "Q2_K";
  EXPECT_TRUE(holds(2, Offset::kInteger, 0)) << "Q2_K";
  EXPECT_FALSE(holds(2, Offset::kHalf, 64));
  EXPECT_TRUE(holds(2, Offset::kFloat, 256)) << "Q2_K, its dmin the minimum";
  EXPECT_FALSE(holds(2, Offset::kFloat, 128));
  EXPECT_TRUE(holds(3, Offset::kSymmetric, 256)) << "Q3_K";
  EXPECT_FALSE(holds(3, Offset::kSymmetric, 128));
  EXPECT_TRUE(holds(4, Offset::kSymmetric, 32)) << "Q4_0";
  EXPECT_TRUE(holds(4, Offset::kFloat, 32)) << "Q4_1";
  EXPECT_TRUE(holds(4, Offset::kInteger, 256)) << "Q4_K";
  EXPECT_TRUE(holds(4, Offset::kHalf, 256)) << "Q4_K";
  EXPECT_FALSE(holds(4, Offset::kInteger, 64));
  EXPECT_TRUE(holds(5, Offset::kSymmetric, 32)) << "Q5_0";
  EXPECT_FALSE(holds(5, Offset::kFloat, 32));
  EXPECT_TRUE(holds(5, Offset::kInteger, 256)) << "Q5_K";
  EXPECT_TRUE(holds(6, Offset::kSymmetric, 256)) << "Q6_K";
  EXPECT_FALSE(holds(6, Offset::kSymmetric, 32));
  EXPECT_FALSE(holds(6, Offset::kInteger, 256));
  EXPECT_TRUE(holds(8, Offset::kSymmetric, 128)) << "Q8_0";
  EXPECT_FALSE(holds(8, Offset::kInteger, 128));
}

TEST(Targets, KQuantsAreForGguf) {
  for (const KQuant& row : KQuants()) {
    for (const ContainerTarget& target : Targets()) {
      const bool knows = target.name == "any" || target.name == "gguf";
      EXPECT_EQ(target.holds(row.grid, 512), knows) << target.name << ' ' << row.name;
    }
    EXPECT_FALSE(FindTarget("gguf").holds(row.grid, 576));
  }
}

TEST(Targets, SaysWhichLinearAContainerDoesNotHold) {
  ModelConfig config{
      .layers = 2, .hidden = 256, .intermediate = 512, .heads = 4, .kv_heads = 2, .head_dim = 64};
  LayerGrids grids(2);
  EXPECT_NO_THROW(CheckTarget(FindTarget("gguf"), grids, config, "--for"));
  grids[1][static_cast<std::size_t>(Site::kDown)].offset = Offset::kHalf;

  const Problem problem =
      ProblemOf([&] { CheckTarget(FindTarget("gguf"), grids, config, "--for"); });

  EXPECT_THAT(problem.where, HasSubstr("layer 1, down"));
  EXPECT_EQ(problem.found, "2 bits, half offset, groups of 64");
  EXPECT_NO_THROW(CheckTarget(FindTarget("mlx"), grids, config, "--for"));
}

TEST(Targets, NamesThemWhereThereIsNoSuchContainer) {
  EXPECT_EQ(ProblemOf([] { (void)FindTarget("onnx"); }).expected,
            "any, compressed-tensors, gptq, gguf, mlx");
}

}  // namespace
}  // namespace lieq
