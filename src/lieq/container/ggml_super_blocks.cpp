#include "lieq/container/ggml_super_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>

#include "lieq/base/assert.h"
#include "lieq/container/ggml_block_parts.h"

namespace lieq {
namespace {

/// The steps of types without minima, Q3_K and Q6_K, are -middle .. middle - 1.
int LeastStep(const KQuant& kind) noexcept {
  return -kind.grid.middle();
}

/// A super-block of `kind` with the values of the matrix, whose codes of column c are stored as
/// the step that the ladder of its group gives: those of types with minima do not change.
struct SuperFit {
  SuperBlock super;
  std::array<Ladder, SuperBlock::kMostGroups> ladders{};  // of types without minima
};

/// On a grid that is not the type's own: where one unit, or one scale and minimum, fills the block.
std::optional<SuperFit> FitSuper(const QMatrix& matrix, Index row, Index block,
                                 const KQuant& kind) {
  const Grid& grid = matrix.grid();
  SuperFit fit;
  if (grid.k_quant) {
    if (&KQuantOf(grid) != &kind) return std::nullopt;
    fit.super = matrix.Super(row, block);
    fit.ladders.fill({0, 1, LeastStep(kind)});
    return fit;
  }
  const Index columns = kind.grid.group_size;
  if (matrix.cols() % kSuperColumns != 0 || matrix.group_columns() % columns != 0) {
    return std::nullopt;
  }
  if (kind.has_minima() && grid.bits > kind.grid.bits) return std::nullopt;
  std::optional<Line> line;
  for (Index g = 0; g < kind.groups(); ++g) {
    const auto at = Size(g);
    const Index group = (block * kSuperColumns + g * columns) / matrix.group_columns();
    if (!kind.has_minima()) {
      const auto ladder = LadderOf(matrix, row, group, LeastStep(kind), kind.grid.middle() - 1, 0,
                                   grid.levels() - 1);
      if (!ladder || (g > 0 && ladder->d != fit.super.d)) return std::nullopt;
      fit.super.d = ladder->d;
      fit.super.scales[at] = 1;
      fit.ladders[at] = *ladder;
    } else if (grid.offset == Offset::kFloat) {
      const std::optional<Line> each = LineOf(matrix, row, group);
      if (!each || (line && *each != *line)) return std::nullopt;
      line = each;
      fit.super.d = line->d;
      fit.super.dmin = -line->m;
      fit.super.scales[at] = 1;
      fit.super.minima[at] = 1;
    } else {
      const WholeSteps steps = *StepsOf(matrix, row, group);
      if (!IsHalf(steps.unit) || steps.zero > kind.most_minimum() ||
          (g > 0 && steps.unit != fit.super.d)) {
        return std::nullopt;
      }
      fit.super.d = fit.super.dmin = steps.unit;
      fit.super.scales[at] = static_cast<std::int8_t>(steps.factor);
      fit.super.minima[at] = Byte(static_cast<unsigned>(steps.zero));
    }
  }
  return fit;
}

bool HoldsAsSuper(const QMatrix& matrix, Index row, Codes codes, int bits) {
  const KQuant& kind = *KQuantOfBits(bits);
  if (codes.size() % kSuper != 0) return false;
  for (Index block = 0; block < static_cast<Index>(codes.size() / kSuper); ++block) {
    if (!FitSuper(matrix, row, block, kind)) return false;
  }
  return true;
}

/// Calls pack(super-block, codes, bytes) for each block; bytes are 0 before.
template <class Pack>
void EncodeEach(const QMatrix& matrix, Index row, Codes codes, Blocks out, int bits,
                const Pack& pack) {
  const KQuant& kind = *KQuantOfBits(bits);
  const std::size_t count = codes.size() / kSuper, bytes = out.size() / count;
  std::ranges::fill(out, std::byte{0});
  std::array<std::uint8_t, kSuper> moved{};
  for (std::size_t block = 0; block < count; ++block) {
    const auto fit = FitSuper(matrix, row, static_cast<Index>(block), kind);
    LIEQ_ASSERT(fit.has_value());
    Codes stored = codes.subspan(block * kSuper, kSuper);
    if (!kind.has_minima()) {
      for (std::size_t e = 0; e < kSuper; ++e) {
        const Ladder& ladder = fit->ladders[e / Size(kind.grid.group_size)];
        moved[e] = static_cast<std::uint8_t>(ladder.Step(stored[e]) - LeastStep(kind));
      }
      stored = moved;
    }
    pack(fit->super, stored, out.subspan(block * bytes, bytes));
  }
}

/// Sets the super-block of a matrix on the type's own grid; false where d or dmin is not finite.
bool SetSuper(QMatrix& matrix, Index row, Index block, const SuperBlock& super) {
  if (!std::isfinite(super.d) || !std::isfinite(super.dmin)) return false;
  matrix.SetSuper(row, block, super);
  return true;
}

/// What blocks of Q4_K and Q5_K begin with: d, dmin, and eight factors of 6 bits for each.
void PutSixBitFactors(const SuperBlock& super, Blocks bytes) {
  PutHalf(bytes, 0, super.d);
  PutHalf(bytes, 2, super.dmin);
  const Blocks factors = bytes.subspan(4, 12);
  for (std::size_t g = 0; g < 4; ++g) {  // the upper two bits of groups 4 .. 7 lie above
    const auto scale = static_cast<unsigned>(super.scales[g]);
    const auto above = static_cast<unsigned>(super.scales[g + 4]);
    const unsigned minimum = super.minima[g], minimum_above = super.minima[g + 4];
    factors[g] = std::byte{Byte(scale | (above >> 4) << 6)};
    factors[g + 4] = std::byte{Byte(minimum | (minimum_above >> 4) << 6)};
    factors[g + 8] = std::byte{Byte((above & 15u) | (minimum_above & 15u) << 4)};
  }
}

SuperBlock SixBitFactors(ConstBlocks bytes) {
  SuperBlock super{.d = HalfAt(bytes, 0), .dmin = HalfAt(bytes, 2)};
  for (std::size_t g = 0; g < 4; ++g) {
    const auto a = ByteAt(bytes, 4 + g), b = ByteAt(bytes, 8 + g), both = ByteAt(bytes, 12 + g);
    super.scales[g] = static_cast<std::int8_t>(a & 63u);
    super.minima[g] = Byte(b & 63u);
    super.scales[g + 4] = static_cast<std::int8_t>((both & 15u) | (a >> 6) << 4);
    super.minima[g + 4] = Byte(both >> 4 | (b >> 6) << 4);
  }
  return super;
}

/// Where Q6_K has column e: bits 0 to 3 of its code, and bits 4 and 5.
struct SixBitPlace {
  std::size_t low, high;
  unsigned low_shift, high_shift;
};
constexpr SixBitPlace PlaceOf(std::size_t e) noexcept {
  const std::size_t half = e / 128, plane = e % 128 / 32, lane = e % 32;
  return {.low = 64 * half + 32 * (plane % 2) + lane,
          .high = 128 + 32 * half + lane,
          .low_shift = static_cast<unsigned>(4 * (plane / 2)),
          .high_shift = static_cast<unsigned>(2 * plane)};
}

}  // namespace

template <int kBits>
bool HoldsSuper(const QMatrix& matrix, Index row, Codes codes) {
  return HoldsAsSuper(matrix, row, codes, kBits);
}
template bool HoldsSuper<2>(const QMatrix&, Index, Codes);
template bool HoldsSuper<3>(const QMatrix&, Index, Codes);
template bool HoldsSuper<4>(const QMatrix&, Index, Codes);
template bool HoldsSuper<5>(const QMatrix&, Index, Codes);
template bool HoldsSuper<6>(const QMatrix&, Index, Codes);

template <>
void EncodeSuper<2>(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  EncodeEach(matrix, row, codes, out, 2, [](const SuperBlock& super, Codes block, Blocks bytes) {
    for (std::size_t g = 0; g < 16; ++g) {
      const auto scale = static_cast<unsigned>(super.scales[g]);
      bytes[g] = std::byte{Byte(scale | static_cast<unsigned>(super.minima[g]) << 4)};
    }
    PutPlanes(block, bytes.subspan(16));
    PutHalf(bytes, 80, super.d);
    PutHalf(bytes, 82, super.dmin);
  });
}
template <>
bool DecodeSuper<2>(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 84, codes, [&](ConstBlocks bytes, Index block, auto part) {
    SuperBlock super{.d = HalfAt(bytes, 80), .dmin = HalfAt(bytes, 82)};
    for (std::size_t g = 0; g < 16; ++g) {
      super.scales[g] = static_cast<std::int8_t>(ByteAt(bytes, g) & 15);
      super.minima[g] = Byte(ByteAt(bytes, g) >> 4u);
    }
    GetPlanes(bytes.subspan(16), part);
    return SetSuper(matrix, row, block, super);
  });
}

