// Names of the choices in SpectrumSettings, as options and records write them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lieq/diagnose/diagnosis.h"
#include "lieq/model/config.h"

namespace lieq {

/// "all", "qkv"
[[nodiscard]] std::string_view Name(Projections projections) noexcept;
/// "per-head", "whole"
[[nodiscard]] std::string_view Name(Heads heads) noexcept;
/// "squared", "plain"
[[nodiscard]] std::string_view Name(Energies energies) noexcept;
/// "activations", "weights"
[[nodiscard]] std::string_view Name(SpectrumInputs inputs) noexcept;

/// The inverse of Name, for T of the four types; none for another word.
template <class T>
[[nodiscard]] std::optional<T> ParseSetting(std::string_view name) noexcept {
  for (const T value : {T{0}, T{1}}) {
    if (Name(value) == name) return value;
  }
  return std::nullopt;
}

/// Both names, for messages: "all or qkv".
template <class T>
[[nodiscard]] std::string Choices() {
  return std::string(Name(T{0})) + " or " + std::string(Name(T{1}));
}

/// The linears that are measured, in order: all seven, or q, k and v.
[[nodiscard]] std::span<const Site> SitesOf(Projections projections) noexcept;

}  // namespace lieq
