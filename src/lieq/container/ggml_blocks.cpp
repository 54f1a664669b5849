#include "lieq/container/ggml_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/tensor/dtype.h"

namespace lieq {
namespace {

using Codes = std::span<const std::uint8_t>;
using Blocks = std::span<std::byte>;
using ConstBlocks = std::span<const std::byte>;

constexpr std::size_t kSuper = kSuperColumns;

std::uint8_t Byte(unsigned value) noexcept {
  return static_cast<std::uint8_t>(value);
}

std::uint8_t ByteAt(ConstBlocks bytes, std::size_t at) noexcept {
  return std::to_integer<std::uint8_t>(bytes[at]);
}

float HalfAt(ConstBlocks bytes, std::size_t at) noexcept {
  F16 half;
  std::memcpy(&half, bytes.data() + at, sizeof(half));
  return ToFloat(half);
}

void PutHalf(Blocks bytes, std::size_t at, float value) noexcept {
  const F16 half = ToF16(value);
  std::memcpy(bytes.data() + at, &half, sizeof(half));
}

bool IsHalf(float value) noexcept {
  return std::isfinite(value) && ToFloat(ToF16(value)) == value;
}

// ---- what grids and types have in common -------------------------------------------------------

/// A group as w = unit * (factor * code - zero), all but the unit whole numbers.
struct WholeSteps {
  float unit;
  int factor, zero;
};

/// Nothing of grids with minima of their own. The halves of half offsets go into the unit.
std::optional<WholeSteps> StepsOf(const QMatrix& matrix, Index row, Index group) {
  const Grid& grid = matrix.grid();
  if (grid.k_quant || grid.offset == Offset::kFloat) return std::nullopt;
  const float scale = matrix.scales()(row, group);
  if (grid.offset == Offset::kHalf) return WholeSteps{0.5f * scale, 2, grid.levels() - 1};
  const int zero = grid.offset == Offset::kInteger ? matrix.zeros()(row, group) : grid.middle();
  return WholeSteps{scale, 1, zero};
}

/// A group as w = d * step, with step = sign * factor * code + add of the type's own range.
struct Ladder {
  float d;
  int factor, add;

  [[nodiscard]] int Step(int code) const noexcept { return factor * code + add; }
};

/// Codes from `least` to `most` on the steps low .. high of a type, as they stand or mirrored:
/// s (q - z) = -s (z - q). Nothing where they do not fit, or f16 does not hold the unit.
std::optional<Ladder> LadderOf(const QMatrix& matrix, Index row, Index group, int low, int high,
                               int least, int most, bool mirrored_first = false) {
  const std::optional<WholeSteps> steps = StepsOf(matrix, row, group);
  if (!steps || !IsHalf(steps->unit)) return std::nullopt;
  const Ladder straight{steps->unit, steps->factor, -steps->zero};
  const Ladder mirrored{-steps->unit, -steps->factor, steps->zero};
  for (const bool mirror : {mirrored_first, !mirrored_first}) {
    const Ladder& ladder = mirror ? mirrored : straight;
    const int begin = ladder.Step(least), end = ladder.Step(most);
    if (std::min(begin, end) >= low && std::max(begin, end) <= high) return ladder;
  }
  return std::nullopt;
}

/// A type of blocks with one scale each and steps low .. high around 0.
struct PlainBlocks {
  std::size_t columns;
  int low, high;
  bool by_codes = false;  // whether the codes that occur decide, not those that could

  [[nodiscard]] std::optional<Ladder> Fit(const QMatrix& matrix, Index row, Codes codes,
                                          std::size_t block) const {
    const auto part = codes.subspan(block * columns, columns);
    const auto first = static_cast<Index>(block * columns);
    const Index step = std::min(matrix.group_columns(), static_cast<Index>(columns));
    std::optional<Ladder> common;
    for (Index col = first; col < first + static_cast<Index>(columns); col += step) {
      int least = 0, most = matrix.grid().levels() - 1;
      if (by_codes) {
        const auto [low_code, high_code] = std::ranges::minmax(part);
        least = low_code;
        most = high_code;
      }
      const auto ladder =
          LadderOf(matrix, row, col / matrix.group_columns(), low, high, least, most, by_codes);
      if (!ladder) return std::nullopt;
      if (common && (ladder->d != common->d || ladder->add != common->add)) return std::nullopt;
      common = ladder;
    }
    return common;
  }

