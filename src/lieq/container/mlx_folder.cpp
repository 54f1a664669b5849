#include "lieq/container/mlx_folder.h"

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/container/narrow.h"
#include "lieq/container/packed_reader.h"
#include "lieq/container/stacked_experts.h"
#include "lieq/container/tensor_items.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

/// Whether every bias is minus its scale times `zero`. Products of 16-bit scales and zeros of 8
/// bits are exact in float.
bool SharesZero(View<const float, 2> scales, View<const float, 2> biases, float zero) {
  for (Index row = 0; row < scales.rows(); ++row) {
    for (Index group = 0; group < scales.cols(); ++group) {
      if (-(scales(row, group) * zero) != biases(row, group)) return false;
    }
  }
  return true;
}

/// Zero-points that give every bias exactly; empty where there are none.
Matrix<std::uint8_t> IntegerZeros(View<const float, 2> scales, View<const float, 2> biases,
                                  int levels) {
  Matrix<std::uint8_t> zeros(scales.rows(), scales.cols());
  for (Index row = 0; row < scales.rows(); ++row) {
    for (Index group = 0; group < scales.cols(); ++group) {
      const float scale = scales(row, group), bias = biases(row, group);
      const float zero = scale == 0 ? 0 : -(bias / scale);
      if (!(zero >= 0 && zero < static_cast<float>(levels)) || zero != std::floor(zero) ||
          -(scale * zero) != bias) {
        return {};
      }
      zeros(row, group) = static_cast<std::uint8_t>(zero);
    }
  }
  return zeros;
}

QMatrix WithOffsets(Index rows, Index cols, Grid grid, View<const float, 2> scales,
                    View<const float, 2> biases, bool narrow) {
  Matrix<std::uint8_t> zeros;
  grid.offset = Offset::kFloat;
  if (narrow) {
    for (const Offset offset : {Offset::kSymmetric, Offset::kHalf}) {
      Grid shared = grid;
      shared.offset = offset;
      if (grid.offset == Offset::kFloat && SharesZero(scales, biases, shared.shared_zero())) {
        grid = shared;
      }
    }
    if (grid.offset == Offset::kFloat) {
      zeros = IntegerZeros(scales, biases, grid.levels());
      if (zeros.size() > 0) grid.offset = Offset::kInteger;
    }
  }
  QMatrix matrix(rows, cols, grid);
  for (Index row = 0; row < rows; ++row) {
    for (Index group = 0; group < matrix.groups(); ++group) {
      matrix.scales()(row, group) = scales(row, group);
      if (grid.offset == Offset::kFloat) matrix.minima()(row, group) = biases(row, group);
      if (grid.offset == Offset::kInteger) matrix.zeros()(row, group) = zeros(row, group);
    }
  }
  return matrix;
}

/// Width and group size that an object of config.json says.
Grid ReadGrid(const JsonObject& json, const Grid& base) {
  Grid grid = base;
  const std::int64_t bits = json.Integer("bits", base.bits);
  if (bits < 2 || bits > 8 || bits == 7) {
    throw Error({.what = "width is not supported",
                 .where = json.Where("bits"),
                 .expected = "2, 3, 4, 5, 6 or 8",
                 .found = std::to_string(bits)});
  }
  grid.bits = static_cast<int>(bits);
  grid.group_size = json.Integer("group_size", base.group_size);
  if (grid.group_size < 1 || grid.group_size > Index{1} << 24) {
    throw Error({.what = "group size is out of range",
                 .where = json.Where("group_size"),
                 .expected = "1 to 16777216",
                 .found = std::to_string(grid.group_size)});
  }
  if (const std::string mode = json.String("mode", "affine"); mode != "affine") {
    throw Error({.what = "mode of quantization is not supported",
                 .where = json.Where("mode"),
                 .expected = "affine",
                 .found = Printable(mode)});
  }
  return grid;
}

}  // namespace

Matrix<float> MlxBiases(const QMatrix& matrix) {
  Matrix<float> biases(matrix.rows(), matrix.groups());
  const Grid& grid = matrix.grid();
  for (Index row = 0; row < matrix.rows(); ++row) {
    for (Index group = 0; group < matrix.groups(); ++group) {
      if (grid.offset == Offset::kFloat) {
        biases(row, group) = matrix.minima()(row, group);
        continue;
      }
      const float zero = grid.offset == Offset::kInteger
                             ? static_cast<float>(matrix.zeros()(row, group))
                             : grid.shared_zero();
      biases(row, group) = -(matrix.scales()(row, group) * zero);
    }
  }
  return biases;
}

