#include "lieq/device/cpu/packed_matrix.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/device/cpu/side_by_side.h"
#include "lieq/tensor/dtype.h"

namespace lieq {
namespace {

constexpr std::ptrdiff_t kLanes = kBlockRows;
constexpr Index kBlocksOfTask = 16;
constexpr std::string_view kRemedy = "the file is damaged: make it again by `lieq pack`";

/// Words that a step takes of one row.
std::ptrdiff_t StepWords(int bits) {
  return bits == 3 || bits == 6 ? 3 : 1;
}

constexpr std::uint64_t Moved(std::uint64_t v, std::uint64_t low, std::uint64_t high, int by) {
  return (v & low) | (v & high) << by;
}
constexpr std::uint64_t MovedBack(std::uint64_t v, std::uint64_t low, std::uint64_t high, int by) {
  return (v & low) | (v & high << by) >> by;
}
/// Eight codes of 3 bits, one to a byte, and back.
constexpr std::uint64_t Spread(std::uint64_t codes) {
  codes = Moved(codes, 0xFFF, 0xFFF000, 20);
  codes = Moved(codes, 0x0000003F0000003F, 0x00000FC000000FC0, 10);
  return Moved(codes, 0x0007000700070007, 0x0038003800380038, 5);
}
constexpr std::uint64_t Gathered(std::uint64_t bytes) {
  bytes = MovedBack(bytes, 0x0007000700070007, 0x0038003800380038, 5);
  bytes = MovedBack(bytes, 0x0000003F0000003F, 0x00000FC000000FC0, 10);
  return MovedBack(bytes, 0xFFF, 0xFFF000, 20);
}
static_assert(Gathered(Spread(0xFAC688)) == 0xFAC688);

constexpr std::uint32_t kTwoBits = 0x03030303, kThirdBit = 0x04040404;
using ThreeWords = std::array<std::uint32_t, 3>;

/// 32 codes of 3 bits as three words: of the eight fields of four codes each, one to a byte, six in
/// the low bits, and two in what is left.
ThreeWords StepOfThrees(const std::uint32_t* stream) {
  std::array<std::uint32_t, 8> f;
  const std::uint64_t low = stream[0] | std::uint64_t{stream[1]} << 32;
  const std::uint64_t high = stream[1] >> 16 | std::uint64_t{stream[2]} << 16;
  const std::array codes{low & 0xFFFFFF, low >> 24 & 0xFFFFFF, high & 0xFFFFFF, high >> 24};
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::uint64_t bytes = Spread(codes[i]);
    f[2 * i] = static_cast<std::uint32_t>(bytes);
    f[2 * i + 1] = static_cast<std::uint32_t>(bytes >> 32);
  }
  return {f[0] | f[1] << 3 | (f[6] & kTwoBits) << 6, f[2] | f[3] << 3 | (f[7] & kTwoBits) << 6,
          f[4] | f[5] << 3 | (f[6] & kThirdBit) << 4 | (f[7] & kThirdBit) << 5};
}

void StreamOfThrees(const ThreeWords& words, std::uint32_t* stream) {
  constexpr std::uint32_t kCode = 0x07070707;
  const auto [a, b, c] = words;
  const std::array f{a & kCode,
                     a >> 3 & kCode,
                     b & kCode,
                     b >> 3 & kCode,
                     c & kCode,
                     c >> 3 & kCode,
                     (a >> 6 & kTwoBits) | (c >> 4 & kThirdBit),
                     (b >> 6 & kTwoBits) | (c >> 5 & kThirdBit)};
  std::array<std::uint64_t, 4> codes;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = Gathered(f[2 * i] | std::uint64_t{f[2 * i + 1]} << 32);
  }
  const std::uint64_t low = codes[0] | codes[1] << 24, high = codes[2] | codes[3] << 24;
  stream[0] = static_cast<std::uint32_t>(low);
  stream[1] = static_cast<std::uint32_t>(low >> 32) | static_cast<std::uint32_t>(high) << 16;
  stream[2] = static_cast<std::uint32_t>(high >> 16);
}

