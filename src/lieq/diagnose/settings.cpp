#include "lieq/diagnose/settings.h"

namespace lieq {

std::string_view Name(Projections projections) noexcept {
  return projections == Projections::kAll ? "all" : "qkv";
}
std::string_view Name(Heads heads) noexcept {
  return heads == Heads::kPerHead ? "per-head" : "whole";
}
std::string_view Name(Energies energies) noexcept {
  return energies == Energies::kSquared ? "squared" : "plain";
}
std::string_view Name(SpectrumInputs inputs) noexcept {
  return inputs == SpectrumInputs::kActivations ? "activations" : "weights";
}

std::span<const Site> SitesOf(Projections projections) noexcept {
  if (projections == Projections::kAll) return kAllSites;
  return SitesOf(Unit::kQkv);
}

}  // namespace lieq
