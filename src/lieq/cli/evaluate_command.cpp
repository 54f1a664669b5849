#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "lieq/base/hash.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/inputs.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/text/text_file.h"

namespace lieq {
namespace {

struct Evaluation {
  std::string hash;  // of the text's bytes
  Index tokens = 0;  // in the text
  PerplexityResult result;
  double seconds = 0;  // of the passes over the windows
};

Evaluation Evaluate(const Arguments& arguments, const std::filesystem::path& file,
                    const Weights& weights, const Tokenizer& tokenizer, Session& session) {
  Convention convention = *arguments.convention;
  // Rows of JSON are joined by blank lines already.
  if (IsJsonLines(file)) convention.joins_rows = false;
  const std::string content =
      ReadTextFile(file, {.fields = arguments.text_fields, .limit = TextOptions{}.limit});
  Evaluation evaluation{.hash = Hasher().Add(content).Hex()};
  std::vector<TokenId> ids = EncodeFor(convention, tokenizer, content);
  evaluation.tokens = static_cast<Index>(ids.size());
  const ScoredText text =
      CutScored(std::move(ids), convention, arguments.context.value_or(convention.context),
                arguments.stride, arguments.samples.value_or(0), BosOf(tokenizer), file.string());
  const auto windows = static_cast<Index>(text.windows.size());
  if (arguments.samples && *arguments.samples > windows) {
    session.log().Warning(fmt::format("{} has {} windows of {} tokens, fewer than --samples {}",
                                      file.string(), windows, text.length, *arguments.samples));
  }
  const Index positions = weights.config.max_positions;
  if (positions > 0 && text.length > positions) {
    session.log().Warning(
        fmt::format("windows of {} tokens are longer than the {} positions the "
                    "model was made for",
                    text.length, positions));
  }
  const auto begin = std::chrono::steady_clock::now();
  evaluation.result = MeasurePerplexity(weights, session.device(), text, session.context());
  evaluation.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return evaluation;
}

Record ToJson(const Arguments& arguments, const std::filesystem::path& file,
              const Evaluation& evaluation, Session& session) {
  const PerplexityResult& result = evaluation.result;
  return {{"schema", 1},
          {"kind", "evaluation"},
          {"model", arguments.model.string()},
          {"text", file.string()},
          {"text_hash", evaluation.hash},
          {"convention", arguments.convention->name},
          {"stride", arguments.stride},
          {"perplexity", result.perplexity},
          {"mean_nll", result.mean_nll},
          {"standard_error", result.standard_error},
          {"token_error", result.token_error},
          {"tokens_scored", result.tokens_scored},
          {"tokens_in_text", evaluation.tokens},
          {"windows", result.windows},
          {"context", result.context},
          {"window_nll", result.window_nll},
          {"seconds", evaluation.seconds},
          {"peak_bytes", PeakMemoryBytes()},
          {"device", session.device().description()},
          {"threads", session.pool().size()}};
}

void Print(const Arguments& arguments, const Evaluation& evaluation) {
  const PerplexityResult& result = evaluation.result;
  if (arguments.convention->second_half) {  // the figure that llama-perplexity prints beside it
    fmt::print("perplexity     {:.4f} ± {:.4f} (a standard error over tokens)\n", result.perplexity,
               result.perplexity * result.token_error);
  } else {
    const double margin = result.perplexity * std::expm1(1.96 * result.standard_error);
    fmt::print("perplexity     {:.4f} (± {:.2f}, 95 % over windows)\n", result.perplexity, margin);
  }
  fmt::print("tokens scored  {} in {} windows of {}\n", result.tokens_scored, result.windows,
             result.context);
  fmt::print("time           {} ({:.0f} tokens a second)\n", FormatSeconds(evaluation.seconds),
             static_cast<double>(result.windows * result.context) / evaluation.seconds);
}

}  // namespace

int RunEvaluate(const Arguments& arguments, Session& session) {
  const ModelFolder model = OpenModel(arguments.model);
  const Tokenizer tokenizer = OpenTokenizer(model);
  for (const std::filesystem::path& file : arguments.texts) {
    const Evaluation evaluation = Evaluate(arguments, file, model.weights, tokenizer, session);
    if (arguments.json) {
      PrintJson(ToJson(arguments, file, evaluation, session));
      continue;
    }
    if (arguments.texts.size() > 1) fmt::print("text           {}\n", file.string());
    Print(arguments, evaluation);
  }
  return 0;
}

}  // namespace lieq