/// Four codes of 6 bits, one to a byte, and back.
constexpr std::uint32_t SpreadSix(std::uint32_t codes) {
  return (codes & 0x3F) | (codes & 0xFC0) << 2 | (codes & 0x3F000) << 4 | (codes & 0xFC0000) << 6;
}
constexpr std::uint32_t GatheredSix(std::uint32_t bytes) {
  return (bytes & 0x3F) | (bytes >> 2 & 0xFC0) | (bytes >> 4 & 0x3F000) | (bytes >> 6 & 0xFC0000);
}
static_assert(GatheredSix(SpreadSix(0xFAC688)) == 0xFAC688);

/// Sixteen codes of 6 bits as three words: of the four fields three in the low bits, and the last
/// one in what is left.
ThreeWords StepOfSixes(const std::uint32_t* stream) {
  constexpr std::uint32_t kCodes = 0xFFFFFF;
  const auto [a, b, c] = std::array{stream[0], stream[1], stream[2]};
  const std::uint32_t last = SpreadSix(c >> 8);
  return {SpreadSix(a & kCodes) | (last & kTwoBits) << 6,
          SpreadSix((a >> 24 | b << 8) & kCodes) | (last & kTwoBits << 2) << 4,
          SpreadSix((b >> 16 | c << 16) & kCodes) | (last & kTwoBits << 4) << 2};
}

void StreamOfSixes(const ThreeWords& words, std::uint32_t* stream) {
  constexpr std::uint32_t kCode = 0x3F3F3F3F;
  const auto [a, b, c] = words;
  const std::uint32_t second = GatheredSix(b & kCode), third = GatheredSix(c & kCode);
  const std::uint32_t last =
      GatheredSix((a >> 6 & kTwoBits) | (b >> 4 & kTwoBits << 2) | (c >> 2 & kTwoBits << 4));
  stream[0] = GatheredSix(a & kCode) | second << 24;
  stream[1] = second >> 8 | third << 16;
  stream[2] = third >> 16 | last << 8;
}

/// Widths whose steps are three words.
ThreeWords StepOfStream(int bits, const std::uint32_t* stream) {
  return bits == 3 ? StepOfThrees(stream) : StepOfSixes(stream);
}
void StreamOfStep(int bits, const ThreeWords& words, std::uint32_t* stream) {
  return bits == 3 ? StreamOfThrees(words, stream) : StreamOfSixes(words, stream);
}

/// Whether f16 holds the number.
bool FitsHalf(float v) {
  // Of most scales their bits say it: an exponent that f16 has, and no more bits than it.
  const auto bits = std::bit_cast<std::uint32_t>(v);
  const std::uint32_t exponent = bits >> 23 & 0xFF;
  const bool plain = (bits & 0x1FFF) == 0 && exponent > 112 && exponent < 143;
  return plain || ToFloat(ToF16(v)) == v;
}

/// Whether a number of bf16 has an exponent that normal numbers of f16 have: then f16 holds it.
constexpr bool IsPlain(std::uint16_t bf16) {
  return static_cast<std::uint16_t>((bf16 & 0x7FFF) - (113 << 7)) < (30 << 7);
}

/// A number of bf16 that f16 holds.
constexpr std::uint16_t HalfOf(std::uint16_t bf16) {
  if (!IsPlain(bf16)) return ToF16(ToFloat(Bf16{bf16})).bits;
  return static_cast<std::uint16_t>((bf16 & 0x8000) | ((bf16 & 0x7FFF) - (112 << 7)) << 3);
}
static_assert(HalfOf(0x3F80) == 0x3C00 && HalfOf(0xBFC0) == 0xBE00 && HalfOf(0) == 0);