template <>
void EncodeSuper<3>(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  EncodeEach(matrix, row, codes, out, 3, [](const SuperBlock& super, Codes block, Blocks bytes) {
    for (std::size_t e = 0; e < kSuper; ++e) {
      bytes[e % 32] |= std::byte{Byte((block[e] >> 2u) << (e / 32))};
    }
    PutPlanes(block, bytes.subspan(32));
    for (std::size_t g = 0; g < 16; ++g) {
      const auto scale = static_cast<unsigned>(super.scales[g] + 32);
      bytes[96 + g % 8] |= std::byte{Byte((scale & 15u) << 4 * (g / 8))};
      bytes[104 + g % 4] |= std::byte{Byte((scale >> 4) << 2 * (g / 4))};
    }
    PutHalf(bytes, 108, super.d);
  });
}
template <>
bool DecodeSuper<3>(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 110, codes, [&](ConstBlocks bytes, Index block, auto part) {
    SuperBlock super{.d = HalfAt(bytes, 108)};
    for (std::size_t g = 0; g < 16; ++g) {
      const unsigned low = ByteAt(bytes, 96 + g % 8) >> (4 * (g / 8)) & 15u;
      const unsigned high = ByteAt(bytes, 104 + g % 4) >> (2 * (g / 4)) & 3u;
      super.scales[g] = static_cast<std::int8_t>(static_cast<int>(low | high << 4) - 32);
    }
    GetPlanes(bytes.subspan(32), part);
    for (std::size_t e = 0; e < kSuper; ++e) {
      part[e] = Byte(part[e] | (ByteAt(bytes, e % 32) >> (e / 32) & 1u) << 2);
    }
    return SetSuper(matrix, row, block, super);
  });
}

