// GGUF's tokenizer "llama": BPE over characters that merges by the scores of tokens, as
// SentencePiece does, and not by a list of merges. What it has in common with tokenizer.json.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/gguf_file.h"
#include "lieq/io/json.h"

namespace lieq {

/// A space in a token of such a tokenizer.
inline constexpr std::string_view kSpaceMark = "\u2581";

/// ["left", "right"] for all ways to make one of `tokens` of two of them, by falling score; of
/// equals the one with the longer left part. made: which tokens may be made, by number.
[[nodiscard]] Json MergesByScore(std::span<const std::string> tokens,
                                 std::span<const double> scores,
                                 std::span<const std::uint8_t> made);

/// /model, /normalizer and /decoder of a tokenizer.json. prefix: texts begin with a space. unknown:
/// the name of that token, "" for none.
void SetCharacterBpe(Json& document, bool prefix, const std::string& unknown, Json vocab,
                     Json merges);

/// What a GGUF file says of a tokenizer.json that is BPE over characters.
struct SentencePiece {
  bool prefix = false;        // texts begin with a space
  std::vector<float> scores;  // of each token
  std::string note;           // where llama.cpp gives other tokens, for the user; or nothing
};

/// Nothing where words are in the byte-level alphabet. tokens: by id. made: as above. Throws Error
/// where scores cannot say what the merges do, or another option is not llama.cpp's.
[[nodiscard]] std::optional<SentencePiece> SentencePieceOf(const JsonObject& root,
                                                           std::span<const std::string> tokens,
                                                           std::span<const std::uint8_t> made);

/// Whether the name is that of a byte: "<0x0A>".
[[nodiscard]] bool IsByteName(std::string_view name);

}  // namespace lieq
