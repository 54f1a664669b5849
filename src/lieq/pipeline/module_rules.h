// Grids that a request says for modules by name: --set and --keep.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "lieq/model/grids.h"
#include "lieq/pipeline/requests.h"

namespace lieq {

/// What the rules say of each part of a model; nothing where none matches.
struct BoundGrids {
  std::vector<std::optional<Grid>> units;                            // [layers * kUnits]
  std::array<std::optional<std::optional<Grid>>, kMostEnds> ends{};  // by End; floats: no grid

  [[nodiscard]] bool any_unit() const noexcept;
  /// Puts them in the place of others.
  void Apply(ModelGrids& grids) const;
};

/// The grid of a rule as it was given: "w4" where it said no group, "16" for floats.
[[nodiscard]] std::string GridOf(const ModuleRule& rule);

/// The grids of request.grids.rules by the names of modules ("model.layers.3.mlp.down_proj",
/// "model.embed_tokens", "lm_head"), the last rule that matches first. A pattern is looked for
/// anywhere in the name.
///
/// Throws Error for a pattern that matches nothing, with the nearest names; for one that matches
/// only some linears of a unit, which share a grid; for floats in a layer; and for groups that do
/// not divide a row.
[[nodiscard]] BoundGrids BindRules(const QuantizeRequest& request, const ModelConfig& config);

}  // namespace lieq
