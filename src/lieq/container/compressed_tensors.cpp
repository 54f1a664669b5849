#include "lieq/container/compressed_tensors.h"

#include <algorithm>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/container/narrow.h"
#include "lieq/container/tensor_items.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr Index kMostExtent = Index{1} << 24;  // as CheckConfig has it

Index StreamWords(Index codes, int bits) {
  return CeilDiv(codes * bits, 32);
}

/// Bits behind the last code of a stream must be zero: set ones mean another packing.
bool TailIsClear(std::uint32_t last_word, Index codes, int bits) {
  const auto used = codes * bits % 32;
  return used == 0 || last_word >> used == 0;
}

struct Extents {
  Index rows = 0;
  Index cols = 0;
};

/// weight_shape, checked as far as it can be alone.
Extents ReadShape(const TensorFile& file, std::string_view module, const Grid& grid) {
  const TensorRef& tensor = Checked(file, module, "weight_shape", DType::kI64, {2});
  std::array<std::int64_t, 2> shape{};
  CopyItems(tensor, std::span<std::int64_t>(shape));
  const std::string found = std::to_string(shape[0]) + ", " + std::to_string(shape[1]);
  for (const std::int64_t extent : shape) {
    if (extent < 1 || extent > kMostExtent) {
      FailAt(tensor, "extent out of range", "1 to " + std::to_string(kMostExtent), found);
    }
  }
  if (const Index step = RowStep(grid, shape[1]); shape[1] % step != 0) {
    FailAt(tensor, "group size does not divide the row",
           "columns in groups of " + std::to_string(step), found);
  }
  return {shape[0], shape[1]};
}

/// Codes as the file has them, which is as a QMatrix has them: where they lie, so far as words may
/// begin there, and then with the numbers that are found likewise; else a copy. All else is 0.
QMatrix WithCodes(const TensorFile& file, const TensorRef& tensor, Index rows, Index cols,
                  const Grid& grid, StoredNumbers scales, StoredNumbers minima) {
  const std::byte* begin = tensor.bytes.data();
  if (reinterpret_cast<std::uintptr_t>(begin) % alignof(std::uint32_t) == 0) {
    for (const auto& map : file.maps()) {
      const std::byte* first = map->bytes().data();
      if (begin < first || begin >= first + map->bytes().size()) continue;
      return {rows,
              cols,
              grid,
              {reinterpret_cast<const std::uint32_t*>(begin), tensor.bytes.size() / 4},
              map,
              std::move(scales),
              std::move(minima)};
    }
  }
  QMatrix matrix(rows, cols, grid);
  CopyItems(tensor, matrix.words());
  return matrix;
}

QMatrix ReadCodes(const TensorFile& file, std::string_view module, Index rows, Index cols,
                  const Grid& grid, StoredNumbers scales, StoredNumbers minima) {
  const Index words = StreamWords(cols, grid.bits);
  const TensorRef& tensor = Checked(file, module, "weight_packed", DType::kI32, {rows, words});
  QMatrix matrix = WithCodes(file, tensor, rows, cols, grid, std::move(scales), std::move(minima));
  if (cols * grid.bits % 32 == 0) return matrix;  // rows fill their words
  const std::span<const std::uint32_t> codes = std::as_const(matrix).words();
  for (Index row = 0; row < rows; ++row) {
    if (TailIsClear(codes[Size((row + 1) * words - 1)], cols, grid.bits)) continue;
    FailAt(tensor, "bits set behind the last code of a row", "zero bits",
           "row " + std::to_string(row));
  }
  return matrix;
}

