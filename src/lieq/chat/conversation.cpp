#include "lieq/chat/conversation.h"

#include <algorithm>
#include <array>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr std::array<std::string_view, 2> kTurns{"messages", "conversations"};

constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kRoles{
    {{"human", "user"},
     {"gpt", "assistant"},
     {"chatgpt", "assistant"},
     {"bot", "assistant"},
     {"observation", "tool"},
     {"function_response", "tool"}}};

std::string RoleOf(const std::string& name) {
  for (const auto& [other, role] : kRoles) {
    if (name == other) return std::string(role);
  }
  return name;
}

/// Whether it is an array of objects that name who speaks.
bool AreTurns(const Record& value) {
  return value.is_array() && !value.empty() && value.front().is_object() &&
         (value.front().contains("role") || value.front().contains("from"));
}

[[noreturn]] void RefuseConversation(const std::string& place, const std::string& found) {
  throw Error({.what = "this is no conversation",
               .where = place,
               .expected =
                   "[{\"role\": \"user\", \"content\": \"...\"}, ...], or an object with such "
                   "a list as \"messages\" or \"conversations\"",
               .found = found});
}

Record TurnOf(const Record& turn, const std::string& place) {
  if (!turn.is_object()) RefuseConversation(place, turn.type_name());
  Record message = Record::object();
  const bool named = turn.contains("role");
  const char* const role = named ? "role" : "from";
  if (!turn.contains(role) || !turn[role].is_string()) {
    throw Error({.what = "a message does not say whose it is",
                 .where = place,
                 .expected = "\"role\": \"user\", \"assistant\", \"system\", ...",
                 .found = Printable(turn.dump())});
  }
  message["role"] = RoleOf(turn[role].get<std::string>());
  for (const auto& [key, value] : turn.items()) {
    if (key == role) continue;
    const bool says = !named && key == "value" && !turn.contains("content");
    message[says ? "content" : key] = value;
  }
  return message;
}

Record FieldsToTurns(const Record& row, const std::string& place, const ChatFields& fields) {
  Record messages = Record::array();
  for (const auto& [role, field] : fields) {
    if (!row.contains(field) || row[field].is_null()) continue;
    if (!row[field].is_string()) {
      throw Error({.what = "a field of a chat is no text",
                   .where = place + ": /" + Printable(field),
                   .expected = "a string",
                   .found = row[field].type_name()});
    }
    const std::string text = row[field].get<std::string>();
    if (text.empty()) continue;
    if (!messages.empty() && messages.back()["role"] == role) {
      messages.back()["content"] = messages.back()["content"].get<std::string>() + "\n\n" + text;
    } else {
      messages.push_back({{"role", role}, {"content", text}});
    }
  }
  return messages;
}

}  // namespace

bool IsConversation(const Record& row) {
  if (AreTurns(row)) return true;
  return row.is_object() && std::ranges::any_of(kTurns, [&](std::string_view key) {
           return row.contains(key) && AreTurns(row[std::string(key)]);
         });
}

Conversation ConversationOf(const Record& row, const std::string& place, const ChatFields& fields) {
  Conversation conversation;
  if (!fields.empty() && !IsConversation(row)) {
    if (!row.is_object()) RefuseConversation(place, row.type_name());
    conversation.messages = FieldsToTurns(row, place, fields);
    if (conversation.messages.empty()) RefuseConversation(place, "none of the fields");
    return conversation;
  }
  const Record* turns = AreTurns(row) ? &row : nullptr;
  for (const std::string_view key : kTurns) {
    if (turns == nullptr && row.is_object() && row.contains(key)) turns = &row[std::string(key)];
  }
  if (turns == nullptr || !AreTurns(*turns)) RefuseConversation(place, Printable(row.dump()));
  for (std::size_t i = 0; i < turns->size(); ++i) {
    conversation.messages.push_back(
        TurnOf((*turns)[i], place + ", message " + std::to_string(i + 1)));
  }
  if (row.is_object() && row.contains("tools") && row["tools"].is_array() &&
      !row["tools"].empty()) {
    conversation.tools = row["tools"];
  }
  return conversation;
}

Conversation ReadConversation(const std::filesystem::path& path) {
  const Record file = ReadRecord(path);
  Conversation conversation = ConversationOf(file, path.string());
  if (!file.is_object()) return conversation;
  for (const auto& [key, value] : file.items()) {
    if (key != "messages" && key != "conversations" && key != "tools")
      conversation.variables[key] = value;
  }
  return conversation;
}

}  // namespace lieq
