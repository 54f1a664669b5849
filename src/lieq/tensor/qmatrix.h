// Quantized matrices: the one in-memory layout of integer codes.
//
// Containers convert it from and to their files, kernels repack it for themselves.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "lieq/tensor/view.h"

namespace lieq {

/// Where zero lies among the codes of a group.
enum class Offset : std::uint8_t {
  kSymmetric,  // zero = 2^(bits-1), nothing stored
  kHalf,       // zero = (2^bits - 1) / 2: levels on both sides alike, none at 0; nothing stored
  kInteger,    // one integer zero-point a group
  kFloat,      // one minimum a group: w = scale * code + minimum
};

inline constexpr std::array kAllOffsets{Offset::kSymmetric, Offset::kHalf, Offset::kInteger,
                                        Offset::kFloat};

/// "symmetric", "half", "integer", "float"
[[nodiscard]] std::string_view Name(Offset offset) noexcept;
[[nodiscard]] std::optional<Offset> OffsetFromName(std::string_view name) noexcept;
/// In the description of a grid: "symmetric", "half offset", "asymmetric", "float offset".
[[nodiscard]] std::string_view Describe(Offset offset) noexcept;

/// Where the levels of a group lie: w = scale * (code - zero), code in 0..2^bits - 1; where offsets
/// are kFloat, w = scale * code + minimum.
struct Grid {
  int bits = 2;           // 2, 3, 4 or 8
  Index group_size = 64;  // columns that share a scale; 0: the whole row
  Offset offset = Offset::kSymmetric;

  [[nodiscard]] int levels() const noexcept { return 1 << bits; }
  [[nodiscard]] int middle() const noexcept { return 1 << (bits - 1); }
  [[nodiscard]] bool symmetric() const noexcept { return offset == Offset::kSymmetric; }
  /// The zero that all groups share: of symmetric and half offsets; 0 of the others.
  [[nodiscard]] float shared_zero() const noexcept;
  /// Bits that a group stores beside its codes: the scale's 16, then a zero-point's or a minimum's.
  [[nodiscard]] int group_bits() const noexcept;
  friend bool operator==(const Grid&, const Grid&) = default;
};

/// Columns in a group of a row of `cols` columns.
[[nodiscard]] Index GroupColumns(const Grid& grid, Index cols) noexcept;

/// One linear's weights [rows, cols] as codes, scales and offsets.
///
/// Invariants, true from construction on: cols is a multiple of the group's columns; every code is
/// below 2^bits; scales and minima are finite (either sign); zeros are below 2^bits.
///
/// Codes of a row are one little-endian stream of `bits` bits each, least significant bit first,
/// starting on a 32-bit word (the stream "P_b" that compressed-tensors, GPTQ and MLX share).
class QMatrix {
 public:
  QMatrix() = default;
  /// All codes, scales, zeros and minima 0.
  QMatrix(Index rows, Index cols, const Grid& grid);

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] const Grid& grid() const noexcept { return grid_; }
  [[nodiscard]] Index group_columns() const noexcept { return group_columns_; }
  [[nodiscard]] Index groups() const noexcept { return groups_; }
  [[nodiscard]] Index words_per_row() const noexcept { return words_per_row_; }

  [[nodiscard]] std::span<const std::uint32_t> words() const noexcept { return words_; }
  [[nodiscard]] std::span<std::uint32_t> words() noexcept { return words_; }
  /// [rows, groups]
  [[nodiscard]] View<const float, 2> scales() const noexcept {
    return {scales_.data(), rows_, groups_};
  }
  [[nodiscard]] View<float, 2> scales() noexcept { return {scales_.data(), rows_, groups_}; }
  /// Zero-points [rows, groups]; empty (0 by 0) unless offsets are kInteger.
  [[nodiscard]] View<const std::uint8_t, 2> zeros() const noexcept;
  [[nodiscard]] View<std::uint8_t, 2> zeros() noexcept;
  /// [rows, groups]; empty (0 by 0) unless offsets are kFloat.
  [[nodiscard]] View<const float, 2> minima() const noexcept;
  [[nodiscard]] View<float, 2> minima() noexcept;

  /// codes [cols], each below 2^bits; replaces the row.
  void SetRow(Index row, std::span<const std::uint8_t> codes);
  /// codes [cols]
  void GetRow(Index row, std::span<std::uint8_t> codes) const;

  /// The definition of what the matrix means, for rows begin .. begin + out.rows() - 1: out[r, c] =
  /// scale * (code - zero) in float, or scale * code + minimum. Of scales by RoundScale the product
  /// is exact, so that the sum alone is rounded.
  void Dequantize(Index begin, View<float, 2> out) const;

  /// Bits of codes, scales, zero-points and minima: what every container stores.
  [[nodiscard]] std::int64_t stored_bits() const noexcept;

 private:
  Grid grid_;
  Index rows_ = 0, cols_ = 0, group_columns_ = 0, groups_ = 0, words_per_row_ = 0;
  std::vector<std::uint32_t> words_;
  std::vector<float> scales_;
  std::vector<std::uint8_t> zeros_;
  std::vector<float> minima_;
};

/// The bit stream P_b: code i occupies bits i*bits .. i*bits+bits-1, bit t of the stream is bit
/// t % 32 of word t / 32. words [ceil(codes * bits / 32)]; the tail of the last word is zero.
void PackCodes(std::span<const std::uint8_t> codes, int bits, std::span<std::uint32_t> words);
void UnpackCodes(std::span<const std::uint32_t> words, int bits, std::span<std::uint8_t> codes);

/// Rounds a scale to the nearest value that f16 and bf16 both hold exactly: 8 significant bits,
/// |scale| between 2^-14 and 65504 (signs kept; 0 becomes 2^-14), so that the same model loads with
/// the same numbers in every container and engine.
[[nodiscard]] float RoundScale(float scale) noexcept;

/// The same for a minimum, which may be 0: 8 significant bits, |minimum| at most 65280, and below
/// 2^-14 a multiple of 2^-24, the step of f16 there. Ties to even.
[[nodiscard]] float RoundMinimum(float minimum) noexcept;

}  // namespace lieq
