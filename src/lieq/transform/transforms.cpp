#include "lieq/transform/transforms.h"

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/transform/transform_rows.h"

namespace lieq {
namespace {

constexpr std::array kRows{
    Transform{.name = "fuse",
              .description = "norm weights folded into the linears behind them; the final norm "
                             "into the head",
              .needs = "",
              .unties = true,
              .needs_calibration = false,
              .ends = FuseEnds,
              .layer = FuseLayer},
    Transform{.name = "rotate",
              .description = "randomised Hadamard rotation of the residual stream",
              .needs = "fuse",
              .unties = true,
              .needs_calibration = false,
              .ends = RotateEnds,
              .layer = RotateLayer},
    Transform{.name = "rotate-values",
              .description = "randomised Hadamard rotation of every value head, in v and o",
              .needs = "",
              .unties = false,
              .needs_calibration = false,
              .ends = nullptr,
              .layer = RotateValues},
    Transform{.name = "permute",
              .description =
                  "channels of the MLP and of value heads in the order that makes groups "
                  "alike",
              .needs = "",
              .unties = false,
              .needs_calibration = true,
              .ends = nullptr,
              .layer = PermuteLayer},
    Transform{.name = "awq",
              .description = "activation-aware scales of input channels (arXiv:2306.00978)",
              .needs = "",
              .unties = false,
              .needs_calibration = true,
              .ends = nullptr,
              .layer = ScaleLayer},
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

bool Unties(const TransformList& rows) noexcept {
  return std::ranges::any_of(rows, &Transform::unties);
}

bool NeedsCalibration(const TransformList& rows) noexcept {
  return std::ranges::any_of(rows, &Transform::needs_calibration);
}

}  // namespace lieq