/// Whether f16 holds all of them, [rows, groups], as they are stored or else as floats.
template <class Floats>
bool FitHalves(const StoredNumbers& stored, const Floats& floats, ThreadPool& pool) {
  if (!stored.empty() && stored.type == DType::kF16) return true;
  const auto all_of = [&pool](auto items, const auto& fits) {
    constexpr Index kTask = Index{1} << 16;
    std::atomic<bool> fit = true;
    const auto count = static_cast<Index>(items.size());
    pool.ParallelFor(CeilDiv(count, kTask), [&](Index task, int) {
      const auto part =
          items.subspan(Size(task * kTask), Size(std::min(kTask, count - task * kTask)));
      if (!std::ranges::all_of(part, fits)) fit = false;
    });
    return fit.load();
  };
  if (!stored.empty()) {
    const auto fits = [](std::uint16_t bits) {
      return IsPlain(bits) || FitsHalf(ToFloat(Bf16{bits}));
    };
    return all_of(stored.items, fits);
  }
  const View<const float, 2> numbers = floats();
  return all_of(std::span(numbers.data(), Size(numbers.size())), FitsHalf);
}

/// The bits that codes are packed in: their own width, or 6 where it is 5, or 8 and they need no
/// more, as those that were read from Q5_0.
int HeldBits(const QMatrix& from, ThreadPool& pool) {
  const Grid& grid = from.grid();
  const bool symmetric = grid.symmetric();
  if (grid.bits == 5 && grid.offset != Offset::kHalf) return 6;
  if (grid.bits != 8 || !(symmetric || grid.offset == Offset::kFloat)) return grid.bits;
  const auto first = static_cast<std::uint8_t>(symmetric ? 128 - 32 : 0);
  constexpr std::uint8_t kCodes = 64;
  constexpr Index kRowsOfTask = 64;
  std::atomic<bool> fit = true;
  pool.ParallelFor(CeilDiv(from.rows(), kRowsOfTask), [&](Index task, int) {
    const Index end = std::min(from.rows(), (task + 1) * kRowsOfTask);
    for (Index row = task * kRowsOfTask; row < end && fit; ++row) {
      const auto* codes =
          reinterpret_cast<const std::uint8_t*>(from.words().data() + row * from.words_per_row());
      const auto fits = [first](std::uint8_t code) {
        return static_cast<std::uint8_t>(code - first) < kCodes;
      };
      if (!std::all_of(codes, codes + from.cols(), fits)) fit = false;
    }
  });
  return fit ? 6 : 8;
}

/// Whether it is true of all items of a matrix, a block of it at a time.
template <class T, class Function>
bool AllOf(View<const T, 2> items, ThreadPool& pool, const Function& is) {
  constexpr Index kRowsOfTask = 16;
  std::atomic<bool> all = true;
  pool.ParallelFor(CeilDiv(items.rows(), kRowsOfTask), [&](Index task, int) {
    const Index row = task * kRowsOfTask, rows = std::min(kRowsOfTask, items.rows() - row);
    const View<const T, 2> part = items.Rows(row, rows);
    std::uint32_t others = 0;  // without a way out, so that items are looked at side by side
    for (Index i = 0; i < part.size(); ++i) others |= is(part.data()[i]) ? 0u : 1u;
    if (others != 0) all = false;
  });
  return all;
}

}  // namespace

PackedShape ShapeOf(const Grid& grid, Index cols) noexcept {
  PackedShape shape{};
  shape.bits = grid.bits == 5 ? 6 : grid.bits;
  shape.group_columns = grid.k_quant ? kSuperColumns : GroupColumns(grid, cols);
  const Index part = shape.bits == 6 ? 16 : grid.group_size;  // of a K-quant
  shape.parts = grid.k_quant ? static_cast<int>(kPieceColumns / part) : 1;
  shape.groups = cols / shape.group_columns;
  shape.step_columns = 32 * StepWords(shape.bits) / shape.bits;
  const int twice_zero = static_cast<int>(2 * grid.shared_zero());
  shape.sum_times = twice_zero == 0 ? 1 : -(twice_zero % 2 == 0 ? twice_zero / 2 : twice_zero);
  shape.group_steps = CeilDiv(shape.group_columns, shape.step_columns);
  shape.group_positions = shape.group_steps * shape.step_columns;
  shape.group_pieces = CeilDiv(shape.group_positions, kPieceColumns);
  return shape;
}

