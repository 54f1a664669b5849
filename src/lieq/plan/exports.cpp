#include "lieq/plan/exports.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/io/json.h"

namespace lieq {
namespace {

/// A linear of a model, for checks and messages.
struct Linear {
  Index layer = 0;
  Site site{};
  Grid grid;
  Index rows = 0, cols = 0;
  std::string_view module;  // inside the layer
};

[[noreturn]] void Refuse(std::string_view tool, const Linear& linear, std::string expected,
                         std::string hint = "") {
  const std::string group = linear.grid.group_size == 0
                                ? "one group a row"
                                : fmt::format("groups of {}", linear.grid.group_size);
  throw Error({.what = fmt::format("a grid that {} does not have", tool),
               .where = fmt::format("layer {}, {}", linear.layer, linear.module),
               .expected = std::move(expected),
               .found = fmt::format("{} bits, {}, {}, [{}, {}]", linear.grid.bits, group,
                                    Describe(linear.grid.offset), linear.rows, linear.cols),
               .hint = std::move(hint)});
}

/// All linears in order of layer, then Site. Throws Error where a group does not divide its row.
std::vector<Linear> Linears(const LayerGrids& grids, const ModelConfig& config) {
  LIEQ_ASSERT(static_cast<Index>(grids.size()) == config.layers);
  std::vector<Linear> linears;
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      const Linear linear{.layer = layer,
                          .site = site,
                          .grid = grids[Size(layer)][static_cast<std::size_t>(site)],
                          .rows = config.Out(layer, site),
                          .cols = config.In(layer, site),
                          .module = config.Module(layer, site)};
      if (linear.grid.group_size != 0 && linear.cols % linear.grid.group_size != 0) {
        Refuse("the model", linear, "groups that divide the row");
      }
      linears.push_back(linear);
    }
  }
  return linears;
}

/// Rules of some tools are of units by the names that most models have. Throws Error naming the
/// first module that has another.
void RequireUsualNames(std::string_view tool, const ModelConfig& config) {
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      const std::string_view module = config.Module(layer, site);
      const bool usual = module.starts_with("self_attn.") || module.starts_with("mlp.");
      if (usual && module.ends_with("_proj") && module != "self_attn.out_proj") continue;
      throw Error({.what = fmt::format("rules for {} are not written of this architecture", tool),
                   .where = fmt::format("layer {}, {}", layer, module),
                   .expected = "modules self_attn.*_proj and mlp.*_proj",
                   .found = config.architecture});
    }
  }
}

/// Units of some layers that say the same.
template <class Value>
struct Rule {
  Value value;
  std::array<bool, kUnits> units{};
  std::vector<Index> layers;  // ascending
};

/// Layers joined where the same units say the same. values: [layers], by Unit. Every unit of every
/// layer is in one rule; rules in the order in which they come up.
template <class Value>
std::vector<Rule<Value>> Join(const std::vector<std::array<Value, kUnits>>& values) {
  std::vector<Rule<Value>> rules;
  for (std::size_t layer = 0; layer < values.size(); ++layer) {
    std::array<bool, kUnits> done{};
    for (std::size_t unit = 0; unit < kUnits; ++unit) {
      if (done[unit]) continue;
      std::array<bool, kUnits> units{};
      for (std::size_t other = unit; other < kUnits; ++other) {
        units[other] = values[layer][other] == values[layer][unit];
        done[other] = done[other] || units[other];
      }
      auto rule = std::ranges::find_if(rules, [&](const Rule<Value>& each) {
        return each.value == values[layer][unit] && each.units == units;
      });
      if (rule == rules.end()) {
        rules.push_back({.value = values[layer][unit], .units = units, .layers = {}});
        rule = rules.end() - 1;
      }
      rule->layers.push_back(static_cast<Index>(layer));
    }
  }
  return rules;
}

/// "7", or "(0|1|23)" with what opens a group in the tool's expressions.
template <class Part>
std::string Alternatives(const std::vector<Part>& parts, std::string_view open) {
  std::string joined;
  for (const Part& part : parts) joined += fmt::format("{}{}", joined.empty() ? "" : "|", part);
  return parts.size() == 1 ? joined : std::string(open) + joined + ")";
}

