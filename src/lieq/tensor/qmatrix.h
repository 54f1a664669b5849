// Quantized matrices: the one in-memory layout of integer codes.
//
// Containers convert it from and to their files, kernels repack it for themselves.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/tensor/dtype.h"
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
///
/// A K-quant grid is one of llama.cpp's Q2_K to Q6_K: scales and minima of its groups are
/// integers times a number that kSuperColumns columns share. Its other members are those of its row
/// of KQuants().
struct Grid {
  int bits = 2;           // 2, 3, 4, 5, 6 or 8
  Index group_size = 64;  // columns that share a scale; 0: the whole row
  Offset offset = Offset::kSymmetric;
  bool k_quant = false;

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
/// What must divide a row of `cols` columns: the columns of a group, or of a super-block.
[[nodiscard]] Index RowStep(const Grid& grid, Index cols) noexcept;

/// Bits of codes, scales, zero-points and minima of a matrix [rows, cols]: what every container
/// stores.
[[nodiscard]] std::int64_t StoredBits(const Grid& grid, Index rows, Index cols) noexcept;

/// Columns of a super-block.
inline constexpr Index kSuperColumns = 256;

/// How a K-quant grid codes the scales, and where it has them the minima, of its groups.
struct KQuant {
  std::string_view name;  // "q2_k"
  Grid grid;
  int scale_bits;  // of the code of a scale, and of that of a minimum
  int scale_zero;  // what is taken from the code of a scale as it is stored

  /// Scale factors are least_scale() .. most_scale(), minimum factors 0 .. most_minimum().
  [[nodiscard]] int least_scale() const noexcept { return -scale_zero; }
  [[nodiscard]] int most_scale() const noexcept { return (1 << scale_bits) - 1 - scale_zero; }
  [[nodiscard]] int most_minimum() const noexcept { return (1 << scale_bits) - 1; }
  [[nodiscard]] bool has_minima() const noexcept { return grid.offset == Offset::kFloat; }
  [[nodiscard]] Index groups() const noexcept { return kSuperColumns / grid.group_size; }
};

[[nodiscard]] std::span<const KQuant> KQuants() noexcept;
[[nodiscard]] const KQuant* FindKQuant(std::string_view name) noexcept;  // null: no such name
[[nodiscard]] const KQuant* KQuantOfBits(int bits) noexcept;  // null where none has the width
[[nodiscard]] std::string KQuantNames();                      // "q2_k, q3_k, ..."
/// The row of a grid that is one.
[[nodiscard]] const KQuant& KQuantOf(const Grid& grid) noexcept;

/// What a super-block holds beside its codes. With factors s and m of a group a weight is
/// d * s * code - dmin * m where there are minima, and d * s * (code - zero) where there are none.
struct SuperBlock {
  static constexpr std::size_t kMostGroups = 16;
  float d = 0, dmin = 0;  // values of f16, finite
  std::array<std::int8_t, kMostGroups> scales{};
  std::array<std::uint8_t, kMostGroups> minima{};  // all 0 where the grid has none
  friend bool operator==(const SuperBlock&, const SuperBlock&) = default;

  // Both products have at most 17 significant bits: exact.
  [[nodiscard]] float Scale(std::size_t group) const noexcept {
    return d * static_cast<float>(scales[group]);
  }
  [[nodiscard]] float Minimum(std::size_t group) const noexcept {
    return -(dmin * static_cast<float>(minima[group]));
  }
};

/// Scales or minima [rows, groups] where they lie in a mapped file: of F16 or BF16, all finite.
struct StoredNumbers {
  DType type = DType::kBF16;
  std::span<const std::uint16_t> items;
  std::shared_ptr<const FileMap> file;

  [[nodiscard]] bool empty() const noexcept { return items.empty(); }
};

/// One linear's weights [rows, cols] as codes, scales and offsets.
///
/// Invariants, true from construction on: cols is a multiple of RowStep; every code is below
/// 2^bits; scales and minima are finite (either sign); zeros are below 2^bits; on K-quant grids
/// scales and minima are those of the super-blocks.
///
/// Codes of a row are one little-endian stream of `bits` bits each, least significant bit first,
/// starting on a 32-bit word (the stream "P_b" that compressed-tensors, GPTQ and MLX share).
class QMatrix {
 public:
  QMatrix() = default;
  /// All codes, scales, zeros, minima and super-blocks 0.
  QMatrix(Index rows, Index cols, const Grid& grid);
  /// Codes where they lie in a mapped file: words [rows * words_per_row], as words() gives them.
  /// They are copied before they are written to.
  QMatrix(Index rows, Index cols, const Grid& grid, std::span<const std::uint32_t> words,
          std::shared_ptr<const FileMap> file);

  /// The same with scales, and where offsets are kFloat minima, where they lie. They become floats
  /// when somebody asks for them: a model of 4B has sixty million, and packed kernels want none.
  QMatrix(Index rows, Index cols, const Grid& grid, std::span<const std::uint32_t> words,
          std::shared_ptr<const FileMap> file, StoredNumbers scales, StoredNumbers minima);

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] const Grid& grid() const noexcept { return grid_; }
  [[nodiscard]] Index group_columns() const noexcept { return group_columns_; }
  [[nodiscard]] Index groups() const noexcept { return groups_; }
  [[nodiscard]] Index words_per_row() const noexcept { return words_per_row_; }

