// Values of options: text into what Arguments holds. All throw UsageError, naming the option, what
// it takes and what was found.
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lieq/cli/arguments.h"
#include "lieq/diagnose/settings.h"

namespace lieq {

inline constexpr Index kMostTokens = Index{1} << 24;

template <class T>
T Parse(std::string_view option, const std::string& text, T least, T most,
        std::string_view expected) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !(value >= least && value <= most)) {
    throw UsageError(std::string(option) + ": expected " + std::string(expected) + ", found '" +
                     text + "'");
  }
  return value;
}

template <class T>
T ParseChoice(std::string_view option, const std::string& text) {
  if (const std::optional<T> choice = ParseSetting<T>(text)) return *choice;
  throw UsageError(std::string(option) + ": expected " + Choices<T>() + ", found '" + text + "'");
}

[[nodiscard]] int ParseWidth(std::string_view option, const std::string& text);
[[nodiscard]] int ParseEndBits(std::string_view option, const std::string& text);
void SetWidths(Arguments& arguments, const std::string& text);
[[nodiscard]] std::vector<std::string> SplitAtCommas(std::string_view text);
/// "0.5", or "0.5,1" for 2 bits and for more.
[[nodiscard]] Strength ParseStrength(std::string_view option, const std::string& text);
void SetTextFields(Arguments& arguments, const std::string& text);
void SetChatFields(Arguments& arguments, const std::string& text);
void SetLineEnds(Arguments& arguments, const std::string& text);
void SetRankingWeights(Arguments& arguments, const std::string& text);
/// 0 for "row".
[[nodiscard]] Index ParseGroup(std::string_view option, const std::string& text);
void SetGrid(Arguments& arguments, const std::string& text);
void SetArithmetic(Arguments& arguments, const std::string& text);
void SetActivations(Arguments& arguments, const std::string& text);
void SetKvCache(Arguments& arguments, const std::string& text);
/// "rotate,awq", "auto", "auto,rotate"
void SetTransforms(Arguments& arguments, const std::string& text);
void SetGroupSize(Arguments& arguments, const std::string& text);
/// "350M", "1.5G", "200Mi", "123456"
[[nodiscard]] std::int64_t ParseSize(std::string_view option, const std::string& text);
/// A count as people write it: 300000, 300k, 2M. Throws UsageError.
[[nodiscard]] std::int64_t ParseTokens(std::string_view option, const std::string& text);
/// "2:64,4:128,8:row,2:32:half"
void SetCandidates(Arguments& arguments, const std::string& text);
void SetOffset(Arguments& arguments, Offset offset);
/// "4", or a grid: "w4g64", "w2g32:half"
void SetUniform(Arguments& arguments, const std::string& text);
/// "down_proj=w4g64"
void AddRule(Arguments& arguments, const std::string& text);
[[nodiscard]] std::vector<Index> ParseList(std::string_view option, const std::string& text,
                                           Index least, std::string_view expected);

/// A value as an option takes it, for the defaults that help shows.
template <class T>
[[nodiscard]] std::string Shown(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(Name(value));
  } else if constexpr (std::is_convertible_v<T, std::string>) {
    return value;
  } else if constexpr (std::is_same_v<T, Strength>) {
    return value.narrow == value.wide ? Shown(value.wide)
                                      : Shown(value.narrow) + "," + Shown(value.wide);
  } else if constexpr (std::is_floating_point_v<T>) {
    std::array<char, 32> text;
    return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
  } else if constexpr (std::is_integral_v<T>) {
    return std::to_string(value);
  } else {
    std::string text;
    for (const auto& each : value) text += (text.empty() ? "" : ",") + Shown(each);
    return text;
  }
}

/// The names of a table's rows, as OptionRow::choices.
template <class Rows>
[[nodiscard]] std::vector<std::string> NamesIn(const Rows& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.emplace_back(row.name);
  return names;
}

}  // namespace lieq
