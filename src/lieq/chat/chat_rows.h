// Files of conversations, one a row, as tokens: what calibration and evaluation read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/chat/chat_template.h"
#include "lieq/chat/conversation.h"
#include "lieq/text/text_file.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

/// The conversations of a file, one after another.
struct EncodedChats {
  std::vector<TokenId> ids;
  std::vector<std::uint8_t> answer;  // of each token: 1 where the assistant says it
  std::vector<Index> begins;         // [chats]: the first token of each
  std::string text;                  // what the template wrote, all of it
  std::vector<TextNote> notes;
  std::size_t chats = 0;
};

/// Whether a file is rows of conversations: by options.turns, or by its first row (IsConversation).
/// Throws Error where it cannot be read.
[[nodiscard]] bool HoldsChats(const std::filesystem::path& path, const TextOptions& options);

/// Shows each conversation of a file, until `see` says that it has seen enough. Throws Error: a row
/// that is no conversation.
void ForChats(const std::filesystem::path& path, const TextOptions& options,
              const std::function<bool(const Conversation&)>& see);

/// Rows that the template refuses are left out, with a note. Throws Error: a row that is no
/// conversation, and where all are refused.
[[nodiscard]] EncodedChats EncodeChats(const std::filesystem::path& path, const ChatTemplate& chat,
                                       const Tokenizer& tokenizer, const TextOptions& options);

}  // namespace lieq