  /// Whether each block lies in one group, or is made of whole ones.
  [[nodiscard]] bool Divides(const QMatrix& matrix) const noexcept {
    const auto block = static_cast<Index>(columns);
    return matrix.cols() % block == 0 &&
           (matrix.group_columns() % block == 0 || block % matrix.group_columns() == 0);
  }

  [[nodiscard]] bool Holds(const QMatrix& matrix, Index row, Codes codes) const {
    if (!Divides(matrix)) return false;
    for (std::size_t block = 0; block < codes.size() / columns; ++block) {
      if (!Fit(matrix, row, codes, block)) return false;
    }
    return true;
  }

  /// Calls pack(d, steps less `low`, bytes of the block) for each block.
  template <class Pack>
  void Encode(const QMatrix& matrix, Index row, Codes codes, Blocks out, const Pack& pack) const {
    std::array<std::uint8_t, kSuper> stored{};
    const std::size_t bytes = out.size() / (codes.size() / columns);
    for (std::size_t block = 0; block < codes.size() / columns; ++block) {
      const std::optional<Ladder> ladder = Fit(matrix, row, codes, block);
      LIEQ_ASSERT(ladder.has_value());
      for (std::size_t i = 0; i < columns; ++i) {
        stored[i] = static_cast<std::uint8_t>(ladder->Step(codes[block * columns + i]) - low);
      }
      pack(ladder->d, Codes(stored).first(columns), out.subspan(block * bytes, bytes));
    }
  }
};

/// Calls unpack(bytes of the block, its number, its codes) until one gives false.
template <class Unpack>
bool DecodeEach(ConstBlocks blocks, std::size_t bytes, std::span<std::uint8_t> codes,
                const Unpack& unpack) {
  const std::size_t count = blocks.size() / bytes, columns = codes.size() / count;
  for (std::size_t block = 0; block < count; ++block) {
    if (!unpack(blocks.subspan(block * bytes, bytes), static_cast<Index>(block),
                codes.subspan(block * columns, columns))) {
      return false;
    }
  }
  return true;
}

/// The scale of a group; false where it is not finite.
bool SetScale(QMatrix& matrix, Index row, Index group, float scale) {
  matrix.scales()(row, group) = scale;
  return std::isfinite(scale);
}

// ---- nibbles: Q4_0, Q4_1, Q5_0 -----------------------------------------------------------------

constexpr std::size_t kNibbleColumns = 32;

/// Byte i holds columns i and i + 16.
void PutNibbles(Codes codes, Blocks out) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = std::byte{Byte((codes[i] & 15u) | (codes[i + 16] & 15u) << 4)};
  }
}

void GetNibbles(ConstBlocks bytes, std::span<std::uint8_t> codes) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    codes[i] = ByteAt(bytes, i) & 15;
    codes[i + 16] = Byte(ByteAt(bytes, i) >> 4u);
  }
}

constexpr PlainBlocks kQ4_0{.columns = kNibbleColumns, .low = -8, .high = 7};
constexpr PlainBlocks kQ5_0{.columns = kNibbleColumns, .low = -16, .high = 15};

bool HoldsQ4_0(const QMatrix& matrix, Index row, Codes codes) {
  return kQ4_0.Holds(matrix, row, codes);
}
void EncodeQ4_0(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  kQ4_0.Encode(matrix, row, codes, out, [](float d, Codes block, Blocks bytes) {
    PutHalf(bytes, 0, d);
    PutNibbles(block, bytes.subspan(2));
  });
}
bool DecodeQ4_0(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 18, codes, [&](ConstBlocks bytes, Index group, auto block) {
    GetNibbles(bytes.subspan(2), block);
    return SetScale(matrix, row, group, HalfAt(bytes, 0));
  });
}

