#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "lieq/cli/commands.h"
#include "lieq/cli/inputs.h"
#include "lieq/cli/terminal.h"
#include "lieq/evaluate/perplexity.h"

namespace lieq {

int RunEvaluate(const Arguments& arguments, Session& session) {
  const ModelFolder model = OpenModel(arguments.model);
  const Tokenizer tokenizer = OpenTokenizer(model);
  const std::filesystem::path files[] = {arguments.text};
  EncodedText text = EncodeFiles(tokenizer, files, arguments.text_fields);
  const Windows windows =
      CutWindows(std::move(text.ids), arguments.context.value_or(kDefaultContext),
                 arguments.samples.value_or(0), arguments.text.string());
  if (arguments.samples && *arguments.samples > windows.count) {
    session.log().Warning(
        fmt::format("the text has {} windows of {} tokens, fewer than --samples {}", windows.count,
                    windows.length, *arguments.samples));
  }
  const Index positions = model.weights.config.max_positions;
  if (positions > 0 && windows.length > positions) {
    session.log().Warning(
        fmt::format("windows of {} tokens are longer than the {} positions the "
                    "model was made for",
                    windows.length, positions));
  }

  const auto begin = std::chrono::steady_clock::now();
  const PerplexityResult result =
      MeasurePerplexity(model.weights, session.device(), windows.view(), session.context());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (arguments.json) {
    session.Answer({{"schema", 1},
                    {"kind", "evaluation"},
                    {"model", arguments.model.string()},
                    {"text", arguments.text.string()},
                    {"text_hash", text.hash},
                    {"perplexity", result.perplexity},
                    {"mean_nll", result.mean_nll},
                    {"standard_error", result.standard_error},
                    {"tokens_scored", result.tokens_scored},
                    {"tokens_in_text", windows.tokens_in_text},
                    {"windows", result.windows},
                    {"context", result.context},
                    {"window_nll", result.window_nll},
                    {"seconds", seconds},
                    {"peak_bytes", PeakMemoryBytes()},
                    {"device", session.device().description()},
                    {"threads", session.pool().size()}});
    return 0;
  }
  const double margin = result.perplexity * std::expm1(1.96 * result.standard_error);
  fmt::print("perplexity     {:.4f} (± {:.2f}, 95 % over windows)\n", result.perplexity, margin);
  fmt::print("tokens scored  {} in {} windows of {}\n", result.tokens_scored, result.windows,
             result.context);
  fmt::print("time           {} ({:.0f} tokens a second)\n", FormatSeconds(seconds),
             static_cast<double>(result.windows * result.context) / seconds);
  return 0;
}

}  // namespace lieq
