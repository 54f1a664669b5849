#include <fmt/format.h>

#include <cstdio>

#include "lieq/base/error.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/line_reader.h"
#include "lieq/cli/requests_of.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/chat.h"

namespace lieq {
namespace {

constexpr std::string_view kHelp =
    "  /new    forget the chat, but for the system's message\n"
    "  /help   these lines\n"
    "  /exit   end; so do Ctrl-D and Ctrl-C\n"
    "A line that ends with \\ goes on in the next one.\n";

void Show(const std::string& piece) {
  fmt::print("{}", piece);
  std::fflush(stdout);
}

/// A message: a line, and those that it goes on in.
std::optional<std::string> ReadMessage(LineReader& lines, bool interactive,
                                       const std::stop_token& stop) {
  std::string message;
  for (bool first = true;; first = false) {
    if (interactive) Show(first ? "> " : ". ");
    const std::optional<std::string> line = lines.Next(stop);
    if (!line) return first ? std::nullopt : std::optional(message);
    if (!line->ends_with('\\')) return message + *line;
    message += line->substr(0, line->size() - 1) + "\n";
  }
}

void Account(const ChatAnswer& answer, const Log& log) {
  if (answer.left_out > 0) {
    log.Warning(
        fmt::format("the chat is longer than the context: its {} oldest messages are left out",
                    answer.left_out));
  }
  if (answer.end == AnswerEnd::kNewTokens) log.Warning("cut off by --new-tokens");
  if (answer.end == AnswerEnd::kContext) log.Warning("cut off: the context is full (--context)");
  const double rate =
      answer.tokens > 1 ? static_cast<double>(answer.tokens - 1) / answer.seconds : 0;
  log.Info(fmt::format("{} of {} tokens read in {}, {} written, {:.1f} a second",
                       answer.read_tokens, answer.prompt_tokens,
                       FormatSeconds(answer.prompt_seconds), answer.tokens, rate));
}

}  // namespace

int RunChat(const Arguments& arguments, CommandSession& session) {
  const ChatRequest request = ChatRequestOf(arguments);
  ChatSession chat(request, session);
  LineReader lines;
  const bool interactive = lines.interactive() && !arguments.quiet;
  if (interactive) Show("Type a message, /help for help.\n");
  const std::stop_token stop = session.context().stop;
  while (const std::optional<std::string> message = ReadMessage(lines, interactive, stop)) {
    if (message->find_first_not_of(" \t\n") == std::string::npos) continue;
    if (*message == "/exit") break;
    if (*message == "/help") {
      Show(std::string(kHelp));
    } else if (*message == "/new") {
      chat.Clear();
    } else if (message->starts_with('/') && message->find(' ') == std::string::npos) {
      session.log().Warning("no such command: " + *message + " (/help has them)");
    } else {
      try {
        const ChatAnswer answer = chat.Answer(*message, Show);
        Show("\n");
        Account(answer, session.log());
      } catch (const Error& error) {  // of this message; the chat is as it was
        if (!interactive) throw;
        session.log().Warning(error.what());
      }
    }
  }
  return 0;
}

}  // namespace lieq
