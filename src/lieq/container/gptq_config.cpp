// The "quantization_config" object of a GPTQ folder, as it is read.
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/container/gptq_folder.h"
#include "lieq/container/name_pattern.h"
#include "lieq/container/packed_reader.h"
#include "lieq/container/refusal.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

/// What a rule, or the base, says of a module; what it does not say stays as in `grid`.
Grid ReadGrid(const JsonObject& json, const Grid& grid) {
  Grid read = grid;
  const std::int64_t bits = json.Integer("bits", grid.bits);
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    Refuse("width is not supported", json.Where("bits"), "2, 3, 4 or 8", std::to_string(bits));
  }
  read.bits = static_cast<int>(bits);
  const std::int64_t group =
      json.Integer("group_size", grid.group_size == 0 ? -1 : grid.group_size);
  if (group != -1 && (group < 1 || group > Index{1} << 24)) {
    Refuse("group size is out of range", json.Where("group_size"), "-1, or 1 to 16777216",
           std::to_string(group));
  }
  read.group_size = group == -1 ? 0 : group;
  const bool symmetric = json.Boolean("sym", grid.symmetric());
  read.offset = symmetric ? Offset::kSymmetric : Offset::kInteger;
  return read;
}

struct Rule {
  NamePattern pattern;
  std::optional<Grid> grid;  // none: the module stays float
};

/// In the order of the file: the first one that matches decides.
std::vector<Rule> ReadRules(const Record& dynamic, const Grid& base, const ModelConfig& config,
                            const std::string& where) {
  std::vector<Rule> rules;
  if (dynamic.is_null() || dynamic == false) return rules;
  if (!dynamic.is_object()) {
    Refuse("wrong type of value", where, "an object of rules", Shown(Json(dynamic)));
  }
  PatternBudget budget(ModuleCount(config));
  for (const auto& [key, value] : dynamic.items()) {
    const bool skip = key.starts_with("-:");
    const std::string_view text =
        std::string_view(key).substr(skip || key.starts_with("+:") ? 2 : 0);
    const std::string place = where + "/" + Printable(key, 60);
    std::optional<Grid> grid;
    if (!skip) {
      const Json json(value);
      grid = ReadGrid(JsonObject(json, place), base);
    }
    rules.push_back({budget.Compile(text, place), grid});
  }
  return rules;
}

GptqVersion ReadVersion(const JsonObject& json) {
  const std::string_view key = json.Has("checkpoint_format") ? "checkpoint_format" : "format";
  const std::string format = json.String(key, "gptq");
  if (format == "gptq") return GptqVersion::kV1;
  if (format == "gptq_v2") return GptqVersion::kV2;
  Refuse("format is not supported", json.Where(key), "gptq or gptq_v2", Printable(format));
}

}  // namespace

PackedReader GptqReader(const Record& quantization, const ModelConfig& config,
                        const std::string& where) {
  const Json sorted(quantization);
  const JsonObject json(sorted, where);
  if (const std::string type = json.String("pack_dtype", "int32"); type != "int32") {
    Refuse("type of packed words is not supported", json.Where("pack_dtype"), "int32",
           Printable(type));
  }
  (void)json.Integer("bits");  // must be there
  const Grid base = ReadGrid(json, {.bits = 4, .group_size = 128});
  const GptqVersion version = ReadVersion(json);
  const bool head = json.Boolean("lm_head", false);
  std::vector<Rule> rules =
      ReadRules(quantization.value("dynamic", Record()), base, config, json.Where("dynamic"));
  return [base, version, head, rules = std::move(rules)](
             const TensorFile& file, const std::string& module, Index rows,
             Index cols) -> std::optional<PackedModule> {
    if (module == kEmbeddingModule || (module == kHeadModule && !head)) return std::nullopt;
    std::optional<Grid> grid = base;
    for (const Rule& rule : rules) {
      if (!rule.pattern.Matches(module)) continue;
      grid = rule.grid;
      break;
    }
    if (!grid) return std::nullopt;
    const auto matrix =
        std::make_shared<const QMatrix>(ReadGptq(file, module, rows, cols, *grid, version));
    PackedModule read{.matrix = matrix, .tensors = {}};
    for (const TensorSpec& spec : GptqSpecs(module, *matrix)) {
      if (file.Has(spec.name)) read.tensors.push_back(spec.name);
    }
    return read;
  };
}

}  // namespace lieq
