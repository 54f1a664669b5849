#include "lieq/tensor/qmatrix.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/tensor/dtype.h"

namespace lieq {

Index GroupColumns(const Grid& grid, Index cols) noexcept {
  return grid.group_size == 0 ? cols : grid.group_size;
}

QMatrix::QMatrix(Index rows, Index cols, const Grid& grid)
    : grid_(grid), rows_(rows), cols_(cols), group_columns_(GroupColumns(grid, cols)) {
  LIEQ_ASSERT(rows > 0 && cols > 0 && group_columns_ > 0 && cols % group_columns_ == 0);
  LIEQ_ASSERT(grid.bits >= 1 && grid.bits <= 8);
  groups_ = cols / group_columns_;
  words_per_row_ = CeilDiv(cols * grid.bits, 32);
  words_.resize(Size(rows * words_per_row_));
  scales_.resize(Size(rows * groups_));
  if (!grid.symmetric) zeros_.resize(Size(rows * groups_));
}

View<const std::uint8_t, 2> QMatrix::zeros() const noexcept {
  if (zeros_.empty()) return {};
  return {zeros_.data(), rows_, groups_};
}

View<std::uint8_t, 2> QMatrix::zeros() noexcept {
  if (zeros_.empty()) return {};
  return {zeros_.data(), rows_, groups_};
}

void QMatrix::SetRow(Index row, std::span<const std::uint8_t> codes) {
  LIEQ_ASSERT(row >= 0 && row < rows_ && static_cast<Index>(codes.size()) == cols_);
  PackCodes(codes, grid_.bits,
            std::span(words_).subspan(Size(row * words_per_row_), Size(words_per_row_)));
}

void QMatrix::GetRow(Index row, std::span<std::uint8_t> codes) const {
  LIEQ_ASSERT(row >= 0 && row < rows_ && static_cast<Index>(codes.size()) == cols_);
  UnpackCodes(std::span(words_).subspan(Size(row * words_per_row_), Size(words_per_row_)),
              grid_.bits, codes);
}

void QMatrix::Dequantize(Index begin, View<float, 2> out) const {
  LIEQ_ASSERT(begin >= 0 && begin + out.rows() <= rows_ && out.cols() == cols_);
  std::vector<std::uint8_t> codes(Size(cols_));
  for (Index r = 0; r < out.rows(); ++r) {
    const Index row = begin + r;
    GetRow(row, codes);
    float* to = out.Row(r).data();
    const std::uint8_t* from = codes.data();
    for (Index g = 0; g < groups_; ++g) {
      const float scale = scales_[Size(row * groups_ + g)];
      const int zero = zeros_.empty() ? grid_.middle() : zeros_[Size(row * groups_ + g)];
      for (Index c = 0; c < group_columns_; ++c) {
        to[c] = scale * static_cast<float>(static_cast<int>(from[c]) - zero);
      }
      to += group_columns_;
      from += group_columns_;
    }
  }
}

std::int64_t QMatrix::stored_bits() const noexcept {
  const std::int64_t scales = 16 * rows_ * groups_;
  const std::int64_t zeros = grid_.symmetric ? 0 : grid_.bits * rows_ * groups_;
  return rows_ * cols_ * grid_.bits + scales + zeros;
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

float RoundScale(float scale) noexcept {
  constexpr float kSmallest = 0x1.0p-14f;
  constexpr float kLargest = 65280.0f;  // the largest number of 8 significant bits within f16
  const float magnitude = std::clamp(ToFloat(ToBf16(std::fabs(scale))), kSmallest, kLargest);
  return std::copysign(magnitude, scale);
}

}  // namespace lieq