bool HoldsQ5_0(const QMatrix& matrix, Index row, Codes codes) {
  return kQ5_0.Holds(matrix, row, codes);
}
void EncodeQ5_0(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  kQ5_0.Encode(matrix, row, codes, out, [](float d, Codes block, Blocks bytes) {
    std::uint32_t high = 0;
    for (std::size_t i = 0; i < block.size(); ++i) {
      high |= std::uint32_t{block[i] >= 16} << i;
    }
    PutHalf(bytes, 0, d);
    std::memcpy(bytes.data() + 2, &high, sizeof(high));
    PutNibbles(block, bytes.subspan(6));
  });
}
bool DecodeQ5_0(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 22, codes, [&](ConstBlocks bytes, Index group, auto block) {
    std::uint32_t high = 0;
    std::memcpy(&high, bytes.data() + 2, sizeof(high));
    GetNibbles(bytes.subspan(6), block);
    for (std::size_t i = 0; i < block.size(); ++i) {
      block[i] = Byte(block[i] + ((high >> i & 1u) << 4) - 16u + 128u);
    }
    return SetScale(matrix, row, group, HalfAt(bytes, 0));
  });
}

/// A group as w = d * code + m.
struct Line {
  float d, m;
  friend bool operator==(const Line&, const Line&) = default;
};

/// Nothing of K-quants, or where f16 does not hold one of the two.
std::optional<Line> LineOf(const QMatrix& matrix, Index row, Index group) {
  if (matrix.grid().k_quant) return std::nullopt;
  const float scale = matrix.scales()(row, group);
  float minimum = 0;
  if (matrix.grid().offset == Offset::kFloat) {
    minimum = matrix.minima()(row, group);
  } else {
    const WholeSteps steps = *StepsOf(matrix, row, group);
    minimum = -(steps.unit * static_cast<float>(steps.zero));
  }
  if (!IsHalf(scale) || !IsHalf(minimum)) return std::nullopt;
  return Line{scale, minimum};
}

bool HoldsQ4_1(const QMatrix& matrix, Index row, Codes codes) {
  if (matrix.grid().bits > 4 || matrix.group_columns() % Index{kNibbleColumns} != 0 ||
      codes.size() % kNibbleColumns != 0) {
    return false;
  }
  for (Index group = 0; group < matrix.groups(); ++group) {
    if (!LineOf(matrix, row, group)) return false;
  }
  return true;
}
void EncodeQ4_1(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  for (std::size_t block = 0; block < codes.size() / kNibbleColumns; ++block) {
    const auto col = static_cast<Index>(block * kNibbleColumns);
    const std::optional<Line> line = LineOf(matrix, row, col / matrix.group_columns());
    LIEQ_ASSERT(line.has_value());
    const Blocks bytes = out.subspan(block * 20, 20);
    PutHalf(bytes, 0, line->d);
    PutHalf(bytes, 2, line->m);
    PutNibbles(codes.subspan(block * kNibbleColumns, kNibbleColumns), bytes.subspan(4));
  }
}
bool DecodeQ4_1(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 20, codes, [&](ConstBlocks bytes, Index group, auto block) {
    GetNibbles(bytes.subspan(4), block);
    const float minimum = HalfAt(bytes, 2);
    matrix.minima()(row, group) = minimum;
    return SetScale(matrix, row, group, HalfAt(bytes, 0)) && std::isfinite(minimum);
  });
}

// ---- bytes: Q8_0 -------------------------------------------------------------------------------

constexpr PlainBlocks kQ8_0{.columns = 32, .low = -128, .high = 127};

