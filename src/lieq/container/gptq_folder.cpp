#include "lieq/container/gptq_folder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/container/layer_pattern.h"
#include "lieq/container/narrow.h"
#include "lieq/container/tensor_items.h"

namespace lieq {
namespace {

/// The zero-point of a group, whether the grid stores it or not.
int ZeroOf(const QMatrix& matrix, Index row, Index group) {
  const Grid& grid = matrix.grid();
  return grid.offset == Offset::kInteger ? matrix.zeros()(row, group) : grid.middle();
}

std::vector<std::uint32_t> PackZeros(std::string_view module, const QMatrix& matrix,
                                     GptqVersion version) {
  const int less = version == GptqVersion::kV1 ? 1 : 0;
  const Index words = matrix.rows() * matrix.grid().bits / 32;
  std::vector<std::uint32_t> items(Size(words * matrix.groups()));
  std::vector<std::uint8_t> stored(Size(matrix.rows()));
  for (Index group = 0; group < matrix.groups(); ++group) {
    for (Index row = 0; row < matrix.rows(); ++row) {
      const int zero = ZeroOf(matrix, row, group) - less;
      if (zero < 0) {
        // Engines add 1 to whole words: a field of ones would carry into its neighbour.
        throw Error({.what = "a zero-point of 0, which version 1 of GPTQ does not have",
                     .where = std::string(module) + ", row " + std::to_string(row) + ", group " +
                              std::to_string(group),
                     .expected = "1 or more",
                     .found = "0",
                     .hint = "write version 2"});
      }
      stored[Size(row)] = static_cast<std::uint8_t>(zero);
    }
    PackCodes(stored, matrix.grid().bits,
              std::span(items).subspan(Size(group * words), Size(words)));
  }
  return items;
}

void ReadZeros(const TensorRef& tensor, GptqVersion version, QMatrix& matrix) {
  const Grid& grid = matrix.grid();
  const int more = version == GptqVersion::kV1 ? 1 : 0;
  const Index words = matrix.rows() * grid.bits / 32;
  std::vector<std::uint32_t> items(Size(words * matrix.groups()));
  CopyItems(tensor, std::span(items));
  std::vector<std::uint8_t> stored(Size(matrix.rows()));
  for (Index group = 0; group < matrix.groups(); ++group) {
    UnpackCodes(std::span<const std::uint32_t>(items).subspan(Size(group * words), Size(words)),
                grid.bits, stored);
    for (Index row = 0; row < matrix.rows(); ++row) {
      const int zero = stored[Size(row)] + more;
      const std::string place = std::to_string(zero) + " in group " + std::to_string(group) +
                                ", row " + std::to_string(row);
      if (grid.symmetric()) {
        if (zero == grid.middle()) continue;
        // Some engines read what is stored, others take it for the middle.
        FailAt(tensor, "a zero-point that is not symmetric although config.json says sym",
               std::to_string(grid.middle()), place);
      }
      if (zero == grid.levels()) {
        FailAt(tensor, "a zero-point that version 1 of GPTQ does not have",
               "1 to " + std::to_string(grid.levels() - 1), place,
               "engines part over it: write the model again as version 2");
      }
      matrix.zeros()(row, group) = static_cast<std::uint8_t>(zero);
    }
  }
}

void CheckOrder(const TensorFile& file, std::string_view module, Index cols, Index group) {
  if (!file.Has(TensorName(module, "g_idx"))) return;
  const TensorRef& tensor = Checked(file, module, "g_idx", DType::kI32, {cols});
  std::vector<std::int32_t> items(Size(cols));
  CopyItems(tensor, std::span(items));
  for (Index col = 0; col < cols; ++col) {
    if (items[Size(col)] == col / group) continue;
    FailAt(tensor, "columns in another order than that of their groups are not supported",
           std::to_string(col / group) + " at column " + std::to_string(col),
           std::to_string(items[Size(col)]),
           "quantize without activation order (desc_act), or with static groups");
  }
}

/// "self_attn\.(?:q|k|v|qkv)_proj": by the names of linears, and by that of engines' fused module.
constexpr std::array<std::string_view, kUnits> kUnitPatterns{
    "self_attn\\.(?:q|k|v|qkv)_proj", "self_attn\\.o_proj", "mlp\\.(?:gate|up|gate_up)_proj",
    "mlp\\.down_proj"};

using UnitSet = unsigned;  // bit i: kAllUnits[i]

/// What follows the number of a layer; nothing where it is the whole layer.
std::string UnitsPattern(UnitSet units) {
  std::string joined;
  for (std::size_t i = 0; i < kUnits; ++i) {
    if ((units >> i & 1) == 0) continue;
    joined += (joined.empty() ? "" : "|") + std::string(kUnitPatterns[i]);
  }
  return std::popcount(units) == kUnits ? "" : "(?:" + joined + ")$";
}

Record GroupSize(const Grid& grid) {
  return grid.group_size == 0 ? Record(-1) : Record(grid.group_size);
}

}  // namespace

void CheckGptqShape(std::string_view module, Index rows, Index cols, int bits) {
  if (rows * bits % 32 == 0 && cols * bits % 32 == 0) return;
  throw Error(
      {.what = "codes of GPTQ fill whole words",
       .where = std::string(module),
       .expected = "rows and columns times " + std::to_string(bits) + " bits to be multiples of 32",
       .found = std::to_string(rows) + " rows, " + std::to_string(cols) + " columns"});
}

std::vector<TensorSpec> GptqSpecs(std::string_view module, Index rows, Index cols,
                                  const Grid& grid) {
  const Index bits = grid.bits, groups = cols / GroupColumns(grid, cols);
  return {{TensorName(module, "qweight"), DType::kI32, {cols * bits / 32, rows}},
          {TensorName(module, "qzeros"), DType::kI32, {groups, rows * bits / 32}},
          {TensorName(module, "g_idx"), DType::kI32, {cols}},
          {TensorName(module, "scales"), DType::kF16, {groups, rows}}};
}

std::vector<TensorSpec> GptqSpecs(std::string_view module, const QMatrix& matrix) {
  return GptqSpecs(module, matrix.rows(), matrix.cols(), matrix.grid());
}

void WriteGptq(TensorWriter& writer, std::string_view module, const QMatrix& matrix,
               GptqVersion version) {
  const Index rows = matrix.rows(), words = matrix.words_per_row();
  LIEQ_ASSERT(!NeedsOwnMethod(matrix.grid()));
  std::vector<std::uint32_t> columns(matrix.words().size());
  for (Index row = 0; row < rows; ++row) {
    for (Index word = 0; word < words; ++word) {
      columns[Size(word * rows + row)] = matrix.words()[Size(row * words + word)];
    }
  }
  writer.Write(TensorName(module, "qweight"), std::as_bytes(std::span(columns)));
  const std::vector<std::uint32_t> zeros = PackZeros(module, matrix, version);
  writer.Write(TensorName(module, "qzeros"), std::as_bytes(std::span(zeros)));
  std::vector<std::int32_t> groups(Size(matrix.cols()));
  for (Index col = 0; col < matrix.cols(); ++col) {
    groups[Size(col)] = static_cast<std::int32_t>(col / matrix.group_columns());
  }
  writer.Write(TensorName(module, "g_idx"), std::as_bytes(std::span(groups)));
  const auto scales = Narrow(module, "scale", matrix.scales(), DType::kF16);
  std::vector<std::uint16_t> transposed(scales.size());
  for (Index row = 0; row < rows; ++row) {
    for (Index group = 0; group < matrix.groups(); ++group) {
      transposed[Size(group * rows + row)] = scales[Size(row * matrix.groups() + group)];
    }
  }
  writer.Write(TensorName(module, "scales"), std::as_bytes(std::span(transposed)));
}

QMatrix ReadGptq(const TensorFile& file, std::string_view module, Index rows, Index cols,
                 const Grid& grid, GptqVersion version) {
  LIEQ_ASSERT(!NeedsOwnMethod(grid));
  CheckGptqShape(module, rows, cols, grid.bits);
  const TensorRef& named = file.At(TensorName(module, "qweight"));
  const Index group = GroupColumns(grid, cols);
  if (cols % group != 0) {
    FailAt(named, "group size does not divide the row", "a divisor of " + std::to_string(cols),
           std::to_string(group));
  }
  // Before anything is allocated by these extents, the file must hold as much.
  const Index groups = cols / group, words = cols * grid.bits / 32;
  const TensorRef& codes = Checked(file, module, "qweight", DType::kI32, {words, rows});
  const TensorRef& zeros =
      Checked(file, module, "qzeros", DType::kI32, {groups, rows * grid.bits / 32});
  (void)CheckedFloats(file, module, "scales", {groups, rows});
  CheckOrder(file, module, cols, group);

  QMatrix matrix(rows, cols, grid);
  std::vector<std::uint32_t> columns(matrix.words().size());
  CopyItems(codes, std::span(columns));
  for (Index row = 0; row < rows; ++row) {
    for (Index word = 0; word < words; ++word) {
      matrix.words()[Size(row * words + word)] = columns[Size(word * rows + row)];
    }
  }
  Matrix<float> scales(groups, rows);
  ReadFloats(file, module, "scales", "scale", scales.view());
  for (Index row = 0; row < rows; ++row) {
    for (Index each = 0; each < groups; ++each) matrix.scales()(row, each) = scales(each, row);
  }
  ReadZeros(zeros, version, matrix);
  return matrix;
}

Record GptqConfig(const LayerGrids& grids, GptqVersion version, std::string_view writer) {
  const auto key = [](const Grid& grid) {  // widest first, then a fixed order
    return std::tuple(-grid.bits, grid.group_size, grid.offset);
  };
  const auto before = [&](const Grid& a, const Grid& b) { return key(a) < key(b); };
  std::map<Grid, std::map<UnitSet, std::set<Index>, std::greater<>>, decltype(before)> members(
      before);
  std::map<Grid, Index, decltype(before)> counts(before);
  const auto layers = static_cast<Index>(grids.size());
  for (Index layer = 0; layer < layers; ++layer) {
    std::map<Grid, UnitSet, decltype(before)> units(before);
    for (const Unit unit : kAllUnits) {
      const Site first = SitesOf(unit).front();
      units[grids[Size(layer)][static_cast<std::size_t>(first)]] |= 1u
                                                                    << static_cast<unsigned>(unit);
    }
    for (const auto& [grid, set] : units) {
      members[grid][set].insert(layer);
      counts[grid] += std::popcount(set);
    }
  }
  // Older engines size what they allocate by the base, and take the narrowest alone for it.
  const Grid base = std::ranges::max_element(counts, {}, [](const auto& each) {
                      return std::pair(-each.first.bits, each.second);
                    })->first;

  Record dynamic = Record::object();
  for (const auto& [grid, sets] : members) {
    if (grid == base) continue;
    Record rule{{"bits", grid.bits}, {"group_size", GroupSize(grid)}};
    if (grid.symmetric() != base.symmetric()) rule["sym"] = grid.symmetric();
    for (const auto& [units, in] : sets) {
      for (const std::string& numbers : LayerPatterns(in, layers)) {
        dynamic["+:^model\\.layers\\." + numbers + "\\." + UnitsPattern(units)] = rule;
      }
    }
  }
  const char* format = version == GptqVersion::kV1 ? "gptq" : "gptq_v2";
  Record record{
      {"quant_method", "gptq"}, {"checkpoint_format", format}, {"format", format},
      {"method", "gptq"},       {"bits", base.bits},           {"group_size", GroupSize(base)},
      {"desc_act", false},      {"sym", base.symmetric()},     {"lm_head", false},
      {"pack_dtype", "int32"},  {"true_sequential", true},     {"static_groups", false},
      {"damp_percent", 0.01}};
  if (!dynamic.empty()) record["dynamic"] = std::move(dynamic);
  record["meta"] = {{"quantizer", Record::array({std::string(writer)})}};
  return record;
}

}  // namespace lieq