bool PackedMatrix::Holds(const Grid& grid) noexcept {
  const int bits = grid.bits;
  if (bits == 5) return grid.offset != Offset::kHalf;  // held at 6 bits, whose zero is another
  return bits == 2 || bits == 3 || bits == 4 || bits == 6 || bits == 8;
}

PackedMatrix::PackedMatrix(const QMatrix& from, ThreadPool& pool)
    : PackedMatrix(from, pool, *std::make_unique<LargePages>(0)) {}

PackedMatrix::PackedMatrix(Index rows, Index cols, const LaidOutForm& form)
    : rows_(rows), cols_(cols), form_(form), grid_(form.grid) {
  LIEQ_ASSERT(Holds(form.grid) && IsForm(form, cols));
  grid_.bits = form.bits;
  shape_ = ShapeOf(grid_, cols);
}

LaidOutForm PackedMatrix::FormOf(const QMatrix& from, ThreadPool& pool) {
  return {.grid = from.grid(),
          .bits = HeldBits(from, pool),
          .half = from.grid().k_quant ||
                  (FitHalves(
                       from.stored_scales(), [&] { return from.scales(); }, pool) &&
                   FitHalves(from.stored_minima(), [&] { return from.minima(); }, pool))};
}

std::int64_t PackedMatrix::BytesOf(const LaidOutForm& form, Index rows, Index cols) {
  return static_cast<std::int64_t>(PackedMatrix(rows, cols, form).LayOut(nullptr));
}

std::size_t PackedMatrix::LayOut(std::byte* base) {
  const bool minima = grid_.offset == Offset::kFloat, half = form_.half;
  const Index numbers = shape_.groups * kLanes;
  const Index parts = numbers * shape_.group_pieces * shape_.parts;  // of K-quants
  const bool zeros = grid_.offset == Offset::kInteger || (grid_.k_quant && minima);
  std::size_t used = 0;
  const auto place = [&]<class T>(View<T, 2>& view, bool there, Index cols) {
    if (!there) return;
    if (base != nullptr) view = {reinterpret_cast<T*>(base + used), blocks(), cols};
    used += (Size(blocks() * cols) * sizeof(T) + 63) / 64 * 64;
  };
  place(codes_, true, shape_.groups * shape_.group_steps * StepWords(shape_.bits) * kLanes);
  place(scales_, half, numbers);
  place(minima_, half && minima, numbers);
  place(wide_scales_, !half, numbers);
  place(wide_minima_, !half && minima, numbers);
  place(zeros_, zeros, grid_.k_quant ? parts : numbers);
  place(factors_, grid_.k_quant, parts);
  return used;
}

PackedMatrix::PackedMatrix(const QMatrix& from, ThreadPool& pool, LargePages& pages)
    : PackedMatrix(from.rows(), from.cols(), FormOf(from, pool)) {
  const std::shared_ptr<std::byte> taken = pages.Take(LayOut(nullptr));
  LayOut(taken.get());
  held_ = taken;
  pool.ParallelFor(CeilDiv(blocks(), kBlocksOfTask), [&](Index task, int) {
    const Index end = std::min(blocks(), (task + 1) * kBlocksOfTask);
    for (Index block = task * kBlocksOfTask; block < end; ++block) Pack(from, block);
    // What was packed is seldom read again, and the memory of both would be held until the end.
    const Index row = task * kBlocksOfTask * kLanes;
    from.Release(row, std::min(rows_, end * kLanes) - row);
  });
  // Pages come in by sixteen, and so some came back.
  from.Release(0, rows_);
}

