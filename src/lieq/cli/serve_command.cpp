#include <fmt/format.h>

#include <cstdio>

#include "lieq/cli/commands.h"
#include "lieq/cli/requests_of.h"
#include "lieq/serve/server.h"

namespace lieq {

int RunServe(const Arguments& arguments, CommandSession& session) {
  const ServeRequest request = ServeRequestOf(arguments);
  Server server(request, session);
  fmt::print("{}\n", server.address());  // on stdout, for programs that asked for any port
  std::fflush(stdout);
  session.log().Info(fmt::format(
      "a page to chat with at {}/, for clients of OpenAI's interface {}/v1; {} answers at once. "
      "Ctrl-C ends.",
      server.address(), server.address(), request.engine.sequences));
  server.Run();
  session.log().Info("ended");
  return 0;
}

}  // namespace lieq
