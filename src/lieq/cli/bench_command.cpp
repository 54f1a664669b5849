#include <fmt/format.h>

#include <algorithm>

#include "lieq/cli/commands.h"
#include "lieq/cli/requests_of.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/speed.h"

namespace lieq {
namespace {

void PrintRow(std::string_view label, const std::string& text) {
  fmt::print("{:<14} {}\n", label, text);
}

/// "512 tokens, 803.2 a second (791.0 to 811.4)"
std::string Text(const SpeedOf& speed) {
  const auto [least, most] = std::ranges::minmax(speed.seconds);
  const auto tokens = static_cast<double>(speed.tokens);
  return fmt::format("{} tokens, {:.1f} a second ({:.1f} to {:.1f} in {} runs)", speed.tokens,
                     speed.TokensPerSecond(), tokens / most, tokens / least, speed.seconds.size());
}

}  // namespace

int RunBench(const Arguments& arguments, CommandSession& session) {
  const SpeedRequest request = SpeedRequestOf(arguments);
  const Speed speed = MeasureSpeed(request, session);
  if (arguments.json) {
    session.Answer(SpeedRecord(request, speed, session));
    return 0;
  }
  if (speed.prompt.tokens > 0) PrintRow("prompt", Text(speed.prompt));
  if (speed.generation.tokens > 0) {
    PrintRow("generation", Text(speed.generation));
    std::string weights = fmt::format("{} a token, {:.1f} GB a second",
                                      FormatBytes(static_cast<double>(speed.weight_bytes)),
                                      speed.BytesPerSecond() / 1e9);
    if (speed.read_bytes_per_second > 0) {
      weights += fmt::format(": {:.0f} % of a {} ({:.1f} GB)", 100 * speed.BandwidthShare(),
                             session.device_has_own_bytes() ? "copy there" : "plain read",
                             speed.read_bytes_per_second / 1e9);
    }
    PrintRow("weights", weights);
  }
  PrintRow("memory", FormatBytes(static_cast<double>(speed.peak_bytes)));
  PrintRow("on",
           fmt::format("{}, {} threads", session.device().description(), session.pool().size()));
  return 0;
}

}  // namespace lieq