PackedMatrix::PackedMatrix(const LaidOutMatrix& from, ThreadPool& pool)
    : PackedMatrix(from.rows(), from.cols(), from.whole().form) {
  const LaidOutMatrix::Part& part = from.whole();
  const std::size_t bytes = LayOut(nullptr);
  if (part.bytes.size() != bytes) {
    throw Error({.what = "a packed matrix of the wrong size",
                 .where = part.where,
                 .expected = std::to_string(bytes) + " bytes",
                 .found = std::to_string(part.bytes.size()),
                 .hint = std::string(kRemedy)});
  }
  LIEQ_ASSERT(reinterpret_cast<std::uintptr_t>(part.bytes.data()) % 64 == 0);
  held_ = {from.file(), part.bytes.data()};
  // Only read from here on: views are of what may be written, for Pack.
  LayOut(const_cast<std::byte*>(part.bytes.data()));
  CheckNumbers(part.where, pool);
}

void PackedMatrix::CheckNumbers(const std::string& where, ThreadPool& pool) const {
  const auto check = [&](bool fine, const char* what, std::string expected) {
    if (fine) return;
    throw Error({.what = std::string(what) + " that no matrix has",
                 .where = where,
                 .expected = std::move(expected),
                 .found = "others",
                 .hint = std::string(kRemedy)});
  };
  const auto is_finite = [](float v) { return std::isfinite(v); };
  const auto is_half = [](std::uint16_t v) { return (v & 0x7C00) != 0x7C00; };
  const auto all = [&]<class T>(View<T, 2> items, const auto& is) {
    return AllOf(View<const T, 2>(items), pool, is);
  };
  check(all(scales_, is_half) && all(wide_scales_, is_finite), "scales", "finite numbers");
  check(all(minima_, is_half) && all(wide_minima_, is_finite), "minima", "finite numbers");
  if (!grid_.k_quant) {
    const int levels = form_.grid.levels();
    check(all(zeros_, [levels](std::uint8_t v) { return v < levels; }), "zero-points",
          "below " + std::to_string(levels));
    return;
  }
  const KQuant& kind = KQuantOf(form_.grid);
  const int least = kind.least_scale(), most = kind.most_scale(),
            most_minimum = kind.most_minimum();
  check(all(factors_, [=](std::int8_t v) { return v >= least && v <= most; }) &&
            all(zeros_, [=](std::uint8_t v) { return v <= most_minimum; }),
        "factors", "those of " + std::string(kind.name));
}

std::span<const std::byte> PackedMatrix::held() const noexcept {
  return {held_.get(), Size(BytesOf(form_, rows_, cols_))};
}

void PackedMatrix::PackSupers(const QMatrix& from, Index block) {
  const Index begin = block * kLanes, end = std::min(rows_, begin + kLanes);
  const Index parts = shape_.group_pieces * shape_.parts;  // of a super-block, which has
  const Index groups = kSuperColumns / from.group_columns();
  for (Index row = begin; row < end; ++row) {
    const Index lane = row - begin;
    for (Index g = 0; g < shape_.groups; ++g) {
      const SuperBlock& super = from.Super(row, g);
      scales_(block, g * kLanes + lane) = ToF16(super.d).bits;
      if (minima_.size() > 0) minima_(block, g * kLanes + lane) = ToF16(super.dmin).bits;
      for (Index part = 0; part < parts; ++part) {
        const Index at = (g * parts + part) * kLanes + lane;
        const std::size_t from_part = Size(part * groups / parts);
        factors_(block, at) = super.scales[from_part];
        if (zeros_.size() > 0) zeros_(block, at) = super.minima[from_part];
      }
    }
  }
}

