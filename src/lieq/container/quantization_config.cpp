// The "quantization_config" object of config.json: which linear has which grid.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/layer_pattern.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/name_pattern.h"
#include "lieq/container/packed_reader.h"
#include "lieq/container/refusal.h"
#include "lieq/container/tensor_items.h"
#include "lieq/io/printable.h"
#include "lieq/model/config.h"

namespace lieq {
namespace {

constexpr std::string_view kMethod = "compressed-tensors";
// Where a grid has offsets that compressed-tensors does not know: engines must refuse the folder,
// which they would else read with zero in the middle of the codes.
constexpr std::string_view kOwnMethod = "lieq";
constexpr std::string_view kFormat = "pack-quantized";
// A byte a code; which of the two a module has is told by its tensors.
constexpr std::string_view kByteFormat = "int-quantized";
constexpr std::string_view kMixedFormat = "mixed-precision";  // each group names its own
constexpr std::string_view kPatternPrefix = "re:";
constexpr std::string_view kClassName = "Linear";

std::string Describe(const Grid& grid) {
  if (grid.k_quant) return std::string(KQuantOf(grid).name);
  return std::to_string(grid.bits) + " bits, group size " + std::to_string(grid.group_size) + ", " +
         std::string(Describe(grid.offset));
}

// ---- reading ----------------------------------------------------------------------------------

void RequireNull(const JsonObject& json, std::string_view key, std::string what) {
  if (json.Has(key)) Refuse(std::move(what), json.Where(key), "null", Shown(json.At(key)));
}

/// The whole row or a number of columns, from "strategy" and "group_size" (one of which may be
/// left out, as in the library).
Index ReadGroupSize(const JsonObject& weights) {
  const std::int64_t size = weights.Integer("group_size", -1);
  const std::string strategy = weights.String("strategy", size > 0                    ? "group"
                                                          : weights.Has("group_size") ? "channel"
                                                                                      : "tensor");
  if (strategy == "channel" && size == -1) return 0;
  if (strategy == "group" && size > 0) return size;
  if (strategy == "channel" || strategy == "group") {
    Refuse("group_size does not go with the strategy", weights.Where("group_size"),
           strategy == "group" ? "a positive number" : "null or -1", std::to_string(size));
  }
  Refuse("strategy is not supported", weights.Where("strategy"), "group or channel",
         Printable(strategy));
}

/// "symmetric", and "offset" of our own method.
Offset ReadOffset(const JsonObject& weights, bool own_method) {
  const bool symmetric = weights.Boolean("symmetric", true);
  if (!weights.Has("offset")) return symmetric ? Offset::kSymmetric : Offset::kInteger;
  if (!own_method) {
    Refuse("option is not supported", weights.Where("offset"),
           "none, or quant_method " + std::string(kOwnMethod), Shown(weights.At("offset")));
  }
  const std::string name = weights.String("offset");
  const std::optional<Offset> offset = OffsetFromName(name);
  if (!offset || *offset == Offset::kSymmetric || *offset == Offset::kInteger) {
    Refuse("offset is not supported", weights.Where("offset"), "half or float", Printable(name));
  }
  if (symmetric) {
    Refuse("offset does not go with symmetric codes", weights.Where("symmetric"), "false", "true");
  }
  return *offset;
}

/// "grid" of our own method, with which the keys beside it must agree.
void ReadKQuant(const JsonObject& weights, bool own_method, Grid& grid) {
  if (!own_method) {
    Refuse("option is not supported", weights.Where("grid"),
           "none, or quant_method " + std::string(kOwnMethod), Shown(weights.At("grid")));
  }
  const std::string name = weights.String("grid");
  std::string names;
  for (const KQuant& row : KQuants()) {
    names += (names.empty() ? "" : ", ") + std::string(row.name);
    if (row.name != name) continue;
    if (grid.bits != row.grid.bits || grid.group_size != row.grid.group_size) {
      Refuse("width or group size is not that of the grid", weights.Where("grid"),
             std::to_string(row.grid.bits) + " bits, group size " +
                 std::to_string(row.grid.group_size),
             Describe(grid));
    }
    if (weights.Has("offset") || weights.Boolean("symmetric", true) != row.grid.symmetric()) {
      Refuse("offset is not that of the grid", weights.Where("grid"),
             row.grid.symmetric() ? "symmetric true, no offset" : "symmetric false, no offset",
             name);
    }
    grid = row.grid;
    return;
  }
  Refuse("grid is not supported", weights.Where("grid"), names, Printable(name));
}

Grid ReadGrid(const JsonObject& weights, bool own_method) {
  const std::string type = weights.String("type", "int");
  if (type != "int") {
    Refuse("type of codes is not supported", weights.Where("type"), "int", Printable(type));
  }
  const std::int64_t bits = weights.Integer("num_bits", 8);
  const bool named = weights.Has("grid");  // a K-quant: at most 6 bits
  if (bits < 2 || bits > 8 || bits == 7 || (named && bits == 8)) {
    Refuse("width is not supported", weights.Where("num_bits"), "2, 3, 4, 5, 6 or 8",
           std::to_string(bits));
  }
  if (weights.Has("dynamic") && weights.At("dynamic") != false) {
    Refuse("dynamic quantization of weights is not supported", weights.Where("dynamic"), "false",
           Shown(weights.At("dynamic")));
  }
  if (weights.Has("actorder") && weights.At("actorder") != false &&
      weights.At("actorder") != "static" && weights.At("actorder") != "weight") {
    Refuse("reordered columns (g_idx) are not supported", weights.Where("actorder"),
           "null, static or weight", Shown(weights.At("actorder")));
  }
  Grid grid{.bits = static_cast<int>(bits), .group_size = ReadGroupSize(weights)};
  if (named) {
    ReadKQuant(weights, own_method, grid);
  } else {
    grid.offset = ReadOffset(weights, own_method);
  }
  return grid;
}

struct PatternTarget {
  std::string text;
  NamePattern pattern;
  Grid grid;
};

/// What decides over a module; the library asks names, then patterns, then the class.
struct Targets {
  std::map<std::string, Grid, std::less<>> names;
  std::vector<PatternTarget> patterns;
  std::optional<Grid> linear;
};

/// Texts of an array of strings.
std::vector<std::string> ReadTexts(const JsonObject& json, std::string_view key) {
  std::vector<std::string> texts;
  if (!json.Has(key)) return texts;
  const Json& array = json.At(key);
  if (!array.is_array()) {
    Refuse("wrong type of value", json.Where(key), "an array of strings", Shown(array));
  }
  for (const Json& item : array) {
    if (!item.is_string()) {
      Refuse("wrong type of value", json.Where(key), "an array of strings", Shown(item));
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

/// The pattern behind "re:".
NamePattern ReadPattern(std::string_view text, const std::string& where, PatternBudget& budget) {
  return budget.Compile(text.substr(kPatternPrefix.size()), where);
}

void AddTarget(const std::string& text, const Grid& grid, const std::string& where,
               PatternBudget& budget, Targets& targets) {
  if (text.starts_with(kPatternPrefix)) {
    targets.patterns.push_back({text, ReadPattern(text, where, budget), grid});
    return;
  }
  const Grid& held = text == kClassName ? targets.linear.emplace(targets.linear.value_or(grid))
                                        : targets.names.try_emplace(text, grid).first->second;
  if (held != grid) {
    // The library keys a map by target: one of the two would be lost there in silence.
    Refuse("the same target stands in two groups", where, Describe(held), Describe(grid));
  }
}

void ReadGroup(const JsonObject& group, const std::string& default_format, bool own_method,
               PatternBudget& budget, Targets& targets) {
  const std::string format = group.String("format", default_format);
  if (format != kFormat && format != kByteFormat) {
    Refuse("format is not supported", group.Where("format"),
           std::string(kFormat) + " or " + std::string(kByteFormat), Printable(format));
  }
  RequireNull(group, "input_activations", "quantized activations are not supported");
  RequireNull(group, "output_activations", "quantized activations are not supported");
  const Grid grid = ReadGrid(group.Object("weights"), own_method);
  const std::string where = group.Where("targets");
  for (const std::string& text : ReadTexts(group, "targets")) {
    AddTarget(text, grid, where, budget, targets);
  }
}

/// The grid of one module; nothing where no target matches.
std::optional<Grid> Match(const Targets& targets, const std::string& module,
                          const std::string& where) {
  if (const auto exact = targets.names.find(module); exact != targets.names.end()) {
    return exact->second;
  }
  const PatternTarget* best = nullptr;
  for (const PatternTarget& target : targets.patterns) {
    if (!target.pattern.Matches(module)) continue;
    if (best != nullptr && best->grid != target.grid) {
      // The library takes the first in the alphabet, vLLM the first in the file.
      Refuse("two targets with different grids match " + module, where, Printable(best->text),
             Printable(target.text));
    }
    best = &target;
  }
  return best != nullptr ? std::optional(best->grid) : targets.linear;
}

/// Modules that "ignore" leaves in float.
class Ignored {
 public:
  Ignored(const JsonObject& json, PatternBudget& budget) : where_(json.Where("ignore")) {
    for (std::string& text : ReadTexts(json, "ignore")) {
      if (text.starts_with(kPatternPrefix)) {
        patterns_.push_back(ReadPattern(text, where_, budget));
      } else {
        names_.insert(std::move(text));
      }
    }
  }
  [[nodiscard]] bool Contains(const std::string& module) const {
    return names_.contains(module) || names_.contains(kClassName) ||
           std::any_of(patterns_.begin(), patterns_.end(),
                       [&](const NamePattern& each) { return each.Matches(module); });
  }

 private:
  std::string where_;
  std::set<std::string, std::less<>> names_;
  std::vector<NamePattern> patterns_;
};

/// Whether the method is our own.
bool CheckMethod(const JsonObject& json) {
  const std::string method = json.String("quant_method", kMethod);
  if (method != kMethod && method != kOwnMethod) {
    Refuse("quantization method is not supported", json.Where("quant_method"),
           std::string(kMethod) + " or " + std::string(kOwnMethod), Printable(method));
  }
  const std::string status = json.String("quantization_status", "compressed");
  if (status != "compressed") {
    Refuse("weights are not stored in compressed form", json.Where("quantization_status"),
           "compressed", Printable(status));
  }
  RequireNull(json, "kv_cache_scheme", "a quantized KV cache is not supported");
  // Both change what the weights mean; older and newer writers leave empty objects.
  for (const std::string_view key : {"sparsity_config", "transform_config"}) {
    if (!json.Has(key) || json.At(key).empty()) continue;
    if (json.At(key).is_object() && json.At(key).value("format", Json()) == "dense") continue;
    Refuse("option is not supported", json.Where(key), "null or empty", Shown(json.At(key)));
  }
  return method == kOwnMethod;
}

/// Everything that can be said of one linear's grid, given the model.
void CheckGrid(const Grid& grid, const ModelConfig& config, Index layer, Site site,
               const LayerGrids& grids, const std::string& where) {
  const std::string module = ModuleName(config, layer, site);
  const Index cols = config.In(layer, site);
  if (const Index step = RowStep(grid, cols); cols % step != 0) {
    Refuse("group size does not divide the row", where + ": " + module,
           "a divisor of " + std::to_string(cols), std::to_string(step));
  }
  const Site first = SitesOf(UnitOf(site)).front();
  const Grid& unit_grid = grids[Size(layer)][static_cast<std::size_t>(first)];
  if (site != first && grid != unit_grid) {
    Refuse("linears that share their input have different grids", where + ": " + module,
           Describe(unit_grid) + ", as " + ModuleName(config, layer, first), Describe(grid));
  }
}

// ---- writing ----------------------------------------------------------------------------------

using SiteSet = unsigned;  // bit i: kAllSites[i]
constexpr SiteSet kEverySite = (1u << kSites) - 1;

/// "(?:self_attn\.(?:q|k|v)|mlp\.down)_proj"
std::string SitePattern(SiteSet sites) {
  if (sites == kEverySite) return "(?:self_attn|mlp)\\.[a-z_]+_proj";
  std::map<std::string, std::vector<std::string>> members;  // by parent module
  for (const Site site : kAllSites) {
    if ((sites >> static_cast<int>(site) & 1) == 0) continue;
    const std::string module(Module(site));
    const std::size_t dot = module.find('.');
    members[module.substr(0, dot)].emplace_back(Name(site));
    LIEQ_ASSERT(module == module.substr(0, dot + 1) + std::string(Name(site)) + "_proj");
  }
  const auto join = [](const std::vector<std::string>& parts) {
    std::string joined;
    for (const std::string& part : parts) joined += (joined.empty() ? "" : "|") + part;
    return parts.size() == 1 ? joined : "(?:" + joined + ")";
  };
  std::vector<std::string> parents;
  for (const auto& [parent, names] : members) parents.push_back(parent + "\\." + join(names));
  std::reverse(parents.begin(), parents.end());  // attention first, as in the model
  return join(parents) + "_proj";
}

/// Targets that match `modules` of `layers`, of a model of `count` layers, and nothing else.
void AppendTargets(const std::set<Index>& layers, Index count, const std::string& modules,
                   Record& targets) {
  for (const std::string& numbers : LayerPatterns(layers, count)) {
    targets.push_back("re:^model\\.layers\\." + numbers + "\\." + modules + "$");
  }
}

Record Scheme(const Grid& grid) {
  Record weights;
  weights["num_bits"] = grid.bits;
  weights["type"] = "int";
  weights["strategy"] = grid.group_size == 0 ? "channel" : "group";
  weights["group_size"] = grid.group_size == 0 ? Record() : Record(grid.group_size);
  weights["symmetric"] = grid.symmetric();
  if (grid.k_quant) {
    weights["grid"] = KQuantOf(grid).name;
  } else if (NeedsOwnMethod(grid)) {
    weights["offset"] = Name(grid.offset);
  }
  weights["dynamic"] = false;
  return weights;
}

}  // namespace

namespace {

Targets ReadTargets(const JsonObject& json, PatternBudget& budget) {
  const bool own_method = CheckMethod(json);
  const std::string format = json.String("format", "");
  const JsonObject groups = json.Object("config_groups");
  Targets targets;
  for (const auto& [name, group] : groups.value().items()) {
    ReadGroup(JsonObject(group, groups.Where(Printable(name))), format, own_method, budget,
              targets);
  }
  return targets;
}

}  // namespace

bool NeedsOwnMethod(const Grid& grid) noexcept {
  return grid.k_quant || grid.offset == Offset::kHalf || grid.offset == Offset::kFloat;
}

EndGrids ParseEndGrids(const Json& quantization_config, const ModelConfig& config,
                       const std::string& where) {
  const JsonObject json(quantization_config, where);
  PatternBudget budget(ModuleCount(config));
  const Targets targets = ReadTargets(json, budget);
  const Ignored ignored(json, budget);
  Targets named = targets;  // the embedding is no Linear
  named.linear.reset();
  const auto find = [&](std::string_view module, const Targets& among) -> std::optional<Grid> {
    if (ignored.Contains(std::string(module))) return std::nullopt;
    const std::optional<Grid> grid = Match(among, std::string(module), json.Where("config_groups"));
    if (!grid) return std::nullopt;
    const std::string place = where + ": " + std::string(module);
    if (!CanBeEnd(*grid)) {
      Refuse("grid is not supported for the embedding and the head", place,
             "symmetric, or a K-quant", Describe(*grid));
    }
    if (const Index step = RowStep(*grid, config.hidden); config.hidden % step != 0) {
      Refuse("group size does not divide the row", place,
             "a divisor of " + std::to_string(config.hidden), std::to_string(step));
    }
    return grid;
  };
  EndGrids ends{.embedding = find(kEmbeddingModule, named)};
  if (!config.tied) ends.head = find(kHeadModule, targets);
  return ends;
}

LayerGrids ParseQuantizationConfig(const Json& quantization_config, const ModelConfig& config,
                                   const std::string& where) {
  const JsonObject json(quantization_config, where);
  PatternBudget budget(ModuleCount(config));
  const Targets targets = ReadTargets(json, budget);
  const JsonObject groups = json.Object("config_groups");
  const Ignored ignored(json, budget);

  LayerGrids grids(Size(config.layers));
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      Grid& linear = grids[Size(layer)][static_cast<std::size_t>(site)];
      for (Index part = 0; part < config.Parts(layer, site); ++part) {
        const std::string module = ModuleName(config, layer, site, part);
        if (ignored.Contains(module)) {
          Refuse("a linear is left in float", json.Where("ignore"), "every linear quantized",
                 module);
        }
        const std::optional<Grid> grid = Match(targets, module, groups.Where(""));
        if (!grid) {
          Refuse("no target matches a linear", json.Where("config_groups"),
                 "every linear quantized", module);
        }
        if (part > 0 && *grid != linear) {
          Refuse("experts of a layer have different grids", where + ": " + module,
                 Describe(linear) + ", as " + ModuleName(config, layer, site, 0), Describe(*grid));
        }
        CheckGrid(*grid, config, layer, site, grids, where);
        linear = *grid;
      }
    }
  }
  return grids;
}

namespace {

constexpr std::string_view kTiedScale = "lm_head.weight_scale";

/// A tied head has the embedding's codes; its scales are there once more, and must be the same.
void CheckTiedScales(const TensorFile& file, const QMatrix& embedding) {
  Matrix<float> scales(embedding.rows(), embedding.groups());
  (void)CheckedFloats(file, kHeadModule, "weight_scale", {scales.rows(), scales.cols()});
  ReadFloats(file, kHeadModule, "weight_scale", "scale", scales.view());
  for (Index row = 0; row < scales.rows(); ++row) {
    if (std::ranges::equal(scales.view().Row(row), embedding.scales().Row(row))) continue;
    FailAt(file.At(kTiedScale), "the scales of the tied head are not the embedding's",
           "those of model.embed_tokens.weight_scale", "row " + std::to_string(row) + " differs");
  }
}

}  // namespace

PackedReader CompressedTensorsReader(const Json& quantization, const ModelConfig& config,
                                     const std::string& where) {
  const LayerGrids grids = ParseQuantizationConfig(quantization, config, where);
  const EndGrids ends = ParseEndGrids(quantization, config, where);
  std::map<std::string, Grid> modules;
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      for (Index part = 0; part < config.Parts(layer, site); ++part) {
        modules[ModuleName(config, layer, site, part)] =
            grids[Size(layer)][static_cast<std::size_t>(site)];
      }
    }
  }
  if (ends.embedding) modules[std::string(kEmbeddingModule)] = *ends.embedding;
  if (ends.head) modules[std::string(kHeadModule)] = *ends.head;
  return [modules = std::move(modules), tied = config.tied](
             const TensorFile& file, const std::string& module, Index rows,
             Index cols) -> std::optional<PackedModule> {
    const auto found = modules.find(module);
    if (found == modules.end()) return std::nullopt;
    auto matrix = std::make_shared<const QMatrix>(ReadPacked(file, module, found->second));
    const bool bytes = HasByteCodes(file, module);
    if (matrix->rows() != rows || matrix->cols() != cols) {
      const TensorRef& shape = file.At(module + (bytes ? ".weight" : ".weight_shape"));
      Refuse("shape does not agree with config.json",
             shape.file.string() + ": tensor '" + Printable(shape.name) + "'",
             std::to_string(rows) + ", " + std::to_string(cols),
             std::to_string(matrix->rows()) + ", " + std::to_string(matrix->cols()));
    }
    PackedModule read{.matrix = matrix, .tensors = {}};
    if (bytes) {
      read.tensors = {module + ".weight", module + ".weight_scale"};
      if (tied && module == kEmbeddingModule && file.Has(kTiedScale)) {
        CheckTiedScales(file, *matrix);
        read.tensors.emplace_back(kTiedScale);
      }
      return read;
    }
    for (const TensorSpec& spec : PackedSpecs(module, rows, cols, found->second, DType::kF16)) {
      read.tensors.push_back(spec.name);
    }
    return read;
  };
}

