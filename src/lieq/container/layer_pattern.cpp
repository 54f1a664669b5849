#include "lieq/container/layer_pattern.h"

#include <map>

namespace lieq {
namespace {

/// "[2-46]" for the digits whose bits are set; a single digit stands alone.
std::string DigitClass(unsigned digits) {
  std::string inside;
  int count = 0;
  for (int digit = 0; digit < 10; ++digit) {
    if ((digits >> digit & 1) == 0) continue;
    int last = digit;
    while (last < 9 && (digits >> (last + 1) & 1) != 0) ++last;
    inside += static_cast<char>('0' + digit);
    if (last > digit + 1) inside += '-';
    if (last > digit) inside += static_cast<char>('0' + last);
    count += last - digit + 1;
    digit = last;
  }
  return count == 1 ? inside : "[" + inside + "]";
}

/// Alternatives of a regular expression that together match exactly these numbers: those with equal
/// last digits share one, so that a run of layers takes few characters.
std::vector<std::string> NumberAlternatives(const std::set<Index>& numbers) {
  std::map<Index, unsigned> digits_of;  // by the number without its last digit, -1 where none
  for (const Index number : numbers) {
    digits_of[number < 10 ? -1 : number / 10] |= 1u << (number % 10);
  }
  std::vector<std::string> alternatives;
  std::map<unsigned, std::set<Index>> prefixes_of;  // by the digits that follow
  for (const auto& [prefix, digits] : digits_of) {
    if (prefix < 0) {
      alternatives.push_back(DigitClass(digits));
    } else {
      prefixes_of[digits].insert(prefix);
    }
  }
  for (const auto& [digits, prefixes] : prefixes_of) {
    for (const std::string& prefix : NumberAlternatives(prefixes)) {
      alternatives.push_back(prefix + DigitClass(digits));
    }
  }
  return alternatives;
}

}  // namespace

std::vector<std::string> LayerPatterns(const std::set<Index>& layers, Index count) {
  constexpr std::size_t kMostBytes = 2048;  // of alternatives in one pattern
  if (static_cast<Index>(layers.size()) == count) return {"[0-9]+"};
  const std::vector<std::string> alternatives = NumberAlternatives(layers);
  if (alternatives.size() == 1) return alternatives;
  std::vector<std::string> patterns;
  std::string joined;
  for (std::size_t i = 0; i < alternatives.size(); ++i) {
    joined += (joined.empty() ? "" : "|") + alternatives[i];
    if (joined.size() < kMostBytes && i + 1 < alternatives.size()) continue;
    patterns.push_back("(?:" + joined + ")");
    joined.clear();
  }
  return patterns;
}

}  // namespace lieq