void PackedMatrix::Pack(const QMatrix& from, Index block) {
  PackCodes(from, block);
  if (grid_.k_quant) return PackSupers(from, block);
  const Index begin = block * kLanes, end = std::min(rows_, begin + kLanes);
  const auto transposed = [&](View<const float, 2> numbers, View<std::uint16_t, 2> halves,
                              View<float, 2> floats) {
    if (numbers.size() == 0) return;
    for (Index row = begin; row < end; ++row) {
      const float* of_row = numbers.Row(row).data();
      for (Index g = 0; g < shape_.groups; ++g) {
        const Index at = g * kLanes + row - begin;
        if (form_.half) {
          halves(block, at) = ToF16(of_row[g]).bits;
        } else {
          floats(block, at) = of_row[g];
        }
      }
    }
  };
  const auto move = [&](const StoredNumbers& stored, const auto& floats,
                        View<std::uint16_t, 2> halves, View<float, 2> wide) {
    if (stored.empty() || !form_.half) return transposed(floats(), halves, wide);
    // Sixteen numbers at a time, which lie side by side where they go.
    const std::uint16_t* items = stored.items.data() + begin * shape_.groups;
    std::uint16_t* to = halves.Row(block).data();
    const bool halves_already = stored.type == DType::kF16;
    for (Index g = 0; g < shape_.groups; ++g, to += kLanes) {
      for (Index lane = 0; lane < end - begin; ++lane) {
        const std::uint16_t bits = items[lane * shape_.groups + g];
        to[lane] = halves_already ? bits : HalfOf(bits);
      }
    }
  };
  move(from.stored_scales(), [&] { return from.scales(); }, scales_, wide_scales_);
  if (from.has_minima()) {
    move(from.stored_minima(), [&] { return from.minima(); }, minima_, wide_minima_);
  }
  if (zeros_.size() == 0) return;
  for (Index row = begin; row < end; ++row) {
    for (Index g = 0; g < shape_.groups; ++g) {
      zeros_(block, g * kLanes + row - begin) = from.zeros()(row, g);
    }
  }
}

void PackedMatrix::PackCodes(const QMatrix& from, Index block) {
  const Index steps = shape_.groups * shape_.group_steps, width = StepWords(shape_.bits);
  // A row's stream is that of its steps where groups fill theirs.
  const int less = grid_.symmetric() ? from.grid().middle() - grid_.middle() : 0;  // of HeldBits
  const bool direct = less == 0 && steps * width == from.words_per_row() &&
                      (shape_.groups == 1 || shape_.group_positions == shape_.group_columns);
  std::vector<std::uint8_t> codes(direct ? 0 : Size(cols_));
  std::vector<std::uint8_t> filled(direct ? 0 : Size(shape_.groups * shape_.group_positions));
  std::vector<std::uint32_t> stream(direct ? 0 : Size(steps * width));
  const Index end = std::min(rows_, (block + 1) * kLanes);
  if (direct && width == 1) {
    std::array<const std::uint32_t*, kLanes> lanes{};
    for (Index row = block * kLanes; row < end; ++row) {
      lanes[Size(row % kLanes)] = from.words().data() + row * from.words_per_row();
    }
    return SideBySide(lanes, steps, codes_.Row(block).data());
  }
  for (Index row = block * kLanes; row < end; ++row) {
    const std::uint32_t* words = from.words().data() + row * from.words_per_row();
    if (!direct) {
      from.GetRow(row, codes);
      for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(code - less);
      for (Index g = 0; g < shape_.groups; ++g) {
        std::copy_n(codes.data() + g * shape_.group_columns, shape_.group_columns,
                    filled.data() + g * shape_.group_positions);
      }
      lieq::PackCodes(filled, shape_.bits, stream);
      words = stream.data();
    }
    std::uint32_t* to = codes_.Row(block).data() + row % kLanes;
    if (width == 1) {
      for (Index s = 0; s < steps; ++s) to[s * kLanes] = words[s];
      continue;
    }
    for (Index s = 0; s < steps; ++s, words += width, to += width * kLanes) {
      const ThreeWords three = StepOfStream(shape_.bits, words);
      for (std::size_t i = 0; i < three.size(); ++i) to[i * Size(kLanes)] = three[i];
    }
  }
}