/// One stream a column, along the rows: words lie in dimension 0.
void ReadZeros(const TensorFile& file, std::string_view module, QMatrix& matrix) {
  const int bits = matrix.grid().bits;
  const Index words = StreamWords(matrix.rows(), bits);
  const Index groups = matrix.groups();
  const TensorRef& tensor =
      Checked(file, module, "weight_zero_point", DType::kI32, {words, groups});
  std::vector<std::uint32_t> items(Size(words * groups));
  CopyItems(tensor, std::span(items));

  std::vector<std::uint32_t> stream(Size(words));
  std::vector<std::uint8_t> column(Size(matrix.rows()));
  for (Index group = 0; group < groups; ++group) {
    for (Index word = 0; word < words; ++word)
      stream[Size(word)] = items[Size(word * groups + group)];
    if (!TailIsClear(stream.back(), matrix.rows(), bits)) {
      FailAt(tensor, "bits set behind the last zero-point of a column", "zero bits",
             "column " + std::to_string(group));
    }
    UnpackCodes(stream, bits, column);
    for (Index row = 0; row < matrix.rows(); ++row) matrix.zeros()(row, group) = column[Size(row)];
  }
}

std::vector<std::uint32_t> PackZeros(const QMatrix& matrix) {
  const int bits = matrix.grid().bits;
  const Index words = StreamWords(matrix.rows(), bits);
  const Index groups = matrix.groups();
  std::vector<std::uint32_t> items(Size(words * groups));
  std::vector<std::uint32_t> stream(Size(words));
  std::vector<std::uint8_t> column(Size(matrix.rows()));
  for (Index group = 0; group < groups; ++group) {
    for (Index row = 0; row < matrix.rows(); ++row) column[Size(row)] = matrix.zeros()(row, group);
    PackCodes(column, bits, stream);
    for (Index word = 0; word < words; ++word)
      items[Size(word * groups + group)] = stream[Size(word)];
  }
  return items;
}

// ---- super-blocks of K-quant grids: factors of a row are one stream, as codes are ---------------

std::vector<std::uint8_t> ReadFactors(const TensorFile& file, std::string_view module,
                                      std::string_view suffix, const QMatrix& matrix) {
  const int bits = KQuantOf(matrix.grid()).scale_bits;
  const Index words = StreamWords(matrix.groups(), bits);
  const TensorRef& tensor = Checked(file, module, suffix, DType::kI32, {matrix.rows(), words});
  std::vector<std::uint32_t> items(Size(matrix.rows() * words));
  CopyItems(tensor, std::span(items));
  std::vector<std::uint8_t> factors(Size(matrix.rows() * matrix.groups()));
  for (Index row = 0; row < matrix.rows(); ++row) {
    const auto stream =
        std::span<const std::uint32_t>(items).subspan(Size(row * words), Size(words));
    if (!TailIsClear(stream.back(), matrix.groups(), bits)) {
      FailAt(tensor, "bits set behind the last factor of a row", "zero bits",
             "row " + std::to_string(row));
    }
    UnpackCodes(stream, bits,
                std::span(factors).subspan(Size(row * matrix.groups()), Size(matrix.groups())));
  }
  return factors;
}

/// d or dmin: F16 alone, whose values a super-block holds.
Matrix<float> ReadSuperFloats(const TensorFile& file, std::string_view module,
                              const std::string& what, const QMatrix& matrix) {
  std::string suffix = "weight_" + what;
  std::ranges::replace(suffix, ' ', '_');
  (void)Checked(file, module, suffix, DType::kF16, {matrix.rows(), matrix.supers()});
  Matrix<float> values(matrix.rows(), matrix.supers());
  ReadFloats(file, module, suffix, what, values.view());
  return values;
}

void ReadSupers(const TensorFile& file, std::string_view module, QMatrix& matrix) {
  const KQuant& kind = KQuantOf(matrix.grid());
  const Matrix<float> d = ReadSuperFloats(file, module, "super scale", matrix);
  const std::vector<std::uint8_t> scales = ReadFactors(file, module, "weight_scale_factor", matrix);
  Matrix<float> dmin;
  std::vector<std::uint8_t> minima;
  if (kind.has_minima()) {
    dmin = ReadSuperFloats(file, module, "super minimum", matrix);
    minima = ReadFactors(file, module, "weight_minimum_factor", matrix);
  }
  for (Index row = 0; row < matrix.rows(); ++row) {
    for (Index block = 0; block < matrix.supers(); ++block) {
      SuperBlock super{.d = d(row, block)};
      if (kind.has_minima()) super.dmin = dmin(row, block);
      for (std::size_t g = 0; g < Size(kind.groups()); ++g) {
        const std::size_t group = Size(row * matrix.groups() + block * kind.groups()) + g;
        super.scales[g] = static_cast<std::int8_t>(scales[group] - kind.scale_zero);
        if (kind.has_minima()) super.minima[g] = minima[group];
      }
      matrix.SetSuper(row, block, super);
    }
  }
}