bool HoldsQ8_0(const QMatrix& matrix, Index row, Codes codes) {
  return kQ8_0.Holds(matrix, row, codes);
}
void EncodeQ8_0(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  kQ8_0.Encode(matrix, row, codes, out, [](float d, Codes block, Blocks bytes) {
    PutHalf(bytes, 0, d);
    for (std::size_t i = 0; i < block.size(); ++i) bytes[2 + i] = std::byte{Byte(block[i] - 128u)};
  });
}
bool DecodeQ8_0(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 34, codes, [&](ConstBlocks bytes, Index group, auto block) {
    for (std::size_t i = 0; i < block.size(); ++i) block[i] = Byte(ByteAt(bytes, 2 + i) + 128u);
    return SetScale(matrix, row, group, HalfAt(bytes, 0));
  });
}

// ---- two bits: Q2_0, TQ2_0 ---------------------------------------------------------------------
// Steps -1 .. 2 are read mirrored, -2 .. 1, so that zero is 2^(bits-1): d (c - 1) = -d (3 - c - 2).
// Where both ways fit TQ2_0 they are written mirrored too: codes and signs of scales come back.

constexpr PlainBlocks kQ2_0{.columns = 64, .low = -1, .high = 2};
constexpr PlainBlocks kTq2_0{.columns = kSuper, .low = -1, .high = 1, .by_codes = true};

/// Byte 32 (e / 128) + e % 32 holds column e at bits 2 ((e % 128) / 32): planes of llama.cpp's.
constexpr std::size_t PlaneByte(std::size_t e) noexcept {
  return 32 * (e / 128) + e % 32;
}
constexpr unsigned PlaneShift(std::size_t e) noexcept {
  return static_cast<unsigned>(2 * (e % 128 / 32));
}

void PutPlanes(Codes codes, Blocks out) noexcept {
  for (std::size_t e = 0; e < kSuper; ++e) {
    out[PlaneByte(e)] |= std::byte{Byte((codes[e] & 3u) << PlaneShift(e))};
  }
}
void GetPlanes(ConstBlocks bytes, std::span<std::uint8_t> codes) noexcept {
  for (std::size_t e = 0; e < kSuper; ++e) {
    codes[e] = (ByteAt(bytes, PlaneByte(e)) >> PlaneShift(e)) & 3;
  }
}

void Mirror(std::span<std::uint8_t> codes) noexcept {
  for (std::uint8_t& code : codes) code = Byte(3u - code);
}

bool HoldsQ2_0(const QMatrix& matrix, Index row, Codes codes) {
  return kQ2_0.Holds(matrix, row, codes);
}
void EncodeQ2_0(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  kQ2_0.Encode(matrix, row, codes, out, [](float d, Codes block, Blocks bytes) {
    PutHalf(bytes, 0, d);
    for (std::size_t i = 0; i < 16; ++i) {
      const auto four = block.subspan(4 * i, 4);
      bytes[2 + i] = std::byte{Byte(four[0] | four[1] << 2u | four[2] << 4u | four[3] << 6u)};
    }
  });
}
bool DecodeQ2_0(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 18, codes, [&](ConstBlocks bytes, Index group, auto block) {
    for (std::size_t i = 0; i < block.size(); ++i) {
      block[i] = (ByteAt(bytes, 2 + i / 4) >> (2 * (i % 4))) & 3;
    }
    Mirror(block);
    return SetScale(matrix, row, group, -HalfAt(bytes, 0));
  });
}

bool HoldsTq2_0(const QMatrix& matrix, Index row, Codes codes) {
  return kTq2_0.Holds(matrix, row, codes);
}
void EncodeTq2_0(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  kTq2_0.Encode(matrix, row, codes, out, [](float d, Codes block, Blocks bytes) {
    std::ranges::fill(bytes, std::byte{0});
    PutPlanes(block, bytes);
    PutHalf(bytes, 64, d);
  });
}
bool DecodeTq2_0(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 66, codes, [&](ConstBlocks bytes, Index group, auto block) {
    GetPlanes(bytes, block);
    Mirror(block);
    return SetScale(matrix, row, group, -HalfAt(bytes, 64));
  });
}

