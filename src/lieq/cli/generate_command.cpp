#include <fmt/format.h>

#include <cstdio>

#include "lieq/chat/chat_template.h"
#include "lieq/chat/conversation.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/requests_of.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/generate.h"

namespace lieq {
namespace {

void Show(const std::string& piece) {
  fmt::print("{}", piece);
  std::fflush(stdout);
}

}  // namespace

int RunGenerate(const Arguments& arguments, CommandSession& session) {
  const GenerateRequest request = GenerateRequestOf(arguments);
  if (arguments.json) {
    session.Answer(GenerationRecord(request, Generate(request, session), session));
    return 0;
  }
  const Generation result = Generate(request, session, Show);
  Show("\n");
  session.log().Info(
      fmt::format("{} tokens of prompt in {}, then {} ({:.1f} a second), stopped by {}",
                  result.prompt_ids.size(), FormatSeconds(result.prompt_seconds), result.ids.size(),
                  result.TokensPerSecond(), result.end ? "the end of the text" : "--new-tokens"));
  return 0;
}

}  // namespace lieq
