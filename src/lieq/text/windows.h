// Windows of token ids cut from a text, as evaluation and calibration use them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/no_token.h"
#include "lieq/base/types.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Token ids [count, length], without overlap from the start of the text.
struct Windows {
  std::vector<TokenId> tokens;  // of windows that are not full kNoToken behind the last one
  Index count = 0;
  Index length = 0;
  Index tokens_in_text = 0;
  Index end = 0;          // tokens of the text up to the last window's end
  Index tokens_held = 0;  // in the windows: count * length where all are full
  Index cut = 0;          // chats that a window holds the beginning of

  [[nodiscard]] View<const TokenId, 2> view() const noexcept {
    return {tokens.data(), count, length};
  }
};

/// The first `limit` whole windows (0: all); a last partial window is dropped (method "plain").
/// option: what sets the length, for the message. Throws Error naming `where`: fewer tokens than
/// one window, length < 2.
[[nodiscard]] Windows CutWindows(std::vector<TokenId> ids, Index length, Index limit,
                                 const std::string& where, std::string_view option = "--context");

/// One chat a window: the first `length` tokens of each, and kNoToken behind those that have fewer.
/// begins: where each begins in ids, rising; chats without a token are passed over. The windows are
/// as long as the longest of them needs. limit, option and where as above. Throws Error: no chat,
/// length < 2.
[[nodiscard]] Windows CutChats(std::span<const TokenId> ids, std::span<const Index> begins,
                               Index length, Index limit, const std::string& where);

/// Where chat `chat` of those ends: where the next one begins, or the text ends.
[[nodiscard]] Index EndOfChat(std::span<const Index> begins, Index chat, Index tokens) noexcept;

/// Throws Error for a text of `tokens` tokens, fewer than a window of `length`; names the length
/// that fits, unless it is below the shortest that there is.
[[noreturn]] void RefuseShortText(Index tokens, Index length, Index shortest,
                                  const std::string& where, std::string_view option);

}  // namespace lieq