PackedBlocks PackedMatrix::From(Index block) const noexcept {
  const auto row = [block](const auto& matrix) {
    return matrix.size() > 0 ? matrix.data() + block * matrix.cols() : nullptr;
  };
  PackedBlocks blocks{};
  blocks.codes = reinterpret_cast<const std::uint8_t*>(row(codes_));
  blocks.scales = form_.half ? static_cast<const void*>(row(scales_)) : row(wide_scales_);
  blocks.minima = form_.half ? static_cast<const void*>(row(minima_)) : row(wide_minima_);
  blocks.zeros = grid_.k_quant ? nullptr : row(zeros_);
  blocks.factors = row(factors_);
  blocks.minimum_factors = grid_.k_quant ? row(zeros_) : nullptr;
  blocks.half = form_.half;
  blocks.twice_zero = static_cast<int>(2 * grid_.shared_zero());
  return blocks;
}

std::int64_t PackedMatrix::bytes() const noexcept {
  return codes_.size() * 4 + scales_.size() * 2 + minima_.size() * 2 + wide_scales_.size() * 4 +
         wide_minima_.size() * 4 + zeros_.size() + factors_.size();
}

float PackedMatrix::Number(View<const std::uint16_t, 2> halves, View<const float, 2> floats,
                           Index block, Index group, Index lane) const {
  const Index at = group * kLanes + lane;
  return form_.half ? ToFloat(F16{halves(block, at)}) : floats(block, at);
}

void PackedMatrix::Dequantize(Index begin, View<float, 2> out) const {
  LIEQ_ASSERT(begin >= 0 && begin + out.rows() <= rows_ && out.cols() == cols_);
  const Index steps = shape_.groups * shape_.group_steps, width = StepWords(shape_.bits);
  std::vector<std::uint32_t> stream(Size(steps * width));
  std::vector<std::uint8_t> codes(Size(shape_.groups * shape_.group_positions));
  for (Index r = 0; r < out.rows(); ++r) {
    const Index row = begin + r, block = row / kLanes, lane = row % kLanes;
    const std::uint32_t* words = codes_.Row(block).data() + lane;
    for (Index s = 0; s < steps; ++s, words += width * kLanes) {
      if (width == 1) {
        stream[Size(s)] = *words;
      } else {
        StreamOfStep(shape_.bits, {words[0], words[kLanes], words[2 * kLanes]},
                     stream.data() + s * width);
      }
    }
    UnpackCodes(stream, shape_.bits, codes);
    const Index parts = grid_.k_quant ? shape_.group_pieces * shape_.parts : 1;
    const Index columns = shape_.group_columns / parts;
    for (Index i = 0; i < shape_.groups * parts; ++i) {
      const Index g = i / parts, part = i % parts;
      const std::uint8_t* of_part = codes.data() + g * shape_.group_positions + part * columns;
      float* to = out.Row(r).data() + i * columns;
      const auto [scale, zero, minimum] = LevelOf(block, g, part, lane);
      for (Index c = 0; c < columns; ++c) {
        to[c] = scale * (static_cast<float>(of_part[c]) - zero) + minimum;
      }
    }
  }
}

PackedMatrix::Level PackedMatrix::LevelOf(Index block, Index group, Index part, Index lane) const {
  const bool minima = minima_.size() + wide_minima_.size() > 0;
  Level level{.scale = Number(scales_, wide_scales_, block, group, lane),
              .zero = grid_.shared_zero(),
              .minimum = minima ? Number(minima_, wide_minima_, block, group, lane) : -0.0f};
  if (grid_.k_quant) {
    const Index at = (group * shape_.group_pieces * shape_.parts + part) * kLanes + lane;
    level.scale *= static_cast<float>(factors_(block, at));
    if (minima) level.minimum = -(level.minimum * static_cast<float>(zeros_(block, at)));
  } else if (zeros_.size() > 0) {
    level.zero = static_cast<float>(zeros_(block, group * kLanes + lane));
  }
  return level;
}

}  // namespace lieq
