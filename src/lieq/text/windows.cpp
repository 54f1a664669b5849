#include "lieq/text/windows.h"

#include <algorithm>
#include <utility>

#include "lieq/base/error.h"

namespace lieq {

void RefuseShortText(Index tokens, Index length, Index shortest, const std::string& where,
                     std::string_view option) {
  const std::string fits = std::string(option) + " " + std::to_string(tokens);
  throw Error({.what = "text is shorter than one window",
               .where = where,
               .expected = "at least " + std::to_string(length) + " tokens",
               .found = std::to_string(tokens),
               .hint = tokens < shortest ? "a longer text" : fits + " or less, or a longer text"});
}

namespace {

void CheckCut(Index length, Index limit, const std::string& where) {
  if (length < 2) {  // one token predicts nothing
    throw Error({.what = "window is too short",
                 .where = where,
                 .expected = "at least 2 tokens",
                 .found = std::to_string(length)});
  }
  if (limit < 0) {
    throw Error({.what = "number of windows is negative",
                 .where = where,
                 .expected = "0 for all, or more",
                 .found = std::to_string(limit)});
  }
}

}  // namespace

Windows CutWindows(std::vector<TokenId> ids, Index length, Index limit, const std::string& where,
                   std::string_view option) {
  CheckCut(length, limit, where);
  Windows windows{.length = length, .tokens_in_text = static_cast<Index>(ids.size())};
  windows.count = windows.tokens_in_text / length;
  if (windows.count == 0) RefuseShortText(windows.tokens_in_text, length, 2, where, option);
  if (limit > 0) windows.count = std::min(windows.count, limit);
  ids.resize(Size(windows.count * length));
  windows.tokens = std::move(ids);
  windows.end = windows.tokens_held = windows.count * length;
  return windows;
}

Index EndOfChat(std::span<const Index> begins, Index chat, Index tokens) noexcept {
  return chat + 1 < static_cast<Index>(begins.size()) ? begins[Size(chat + 1)] : tokens;
}

Windows CutChats(std::span<const TokenId> ids, std::span<const Index> begins, Index length,
                 Index limit, const std::string& where) {
  CheckCut(length, limit, where);
  const auto tokens = static_cast<Index>(ids.size());
  Windows windows{.length = 2, .tokens_in_text = tokens};
  std::vector<std::span<const TokenId>> chats;
  for (Index chat = 0; chat < static_cast<Index>(begins.size()); ++chat) {
    if (limit > 0 && static_cast<Index>(chats.size()) == limit) break;
    const Index begin = begins[Size(chat)], end = EndOfChat(begins, chat, tokens);
    if (begin == end) continue;
    const Index held = std::min(length, end - begin);
    chats.push_back(ids.subspan(Size(begin), Size(held)));
    windows.cut += end - begin > length ? 1 : 0;
    windows.tokens_held += held;
    windows.end = end;
    windows.length = std::max(windows.length, held);
  }
  if (chats.empty()) throw Error({.what = "no chat with a token", .where = where});
  windows.count = static_cast<Index>(chats.size());
  windows.tokens.assign(Size(windows.count * windows.length), kNoToken);
  for (Index w = 0; w < windows.count; ++w) {
    std::ranges::copy(chats[Size(w)], windows.tokens.begin() + w * windows.length);
  }
  return windows;
}

}  // namespace lieq
