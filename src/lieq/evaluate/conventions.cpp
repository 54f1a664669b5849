#include "lieq/evaluate/conventions.h"

#include <algorithm>
#include <array>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/text/windows.h"

namespace lieq {
namespace {

constexpr std::array kConventions{
    Convention{.name = "plain",
               .description = "windows side by side, no special tokens, every position scored",
               .context = 1024,
               .special = false,
               .joins_rows = false,
               .bos_first = false,
               .second_half = false},
    Convention{.name = "gptq",
               .description =
                   "that of the papers: rows joined by blank lines, special tokens, every "
                   "position scored",
               .context = 2048,
               .special = true,
               .joins_rows = true,
               .bos_first = false,
               .second_half = false},
    Convention{.name = "llama.cpp",
               .description =
                   "that of llama-perplexity: windows begin with BOS where the vocabulary "
                   "adds it, their second half is scored",
               .context = 512,
               .special = true,
               .joins_rows = false,
               .bos_first = true,
               .second_half = true},
};

/// Lines keep their newline and blank ones are empty, as the data set "wikitext" has its rows.
std::string JoinLines(std::string_view text) {
  std::string joined;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    const std::string_view row = text.substr(at, end - at);
    if (at > 0) joined += "\n\n";
    if (row.find_first_not_of(" \t\r\n\v\f") != std::string_view::npos) joined += row;
    at = end;
  }
  return joined;
}

[[noreturn]] void Refuse(std::string what, const std::string& where, std::string expected,
                         Index found) {
  throw Error({.what = std::move(what),
               .where = where,
               .expected = std::move(expected),
               .found = std::to_string(found)});
}

}  // namespace

std::span<const Convention> Conventions() noexcept {
  return kConventions;
}

const Convention& FindConvention(std::string_view name) {
  return FindRow(Conventions(), name, "no such convention", "--convention");
}

std::optional<TokenId> BosOf(const Tokenizer& tokenizer) {
  const std::vector<TokenId> frame = tokenizer.Encode("", true);
  return frame.empty() ? std::nullopt : std::optional(frame.front());
}

std::vector<TokenId> EncodeFor(const Convention& convention, const Tokenizer& tokenizer,
                               std::string_view text) {
  if (!convention.joins_rows) return tokenizer.Encode(text, convention.special);
  return tokenizer.Encode(JoinLines(text), convention.special);
}

ScoredText CutScored(std::vector<TokenId> ids, const Convention& convention, Index length,
                     Index stride, Index limit, std::optional<TokenId> bos,
                     const std::string& where) {
  const Index shortest = convention.second_half ? 4 : 2;
  if (length < shortest) {
    Refuse("window is too short", where, "at least " + std::to_string(shortest) + " tokens",
           length);
  }
  if (stride != 0 && convention.second_half) {
    throw Error({.what = "a stride where the second half of windows is scored",
                 .where = "--stride",
                 .expected = "--convention plain or gptq",
                 .found = std::string(convention.name)});
  }
  if (stride < 0 || stride >= length) {
    Refuse("stride does not fit the windows", "--stride", "1 to " + std::to_string(length - 1),
           stride);
  }
  const auto tokens = static_cast<Index>(ids.size());
  if (tokens < length) RefuseShortText(tokens, length, shortest, where, "--context");
  ScoredText text{.ids = std::move(ids), .bos = {}, .windows = {}, .length = length};
  if (convention.bos_first) text.bos = bos;
  const auto full = [&] { return limit > 0 && static_cast<Index>(text.windows.size()) == limit; };
  if (stride == 0) {
    const Index first = convention.second_half ? length / 2 : 0;
    for (Index begin = 0; begin + length <= tokens && !full(); begin += length) {
      text.windows.push_back({begin, length, first});
    }
    return text;
  }
  Index scored = 1;  // tokens that are done with; nothing predicts the first one
  for (Index begin = 0; scored < tokens && !full(); begin += stride) {
    const Index end = std::min(begin + length, tokens);
    text.windows.push_back({begin, end - begin, scored - 1 - begin});
    scored = end;
  }
  return text;
}

ScoredText CutScoredChats(std::vector<TokenId> ids, std::span<const Index> begins,
                          const Convention& convention, Index length, Index limit,
                          const std::string& where) {
  constexpr Index kShortest = 2;
  if (length < kShortest) Refuse("window is too short", where, "at least 2 tokens", length);
  if (convention.second_half) {
    throw Error({.what = "one chat a window where the second half of windows is scored",
                 .where = "--chat-windows",
                 .expected = "--convention plain or gptq",
                 .found = std::string(convention.name)});
  }
  const auto tokens = static_cast<Index>(ids.size());
  ScoredText text{.ids = std::move(ids), .bos = {}, .windows = {}};
  for (Index chat = 0; chat < static_cast<Index>(begins.size()); ++chat) {
    if (limit > 0 && chat == limit) break;
    const Index begin = begins[Size(chat)];
    const Index held = std::min(length, EndOfChat(begins, chat, tokens) - begin);
    if (held >= kShortest) text.windows.push_back({begin, held, 0});
    text.length = std::max(text.length, held);
  }
  if (text.windows.empty()) {
    Refuse("no chat has two tokens", where, "chats", static_cast<Index>(begins.size()));
  }
  std::ranges::stable_sort(text.windows, {}, &ScoredWindow::length);
  return text;
}

ScoredText CountAnswers(ScoredText text, std::vector<std::uint8_t> answer,
                        const std::string& where) {
  text.answer = std::move(answer);
  std::erase_if(text.windows, [&](const ScoredWindow& window) {
    const auto begin = text.answer.begin() + window.begin;
    return std::find(begin + window.first + 1, begin + window.length, 1) == begin + window.length;
  });
  if (!text.windows.empty()) return text;
  throw Error({.what = "no window of the text has a token of an answer",
               .where = where,
               .expected = "chats with messages of the assistant",
               .hint = "score all of it: leave --score answers out"});
}

}  // namespace lieq