void WriteSupers(TensorWriter& writer, std::string_view module, const QMatrix& matrix) {
  const KQuant& kind = KQuantOf(matrix.grid());
  const auto floats = [&](std::string_view suffix, float SuperBlock::* member) {
    std::vector<std::uint16_t> items;
    for (Index row = 0; row < matrix.rows(); ++row) {
      for (Index block = 0; block < matrix.supers(); ++block) {
        items.push_back(ToF16(matrix.Super(row, block).*member).bits);
      }
    }
    writer.Write(TensorName(module, suffix), std::as_bytes(std::span(items)));
  };
  const auto factors = [&](std::string_view suffix, const auto& factor_of) {
    const Index words = StreamWords(matrix.groups(), kind.scale_bits);
    std::vector<std::uint32_t> items(Size(matrix.rows() * words));
    std::vector<std::uint8_t> stream;
    for (Index row = 0; row < matrix.rows(); ++row) {
      stream.clear();
      for (Index block = 0; block < matrix.supers(); ++block) {
        for (std::size_t g = 0; g < Size(kind.groups()); ++g) {
          stream.push_back(factor_of(matrix.Super(row, block), g));
        }
      }
      PackCodes(stream, kind.scale_bits, std::span(items).subspan(Size(row * words), Size(words)));
    }
    writer.Write(TensorName(module, suffix), std::as_bytes(std::span(items)));
  };
  factors("weight_scale_factor", [&](const SuperBlock& super, std::size_t g) {
    return static_cast<std::uint8_t>(super.scales[g] + kind.scale_zero);
  });
  if (kind.has_minima()) {
    factors("weight_minimum_factor",
            [](const SuperBlock& super, std::size_t g) { return super.minima[g]; });
  }
  floats("weight_super_scale", &SuperBlock::d);
  if (kind.has_minima()) floats("weight_super_minimum", &SuperBlock::dmin);
}

// ---- "int-quantized": a byte a code ------------------------------------------------------------

constexpr int kByteZero = 128;  // of symmetric codes of 8 bits; stored is code - 128

QMatrix ReadBytes(const TensorFile& file, std::string_view module, const Grid& grid) {
  const TensorRef& tensor = file.At(TensorName(module, "weight"));
  if (grid.bits != 8 || grid.offset != Offset::kSymmetric) {
    FailAt(tensor, "a grid that is not read as int-quantized", "8 bits, symmetric",
           std::to_string(grid.bits) + " bits, " + std::string(Describe(grid.offset)));
  }
  if (tensor.shape.size() != 2) {
    FailAt(tensor, "wrong shape", "two dimensions", Describe(tensor.dtype, tensor.shape));
  }
  const Index rows = tensor.shape[0], cols = tensor.shape[1];
  if (const Index step = RowStep(grid, cols); rows < 1 || cols < 1 || cols % step != 0) {
    FailAt(tensor, "group size does not divide the row",
           "columns in groups of " + std::to_string(step), std::to_string(cols));
  }
  const TensorRef& scale = file.At(TensorName(module, "weight_scale"));
  (void)Checked(file, module, "weight_scale", scale.dtype, {rows, cols / GroupColumns(grid, cols)});
  QMatrix matrix(rows, cols, grid);
  std::vector<std::uint8_t> codes(Size(cols));
  for (Index row = 0; row < rows; ++row) {
    const auto bytes = tensor.bytes.subspan(Size(row * cols), Size(cols));
    std::ranges::transform(bytes, codes.begin(), [](std::byte item) {
      return static_cast<std::uint8_t>(static_cast<std::int8_t>(item) + kByteZero);
    });
    PackCodes(
        codes, grid.bits,
        matrix.words().subspan(Size(row * matrix.words_per_row()), Size(matrix.words_per_row())));
  }
  ReadFloats(file, module, "weight_scale", "scale", matrix.scales());
  return matrix;
}

