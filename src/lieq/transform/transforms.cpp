#include "lieq/transform/transforms.h"

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/transform/transform_rows.h"

namespace lieq {
namespace {

/// Only linears read what the norms before blocks give, and every such norm is there.
bool NormsFold(const ModelConfig& config) {
  return config.norms != NormPlace::kAfter && !config.Mixes(Mixer::kGatedDelta) &&
         !config.HasExperts();  // the router reads the norms too
}
/// Nothing but norms that fold tells the channels of the stream apart.
bool StreamTurns(const ModelConfig& config) {
  return config.norms == NormPlace::kBefore && NormsFold(config);
}
/// Values are a linear of their own, which attention alone lies behind.
bool ValuesApart(const ModelConfig& config) {
  return !config.fused_qkv && !config.Mixes(Mixer::kGatedDelta) && !config.Mixes(Mixer::kShortConv);
}
bool ChannelsMove(const ModelConfig& config) {
  return ValuesApart(config) && !config.gated_attention && !config.fused_gate_up &&
         !config.HasExperts();
}
bool ChannelsScale(const ModelConfig& config) {
  return ValuesApart(config) && !config.fused_gate_up && NormsFold(config) &&
         config.norm_offset == 0;
}
bool ValuesTurn(const ModelConfig& config) {
  return ValuesApart(config) && !config.gated_attention && config.qkv_clip == 0;
}

constexpr std::array kRows{
    Transform{.name = "fuse",
              .description = "norm weights folded into the linears behind them; the final norm "
                             "into the head",
              .needs = "",
              .unties = true,
              .needs_calibration = false,
              .ends = FuseEnds,
              .layer = FuseLayer,
              .holds = NormsFold},
    Transform{.name = "rotate",
              .description = "randomised Hadamard rotation of the residual stream",
              .needs = "fuse",
              .unties = true,
              .needs_calibration = false,
              .ends = RotateEnds,
              .layer = RotateLayer,
              .holds = StreamTurns},
    Transform{.name = "rotate-values",
              .description = "randomised Hadamard rotation of every value head, in v and o",
              .needs = "",
              .unties = false,
              .needs_calibration = false,
              .ends = nullptr,
              .layer = RotateValues,
              .holds = ValuesTurn},
    Transform{.name = "permute",
              .description =
                  "channels of the MLP and of value heads in the order that makes groups "
                  "alike",
              .needs = "",
              .unties = false,
              .needs_calibration = true,
              .ends = nullptr,
              .layer = PermuteLayer,
              .holds = ChannelsMove},
    Transform{.name = "awq",
              .description = "activation-aware scales of input channels (arXiv:2306.00978)",
              .needs = "",
              .unties = false,
              .needs_calibration = true,
              .ends = nullptr,
              .layer = ScaleLayer,
              .holds = ChannelsScale},
};

}  // namespace

std::span<const Transform> Transforms() noexcept {
  return kRows;
}

const std::string& TransformNames() {
  static const std::string names = NamesOfRows(kRows);
  return names;
}

TransformList ResolveTransforms(std::span<const std::string> names) {
  std::array<bool, kRows.size()> wanted{};
  for (const std::string& name : names) {
    const Transform& row = FindRow(kRows, name, "no such transform", "--transform");
    wanted[static_cast<std::size_t>(&row - kRows.data())] = true;
  }
  for (std::size_t i = kRows.size(); i-- > 0;) {  // what is needed stands above
    if (!wanted[i] || kRows[i].needs.empty()) continue;
    const auto row = std::ranges::find(kRows, kRows[i].needs, &Transform::name);
    wanted[static_cast<std::size_t>(row - kRows.begin())] = true;
  }
  TransformList rows;
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (wanted[i]) rows.push_back(&kRows[i]);
  }
  return rows;
}

void RequireHolding(const TransformList& rows, const ModelConfig& config) {
  std::string holding;
  for (const Transform& row : kRows) {
    if (row.holds(config)) holding += (holding.empty() ? "" : ", ") + std::string(row.name);
  }
  for (const Transform* row : rows) {
    if (row->holds(config)) continue;
    throw Error({.what = "the transform " + std::string(row->name) + " does not hold for a " +
                         config.architecture,
                 .where = "--transform",
                 .expected = holding.empty() ? "none" : holding,
                 .found = std::string(row->name),
                 .hint = "it would change what the model computes"});
  }
}

bool Unties(const TransformList& rows) noexcept {
  return std::ranges::any_of(rows, &Transform::unties);
}

bool NeedsCalibration(const TransformList& rows) noexcept {
  return std::ranges::any_of(rows, &Transform::needs_calibration);
}

}  // namespace lieq
