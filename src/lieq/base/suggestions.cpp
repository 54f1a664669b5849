#include "lieq/base/suggestions.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "lieq/base/types.h"

namespace lieq {
namespace {

Index EditDistance(std::string_view a, std::string_view b) {
  std::vector<Index> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<Index>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    Index diagonal = std::exchange(row[0], static_cast<Index>(i));
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const Index replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row.back();
}

}  // namespace

std::string Nearest(std::string_view word, std::span<const std::string> names) {
  std::string best;
  Index least = std::max<Index>(2, static_cast<Index>(word.size()) / 3) + 1;
  for (const std::string& name : names) {
    const bool prefix = word.size() >= 3 && name.starts_with(word);
    const Index distance = prefix ? 1 : EditDistance(word, name);
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  return best;
}

std::string DidYouMean(std::string_view word, std::span<const std::string> names) {
  const std::string nearest = Nearest(word, names);
  return nearest.empty() ? "" : "\n  did you mean '" + nearest + "'?";
}

}  // namespace lieq
