// Windows of token ids cut from a text, as evaluation and calibration use them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// Token ids [count, length], without overlap from the start of the text.
struct Windows {
  std::vector<TokenId> tokens;
  Index count = 0;
  Index length = 0;
  Index tokens_in_text = 0;

  [[nodiscard]] View<const TokenId, 2> view() const noexcept {
    return {tokens.data(), count, length};
  }
};

/// The first `limit` whole windows (0: all); a last partial window is dropped (method "plain").
/// option: what sets the length, for the message. Throws Error naming `where`: fewer tokens than
/// one window, length < 2.
[[nodiscard]] Windows CutWindows(std::vector<TokenId> ids, Index length, Index limit,
                                 const std::string& where, std::string_view option = "--context");

/// Throws Error for a text of `tokens` tokens, fewer than a window of `length`; names the length
/// that fits, unless it is below the shortest that there is.
[[noreturn]] void RefuseShortText(Index tokens, Index length, Index shortest,
                                  const std::string& where, std::string_view option);

}  // namespace lieq