// ---- K-quants: Q2_K, Q3_K, Q4_K; Q5_K and Q6_K are read alone ----------------------------------

constexpr int kQ3Low = -4, kQ3High = 3;  // steps of Q3_K

/// A super-block of `kind` with the values of the matrix, whose codes of column c are stored as
/// code * factor[c / group] + add[...]: those of grids with whole steps change for Q3_K alone.
struct SuperFit {
  SuperBlock super;
  std::array<Ladder, SuperBlock::kMostGroups> ladders{};  // of Q3_K
};

/// On a grid that is not the type's own: where one unit, or one scale and minimum, fills the block.
std::optional<SuperFit> FitSuper(const QMatrix& matrix, Index row, Index block,
                                 const KQuant& kind) {
  const Grid& grid = matrix.grid();
  SuperFit fit;
  if (grid.k_quant) {
    if (&KQuantOf(grid) != &kind) return std::nullopt;
    fit.super = matrix.Super(row, block);
    fit.ladders.fill({0, 1, kQ3Low});
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
      const auto ladder = LadderOf(matrix, row, group, kQ3Low, kQ3High, 0, grid.levels() - 1);
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

template <int kBits>
bool HoldsSuper(const QMatrix& matrix, Index row, Codes codes) {
  const KQuant& kind = *KQuantOfBits(kBits);
  if (codes.size() % kSuper != 0) return false;
  for (Index block = 0; block < static_cast<Index>(codes.size() / kSuper); ++block) {
    if (!FitSuper(matrix, row, block, kind)) return false;
  }
  return true;
}

/// Calls pack(super-block, codes, bytes) for each block; bytes are 0 before.
template <int kBits, class Pack>
void EncodeSuper(const QMatrix& matrix, Index row, Codes codes, Blocks out, const Pack& pack) {
  const KQuant& kind = *KQuantOfBits(kBits);
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
        moved[e] = static_cast<std::uint8_t>(ladder.Step(stored[e]) - kQ3Low);
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

void EncodeQ2_K(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  EncodeSuper<2>(matrix, row, codes, out, [](const SuperBlock& super, Codes block, Blocks bytes) {
    for (std::size_t g = 0; g < 16; ++g) {
      const auto scale = static_cast<unsigned>(super.scales[g]);
      bytes[g] = std::byte{Byte(scale | static_cast<unsigned>(super.minima[g]) << 4)};
    }
    PutPlanes(block, bytes.subspan(16));
    PutHalf(bytes, 80, super.d);
    PutHalf(bytes, 82, super.dmin);
  });
}
bool DecodeQ2_K(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
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

void EncodeQ3_K(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  EncodeSuper<3>(matrix, row, codes, out, [](const SuperBlock& super, Codes block, Blocks bytes) {
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
bool DecodeQ3_K(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
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

void EncodeQ4_K(const QMatrix& matrix, Index row, Codes codes, Blocks out) {
  EncodeSuper<4>(matrix, row, codes, out, [](const SuperBlock& super, Codes block, Blocks bytes) {
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
    for (std::size_t e = 0; e < kSuper; ++e) {
      const unsigned shift = e % 64 < 32 ? 0 : 4;
      bytes[16 + 32 * (e / 64) + e % 32] |= std::byte{Byte(unsigned{block[e]} << shift)};
    }
  });
}
/// What blocks of Q4_K and Q5_K begin with: d, dmin, and eight factors of 6 bits for each.
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
bool DecodeQ4_K(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 144, codes, [&](ConstBlocks bytes, Index block, auto part) {
    const SuperBlock super = SixBitFactors(bytes);
    for (std::size_t e = 0; e < kSuper; ++e) {
      part[e] = (ByteAt(bytes, 16 + 32 * (e / 64) + e % 32) >> (e % 64 < 32 ? 0 : 4)) & 15;
    }
    return SetSuper(matrix, row, block, super);
  });
}

/// Codes of 5 bits, eight scales and minima: d and dmin times factors, exact in float.
bool DecodeQ5_K(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 176, codes, [&](ConstBlocks bytes, Index block, auto part) {
    const SuperBlock super = SixBitFactors(bytes);
    for (std::size_t e = 0; e < kSuper; ++e) {
      const unsigned low = ByteAt(bytes, 48 + 32 * (e / 64) + e % 32) >> (e % 64 < 32 ? 0 : 4);
      part[e] = Byte((low & 15u) + (ByteAt(bytes, 16 + e % 32) >> (e / 32) & 1u) * 16u);
    }
    for (std::size_t g = 0; g < 8; ++g) {
      const Index group = 8 * block + static_cast<Index>(g);
      matrix.minima()(row, group) = super.Minimum(g);
      if (!SetScale(matrix, row, group, super.Scale(g))) return false;
    }
    return std::isfinite(super.dmin);
  });
}

/// 256 codes of 6 bits less 32, 16 scales of a byte times d: the products are exact in float.
bool DecodeQ6_K(ConstBlocks blocks, QMatrix& matrix, Index row, std::span<std::uint8_t> codes) {
  return DecodeEach(blocks, 210, codes, [&](ConstBlocks bytes, Index block, auto part) {
    for (std::size_t e = 0; e < kSuper; ++e) {
      const std::size_t half = e / 128, plane = e % 128 / 32, lane = e % 32;
      const unsigned low = ByteAt(bytes, 64 * half + 32 * (plane % 2) + lane) >> (4 * (plane / 2));
      const unsigned high = ByteAt(bytes, 128 + 32 * half + lane) >> (2 * plane);
      part[e] = Byte((low & 15u) + ((high & 3u) << 4) - 32u + 128u);
    }
    const float d = HalfAt(bytes, 208);
    for (std::size_t g = 0; g < 16; ++g) {
      const auto scale = static_cast<std::int8_t>(ByteAt(bytes, 192 + g));
      if (!SetScale(matrix, row, 16 * block + static_cast<Index>(g),
                    d * static_cast<float>(scale))) {
        return false;
      }
    }
    return true;
  });
}

// ---- floats ------------------------------------------------------------------------------------

/// The row as its type has it, and whether that is the very same.
template <class T>
bool PutFloats(std::span<const float> values, Blocks out) {
  bool same = true;
  for (std::size_t i = 0; i < values.size(); ++i) {
    T item;
    if constexpr (std::is_same_v<T, float>) {
      item = values[i];
    } else if constexpr (std::is_same_v<T, F16>) {
      item = ToF16(values[i]);
    } else {
      item = ToBf16(values[i]);
    }
    same = same && ToFloat(item) == values[i];
    std::memcpy(out.data() + i * sizeof(T), &item, sizeof(T));
  }
  return same;
}

template <class T>
bool HoldsFloats(const QMatrix& matrix, Index row, Codes) {
  if constexpr (std::is_same_v<T, float>) return true;
  Matrix<float> values(1, matrix.cols());
  matrix.Dequantize(row, values.view());
  std::vector<std::byte> out(Size(matrix.cols()) * sizeof(T));
  return PutFloats<T>(values.view().Row(0), out);
}

template <class T>
void EncodeFloats(const QMatrix& matrix, Index row, Codes, Blocks out) {
  Matrix<float> values(1, matrix.cols());
  matrix.Dequantize(row, values.view());
  (void)PutFloats<T>(values.view().Row(0), out);
}

// ---- rounding ----------------------------------------------------------------------------------

template <class T>
bool RoundFloats(std::span<const float> values, Blocks out) {
  (void)PutFloats<T>(values, out);
  return std::ranges::all_of(values, [](float value) {
    if constexpr (std::is_same_v<T, F16>) return std::isfinite(ToFloat(ToF16(value)));
    if constexpr (std::is_same_v<T, Bf16>) return std::isfinite(ToFloat(ToBf16(value)));
    return std::isfinite(value);
  });
}

/// Blocks of whole steps -most .. most of largest / most; put(d, steps, bytes) writes one.
template <class Put>
bool RoundToSteps(std::span<const float> values, std::size_t columns, float most, Blocks out,
                  Put put) {
  const std::size_t size = out.size() / (values.size() / columns);
  std::vector<std::int8_t> steps(columns);
  for (std::size_t block = 0; block < values.size() / columns; ++block) {
    const auto part = values.subspan(block * columns, columns);
    float largest = 0;
    for (const float value : part) {
      if (!std::isfinite(value)) return false;
      largest = std::max(largest, std::fabs(value));
    }
    const float d = ToFloat(ToF16(largest / most));
    if (!std::isfinite(d)) return false;
    for (std::size_t i = 0; i < columns; ++i) {
      // d may have been rounded down, and where it is 0 the quotient is no number.
      const float step = d == 0 ? 0 : std::clamp(std::nearbyint(part[i] / d), -most, most);
      steps[i] = static_cast<std::int8_t>(step);
    }
    put(d, steps, out.subspan(block * size, size));
  }
  return true;
}

bool RoundQ8_0(std::span<const float> values, Blocks out) {
  return RoundToSteps(values, 32, 127, out, [](float d, const auto& steps, Blocks bytes) {
    PutHalf(bytes, 0, d);
    std::memcpy(bytes.data() + 2, steps.data(), steps.size());
  });
}

bool RoundTq2_0(std::span<const float> values, Blocks out) {
  return RoundToSteps(values, kSuper, 1, out, [](float d, const auto& steps, Blocks bytes) {
    std::array<std::uint8_t, kSuper> codes{};
    std::ranges::transform(steps, codes.begin(), [](int step) { return Byte(step + 1); });
    std::ranges::fill(bytes, std::byte{0});
    PutPlanes(codes, bytes);
    PutHalf(bytes, 64, d);
  });
}

constexpr Grid Symmetric(int bits, Index group) noexcept {
  return {.bits = bits, .group_size = group};
}
constexpr Grid Super(int bits, Index group, Offset offset) noexcept {
  return {.bits = bits, .group_size = group, .offset = offset, .k_quant = true};
}

constexpr std::array kBlockTypes{
    BlockType{"TQ2_0", 2, Symmetric(2, 256), HoldsTq2_0, EncodeTq2_0, DecodeTq2_0, RoundTq2_0},
    BlockType{"Q2_0", 2, Symmetric(2, 64), HoldsQ2_0, EncodeQ2_0, DecodeQ2_0},
    BlockType{"Q2_K", 2, Super(2, 16, Offset::kFloat), HoldsSuper<2>, EncodeQ2_K, DecodeQ2_K},
    BlockType{"Q3_K", 3, Super(3, 16, Offset::kSymmetric), HoldsSuper<3>, EncodeQ3_K, DecodeQ3_K},
    BlockType{"Q4_0", 4, Symmetric(4, 32), HoldsQ4_0, EncodeQ4_0, DecodeQ4_0},
    BlockType{"Q4_K", 4, Super(4, 32, Offset::kFloat), HoldsSuper<4>, EncodeQ4_K, DecodeQ4_K},
    BlockType{"Q4_1", 4, Grid{4, 32, Offset::kFloat}, HoldsQ4_1, EncodeQ4_1, DecodeQ4_1},
    BlockType{"Q5_0", 5, Symmetric(8, 32), HoldsQ5_0, EncodeQ5_0, DecodeQ5_0},
    BlockType{"Q5_K", 5, Grid{8, 32, Offset::kFloat}, nullptr, nullptr, DecodeQ5_K},
    BlockType{"Q6_K", 6, Symmetric(8, 16), nullptr, nullptr, DecodeQ6_K},
    BlockType{"Q8_0", 8, Symmetric(8, 32), HoldsQ8_0, EncodeQ8_0, DecodeQ8_0, RoundQ8_0},
    BlockType{"F16", 0, {}, HoldsFloats<F16>, EncodeFloats<F16>, nullptr, RoundFloats<F16>},
    BlockType{"BF16", 0, {}, HoldsFloats<Bf16>, EncodeFloats<Bf16>, nullptr, RoundFloats<Bf16>},
    BlockType{"F32", 0, {}, HoldsFloats<float>, EncodeFloats<float>, nullptr, RoundFloats<float>},
};

}  // namespace

std::span<const BlockType> BlockTypes() noexcept {
  return kBlockTypes;
}

const BlockType* FindBlockType(std::string_view name) noexcept {
  const auto found = std::ranges::find(kBlockTypes, name, &BlockType::name);
  return found == kBlockTypes.end() ? nullptr : &*found;
}

const BlockType* RoundedTypeOf(const AnyMatrix& matrix) noexcept {
  if (const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix)) {
    const auto found = std::ranges::find_if(kBlockTypes, [&](const BlockType& type) {
      return type.round != nullptr && type.grid == (*packed)->grid();
    });
    return found == kBlockTypes.end() ? nullptr : &*found;
  }
  return FindBlockType(std::holds_alternative<View<const float, 2>>(matrix) ? "F32"
                       : std::holds_alternative<View<const F16, 2>>(matrix) ? "F16"
                                                                            : "BF16");
}

bool Holds(const BlockType& type, const QMatrix& matrix) {
  if (type.holds == nullptr) return false;
  std::vector<std::uint8_t> codes(Size(matrix.cols()));
  for (Index row = 0; row < matrix.rows(); ++row) {
    matrix.GetRow(row, codes);
    if (!type.holds(matrix, row, codes)) return false;
  }
  return true;
}

std::string TypesThatHold(const QMatrix& matrix) {
  std::string names;
  for (const BlockType& type : kBlockTypes) {
    if (Holds(type, matrix)) names += (names.empty() ? "" : ", ") + std::string(type.name);
  }
  return names;
}

std::size_t RowBytes(const GgmlType& type, Index cols) noexcept {
  LIEQ_ASSERT(cols % Index{type.columns} == 0);
  return Size(cols) / type.columns * type.bytes;
}

namespace {

/// ", column 64": of the first group of a row that decoding gave up at; nothing on K-quant grids.
std::string ColumnOfBroken(const QMatrix& matrix, Index row) {
  const bool offset = matrix.grid().offset == Offset::kFloat;
  for (Index group = 0; group < matrix.groups(); ++group) {
    if (std::isfinite(matrix.scales()(row, group)) &&
        (!offset || std::isfinite(matrix.minima()(row, group)))) {
      continue;
    }
    return ", column " + std::to_string(group * matrix.group_columns());
  }
  return "";
}

}  // namespace

QMatrix DecodeBlocks(const BlockType& type, const GgufTensor& tensor, std::span<const Index> order,
                     const std::string& where) {
  LIEQ_ASSERT(type.decode != nullptr && tensor.shape.size() == 2 && tensor.type == &type.type());
  const Index rows = tensor.shape[0], cols = tensor.shape[1];
  LIEQ_ASSERT(order.empty() || static_cast<Index>(order.size()) == rows);
  const std::size_t bytes = RowBytes(*tensor.type, cols);
  QMatrix matrix(rows, cols, *type.grid);
  std::vector<std::uint8_t> codes(Size(cols));
  for (Index row = 0; row < rows; ++row) {
    const Index to = order.empty() ? row : order[Size(row)];
    if (!type.decode(tensor.bytes.subspan(Size(row) * bytes, bytes), matrix, to, codes)) {
      throw Error({.what = "scale or minimum is not finite",
                   .where = where,
                   .expected = "finite numbers",
                   .found = "row " + std::to_string(row) + ColumnOfBroken(matrix, to)});
    }
    matrix.SetRow(to, codes);
  }
  return matrix;
}

}  // namespace lieq