/// The names of the units' linears in attention and in the MLP, of those that have any.
std::vector<std::string> ByParent(const std::array<bool, kUnits>& units,
                                  const std::array<std::vector<std::string_view>, kUnits>& names,
                                  std::string_view attention, std::string_view mlp,
                                  std::string_view open) {
  std::vector<std::string> parents;
  for (const auto& [parent, first] :
       {std::pair(attention, std::size_t{0}), std::pair(mlp, std::size_t{2})}) {
    std::vector<std::string_view> inside;
    for (std::size_t unit = first; unit < first + 2; ++unit) {
      if (units[unit]) inside.insert(inside.end(), names[unit].begin(), names[unit].end());
    }
    if (!inside.empty()) parents.push_back(std::string(parent) + Alternatives(inside, open));
  }
  return parents;
}

/// The narrowest of llama.cpp's types that holds as many bits and no fewer scales. Of two that do,
/// the one with the plan's own shape: Q2_0 is 2-bit codes with a float16 scale for each 64.
std::string_view LlamaType(const Linear& linear) {
  constexpr std::string_view kTool = "llama-quantize";
  const Grid& grid = linear.grid;
  if (grid.k_quant) return KQuantOf(grid).name;
  if (!grid.symmetric()) Refuse(kTool, linear, "symmetric grids, as of q2_0, q3_K, q4_0 and q8_0");
  const bool wide = linear.cols % 256 == 0;
  switch (grid.bits) {
    case 2:
      if (grid.group_size % 64 == 0 && linear.cols % 64 == 0) return "q2_0";  // row: 0
      if (wide) return "q2_K";
      Refuse(kTool, linear,
             "rows that 64 divides in groups of 64 or more, or rows that 256 divides");
    case 3:
      if (wide) return "q3_K";
      Refuse(kTool, linear, "rows that 256 divides: q3_K, the one 3-bit type, has blocks of 256",
             "take 2 or 4 bits there");
    case 4:
    case 8:
      if (grid.group_size % 32 == 0 && linear.cols % 32 == 0) {
        return grid.bits == 4 ? "q4_0" : "q8_0";
      }
      Refuse(kTool, linear, "rows that 32 divides, in groups of 32 or more");
    default:
      Refuse(kTool, linear, "2, 3, 4 or 8 bits");
  }
}

/// Lines of a --tensor-type-file: PATTERN=type, no spaces and no comments, the first line that
/// matches anywhere in a tensor's name wins (llama.cpp, tools/quantize).
std::string LlamaQuantize(const LayerGrids& grids, const ModelConfig& config) {
  RequireUsualNames("llama-quantize", config);
  std::array<std::vector<std::string_view>, kUnits> names{
      {{"q", "k", "v"}, {"output"}, {"gate", "up"}, {"down"}}};
  if (config.fused_qkv) names.front() = {"qkv"};
  std::vector<std::array<std::string_view, kUnits>> types(grids.size());
  for (const Linear& linear : Linears(grids, config)) {
    types[Size(linear.layer)][static_cast<std::size_t>(UnitOf(linear.site))] = LlamaType(linear);
  }
  std::string text;
  for (const auto& rule : Join(types)) {
    const auto tensors = ByParent(rule.units, names, "attn_", "ffn_", "(");
    text += fmt::format("^blk\\.{}\\.{}\\.weight$={}\n", Alternatives(rule.layers, "("),
                        Alternatives(tensors, "("), rule.value);
  }
  return text;
}

/// Both pack codes of 32 weights in either direction into words, and have integer zero-points.
void CheckPacking(std::string_view tool, const Linear& linear) {
  if (linear.grid.k_quant || linear.grid.offset == Offset::kHalf ||
      linear.grid.offset == Offset::kFloat) {
    Refuse(tool, linear, "symmetric grids or integer zero-points");
  }
  if (linear.grid.bits == 5 || linear.grid.bits == 6) Refuse(tool, linear, "2, 3, 4 or 8 bits");
  if (linear.rows % 32 != 0 || linear.cols % 32 != 0) {
    Refuse(tool, linear, "rows and columns that 32 divides");
  }
}

/// -1: the whole row.
Record GridRecord(const Grid& grid) {
  return {{"bits", grid.bits},
          {"group_size", grid.group_size == 0 ? Index{-1} : grid.group_size},
          {"sym", grid.symmetric()}};
}