  [[nodiscard]] std::span<const std::uint32_t> words() const noexcept {
    return file_ ? mapped_ : std::span<const std::uint32_t>(words_);
  }
  [[nodiscard]] std::span<std::uint32_t> words();
  /// Gives the pages of mapped words and numbers of these rows back to the system (they can be read
  /// again).
  void Release(Index row, Index rows) const noexcept;
  /// [rows, groups]. Those of a K-quant grid are written by SetSuper, and only read here.
  [[nodiscard]] View<const float, 2> scales() const {
    return {Numbers().scales.data(), rows_, groups_};
  }
  [[nodiscard]] View<float, 2> scales() { return {OwnNumbers().scales.data(), rows_, groups_}; }
  /// Where they lie in a file, as long as nobody may have written to them; else empty.
  [[nodiscard]] const StoredNumbers& stored_scales() const noexcept { return stored_scales_; }
  [[nodiscard]] const StoredNumbers& stored_minima() const noexcept { return stored_minima_; }
  /// Zero-points [rows, groups]; empty (0 by 0) unless offsets are kInteger.
  [[nodiscard]] View<const std::uint8_t, 2> zeros() const noexcept;
  [[nodiscard]] View<std::uint8_t, 2> zeros() noexcept;
  /// [rows, groups]; empty (0 by 0) unless offsets are kFloat.
  [[nodiscard]] View<const float, 2> minima() const;
  [[nodiscard]] View<float, 2> minima();
  /// Whether there are minima. Makes no floats of them.
  [[nodiscard]] bool has_minima() const noexcept { return grid_.offset == Offset::kFloat; }

  /// Super-blocks of a row: cols / kSuperColumns on a K-quant grid, else 0.
  [[nodiscard]] Index supers() const noexcept { return grid_.k_quant ? cols_ / kSuperColumns : 0; }
  [[nodiscard]] const SuperBlock& Super(Index row, Index block) const noexcept {
    return supers_[Size(row * supers() + block)];
  }
  /// Writes the scales and minima of the block's groups too.
  void SetSuper(Index row, Index block, const SuperBlock& super);

  /// Takes over the same row of a matrix of the same shape and grid.
  void CopyRow(Index row, const QMatrix& from);

  /// Rows begin .. begin + count - 1 as a matrix of their own; mapped codes stay where they are.
  [[nodiscard]] QMatrix Slice(Index begin, Index count) const;
  /// Matrices of one grid and as many columns each, one below another. One at least.
  [[nodiscard]] static QMatrix Stacked(std::span<const std::shared_ptr<const QMatrix>> parts);

  /// codes [cols], each below 2^bits; replaces the row.
  void SetRow(Index row, std::span<const std::uint8_t> codes);
  /// codes [cols]
  void GetRow(Index row, std::span<std::uint8_t> codes) const;

  /// The definition of what the matrix means, for rows begin .. begin + out.rows() - 1: out[r, c] =
  /// scale * (code - zero) in float, or scale * code + minimum. Of scales by RoundScale, and of
  /// those of super-blocks, the product is exact, so that the sum alone is rounded: on K-quant
  /// grids the result is llama.cpp's bit for bit.
  void Dequantize(Index begin, View<float, 2> out) const;

  [[nodiscard]] std::int64_t stored_bits() const noexcept {
    return StoredBits(grid_, rows_, cols_);
  }

 private:
  /// [rows, groups] each, or none.
  struct Floats {
    std::vector<float> scales, minima;
  };
  /// Floats of what is stored, once somebody has asked for them. Copies share them.
  struct Widened;

  [[nodiscard]] const Floats& Numbers() const { return widened_ ? Widen() : floats_; }
  [[nodiscard]] const Floats& Widen() const;
  [[nodiscard]] Floats& OwnNumbers();

  Grid grid_;
  Index rows_ = 0, cols_ = 0, group_columns_ = 0, groups_ = 0, words_per_row_ = 0;
  std::vector<std::uint32_t> words_;       // empty where they are mapped
  std::span<const std::uint32_t> mapped_;  // in file_
  std::shared_ptr<const FileMap> file_;    // null: words are the matrix's own
  Floats floats_;                          // empty where they are stored
  StoredNumbers stored_scales_, stored_minima_;
  std::shared_ptr<Widened> widened_;  // of these; null where there are none
  std::vector<std::uint8_t> zeros_;
  std::vector<SuperBlock> supers_;  // [rows, supers]
};

/// The bit stream P_b: code i occupies bits i*bits .. i*bits+bits-1, bit t of the stream is bit
/// t % 32 of word t / 32. words [ceil(codes * bits / 32)]; the tail of the last word is zero.
void PackCodes(std::span<const std::uint8_t> codes, int bits, std::span<std::uint32_t> words);
void UnpackCodes(std::span<const std::uint32_t> words, int bits, std::span<std::uint8_t> codes);

/// Rounds a scale to the nearest value that f16 and bf16 both hold, so that a model has the same
/// numbers in every container: 8 significant bits, below 2^-17 a multiple of 2^-24 (f16's step);
/// |scale| between 2^-24 and 65280, ties to even, signs kept. 0, of zeros alone, becomes 2^-14.
[[nodiscard]] float RoundScale(float scale) noexcept;

/// The same for a minimum, which may be 0: 8 significant bits, |minimum| at most 65280, and below
/// 2^-17 a multiple of 2^-24. Ties to even.
[[nodiscard]] float RoundMinimum(float minimum) noexcept;

}  // namespace lieq
