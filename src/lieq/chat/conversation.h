// Conversations as files hold them: turns of "role" and "content", or of "from" and "value", or the
// fields of a row.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "lieq/io/json.h"

namespace lieq {

struct Conversation {
  Record messages = Record::array();    // of objects with "role"
  Record tools;                         // an array, or null
  Record variables = Record::object();  // what else a template may ask for
};

/// Fields of a row that are turns, in their order: {"user", "instruction"}. Several of one role,
/// one after another, are one turn, joined by a blank line; empty and missing ones are left out.
using ChatFields = std::vector<std::pair<std::string, std::string>>;

/// Whether a row is a conversation: an array of turns, or an object that holds one as "messages" or
/// "conversations".
[[nodiscard]] bool IsConversation(const Record& row);

/// The conversation of a row: an array of turns, or an object with "messages" or "conversations"
/// and perhaps "tools"; else by `fields` where they are not empty. "human" and "gpt" become "user"
/// and "assistant". Throws Error naming `place`: anything else, turns without a role, no turn at
/// all.
[[nodiscard]] Conversation ConversationOf(const Record& row, const std::string& place,
                                          const ChatFields& fields = {});

/// The conversation in a file of JSON. Further keys of its object are variables of the template.
[[nodiscard]] Conversation ReadConversation(const std::filesystem::path& path);

}  // namespace lieq
