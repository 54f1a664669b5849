#include "lieq/text/added_tokens.h"

#include <algorithm>
#include <functional>
#include <ranges>
#include <utility>

#include "lieq/text/characters.h"
#include "lieq/text/reference_unicode.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

/// The White_Space property: 25 characters since Unicode 6.3.
constexpr bool IsWhiteSpace(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// Start of the white space that ends at `end`, not before `begin`.
std::size_t WhiteSpaceBefore(std::string_view text, std::size_t begin, std::size_t end) {
  while (end > begin) {
    std::size_t start = end - 1;
    while (start > begin && (static_cast<unsigned char>(text[start]) & 0xC0u) == 0x80u) --start;
    if (!IsWhiteSpace(CodePointAt(text, start).value)) break;
    end = start;
  }
  return end;
}

std::size_t WhiteSpaceAfter(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const CodePoint character = CodePointAt(text, begin);
    if (!IsWhiteSpace(character.value)) break;
    begin += character.bytes;
  }
  return begin;
}

/// Whether no character of a word stands beside bytes begin .. end.
bool IsSingleWord(std::string_view text, std::size_t begin, std::size_t end) {
  std::string storage;
  if (begin > 0) {
    std::size_t start = begin - 1;
    while ((static_cast<unsigned char>(text[start]) & 0xC0u) == 0x80u) --start;
    const std::string_view before = WithStandIns(text.substr(start, begin - start), storage);
    if (IsWordCharacter(CodePointAt(before, 0).value)) return false;
  }
  if (end == text.size()) return true;
  const std::size_t bytes = CodePointAt(text, end).bytes;
  return !IsWordCharacter(CodePointAt(WithStandIns(text.substr(end, bytes), storage), 0).value);
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::ranges::sort(tokens_, {}, &AddedToken::content);
  for (const AddedToken& token : tokens_) {
    first_bytes_[static_cast<unsigned char>(token.content.front())] = true;
  }
}

const AddedToken* AddedTokenFinder::LongestAt(std::string_view text, std::size_t position,
                                              const Allowed& allowed) const {
  const AddedToken* longest = nullptr;
  std::ranges::subrange candidates(tokens_);  // those that begin with the bytes seen so far
  for (std::size_t length = 0; !candidates.empty(); ++length) {
    if (candidates.front().content.size() == length) {  // in order, so the shortest comes first
      const AddedToken& token = candidates.front();
      if (!allowed || allowed(token, position, position + length)) longest = &token;
      candidates.advance(1);
    }
    if (position + length == text.size()) break;
    const auto next = [&](const AddedToken& token) {
      return static_cast<unsigned char>(token.content[length]);
    };
    candidates = std::ranges::equal_range(
        candidates, static_cast<unsigned char>(text[position + length]), {}, next);
  }
  return longest;
}

void AddedTokenFinder::Split(std::string_view text, const Sink& sink,
                             const Allowed& allowed) const {
  std::size_t done = 0;  // bytes handed on
  const auto pass_on = [&](const AddedToken* token, std::size_t begin, std::size_t end) {
    if (begin < end) sink(token, text.substr(begin, end - begin));
    done = end;
  };
  for (std::size_t position = 0; position < text.size() && !tokens_.empty();) {
    const bool possible = first_bytes_[static_cast<unsigned char>(text[position])];
    const AddedToken* const token = possible ? LongestAt(text, position, allowed) : nullptr;
    if (token == nullptr) {
      ++position;
      continue;
    }
    std::size_t begin = position;
    position += token->content.size();
    // What was found and is no word by itself is text, all of it: so the reference.
    if (token->single_word && !IsSingleWord(text, begin, position)) continue;
    // White space that a token before has taken is not there any more; one that is a token by
    // itself still is. The reference does so too.
    if (token->strip_left) begin = WhiteSpaceBefore(text, std::min(done, begin), begin);
    const std::size_t end = token->strip_right ? WhiteSpaceAfter(text, position) : position;
    pass_on(nullptr, done, begin);
    pass_on(token, begin, end);
  }
  pass_on(nullptr, done, text.size());
}

}  // namespace lieq