void WriteBytes(TensorWriter& writer, std::string_view module, const QMatrix& matrix) {
  const std::string name = TensorName(module, "weight");
  std::vector<std::uint8_t> codes(Size(matrix.cols()));
  std::vector<std::int8_t> items(codes.size());
  for (Index row = 0; row < matrix.rows(); ++row) {
    UnpackCodes(
        matrix.words().subspan(Size(row * matrix.words_per_row()), Size(matrix.words_per_row())),
        matrix.grid().bits, codes);
    std::ranges::transform(codes, items.begin(), [](std::uint8_t code) {
      return static_cast<std::int8_t>(static_cast<int>(code) - kByteZero);
    });
    writer.Write(name, std::as_bytes(std::span(items)));
  }
}

bool IsByteEnd(std::string_view module, const Grid& grid) noexcept {
  return module == kEmbeddingModule && IsByteEmbedding(grid);
}

}  // namespace

bool IsByteEmbedding(const Grid& grid) noexcept {
  return grid.bits == 8 && grid.offset == Offset::kSymmetric && !grid.k_quant;
}

bool HasByteCodes(const TensorFile& file, std::string_view module) {
  const std::string name = TensorName(module, "weight");
  return file.Has(name) && file.At(name).dtype == DType::kI8;
}

std::vector<TensorSpec> EndSpecs(std::string_view module, const ModelConfig& config,
                                 const Grid& grid, DType scale_type) {
  if (!IsByteEnd(module, grid)) {
    return PackedSpecs(module, config.vocab, config.hidden, grid, scale_type);
  }
  const std::vector scales{config.vocab, config.hidden / GroupColumns(grid, config.hidden)};
  std::vector<TensorSpec> specs{
      {TensorName(module, "weight"), DType::kI8, {config.vocab, config.hidden}},
      {TensorName(module, "weight_scale"), scale_type, scales}};
  if (config.tied) specs.push_back({TensorName(kHeadModule, "weight_scale"), scale_type, scales});
  return specs;
}

void WriteEnd(TensorWriter& writer, std::string_view module, const ModelConfig& config,
              const QMatrix& matrix, DType scale_type) {
  if (!IsByteEnd(module, matrix.grid())) return WritePacked(writer, module, matrix, scale_type);
  WriteBytes(writer, module, matrix);
  const std::vector<std::uint16_t> scales = Narrow(module, "scale", matrix.scales(), scale_type);
  writer.Write(TensorName(module, "weight_scale"), std::as_bytes(std::span(scales)));
  if (config.tied) {
    writer.Write(TensorName(kHeadModule, "weight_scale"), std::as_bytes(std::span(scales)));
  }
}

std::vector<TensorSpec> PackedSpecs(std::string_view module, Index rows, Index cols,
                                    const Grid& grid, DType scale_type) {
  LIEQ_ASSERT(scale_type == DType::kF16 || scale_type == DType::kBF16);
  LIEQ_ASSERT(cols % RowStep(grid, cols) == 0);
  const Index groups = cols / GroupColumns(grid, cols);
  std::vector<TensorSpec> specs{
      {TensorName(module, "weight_shape"), DType::kI64, {2}},
      {TensorName(module, "weight_packed"), DType::kI32, {rows, StreamWords(cols, grid.bits)}}};
  if (grid.k_quant) {
    const KQuant& kind = KQuantOf(grid);
    const std::vector factors{rows, StreamWords(groups, kind.scale_bits)};
    const std::vector supers{rows, cols / kSuperColumns};
    const auto add = [&](std::string_view suffix, DType type,
                         const std::vector<std::int64_t>& shape) {
      specs.push_back({TensorName(module, suffix), type, shape});
    };
    add("weight_scale_factor", DType::kI32, factors);
    if (kind.has_minima()) add("weight_minimum_factor", DType::kI32, factors);
    add("weight_super_scale", DType::kF16, supers);
    if (kind.has_minima()) add("weight_super_minimum", DType::kF16, supers);
    return specs;
  }
  if (grid.offset == Offset::kInteger) {
    specs.push_back({TensorName(module, "weight_zero_point"),
                     DType::kI32,
                     {StreamWords(rows, grid.bits), groups}});
  }
  specs.push_back({TensorName(module, "weight_scale"), scale_type, {rows, groups}});
  if (grid.offset == Offset::kFloat) {
    specs.push_back({TensorName(module, "weight_minimum"), scale_type, {rows, groups}});
  }
  return specs;
}

