#include "lieq/tensor/qmatrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/tensor/dtype.h"

namespace lieq {
namespace {

constexpr std::array<std::string_view, 4> kOffsets{"symmetric", "half", "integer", "float"};
constexpr std::array<std::string_view, 4> kDescriptions{"symmetric", "half offset", "asymmetric",
                                                        "float offset"};
constexpr std::array kKQuants{
    KQuant{.name = "q2_k",
           .grid = {.bits = 2, .group_size = 16, .offset = Offset::kFloat, .k_quant = true},
           .scale_bits = 4,
           .scale_zero = 0},
    KQuant{.name = "q3_k",
           .grid = {.bits = 3, .group_size = 16, .offset = Offset::kSymmetric, .k_quant = true},
           .scale_bits = 6,
           .scale_zero = 32},
    KQuant{.name = "q4_k",
           .grid = {.bits = 4, .group_size = 32, .offset = Offset::kFloat, .k_quant = true},
           .scale_bits = 6,
           .scale_zero = 0},
    KQuant{.name = "q5_k",
           .grid = {.bits = 5, .group_size = 32, .offset = Offset::kFloat, .k_quant = true},
           .scale_bits = 6,
           .scale_zero = 0},
    KQuant{.name = "q6_k",
           .grid = {.bits = 6, .group_size = 16, .offset = Offset::kSymmetric, .k_quant = true},
           .scale_bits = 8,
           .scale_zero = 128},
};

}  // namespace

std::string_view Name(Offset offset) noexcept {
  return kOffsets[static_cast<std::size_t>(offset)];
}

std::optional<Offset> OffsetFromName(std::string_view name) noexcept {
  const auto found = std::ranges::find(kOffsets, name);
  if (found == kOffsets.end()) return std::nullopt;
  return static_cast<Offset>(found - kOffsets.begin());
}

std::string_view Describe(Offset offset) noexcept {
  return kDescriptions[static_cast<std::size_t>(offset)];
}

float Grid::shared_zero() const noexcept {
  if (offset == Offset::kSymmetric) return static_cast<float>(middle());
  return offset == Offset::kHalf ? 0.5f * static_cast<float>(levels() - 1) : 0.0f;
}

int Grid::group_bits() const noexcept {
  if (k_quant) {  // of d and dmin a group's share, which is whole
    const KQuant& row = KQuantOf(*this);
    const int share = row.scale_bits + 16 * static_cast<int>(group_size) / int{kSuperColumns};
    return row.has_minima() ? 2 * share : share;
  }
  return 16 + (offset == Offset::kInteger ? bits : offset == Offset::kFloat ? 16 : 0);
}

Index GroupColumns(const Grid& grid, Index cols) noexcept {
  return grid.group_size == 0 ? cols : grid.group_size;
}

Index RowStep(const Grid& grid, Index cols) noexcept {
  return grid.k_quant ? kSuperColumns : GroupColumns(grid, cols);
}

std::span<const KQuant> KQuants() noexcept {
  return kKQuants;
}

const KQuant* FindKQuant(std::string_view name) noexcept {
  const auto* found = std::ranges::find(kKQuants, name, &KQuant::name);
  return found == kKQuants.end() ? nullptr : &*found;
}

const KQuant* KQuantOfBits(int bits) noexcept {
  const auto found =
      std::ranges::find_if(kKQuants, [&](const KQuant& row) { return row.grid.bits == bits; });
  return found == kKQuants.end() ? nullptr : &*found;
}

std::string KQuantNames() {
  std::string names;
  for (const KQuant& row : kKQuants) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

const KQuant& KQuantOf(const Grid& grid) noexcept {
  const KQuant* row = KQuantOfBits(grid.bits);
  LIEQ_ASSERT(row != nullptr && row->grid == grid);
  return *row;
}

struct QMatrix::Widened {
  std::once_flag once;
  Floats floats;
};

namespace {

std::vector<float> WidenedNumbers(const StoredNumbers& stored) {
  std::vector<float> floats(stored.items.size());
  if (stored.type == DType::kF16) {
    std::ranges::transform(stored.items, floats.begin(),
                           [](std::uint16_t bits) { return ToFloat(F16{bits}); });
  } else {
    std::ranges::transform(stored.items, floats.begin(),
                           [](std::uint16_t bits) { return ToFloat(Bf16{bits}); });
  }
  return floats;
}

}  // namespace

QMatrix::QMatrix(Index rows, Index cols, const Grid& grid) : QMatrix(rows, cols, grid, {}, {}) {
  words_.resize(Size(rows * words_per_row_));
}

QMatrix::QMatrix(Index rows, Index cols, const Grid& grid, std::span<const std::uint32_t> words,
                 std::shared_ptr<const FileMap> file)
    : QMatrix(rows, cols, grid, words, std::move(file), {}, {}) {}

QMatrix::QMatrix(Index rows, Index cols, const Grid& grid, std::span<const std::uint32_t> words,
                 std::shared_ptr<const FileMap> file, StoredNumbers scales, StoredNumbers minima)
    : grid_(grid),
      rows_(rows),
      cols_(cols),
      group_columns_(GroupColumns(grid, cols)),
      mapped_(words),
      file_(std::move(file)),
      stored_scales_(std::move(scales)),
      stored_minima_(std::move(minima)) {
  LIEQ_ASSERT(rows > 0 && cols > 0 && group_columns_ > 0 && cols % RowStep(grid, cols) == 0);
  LIEQ_ASSERT(grid.bits >= 1 && grid.bits <= 8);
  groups_ = cols / group_columns_;
  words_per_row_ = CeilDiv(cols * grid.bits, 32);
  LIEQ_ASSERT(!file_ || mapped_.size() == Size(rows * words_per_row_));
  const std::size_t numbers = Size(rows * groups_);
  if (grid.offset == Offset::kInteger) zeros_.resize(numbers);
  if (stored_scales_.empty()) {
    floats_.scales.resize(numbers);
    if (has_minima()) floats_.minima.resize(numbers);
  } else {
    LIEQ_ASSERT(!grid.k_quant && stored_scales_.items.size() == numbers);
    LIEQ_ASSERT(stored_minima_.items.size() == (has_minima() ? numbers : 0));
    widened_ = std::make_shared<Widened>();
  }
  supers_.resize(Size(rows * supers()));
}

std::span<std::uint32_t> QMatrix::words() {
  if (file_) {
    words_.assign(mapped_.begin(), mapped_.end());
    mapped_ = {};
    file_.reset();
  }
  return words_;
}

const QMatrix::Floats& QMatrix::Widen() const {
  std::call_once(widened_->once, [&] {
    widened_->floats.scales = WidenedNumbers(stored_scales_);
    widened_->floats.minima = WidenedNumbers(stored_minima_);
    for (const StoredNumbers* stored : {&stored_scales_, &stored_minima_}) {
      // They are read once, and the memory of both would be held until the file is closed.
      if (stored->file) stored->file->Drop(std::as_bytes(stored->items));
    }
  });
  return widened_->floats;
}

QMatrix::Floats& QMatrix::OwnNumbers() {
  if (widened_) {
    floats_ = Widen();
    widened_.reset();
    stored_scales_ = {};
    stored_minima_ = {};
  }
  return floats_;
}

void QMatrix::Release(Index row, Index rows) const noexcept {
  const auto release = [&](const std::shared_ptr<const FileMap>& file, auto items) {
    if (!file || items.empty()) return;
    // Pages that reach beyond the rows go too: whoever reads there gets them again.
    constexpr std::size_t kPage = 4096;
    const auto all = std::as_bytes(items);
    const std::size_t bytes = all.size() / Size(rows_);
    const std::size_t begin = Size(row) * bytes, end = begin + Size(rows) * bytes;
    const std::size_t from = begin - std::min(begin, kPage), to = std::min(all.size(), end + kPage);
    file->Drop(all.subspan(from, to - from));
  };
  release(file_, mapped_);
  release(stored_scales_.file, stored_scales_.items);
  release(stored_minima_.file, stored_minima_.items);
}

View<const std::uint8_t, 2> QMatrix::zeros() const noexcept {
  if (zeros_.empty()) return {};
  return {zeros_.data(), rows_, groups_};
}

View<std::uint8_t, 2> QMatrix::zeros() noexcept {
  if (zeros_.empty()) return {};
  return {zeros_.data(), rows_, groups_};
}

View<const float, 2> QMatrix::minima() const {
  if (!has_minima()) return {};
  return {Numbers().minima.data(), rows_, groups_};
}

View<float, 2> QMatrix::minima() {
  if (!has_minima()) return {};
  return {OwnNumbers().minima.data(), rows_, groups_};
}

void QMatrix::SetSuper(Index row, Index block, const SuperBlock& super) {
  LIEQ_ASSERT(row >= 0 && row < rows_ && block >= 0 && block < supers());
  LIEQ_ASSERT(ToFloat(ToF16(super.d)) == super.d && ToFloat(ToF16(super.dmin)) == super.dmin);
  LIEQ_ASSERT(std::isfinite(super.d) && std::isfinite(super.dmin));
  const KQuant& kind = KQuantOf(grid_);
  supers_[Size(row * supers() + block)] = super;
  for (std::size_t g = 0; g < SuperBlock::kMostGroups; ++g) {
    const int scale = super.scales[g], minimum = super.minima[g];
    LIEQ_ASSERT(minimum <= (kind.has_minima() ? kind.most_minimum() : 0));
    if (static_cast<Index>(g) >= kind.groups()) {
      LIEQ_ASSERT(scale == 0 && minimum == 0);
      continue;
    }
    LIEQ_ASSERT(scale >= kind.least_scale() && scale <= kind.most_scale());
    const std::size_t group = Size(row * groups_ + block * kind.groups()) + g;
    floats_.scales[group] = super.Scale(g);
    if (kind.has_minima()) floats_.minima[group] = super.Minimum(g);
  }
}

void QMatrix::CopyRow(Index row, const QMatrix& from) {
  LIEQ_ASSERT(from.rows_ == rows_ && from.cols_ == cols_ && from.grid_ == grid_);
  LIEQ_ASSERT(row >= 0 && row < rows_);
  const auto copy = [&](const auto& source, auto&& target) {  // a row's share of an array
    const auto share = static_cast<std::ptrdiff_t>(source.size() / Size(rows_));
    std::copy_n(source.begin() + row * share, share, target.begin() + row * share);
  };
  copy(from.words(), words());
  copy(from.Numbers().scales, OwnNumbers().scales);
  copy(from.zeros_, zeros_);
  copy(from.Numbers().minima, OwnNumbers().minima);
  copy(from.supers_, supers_);
}

QMatrix QMatrix::Slice(Index begin, Index count) const {
  LIEQ_ASSERT(begin >= 0 && count >= 0 && begin + count <= rows_);
  const auto rows = [&](const auto& source) {  // their share of an array
    const std::size_t share = source.size() / Size(rows_);
    return std::span(source).subspan(Size(begin) * share, Size(count) * share);
  };
  const auto stored = [&](const StoredNumbers& numbers) {
    return StoredNumbers{numbers.type, rows(numbers.items), numbers.file};
  };
  QMatrix part;
  if (file_) {
    part = QMatrix(count, cols_, grid_, rows(mapped_), file_, stored(stored_scales_),
                   stored(stored_minima_));
  } else {
    part = QMatrix(count, cols_, grid_);
    std::ranges::copy(rows(words_), part.words_.begin());
  }
  if (!part.widened_) {
    std::ranges::copy(rows(Numbers().scales), part.floats_.scales.begin());
    std::ranges::copy(rows(Numbers().minima), part.floats_.minima.begin());
  }
  std::ranges::copy(rows(zeros_), part.zeros_.begin());
  std::ranges::copy(rows(supers_), part.supers_.begin());
  return part;
}

QMatrix QMatrix::Stacked(std::span<const std::shared_ptr<const QMatrix>> parts) {
  LIEQ_ASSERT(!parts.empty());
  Index rows = 0;
  for (const auto& part : parts) {
    LIEQ_ASSERT(part->grid_ == parts.front()->grid_ && part->cols_ == parts.front()->cols_);
    rows += part->rows_;
  }
  QMatrix all(rows, parts.front()->cols_, parts.front()->grid_);
  Index row = 0;
  for (const auto& part : parts) {
    const auto put = [&](const auto& source, auto& target) {
      const std::size_t share = target.size() / Size(rows);
      std::ranges::copy(source, target.begin() + static_cast<std::ptrdiff_t>(Size(row) * share));
    };
    put(part->words(), all.words_);
    put(part->Numbers().scales, all.floats_.scales);
    put(part->zeros_, all.zeros_);
    put(part->Numbers().minima, all.floats_.minima);
    put(part->supers_, all.supers_);
    row += part->rows_;
  }
  return all;
}

void QMatrix::SetRow(Index row, std::span<const std::uint8_t> codes) {
  LIEQ_ASSERT(row >= 0 && row < rows_ && static_cast<Index>(codes.size()) == cols_);
  PackCodes(codes, grid_.bits, words().subspan(Size(row * words_per_row_), Size(words_per_row_)));
}

void QMatrix::GetRow(Index row, std::span<std::uint8_t> codes) const {
  LIEQ_ASSERT(row >= 0 && row < rows_ && static_cast<Index>(codes.size()) == cols_);
  UnpackCodes(words().subspan(Size(row * words_per_row_), Size(words_per_row_)), grid_.bits, codes);
}

void QMatrix::Dequantize(Index begin, View<float, 2> out) const {
  LIEQ_ASSERT(begin >= 0 && begin + out.rows() <= rows_ && out.cols() == cols_);
  std::vector<std::uint8_t> codes(Size(cols_));
  const Floats& numbers = Numbers();
  for (Index r = 0; r < out.rows(); ++r) {
    const Index row = begin + r;
    GetRow(row, codes);
    float* to = out.Row(r).data();
    const std::uint8_t* from = codes.data();
    for (Index g = 0; g < groups_; ++g) {
      const std::size_t group = Size(row * groups_ + g);
      const float scale = numbers.scales[group];
      // One expression for all offsets: less 0 and plus -0 leave every number as it is.
      const float zero = zeros_.empty() ? grid_.shared_zero() : static_cast<float>(zeros_[group]);
      const float minimum = numbers.minima.empty() ? -0.0f : numbers.minima[group];
      for (Index c = 0; c < group_columns_; ++c) {
        to[c] = scale * (static_cast<float>(from[c]) - zero) + minimum;
      }
      to += group_columns_;
      from += group_columns_;
    }
  }
}

std::int64_t StoredBits(const Grid& grid, Index rows, Index cols) noexcept {
  return rows * (cols * grid.bits + cols / GroupColumns(grid, cols) * grid.group_bits());
}

void PackCodes(std::span<const std::uint8_t> codes, int bits, std::span<std::uint32_t> words) {
  LIEQ_ASSERT(words.size() == Size(CeilDiv(static_cast<Index>(codes.size()) * bits, 32)));
  std::uint64_t pending = 0;  // bits not yet written, least significant first
  int count = 0;
  std::size_t word = 0;
  for (const std::uint8_t code : codes) {
    LIEQ_ASSERT(code < (1 << bits));
    pending |= static_cast<std::uint64_t>(code) << count;
    count += bits;
    if (count >= 32) {
      words[word++] = static_cast<std::uint32_t>(pending);
      pending >>= 32;
      count -= 32;
    }
  }
  if (count > 0) words[word] = static_cast<std::uint32_t>(pending);
}

namespace {

/// Widths that divide a byte, where four or two codes come from each byte without a carry.
template <int kBits>
void UnpackDivisor(std::span<const std::uint32_t> words, std::span<std::uint8_t> codes) {
  constexpr std::uint32_t kMask = (1u << kBits) - 1;
  constexpr std::size_t kPerWord = 32 / kBits;
  const std::size_t whole = codes.size() / kPerWord;
  for (std::size_t w = 0; w < whole; ++w) {
    const std::uint32_t word = words[w];
    for (std::size_t i = 0; i < kPerWord; ++i) {
      codes[w * kPerWord + i] = static_cast<std::uint8_t>((word >> (kBits * i)) & kMask);
    }
  }
  for (std::size_t i = whole * kPerWord; i < codes.size(); ++i) {
    codes[i] = static_cast<std::uint8_t>((words[i / kPerWord] >> (kBits * (i % kPerWord))) & kMask);
  }
}

}  // namespace

void UnpackCodes(std::span<const std::uint32_t> words, int bits, std::span<std::uint8_t> codes) {
  LIEQ_ASSERT(words.size() == Size(CeilDiv(static_cast<Index>(codes.size()) * bits, 32)));
  switch (bits) {
    case 2:
      return UnpackDivisor<2>(words, codes);
    case 4:
      return UnpackDivisor<4>(words, codes);
    case 8:
      return UnpackDivisor<8>(words, codes);
    default:
      break;
  }
  const std::uint32_t mask = (1u << bits) - 1;
  std::uint64_t pending = 0;
  int count = 0;
  std::size_t word = 0;
  for (std::uint8_t& code : codes) {
    if (count < bits) {
      pending |= static_cast<std::uint64_t>(words[word++]) << count;
      count += 32;
    }
    code = static_cast<std::uint8_t>(pending & mask);
    pending >>= bits;
    count -= bits;
  }
}

namespace {

// f16's smallest number above 0, and its largest of 8 significant bits.
constexpr float kLeastScale = 0x1.0p-24f, kMostScale = 65280.0f;

/// The nearest number of 8 significant bits that f16 holds, for a magnitude within its range.
float RoundMagnitude(float magnitude) noexcept {
  // Below 2^-17 a multiple of 2^-24 has 7 bits at most; above, 8 bits end at 2^-24 or before.
  return magnitude < 0x1.0p-17f ? std::nearbyint(magnitude * 0x1.0p24f) * 0x1.0p-24f
                                : ToFloat(ToBf16(magnitude));
}

}  // namespace

float RoundScale(float scale) noexcept {
  constexpr float kOfNothing = 0x1.0p-14f;  // a scale of zeros alone: any number does
  const float magnitude = scale == 0 ? kOfNothing : std::min(std::fabs(scale), kMostScale);
  return std::copysign(std::max(RoundMagnitude(magnitude), kLeastScale), scale);
}

float RoundMinimum(float minimum) noexcept {
  const float rounded = RoundMagnitude(std::min(std::fabs(minimum), kMostScale));
  return rounded == 0 ? 0.0f : std::copysign(rounded, minimum);
}

}  // namespace lieq
