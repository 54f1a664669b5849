#include "lieq/container/targets.h"

#include <algorithm>
#include <array>
#include <string>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"

namespace lieq {
namespace {

/// Whether f16, with 11 significant bits, holds every scale by RoundScale, with 8 of them, times
/// its zero-point. A symmetric one is a power of two and adds none; a half one is half an odd
/// number of `bits` bits, an integer one has as many; minima are stored as they are.
bool ProductFits(const Grid& grid) noexcept {
  constexpr int kScaleBits = 8, kF16Bits = 11;
  const bool adds = grid.offset == Offset::kHalf || grid.offset == Offset::kInteger;
  return kScaleBits + (adds ? grid.bits : 0) <= kF16Bits;
}

bool Zeros(const Grid& grid) noexcept {
  return !grid.k_quant && (grid.offset == Offset::kSymmetric || grid.offset == Offset::kInteger);
}

bool Anything(const Grid&, Index) noexcept {
  return true;
}

/// Widths whose codes GPTQ's tools know.
bool IsGptqWidth(int bits) noexcept {
  return bits == 2 || bits == 3 || bits == 4 || bits == 8;
}

bool CompressedTensors(const Grid& grid, Index) noexcept {
  return Zeros(grid);
}

/// Streams of codes run down the columns in whole words.
bool Gptq(const Grid& grid, Index cols) noexcept {
  return Zeros(grid) && IsGptqWidth(grid.bits) && cols * grid.bits % 32 == 0;
}

/// One scale for each group, multiplied by biases of the same type; kernels know three sizes.
bool Mlx(const Grid& grid, Index cols) noexcept {
  const Index group = GroupColumns(grid, cols);
  return !grid.k_quant && (group == 32 || group == 64 || group == 128) && ProductFits(grid);
}

/// K-quant grids as they are. Else Q2_0, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_K, Q6_K and Q8_0
/// with scales of the grid's own: a block's scale may be written several times, and K-quants hold a
/// free one where a group is whole super-blocks.
bool Gguf(const Grid& grid, Index cols) noexcept {
  const Index group = GroupColumns(grid, cols);
  const bool super = group % 256 == 0;
  if (grid.k_quant) return cols % kSuperColumns == 0;
  switch (grid.bits) {
    case 2:  // Q2_0 has zero-points 1 and 2 alone; Q2_K any, and minima
      return grid.symmetric() ? group % 64 == 0 : super;
    case 3:
      return grid.symmetric() && super;
    case 4:
      return grid.symmetric() || grid.offset == Offset::kFloat ? group % 32 == 0 : super;
    case 5:  // Q5_0, Q5_K
      return grid.symmetric() ? group % 32 == 0 : super;
    case 6:  // Q6_K
      return grid.symmetric() && super;
    default:
      return grid.symmetric() && group % 32 == 0;
  }
}

constexpr std::array kTargets{
    ContainerTarget{"any", "every grid: LieQ's own folders", Anything},
    ContainerTarget{"compressed-tensors", "symmetric grids and integer zero-points of any groups",
                    CompressedTensors},
    ContainerTarget{
        .name = "gptq",
        .description = "2, 3, 4 and 8 bits, symmetric or with integer zero-points, in any groups",
        .holds = Gptq,
        .half_scales = true,
        .packs_ends = false},
    ContainerTarget{
        .name = "gguf",
        .description =
            "K-quants; 2 bits symmetric in groups of 64, 4, 5 and 8 bits symmetric in groups of "
            "32, 4 bits with minima in groups of 32; other offsets of 2, 4 and 5 bits, and 3 and 6 "
            "bits symmetric, in groups of 256",
        .holds = Gguf,
        .offers_k_quants = true,
        .half_scales = true},
    ContainerTarget{.name = "mlx",
                    .description =
                        "groups of 32, 64 or 128: symmetric grids and minima, half and integer "
                        "offsets at 2 and 3 bits",
                    .holds = Mlx,
                    .offers_six_bits = true},
};

std::string TextOf(const Grid& grid, Index cols) {
  if (grid.k_quant) return std::string(KQuantOf(grid).name);
  return std::to_string(grid.bits) + " bits, " + std::string(Describe(grid.offset)) +
         ", groups of " + std::to_string(GroupColumns(grid, cols));
}

/// Of a command that has --for already.
constexpr std::string_view kChooses =
    "--bpw or --size, with nothing else, choose among grids that it holds";

bool HoldsEvery(const ContainerTarget& target, const LayerGrids& grids, const ModelConfig& config) {
  for (std::size_t layer = 0; layer < grids.size(); ++layer) {
    const auto index = static_cast<Index>(layer);
    const bool held = std::ranges::all_of(config.Sites(index), [&](Site site) {
      return target.holds(grids[layer][static_cast<std::size_t>(site)], config.In(index, site));
    });
    if (!held) return false;
  }
  return true;
}

}  // namespace

std::vector<const ContainerTarget*> HoldersOf(const LayerGrids& grids, const ModelConfig& config) {
  std::vector<const ContainerTarget*> holders;
  for (const ContainerTarget& target : kTargets) {
    if (target.holds != Anything && HoldsEvery(target, grids, config)) holders.push_back(&target);
  }
  return holders;
}

bool HoldsEnds(const ContainerTarget& target, const Grid& grid, const ModelConfig& config) {
  return target.packs_ends && target.holds(grid, config.hidden);
}

std::string WayOut(const ContainerTarget& target) {
  return "`lieq quantize --for " + std::string(target.name) +
         "` refuses such grids at the start, and with --bpw or --size chooses among those it holds";
}

std::span<const ContainerTarget> Targets() noexcept {
  return kTargets;
}

const ContainerTarget& FindTarget(std::string_view name) {
  return FindRow(kTargets, name, "no such container", "--for");
}

void CheckTarget(const ContainerTarget& target, const LayerGrids& grids, const ModelConfig& config,
                 std::string_view option) {
  for (std::size_t layer = 0; layer < grids.size(); ++layer) {
    const auto index = static_cast<Index>(layer);
    for (const Site site : config.Sites(index)) {
      const Grid& grid = grids[layer][static_cast<std::size_t>(site)];
      const Index cols = config.In(index, site);
      if (target.holds(grid, cols)) continue;
      std::string names;
      for (const ContainerTarget* holder : HoldersOf(grids, config)) {
        names += (names.empty() ? "" : ", ") + std::string(holder->name);
      }
      throw Error(
          {.what = "a grid that " + std::string(target.name) + " does not hold exactly",
           .where = std::string(option) + " " + std::string(target.name) + ", layer " +
                    std::to_string(layer) + ", " + std::string(Name(site)),
           .expected = std::string(target.description),
           .found = TextOf(grid, cols),
           .hint = (option == "--for" ? std::string(kChooses) : WayOut(target)) +
                   (names.empty() ? "" : "; all grids of this model are held by " + names)});
    }
  }
}

void CheckTarget(const ContainerTarget& target, const ModelGrids& grids, const ModelConfig& config,
                 std::string_view option) {
  CheckTarget(target, grids.layers, config, option);
  for (const End end : EndsIn(config)) {
    const std::optional<Grid>& grid = grids.ends.At(end);
    if (!grid || HoldsEnds(target, *grid, config)) continue;
    throw Error({.what = "a grid that " + std::string(target.name) + " does not hold exactly",
                 .where = std::string(option) + " " + std::string(target.name) + ", " +
                          std::string(Name(end)),
                 .expected = target.packs_ends ? std::string(target.description)
                                               : "16-bit floats in embedding and head",
                 .found = TextOf(*grid, config.hidden)});
  }
}

}  // namespace lieq
