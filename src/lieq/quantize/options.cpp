#include "lieq/quantize/options.h"

#include <algorithm>
#include <set>
#include <span>

#include "lieq/base/error.h"

namespace lieq {
namespace {

constexpr std::array<std::string_view, 3> kActOrders{"none", "static", "group"};
constexpr std::array<std::string_view, 2> kClips{"none", "search"};

int Parse(std::string_view option, std::span<const std::string_view> names, std::string_view text) {
  std::string all;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == text) return static_cast<int>(i);
    all += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + std::string(names[i]);
  }
  throw Error({.what = "not a value of this option",
               .where = std::string(option),
               .expected = all,
               .found = std::string(text)});
}

}  // namespace

std::string_view Name(ActOrder order) noexcept {
  return kActOrders[static_cast<std::size_t>(order)];
}
std::string_view Name(Clip clip) noexcept {
  return kClips[static_cast<std::size_t>(clip)];
}
ActOrder ParseActOrder(std::string_view text) {
  return static_cast<ActOrder>(Parse("--act-order", kActOrders, text));
}
Clip ParseClip(std::string_view text) {
  return static_cast<Clip>(Parse("--clip", kClips, text));
}

Offset ParseOffset(std::string_view text) {
  std::array<std::string_view, kAllOffsets.size()> names;
  std::ranges::transform(kAllOffsets, names.begin(), [](Offset offset) { return Name(offset); });
  return kAllOffsets[static_cast<std::size_t>(Parse("--offset", names, text))];
}

void CheckGroupSize(const ModelConfig& config, Index group_size) {
  if (group_size == 0) return;  // the whole row always fits
  std::set<Index> widths;
  for (const Site site : kAllSites) {
    for (const Index in : config.Ins(site)) widths.insert(in);
  }
  const auto divides_all = [&](Index size) {
    return std::ranges::all_of(widths, [&](Index width) { return width % size == 0; });
  };
  if (divides_all(group_size)) return;
  std::string inputs, fitting;
  for (const Index width : widths) inputs += (inputs.empty() ? "" : ", ") + std::to_string(width);
  for (Index size = kGroupStep; size <= kLargestGroup; size += kGroupStep) {
    if (divides_all(size)) fitting += std::to_string(size) + ", ";
  }
  throw Error({.what = "group size does not divide every input size of the model",
               .where = "--group-size",
               .expected = "one of " + fitting + "row (the whole row)",
               .found = std::to_string(group_size) + ", with inputs of " + inputs});
}

void CheckKQuant(const ModelConfig& config) {
  for (const Site site : kAllSites) {
    for (const Index in : config.Ins(site)) {
      if (in % kSuperColumns == 0) continue;
      throw Error({.what = "K-quant grids need rows of whole super-blocks",
                   .where = "--grid: " + std::string(Name(site)),
                   .expected = "an input size that " + std::to_string(kSuperColumns) + " divides",
                   .found = std::to_string(in),
                   .hint = "--grid affine has no such bound"});
    }
  }
}

}  // namespace lieq
