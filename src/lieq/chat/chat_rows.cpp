#include "lieq/chat/chat_rows.h"

#include <fmt/format.h>

#include <functional>
#include <optional>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/chat/conversation.h"
#include "lieq/text/rows.h"

namespace lieq {
namespace {

/// Shows each row of a file with its place, until `see` says that it has seen enough.
void ForRecords(std::string_view content, const std::filesystem::path& path,
                const std::function<bool(const Record& row, const std::string& place)>& see) {
  const std::size_t first = content.find_first_not_of(" \t\r\n");
  if (!IsJsonLines(path) && first != std::string_view::npos && content[first] == '[') {
    const Record rows = ParseRecord(content, path.string());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!see(rows[i], fmt::format("{}: /{}", path.string(), i))) return;
    }
    return;
  }
  for (std::size_t line = 1; !content.empty(); ++line) {
    const std::string_view row = TakeLine(content);
    if (row.find_first_not_of(" \t\r\v\f") == std::string_view::npos) continue;
    const std::string place = fmt::format("{}:{}", path.string(), line);
    if (!see(ParseRecord(row, place), place)) return;
  }
}

}  // namespace

bool HoldsChats(const std::filesystem::path& path, const TextOptions& options) {
  if (!HoldsRows(path)) return false;
  if (!options.turns.empty()) return true;
  // A file that is no rows at all is for its reader to refuse, in its own words.
  std::vector<TextNote> notes;
  const std::string content = CleanText(ReadPlain(path, options.limit), path.string(), notes);
  bool chats = false;
  try {
    ForRecords(content, path, [&](const Record& row, const std::string&) {
      chats = IsConversation(row);
      return false;
    });
  } catch (const Error&) {
    return false;
  }
  return chats;
}

void ForChats(const std::filesystem::path& path, const TextOptions& options,
              const std::function<bool(const Conversation&)>& see) {
  std::vector<TextNote> notes;  // said where the file is read as a text
  const std::string content = CleanText(ReadPlain(path, options.limit), path.string(), notes);
  ForRecords(content, path, [&](const Record& row, const std::string& place) {
    return see(ConversationOf(row, place, options.turns));
  });
}

EncodedChats EncodeChats(const std::filesystem::path& path, const ChatTemplate& chat,
                         const Tokenizer& tokenizer, const TextOptions& options) {
  EncodedChats all;
  const std::string content = CleanText(ReadPlain(path, options.limit), path.string(), all.notes);
  std::size_t refused = 0;
  std::optional<Problem> first;
  ForRecords(content, path, [&](const Record& row, const std::string& place) {
    const Conversation conversation = ConversationOf(row, place, options.turns);
    try {
      const RenderedChat rendered =
          chat.Render(conversation.messages, {.tools = conversation.tools});
      const ChatTokens tokens = EncodeChat(rendered, tokenizer);
      all.begins.push_back(static_cast<Index>(all.ids.size()));
      all.ids.insert(all.ids.end(), tokens.ids.begin(), tokens.ids.end());
      all.answer.insert(all.answer.end(), tokens.answer.begin(), tokens.answer.end());
      all.text += rendered.text;
      ++all.chats;
    } catch (const Error& error) {
      ++refused;
      if (!first) {
        first = error.problem();
        first->where = place + ": " + first->where;
      }
    }
    return true;
  });
  if (first && all.chats == 0) throw Error(*std::move(first));
  if (all.chats == 0) {
    throw Error({.what = "no conversation in the file", .where = path.string()});
  }
  if (refused > 0) {
    all.notes.push_back(
        {.text = fmt::format(
             "{}: {} of {} chats are left out, which the template refuses (the first: {}: {})",
             FileName(path.string()), Grouped(refused), Grouped(refused + all.chats), first->where,
             first->what),
         .warning = true});
  }
  return all;
}

}  // namespace lieq
