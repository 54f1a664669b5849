// "did you mean": the name that a misspelt word probably stands for.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace lieq {

/// The name of `names` closest to `word` by edits, or that it begins; empty where none is near.
[[nodiscard]] std::string Nearest(std::string_view word, std::span<const std::string> names);
/// A line for the end of a message, "\n  did you mean 'gptq'?"; empty where no name is near.
[[nodiscard]] std::string DidYouMean(std::string_view word, std::span<const std::string> names);

}  // namespace lieq