/// The `dynamic` of a QuantizeConfig: expressions matched from the start of a module's name, the
/// first that matches decides. Fused names are in them because vLLM asks with qkv_proj and
/// gate_up_proj; quantizers never meet those.
std::string GptqModel(const LayerGrids& grids, const ModelConfig& config) {
  RequireUsualNames("gptqmodel", config);
  constexpr std::array<Index, 8> kGroups{0, 16, 32, 64, 128, 256, 512, 1024};
  const std::array<std::vector<std::string_view>, kUnits> names{
      {{"q", "k", "v", "qkv"}, {"o"}, {"gate", "up", "gate_up"}, {"down"}}};
  std::vector<std::array<Grid, kUnits>> units(grids.size());
  for (const Linear& linear : Linears(grids, config)) {
    CheckPacking("gptqmodel", linear);
    units[Size(linear.layer)][static_cast<std::size_t>(UnitOf(linear.site))] = linear.grid;
    if (std::ranges::find(kGroups, linear.grid.group_size) == kGroups.end()) {
      Refuse("gptqmodel", linear, "groups of 16, 32, 64, 128, 256, 512, 1024 or the row");
    }
  }
  Record dynamic = Record::object();
  for (const auto& rule : Join(units)) {
    const auto modules = ByParent(rule.units, names, "self_attn\\.", "mlp\\.", "(?:");
    dynamic[fmt::format("+:^model\\.layers\\.{}\\.{}_proj$", Alternatives(rule.layers, "(?:"),
                        Alternatives(modules, "(?:"))] = GridRecord(rule.value);
  }
  return dynamic.dump(2) + "\n";
}

std::string ModulePath(const Linear& linear) {
  return fmt::format("model.layers.{}.{}", linear.layer, linear.module);
}

/// AutoRound's layer_config: full names of modules.
std::string AutoRound(const LayerGrids& grids, const ModelConfig& config) {
  Record layers = Record::object();
  for (const Linear& linear : Linears(grids, config)) {
    CheckPacking("auto-round", linear);
    layers[ModulePath(linear)] = GridRecord(linear.grid);
  }
  return layers.dump(2) + "\n";
}

/// The "quantization" of an MLX model's config.json: exact names, no expressions. The defaults are
/// the grid of most linears; every linear is named all the same, since a name that is missing makes
/// mlx-lm take the defaults without a word.
std::string Mlx(const LayerGrids& grids, const ModelConfig& config) {
  Record rows = Record::object();
  std::vector<std::pair<Record, Index>> counts;
  for (const Linear& linear : Linears(grids, config)) {
    const Index group = GroupColumns(linear.grid, linear.cols);
    if (linear.grid.k_quant || (group != 32 && group != 64 && group != 128)) {
      Refuse("mlx", linear, "groups of 32, 64 or 128");
    }
    Record row{{"group_size", group}, {"bits", linear.grid.bits}};
    auto count = std::ranges::find(counts, row, &std::pair<Record, Index>::first);
    if (count == counts.end()) {
      counts.emplace_back(row, 0);
      count = counts.end() - 1;
    }
    ++count->second;
    rows[ModulePath(linear)] = std::move(row);
  }
  Record quantization =
      std::ranges::max_element(counts, {}, &std::pair<Record, Index>::second)->first;
  quantization.update(rows);
  return quantization.dump(2) + "\n";
}

constexpr std::array kExports{
    PlanExport{"llama-quantize", "a --tensor-type-file for llama.cpp's llama-quantize",
               LlamaQuantize},
    PlanExport{"gptqmodel", "the `dynamic` of GPTQModel's QuantizeConfig, JSON", GptqModel},
    PlanExport{"auto-round", "the layer_config of AutoRound, JSON", AutoRound},
    PlanExport{"mlx", "the \"quantization\" of an MLX model's config.json", Mlx},
};

}  // namespace

std::span<const PlanExport> PlanExports() noexcept {
  return kExports;
}

std::string_view PlanExportNames() {
  static const std::string names = NamesOfRows(kExports);
  return names;
}

const PlanExport& FindPlanExport(std::string_view name) {
  return FindRow(kExports, name, "no such form of a plan", "--as");
}

}  // namespace lieq