namespace {

Record GroupOf(Record targets, const Grid& grid, std::string_view format) {
  Record group;
  group["targets"] = std::move(targets);
  group["weights"] = Scheme(grid);
  group["input_activations"] = nullptr;
  group["output_activations"] = nullptr;
  if (!format.empty()) group["format"] = format;
  return group;
}

}  // namespace

namespace {

/// Targets by grid, in an order that is fixed.
using TargetsOf = std::map<Grid, Record, bool (*)(const Grid&, const Grid&)>;

bool WiderFirst(const Grid& a, const Grid& b) {  // then a fixed order
  const auto key = [](const Grid& grid) {
    return std::tuple(-grid.bits, grid.group_size, grid.offset, grid.k_quant);
  };
  return key(a) < key(b);
}

/// Of a model whose modules are named as Llama's.
TargetsOf LlamaTargets(const ModelGrids& grids) {
  std::map<Grid, std::map<SiteSet, std::set<Index>, std::greater<>>, decltype(&WiderFirst)> members(
      &WiderFirst);
  const Index count = grids.layer_count();
  for (Index layer = 0; layer < count; ++layer) {
    std::map<Grid, SiteSet, decltype(&WiderFirst)> sites(&WiderFirst);
    for (const Site site : kAllSites) {
      const auto index = static_cast<std::size_t>(site);
      sites[grids.layers[Size(layer)][index]] |= 1u << index;
    }
    for (const auto& [grid, set] : sites) members[grid][set].insert(layer);
  }
  TargetsOf targets(&WiderFirst);
  for (const auto& [grid, layers_of] : members) {
    targets[grid] = Record::array();
    for (const auto& [sites, layers] : layers_of) {
      AppendTargets(layers, count, SitePattern(sites), targets[grid]);
    }
  }
  return targets;
}

/// "mlp\.down_proj"; of a linear of experts "mlp\.experts\.[0-9]+\.down_proj".
std::string ModulePattern(const ModelConfig& config, Index layer, Site site) {
  std::string pattern;
  for (const char c : config.Module(layer, site)) {
    pattern += c == '.' ? "\\." : std::string(1, c);
  }
  constexpr std::string_view kExperts = "experts\\.";
  const std::size_t at = pattern.find(kExperts);
  if (at != std::string::npos) pattern.insert(at + kExperts.size(), "[0-9]+\\.");
  return pattern;
}

/// Of any other: modules one by one.
TargetsOf TargetsByName(const ModelGrids& grids, const ModelConfig& config) {
  std::map<Grid, std::map<std::string, std::set<Index>>, decltype(&WiderFirst)> members(
      &WiderFirst);
  const Index count = grids.layer_count();
  for (Index layer = 0; layer < count; ++layer) {
    std::map<Grid, std::string, decltype(&WiderFirst)> modules(&WiderFirst);
    for (const Site site : config.Sites(layer)) {
      std::string& joined = modules[grids.layers[Size(layer)][static_cast<std::size_t>(site)]];
      if (!joined.empty()) joined += '|';
      joined += ModulePattern(config, layer, site);
    }
    for (const auto& [grid, joined] : modules) members[grid][joined].insert(layer);
  }
  TargetsOf targets(&WiderFirst);
  for (const auto& [grid, layers_of] : members) {
    targets[grid] = Record::array();
    for (const auto& [modules, layers] : layers_of) {
      AppendTargets(layers, count, "(?:" + modules + ")", targets[grid]);
    }
  }
  return targets;
}

bool NamedAsLlama(const ModelConfig& config) {
  for (Index layer = 0; layer < config.layers; ++layer) {
    if (config.Sites(layer).size() != kSites) return false;
    for (const Site site : kAllSites) {
      if (config.Module(layer, site) != Module(site)) return false;
    }
  }
  return true;
}

Record ConfigOf(const ModelGrids& grids, const TargetsOf& members, bool tied, Record ignored) {
  const std::optional<Grid>&embedding = grids.ends.embedding, &head = grids.ends.head;
  const bool bytes = embedding && IsByteEmbedding(*embedding);
  TargetsOf all = members;
  const auto add_end = [&](const Grid& grid, std::string_view module) {
    Record& targets = all[grid];  // a group of its own where no layer has it
    if (!targets.is_array()) targets = Record::array();
    targets.push_back(module);
  };
  if (embedding && !bytes) add_end(*embedding, kEmbeddingModule);
  if (head) add_end(*head, kHeadModule);

  Record groups = Record::object();
  const auto add = [&](Record targets, const Grid& grid, std::string_view format) {
    groups["group_" + std::to_string(groups.size())] = GroupOf(std::move(targets), grid, format);
  };
  for (const auto& [grid, targets] : all) {
    add(targets, grid, bytes ? kFormat : std::string_view{});
  }
  if (bytes) {
    Record targets = Record::array({kEmbeddingModule});
    if (tied) targets.push_back(kHeadModule);
    add(std::move(targets), *embedding, kByteFormat);
  }
  Record record;
  const bool own =
      std::ranges::any_of(all, [](const auto& member) { return NeedsOwnMethod(member.first); });
  record["quant_method"] = own ? kOwnMethod : kMethod;
  record["format"] = bytes ? kMixedFormat : kFormat;
  record["quantization_status"] = "compressed";
  record["global_compression_ratio"] = nullptr;
  record["kv_cache_scheme"] = nullptr;
  if (!head && !(bytes && tied)) ignored.push_back(kHeadModule);
  record["ignore"] = std::move(ignored);
  record["config_groups"] = std::move(groups);
  return record;
}

}  // namespace

Record QuantizationConfig(const ModelGrids& grids, bool tied) {
  return ConfigOf(grids, LlamaTargets(grids), tied, Record::array());
}

Record QuantizationConfig(const ModelGrids& grids, const ModelConfig& config) {
  if (NamedAsLlama(config)) return QuantizationConfig(grids, config.tied);
  Record ignored = Record::array();
  // Linears that stay in floats: engines want each module matched or named.
  if (config.Mixes(Mixer::kGatedDelta)) ignored.push_back("re:.*linear_attn\\.in_proj_[ab]$");
  if (config.HasExperts()) ignored.push_back("re:.*mlp\\.gate$");
  return ConfigOf(grids, TargetsByName(grids, config), config.tied, std::move(ignored));
}

}  // namespace lieq