template <>
void EncodeSuper<4>(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  EncodeEach(matrix, row, codes, out, 4, [](const SuperBlock& super, Codes block, Blocks bytes) {
    PutSixBitFactors(super, bytes);
    for (std::size_t e = 0; e < kSuper; ++e) {
      const unsigned shift = e % 64 < 32 ? 0 : 4;
      bytes[16 + 32 * (e / 64) + e % 32] |= std::byte{Byte(unsigned{block[e]} << shift)};
    }
  });
}
template <>
bool DecodeSuper<4>(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 144, codes, [&](ConstBlocks bytes, Index block, auto part) {
    const SuperBlock super = SixBitFactors(bytes);
    for (std::size_t e = 0; e < kSuper; ++e) {
      part[e] = (ByteAt(bytes, 16 + 32 * (e / 64) + e % 32) >> (e % 64 < 32 ? 0 : 4)) & 15;
    }
    return SetSuper(matrix, row, block, super);
  });
}

template <>
void EncodeSuper<5>(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  EncodeEach(matrix, row, codes, out, 5, [](const SuperBlock& super, Codes block, Blocks bytes) {
    PutSixBitFactors(super, bytes);
    for (std::size_t e = 0; e < kSuper; ++e) {
      const unsigned code = block[e], shift = e % 64 < 32 ? 0 : 4;
      bytes[16 + e % 32] |= std::byte{Byte((code >> 4) << (e / 32))};
      bytes[48 + 32 * (e / 64) + e % 32] |= std::byte{Byte((code & 15u) << shift)};
    }
  });
}
template <>
bool DecodeSuper<5>(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 176, codes, [&](ConstBlocks bytes, Index block, auto part) {
    const SuperBlock super = SixBitFactors(bytes);
    for (std::size_t e = 0; e < kSuper; ++e) {
      const unsigned low = ByteAt(bytes, 48 + 32 * (e / 64) + e % 32) >> (e % 64 < 32 ? 0 : 4);
      part[e] = Byte((low & 15u) + (ByteAt(bytes, 16 + e % 32) >> (e / 32) & 1u) * 16u);
    }
    return SetSuper(matrix, row, block, super);
  });
}

template <>
void EncodeSuper<6>(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  EncodeEach(matrix, row, codes, out, 6, [](const SuperBlock& super, Codes block, Blocks bytes) {
    for (std::size_t e = 0; e < kSuper; ++e) {
      const SixBitPlace at = PlaceOf(e);
      const unsigned code = block[e];
      bytes[at.low] |= std::byte{Byte((code & 15u) << at.low_shift)};
      bytes[at.high] |= std::byte{Byte((code >> 4) << at.high_shift)};
    }
    std::memcpy(bytes.data() + 192, super.scales.data(), super.scales.size());
    PutHalf(bytes, 208, super.d);
  });
}
template <>
bool DecodeSuper<6>(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 210, codes, [&](ConstBlocks bytes, Index block, auto part) {
    SuperBlock super{.d = HalfAt(bytes, 208)};
    std::memcpy(super.scales.data(), bytes.data() + 192, super.scales.size());
    for (std::size_t e = 0; e < kSuper; ++e) {
      const SixBitPlace at = PlaceOf(e);
      const unsigned low = ByteAt(bytes, at.low) >> at.low_shift;
      const unsigned high = ByteAt(bytes, at.high) >> at.high_shift;
      part[e] = Byte((low & 15u) | (high & 3u) << 4);
    }
    return SetSuper(matrix, row, block, super);
  });
}

}  // namespace lieq
