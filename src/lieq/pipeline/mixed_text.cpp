#include "lieq/pipeline/mixed_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/hash.h"

namespace lieq {
namespace {

/// A text in the pieces that are taken from it: windows, or chats.
class TextPieces {
 public:
  TextPieces(const EncodedText& text, Index length, bool by_chat)
      : text_(text), length_(length), by_chat_(by_chat) {}

  [[nodiscard]] Index tokens() const noexcept { return static_cast<Index>(text_.ids.size()); }
  [[nodiscard]] Index count() const noexcept {
    return by_chat_ ? static_cast<Index>(text_.chats.size()) : tokens() / length_;
  }
  void Add(Index piece, bool answers, EncodedText& to) const {
    const Index begin = by_chat_ ? text_.chats[Size(piece)] : piece * length_;
    const Index end = by_chat_ ? EndOfChat(text_.chats, piece, tokens()) : begin + length_;
    if (by_chat_) to.chats.push_back(static_cast<Index>(to.ids.size()));
    to.ids.insert(to.ids.end(), text_.ids.begin() + begin, text_.ids.begin() + end);
    if (!answers) return;
    if (text_.answer.empty()) {
      to.answer.resize(to.ids.size(), 0);
    } else {
      to.answer.insert(to.answer.end(), text_.answer.begin() + begin, text_.answer.begin() + end);
    }
  }

 private:
  const EncodedText& text_;
  Index length_;
  bool by_chat_;
};

}  // namespace

EncodedText MixTexts(std::span<const EncodedText> texts, std::span<const double> weights,
                     Index length, bool by_chat) {
  LIEQ_ASSERT(!texts.empty() && texts.size() == weights.size() && length > 0);
  EncodedText mixed{.line_ends = texts.front().line_ends};
  std::vector<TextPieces> pieces;
  for (const EncodedText& text : texts) {
    pieces.emplace_back(text, length, by_chat);
    const Index tokens = pieces.back().tokens();
    LIEQ_ASSERT(!by_chat || !text.chats.empty());
    if (!by_chat && tokens < length) RefuseShortText(tokens, length, 2, text.where, "--context");
    mixed.names.insert(mixed.names.end(), text.names.begin(), text.names.end());
    mixed.where += (mixed.where.empty() ? "" : ", ") + text.where;
    mixed.notes.insert(mixed.notes.end(), text.notes.begin(), text.notes.end());
  }
  const bool answers =
      std::ranges::any_of(texts, [](const EncodedText& text) { return !text.answer.empty(); });
  std::vector<Index> taken(texts.size());
  while (true) {
    std::size_t next = 0;
    const auto due = [&](std::size_t i) { return static_cast<double>(taken[i] + 1) / weights[i]; };
    for (std::size_t i = 1; i < texts.size(); ++i) {
      if (due(i) < due(next)) next = i;
    }
    if (taken[next] == pieces[next].count()) break;
    mixed.parts.push_back({static_cast<Index>(mixed.ids.size()), next});
    pieces[next].Add(taken[next]++, answers, mixed);
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string what = by_chat ? "chats" : fmt::format("windows of {} tokens", length);
    mixed.notes.push_back(fmt::format("{}: {} of {} {}, for its weight {:g}", texts[i].where,
                                      taken[i], pieces[i].count(), what, weights[i]));
  }
  mixed.hash = Hasher().Add(std::as_bytes(std::span(mixed.ids))).Hex();
  return mixed;
}

}  // namespace lieq
