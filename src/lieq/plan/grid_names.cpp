#include "lieq/plan/grid_names.h"

#include <charconv>
#include <vector>

#include "lieq/plan/plan.h"

namespace lieq {
namespace {

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (auto at = text.find(separator); at != text.npos; at = text.find(separator)) {
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + 1);
  }
  parts.push_back(text);
  return parts;
}

std::optional<Index> Number(std::string_view digits) {
  Index value = 0;
  const char* const last = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), last, value);
  if (error != std::errc() || end != last || value < 0) return std::nullopt;
  return value;
}

}  // namespace

std::string ShortName(const Grid& grid) {
  if (grid.k_quant) return std::string(KQuantOf(grid).name);
  std::string name = "w" + std::to_string(grid.bits) + "g" +
                     (grid.group_size == 0 ? "-1" : std::to_string(grid.group_size));
  if (!grid.symmetric()) name += ":" + std::string(Name(grid.offset));
  return name;
}

std::optional<NamedGrid> GridFromName(std::string_view text) {
  if (const KQuant* row = FindKQuant(text)) {
    return NamedGrid{.grid = row->grid, .says_group = true, .says_offset = true};
  }
  // Bits, group, offset: 2g64 and half, or 2, 64 and half.
  std::vector<std::string_view> parts = Split(text, ':');
  if (text.starts_with('w')) {
    const std::vector<std::string_view> shape = Split(parts.front().substr(1), 'g');
    parts.erase(parts.begin());
    parts.insert(parts.begin(), {shape.front(), shape.size() == 2 ? shape.back() : ""});
    if (shape.size() > 2 || (shape.size() == 2 && shape.back().empty())) return std::nullopt;
  } else if (parts.size() < 2 || parts[1].empty()) {
    return std::nullopt;
  }
  const std::optional<Index> bits = Number(parts[0]);
  if (parts.size() > 3 || !bits || !IsWidth(*bits)) return std::nullopt;
  NamedGrid named{.says_group = !parts[1].empty(), .says_offset = parts.size() == 3};
  named.grid.bits = static_cast<int>(*bits);
  if (parts[1] == "row" || parts[1] == "-1") {
    named.grid.group_size = 0;
  } else if (named.says_group) {
    const std::optional<Index> columns = Number(parts[1]);
    if (!columns || *columns == 0) return std::nullopt;
    named.grid.group_size = *columns;
  }
  if (named.says_offset) {
    const std::optional<Offset> offset = OffsetFromName(parts[2]);
    if (!offset) return std::nullopt;
    named.grid.offset = *offset;
  }
  return named;
}

}  // namespace lieq
