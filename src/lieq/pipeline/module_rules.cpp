#include "lieq/pipeline/module_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/suggestions.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/regex.h"
#include "lieq/plan/grid_names.h"

namespace lieq {
namespace {

constexpr std::uint64_t kMostSteps = 100'000;  // of a search in one name

class Matcher {
 public:
  explicit Matcher(const ModuleRule& rule)
      : where_(rule.where()), regex_(rule.pattern, {}, where_), search_(regex_) {}

  [[nodiscard]] bool operator()(std::string_view name) {
    const RegexSearch::Outcome outcome = search_.Find(name, 0, kMostSteps);
    if (outcome == RegexSearch::Outcome::kGaveUp) {
      throw Error({.what = "the pattern takes too many steps",
                   .where = where_ + ", on " + std::string(name),
                   .found = search_.reason()});
    }
    return outcome == RegexSearch::Outcome::kFound;
  }

 private:
  std::string where_;
  Regex regex_;
  RegexSearch search_;
};

std::string_view ModuleOf(End end) noexcept {
  return end == End::kEmbedding ? kEmbeddingModule : kHeadModule;
}

/// Names of one layer, and of the ends, for a message.
std::string NearestNames(const std::string& pattern, const ModelConfig& config) {
  std::vector<std::string> names;
  for (Index layer = 0; layer < config.layers; ++layer) {  // the first of each kind
    if (layer > 0 && config.Shape(layer).mixer == config.Shape(layer - 1).mixer) continue;
    for (const Site site : config.Sites(layer)) {
      const std::string name = ModuleName(config, layer, site);
      names.push_back(name);
      names.push_back(name.substr(name.rfind('.') + 1));
    }
  }
  for (const End end : EndsIn(config)) names.emplace_back(ModuleOf(end));
  std::string plain;  // the pattern without what only patterns have
  std::ranges::copy_if(pattern, std::back_inserter(plain), [](char c) {
    return std::string_view("\\^$*+?()[]{}|").find(c) == std::string_view::npos;
  });
  const std::string nearest = Nearest(plain, names);
  return nearest.empty() ? fmt::format("names such as {} and {}", names.front(), kEmbeddingModule)
                         : "the nearest name is " + nearest;
}

void CheckFits(const ModuleRule& rule, const std::string& name, const Grid& grid, Index columns) {
  if (columns % RowStep(grid, columns) == 0) return;
  throw Error({.what = "the grid's groups do not divide a row",
               .where = rule.where() + ": " + name,
               .expected = fmt::format("a divisor of {}", columns),
               .found = Label(grid)});
}

/// Sets the units that the rule matches; returns how many names it matched.
Index BindUnits(const ModuleRule& rule, Matcher& matches, const ModelConfig& config,
                BoundGrids& bound) {
  Index found = 0;
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Unit unit : kAllUnits) {
      std::string matched, missed;
      for (const Site site : config.SitesOf(layer, unit)) {
        const std::string name = ModuleName(config, layer, site);
        (matches(name) ? matched : missed) = name;
      }
      if (matched.empty()) continue;
      if (!missed.empty()) {
        throw Error({.what = "linears of one unit share a grid, and the pattern matches some",
                     .where = rule.where(),
                     .expected = fmt::format("{} too, or neither", missed),
                     .found = matched});
      }
      if (!rule.grid) {
        throw Error({.what = "linears of the layers have codes, none stays in floats",
                     .where = rule.where() + ": " + matched,
                     .expected = "the embedding or the head",
                     .hint = "--set '" + rule.pattern + "=w8g64' loses next to nothing"});
      }
      CheckFits(rule, matched, *rule.grid, config.In(layer, SitesOf(unit).front()));
      bound.units[Size(layer * kUnits) + static_cast<std::size_t>(unit)] = rule.grid;
      ++found;
    }
  }
  return found;
}

Index BindEnds(const ModuleRule& rule, Matcher& matches, const ModelConfig& config,
               BoundGrids& bound) {
  Index found = 0;
  for (const End end : kAllEnds) {
    const std::string name(ModuleOf(end));
    if (!matches(name)) continue;
    ++found;
    if (rule.grid && !CanBeEnd(*rule.grid)) {
      throw Error({.what = "a grid that embedding and head cannot have",
                   .where = rule.where() + ": " + name,
                   .expected = "symmetric, a K-quant, or 16",
                   .found = Label(*rule.grid)});
    }
    if (rule.grid) CheckFits(rule, name, *rule.grid, config.hidden);
    bound.ends[static_cast<std::size_t>(config.tied ? End::kEmbedding : end)] = rule.grid;
  }
  return found;
}

}  // namespace

std::string GridOf(const ModuleRule& rule) {
  if (!rule.grid) return "16";
  std::string name = ShortName(*rule.grid);
  if (!rule.says_offset) name = name.substr(0, name.find(':'));
  if (!rule.says_group) name.erase(name.find('g'), name.substr(name.find('g')).find(':'));
  return name;
}

std::string ModuleRule::where() const {
  return grid ? "--set '" + pattern + "=" + GridOf(*this) + "'" : "--keep '" + pattern + "'";
}

bool BoundGrids::any_unit() const noexcept {
  return std::ranges::any_of(units, [](const auto& grid) { return grid.has_value(); });
}

void BoundGrids::Apply(ModelGrids& grids) const {
  for (std::size_t u = 0; u < units.size(); ++u) {
    if (units[u]) grids.Set(static_cast<Index>(u / kUnits), kAllUnits[u % kUnits], *units[u]);
  }
  for (const End end : kAllEnds) {
    const auto& bound = ends[static_cast<std::size_t>(end)];
    if (bound) grids.ends.At(end) = *bound;
  }
}

BoundGrids BindRules(const QuantizeRequest& request, const ModelConfig& config) {
  BoundGrids bound;
  bound.units.resize(Size(config.layers * kUnits));
  for (const ModuleRule& rule : request.grids.rules) {
    Matcher matches(rule);
    ModuleRule resolved = rule;
    if (resolved.grid && !rule.says_offset) resolved.grid->offset = request.grids.offset;
    if (resolved.grid && !rule.says_group) resolved.grid->group_size = request.grids.group_size;
    const Index found = BindUnits(resolved, matches, config, bound);
    // Ends are symmetric always: an offset that is not said is not theirs.
    if (resolved.grid && !rule.says_offset) resolved.grid->offset = Offset::kSymmetric;
    if (found + BindEnds(resolved, matches, config, bound) > 0) continue;
    throw Error({.what = "the pattern matches no module of the model",
                 .where = rule.where(),
                 .expected = "a regular expression that is found in a module's name",
                 .hint = NearestNames(rule.pattern, config)});
  }
  return bound;
}

}  // namespace lieq
