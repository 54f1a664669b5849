#include "lieq/container/ggml_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/container/ggml_block_parts.h"
#include "lieq/container/ggml_super_blocks.h"
#include "lieq/tensor/dtype.h"

namespace lieq {
namespace {

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
/// A K-quant: its blocks are its own grid.
template <int kBits>
BlockType KQuantType(std::string_view name, std::uint32_t file_type) {
  return {name,
          kBits,
          file_type,
          KQuantOfBits(kBits)->grid,
          HoldsSuper<kBits>,
          EncodeSuper<kBits>,
          DecodeSuper<kBits>};
}

}  // namespace

std::span<const BlockType> BlockTypes() noexcept {
  static const std::array kBlockTypes{
      BlockType{"TQ2_0", 2, 37, Symmetric(2, 256), HoldsTq2_0, EncodeTq2_0, DecodeTq2_0,
                RoundTq2_0},
      BlockType{"Q2_0", 2, 41, Symmetric(2, 64), HoldsQ2_0, EncodeQ2_0, DecodeQ2_0},
      KQuantType<2>("Q2_K", 10),
      KQuantType<3>("Q3_K", 12),
      BlockType{"Q4_0", 4, 2, Symmetric(4, 32), HoldsQ4_0, EncodeQ4_0, DecodeQ4_0},
      KQuantType<4>("Q4_K", 15),
      BlockType{"Q4_1", 4, 3, Grid{4, 32, Offset::kFloat}, HoldsQ4_1, EncodeQ4_1, DecodeQ4_1},
      BlockType{"Q5_0", 5, 8, Symmetric(8, 32), HoldsQ5_0, EncodeQ5_0, DecodeQ5_0},
      KQuantType<5>("Q5_K", 17),
      KQuantType<6>("Q6_K", 18),
      BlockType{"Q8_0", 8, 7, Symmetric(8, 32), HoldsQ8_0, EncodeQ8_0, DecodeQ8_0, RoundQ8_0},
      BlockType{"F16", 0, 1, {}, HoldsFloats<F16>, EncodeFloats<F16>, nullptr, RoundFloats<F16>},
      BlockType{
          "BF16", 0, 32, {}, HoldsFloats<Bf16>, EncodeFloats<Bf16>, nullptr, RoundFloats<Bf16>},
      BlockType{
          "F32", 0, 0, {}, HoldsFloats<float>, EncodeFloats<float>, nullptr, RoundFloats<float>},
  };
  return kBlockTypes;
}

const BlockType* FindBlockType(std::string_view name) noexcept {
  const auto found = std::ranges::find(BlockTypes(), name, &BlockType::name);
  return found == BlockTypes().end() ? nullptr : &*found;
}

const BlockType* RoundedTypeOf(const AnyMatrix& matrix) noexcept {
  if (const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix)) {
    const auto found = std::ranges::find_if(BlockTypes(), [&](const BlockType& type) {
      return type.round != nullptr && type.grid == (*packed)->grid();
    });
    return found == BlockTypes().end() ? nullptr : &*found;
  }
  return FindBlockType(Name(TypeOf(matrix)));
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

namespace {

/// A matrix on a grid whose scales, offsets and codes share nothing, so that a type which holds it
/// holds them all.
QMatrix Specimen(const Grid& grid, Index cols) {
  constexpr Index kRows = 4;
  QMatrix matrix(kRows, cols, grid);
  Rng rng(0, 0x59ec1);
  const auto below = [&](int bound) {
    return static_cast<int>(rng.Below(static_cast<std::uint32_t>(bound)));
  };
  const auto odd = [&] {  // of 8 significant bits, as RoundScale gives them
    return std::ldexp(static_cast<float>(129 + 2 * below(63)), -14 - below(3));
  };
  std::vector<std::uint8_t> codes(Size(cols));
  for (Index row = 0; row < kRows; ++row) {
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(below(grid.levels()));
    matrix.SetRow(row, codes);
    for (Index block = 0; block < matrix.supers(); ++block) {
      const KQuant& row_of = KQuantOf(grid);
      SuperBlock super{.d = odd(), .dmin = row_of.has_minima() ? odd() : 0};
      for (Index group = 0; group < row_of.groups(); ++group) {
        super.scales[Size(group)] = static_cast<std::int8_t>(
            row_of.least_scale() + below(row_of.most_scale() - row_of.least_scale() + 1));
        if (!row_of.has_minima()) continue;
        super.minima[Size(group)] = static_cast<std::uint8_t>(below(row_of.most_minimum() + 1));
      }
      matrix.SetSuper(row, block, super);
    }
    for (Index group = 0; group < matrix.groups() && !grid.k_quant; ++group) {
      matrix.scales()(row, group) = odd();
      if (grid.offset == Offset::kInteger) {
        // The first an odd one that times a scale has as many bits as any.
        const int zero = group == 0 ? grid.levels() - 1 : below(grid.levels());
        matrix.zeros()(row, group) = static_cast<std::uint8_t>(zero);
      }
      if (grid.offset == Offset::kFloat) {
        matrix.minima()(row, group) = below(2) == 0 ? odd() : -odd();
      }
    }
  }
  return matrix;
}

}  // namespace

bool IsUsualType(const BlockType& type, int bits) noexcept {
  return type.bits == bits && type.name != "TQ2_0";
}

const BlockType* TypeOfGrid(const Grid& grid, Index cols) {
  const QMatrix specimen = Specimen(grid, cols);
  for (const BlockType& type : BlockTypes()) {
    if (IsUsualType(type, grid.bits) && cols % Index{type.type().columns} == 0 &&
        Holds(type, specimen)) {
      return &type;
    }
  }
  return nullptr;
}

std::string TypesThatHold(const QMatrix& matrix) {
  std::string names;
  for (const BlockType& type : BlockTypes()) {
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