DType ScaleType(DType model) noexcept {
  return model == DType::kF16 ? DType::kF16 : DType::kBF16;
}

void WritePacked(TensorWriter& writer, std::string_view module, const QMatrix& matrix,
                 DType scale_type) {
  const std::array<std::int64_t, 2> shape{matrix.rows(), matrix.cols()};
  writer.Write(TensorName(module, "weight_shape"), std::as_bytes(std::span(shape)));
  writer.Write(TensorName(module, "weight_packed"), std::as_bytes(matrix.words()));
  if (matrix.grid().k_quant) return WriteSupers(writer, module, matrix);
  if (matrix.grid().offset == Offset::kInteger) {
    const std::vector<std::uint32_t> zeros = PackZeros(matrix);
    writer.Write(TensorName(module, "weight_zero_point"), std::as_bytes(std::span(zeros)));
  }
  const std::vector<std::uint16_t> scales = Narrow(module, "scale", matrix.scales(), scale_type);
  writer.Write(TensorName(module, "weight_scale"), std::as_bytes(std::span(scales)));
  if (matrix.grid().offset == Offset::kFloat) {
    const auto minima = Narrow(module, "minimum", matrix.minima(), scale_type);
    writer.Write(TensorName(module, "weight_minimum"), std::as_bytes(std::span(minima)));
  }
}

QMatrix ReadPacked(const TensorFile& file, std::string_view module, const Grid& grid) {
  LIEQ_ASSERT(grid.bits >= 2 && grid.bits <= 8);
  if (HasByteCodes(file, module)) return ReadBytes(file, module, grid);
  const auto [rows, cols] = ReadShape(file, module, grid);
  const Index words = StreamWords(cols, grid.bits);

  // Before anything is allocated by the shape, the file must hold as much.
  const TensorRef& packed = file.At(TensorName(module, "weight_packed"));
  const Index ten_a_word = CeilDiv(cols, 10);
  if (grid.bits == 3 && ten_a_word != words && packed.shape == std::vector{rows, ten_a_word}) {
    FailAt(packed, "3-bit codes are packed ten to a word, as compressed-tensors 0.17 did",
           Describe(DType::kI32, std::array{rows, words}), Describe(packed.dtype, packed.shape),
           "save the model again with compressed-tensors 0.18 or later");
  }
  (void)Checked(file, module, "weight_packed", DType::kI32, {rows, words});
  if (!grid.k_quant) {
    const TensorRef& scale = file.At(TensorName(module, "weight_scale"));
    (void)Checked(file, module, "weight_scale", scale.dtype,
                  {rows, cols / GroupColumns(grid, cols)});
  }

  if (grid.k_quant) {
    QMatrix matrix = ReadCodes(file, module, rows, cols, grid, {}, {});
    ReadSupers(file, module, matrix);
    return matrix;
  }
  const Index groups = cols / GroupColumns(grid, cols);
  const bool has_minima = grid.offset == Offset::kFloat;
  StoredNumbers scales = FindFloats(file, module, "weight_scale", "scale", rows, groups), minima;
  if (has_minima) minima = FindFloats(file, module, "weight_minimum", "minimum", rows, groups);
  if (has_minima && (scales.empty() || minima.empty())) scales = minima = {};  // both, or none
  QMatrix matrix = ReadCodes(file, module, rows, cols, grid, std::move(scales), std::move(minima));
  if (matrix.stored_scales().empty()) {
    ReadFloats(file, module, "weight_scale", "scale", matrix.scales());
    if (has_minima) ReadFloats(file, module, "weight_minimum", "minimum", matrix.minima());
  }
  if (grid.offset == Offset::kInteger) ReadZeros(file, module, matrix);
  return matrix;
}

}  // namespace lieq