std::optional<DType> MlxScaleType(const QMatrix& matrix, DType preferred) {
  const Matrix<float> biases = MlxBiases(matrix);
  const DType other = preferred == DType::kF16 ? DType::kBF16 : DType::kF16;
  for (const DType type : {preferred, other}) {
    if (HoldsAll(type, matrix.scales()) && HoldsAll(type, biases.view())) return type;
  }
  return std::nullopt;
}

std::vector<TensorSpec> MlxSpecs(std::string_view module, Index rows, Index cols, const Grid& grid,
                                 DType scale_type) {
  const std::vector groups{rows, cols / GroupColumns(grid, cols)};
  return {{TensorName(module, "weight"), DType::kU32, {rows, (cols * grid.bits + 31) / 32}},
          {TensorName(module, "scales"), scale_type, groups},
          {TensorName(module, "biases"), scale_type, groups}};
}

std::vector<TensorSpec> MlxSpecs(std::string_view module, const QMatrix& matrix, DType scale_type) {
  return MlxSpecs(module, matrix.rows(), matrix.cols(), matrix.grid(), scale_type);
}

void WriteMlx(TensorWriter& writer, std::string_view module, const QMatrix& matrix,
              DType scale_type) {
  LIEQ_ASSERT(matrix.cols() * matrix.grid().bits % 32 == 0);
  writer.Write(TensorName(module, "weight"), std::as_bytes(matrix.words()));
  const auto scales = Narrow(module, "scale", matrix.scales(), scale_type);
  writer.Write(TensorName(module, "scales"), std::as_bytes(std::span(scales)));
  const auto biases = Narrow(module, "bias", MlxBiases(matrix).view(), scale_type);
  writer.Write(TensorName(module, "biases"), std::as_bytes(std::span(biases)));
}

QMatrix ReadMlx(const TensorFile& file, std::string_view module, Index rows, Index cols,
                const Grid& grid) {
  const TensorRef& named = file.At(TensorName(module, "weight"));
  const Index group = GroupColumns(grid, cols);
  if (cols % group != 0 || cols * grid.bits % 32 != 0) {
    FailAt(named, "width or group size does not go with the row",
           "groups that divide a row, and codes that fill whole words",
           std::to_string(grid.bits) + " bits, groups of " + std::to_string(group) + ", rows of " +
               std::to_string(cols));
  }
  // Before anything is allocated by these extents, the file must hold as much.
  const Index groups = cols / group;
  const TensorRef& codes =
      Checked(file, module, "weight", DType::kU32, {rows, cols * grid.bits / 32});
  const TensorRef& scale = CheckedFloats(file, module, "scales", {rows, groups});
  const TensorRef& bias = CheckedFloats(file, module, "biases", {rows, groups});

  Matrix<float> scales(rows, groups), biases(rows, groups);
  ReadFloats(file, module, "scales", "scale", scales.view());
  ReadFloats(file, module, "biases", "bias", biases.view());
  const bool narrow = scale.dtype != DType::kF32 && bias.dtype != DType::kF32;
  QMatrix matrix = WithOffsets(rows, cols, grid, scales.view(), biases.view(), narrow);
  CopyItems(codes, matrix.words());
  return matrix;
}

PackedReader MlxReader(const Json& quantization, const std::string& where) {
  const JsonObject json(quantization, where);
  (void)json.Integer("bits");  // must be there
  (void)json.Integer("group_size");
  const Grid base = ReadGrid(json, {});
  std::map<std::string, std::optional<Grid>> modules;  // none: float
  for (const auto& [name, value] : quantization.items()) {
    const std::string place = where + "/" + Printable(name, 60);
    if (value.is_object()) {
      modules[name] = ReadGrid(JsonObject(value, place), base);
    } else if (value == false) {
      modules[name] = std::nullopt;
    } else if (value == true) {
      modules[name] = base;
    }
  }
  return
      [base, modules = std::move(modules)](const TensorFile& file, const std::string& module,
                                           Index rows, Index cols) -> std::optional<PackedModule> {
        const auto listed = modules.find(SwitchModule(module));
        const bool named = listed != modules.end();
        if (named ? !listed->second.has_value() : !file.Has(TensorName(module, "scales"))) {
          return std::nullopt;
        }
        const auto matrix = std::make_shared<const QMatrix>(
            ReadMlx(file, module, rows, cols, named ? *listed->second : base));
        PackedModule read{.matrix = matrix, .tensors = {}};
        for (const TensorSpec& spec : MlxSpecs(module, *matrix, DType::kF16)) {
          read.tensors.push_back(spec.name);
        }
        return read;
      };
}

}  // namespace lieq
