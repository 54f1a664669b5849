#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <optional>

#include "lieq/base/error.h"
#include "lieq/base/hash.h"
#include "lieq/chat/chat_rows.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/evaluate_tasks.h"
#include "lieq/container/finite.h"
#include "lieq/device/cpu/bf16_gain.h"
#include "lieq/evaluate/divergence.h"
#include "lieq/evaluate/perplexity.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/cache_folder.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/machine.h"
#include "lieq/pipeline/model_sizes.h"
#include "lieq/pipeline/result_record.h"
#include "lieq/text/text_file.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

struct Model {
  ModelFolder folder;
  Tokenizer tokenizer;
  bool fits = true;  // in memory

  Model(const fs::path& path, Session& session)
      : folder(OpenInput(path, session.log())), tokenizer(OpenTokenizer(folder, session.log())) {
    // The passes find in the system's cache what this read. Where the model is larger than that
    // reading twice would be from the disk: the ends alone are judged, since what is not finite in
    // a layer shows in every loss (Named).
    fits = SourceBytes(folder) < static_cast<std::uint64_t>(AvailableMemoryBytes());
    if (fits) RequireFinite(folder, session.pool());
    if (!fits) RequireFiniteEnds(folder, session.pool());
  }
};

/// What `pass` gives; where it fails over weights that nobody judged, the error names them.
template <class Pass>
auto Named(const Model& model, Session& session, const Pass& pass) {
  try {
    return pass();
  } catch (const Error&) {
    if (!model.fits) RequireFinite(model.folder, session.pool());
    throw;
  }
}

struct Evaluation {
  std::string hash;                // of the text as it is used
  std::vector<std::string> notes;  // what was changed in it or left aside
  Index tokens = 0;                // in the text
  PerplexityResult result;
  std::optional<DivergenceResult> divergence;
  double seconds = 0;  // of the passes over the windows
};

/// How far the model is from its reference on the text.
DivergenceResult Diverge(const Arguments& arguments, const Model& model, const Model& reference,
                         const ScoredText& text, const std::string& text_hash, Session& session) {
  Hasher hasher;
  hasher.Add(HashModel(reference.folder)).Add(text_hash).Add(arguments.convention->name);
  for (const Index number :
       {text.length, arguments.stride, static_cast<Index>(text.windows.size())}) {
    hasher.Add(std::to_string(number) + ",");
  }
  if (!text.answer.empty()) hasher.Add("answers");  // other windows may be there
  const std::string hash = hasher.Add(session.device().description()).Hex();
  const fs::path folder = arguments.machine.cache.empty() ? CacheFolder() : arguments.machine.cache;
  const fs::path file = folder / ("reference-" + hash + ".safetensors");
  session.log().Debug("the reference's states are kept in " + file.string());
  const auto states = ReferenceStates::Make(reference.folder.weights, session.device(), text, hash,
                                            file, session.context());
  return MeasureDivergence(model.folder.weights, reference.folder.weights, states, session.device(),
                           text, session.context());
}

Evaluation Evaluate(const Arguments& arguments, const fs::path& file, const Model& model,
                    const Model* reference, Session& session) {
  Convention convention = *arguments.convention;
  const bool chats = HoldsChats(file, arguments.run.reading);
  if (arguments.score_answers && !chats) {
    throw Error({.what = "there are no answers in a text that is no chats",
                 .where = file.string(),
                 .expected = "rows of messages, or --chat-fields",
                 .hint = "score all of it: leave --score answers out"});
  }
  // Rows of JSON are joined by blank lines already.
  if (HoldsRows(file)) convention.joins_rows = false;
  // Chats are what the model's template makes of them, and the template writes the special tokens.
  std::optional<EncodedChats> encoded;
  FileText read;
  if (chats) {
    const ChatTemplate chat = OpenChatTemplate(model.folder);
    encoded = EncodeChats(file, chat, model.tokenizer, arguments.run.reading);
    read = {.text = encoded->text, .notes = encoded->notes};
  } else {
    read = ReadTextFile(file, arguments.run.reading);
  }
  const auto& [content, notes] = read;
  Evaluation evaluation{.hash = Hasher().Add(content).Hex(), .notes = Say(notes, session.log())};
  std::vector<TokenId> ids = chats ? encoded->ids : EncodeFor(convention, model.tokenizer, content);
  const auto of_reference = [&] {
    if (!chats) return EncodeFor(convention, reference->tokenizer, content);
    return EncodeChats(file, OpenChatTemplate(model.folder), reference->tokenizer,
                       arguments.run.reading)
        .ids;
  };
  if (reference != nullptr && ids != of_reference()) {
    throw Error({.what = "the reference has another tokenizer: it gives other tokens",
                 .where = arguments.reference.string(),
                 .expected = "the model that this one was made from"});
  }
  evaluation.tokens = static_cast<Index>(ids.size());
  ScoredText text = CutScored(std::move(ids), convention,
                              arguments.run.calibration.context.value_or(convention.context),
                              arguments.stride, arguments.run.calibration.samples.value_or(0),
                              BosOf(model.tokenizer), file.string());
  if (arguments.score_answers) {
    text = CountAnswers(std::move(text), std::move(encoded->answer), file.string());
  }
  const auto windows = static_cast<Index>(text.windows.size());
  if (!arguments.score_answers && arguments.run.calibration.samples &&
      *arguments.run.calibration.samples > windows) {
    session.log().Warning(fmt::format("{} has {} windows of {} tokens, fewer than --samples {}",
                                      file.string(), windows, text.length,
                                      *arguments.run.calibration.samples));
  }
  const Weights& weights = model.folder.weights;
  const Index positions = weights.config.max_positions;
  if (positions > 0 && text.length > positions) {
    session.log().Warning(
        fmt::format("windows of {} tokens are longer than the {} positions the "
                    "model was made for",
                    text.length, positions));
  }
  const auto begin = std::chrono::steady_clock::now();
  if (reference != nullptr) {
    evaluation.divergence = Named(model, session, [&] {
      return Diverge(arguments, model, *reference, text, evaluation.hash, session);
    });
    evaluation.result = evaluation.divergence->model;
  } else {
    evaluation.result = Named(model, session, [&] {
      return MeasurePerplexity(weights, session.device(), text, session.context());
    });
  }
  evaluation.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return evaluation;
}

Record ToJson(const Arguments& arguments, const DivergenceResult& divergence) {
  return {{"model", arguments.reference.string()},
          {"perplexity", divergence.reference.perplexity},
          {"ratio", divergence.ratio},
          {"ratio_error", divergence.ratio_error},
          {"mean_kl", divergence.mean_kl},
          {"kl_error", divergence.kl_error},
          {"median_kl", divergence.median_kl},
          {"kl_99", divergence.kl_99},
          {"largest_kl", divergence.largest_kl},
          {"same_top", divergence.same_top},
          {"same_top_error", divergence.same_top_error},
          {"flips", divergence.flips}};
}

/// Which model it was, for records that outlive the name of its folder.
struct Identity {
  fs::path path;
  std::string hash;  // of its weights
  ModelSizes sizes;
};

Record ToJson(const Arguments& arguments, const Identity& model, const fs::path& file,
              const Evaluation& evaluation, Session& session) {
  const PerplexityResult& result = evaluation.result;
  Record record{{"schema", 1},
                {"kind", "evaluation"},
                {"model", model.path.string()},
                {"model_hash", model.hash},
                {"bits_per_weight", model.sizes.BitsPerWeight()},
                {"bytes", model.sizes.bytes},
                {"text", file.string()},
                {"text_hash", evaluation.hash},
                {"line_ends", Name(arguments.run.reading.line_ends)},
                {"convention", arguments.convention->name},
                {"stride", arguments.stride},
                {"score", arguments.score_answers ? "answers" : "all"},
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
                {"arithmetic", Name(session.arithmetic())},
                {"threads", session.pool().size()}};
  if (!evaluation.notes.empty()) record["text_notes"] = evaluation.notes;
  if (evaluation.divergence) record["reference"] = ToJson(arguments, *evaluation.divergence);
  return record;
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
  if (evaluation.divergence) {
    const DivergenceResult& d = *evaluation.divergence;
    fmt::print("reference      {:.4f}, ratio {:.4f} ± {:.4f}\n", d.reference.perplexity, d.ratio,
               d.ratio_error);
    fmt::print("divergence     {:.5f} ± {:.5f} nats; median {:.5f}, 99 % {:.4f}, largest {:.3f}\n",
               d.mean_kl, d.kl_error, d.median_kl, d.kl_99, d.largest_kl);
    fmt::print("same top token {:.2f} % ± {:.2f}, right in one alone {:.2f} %\n", 100 * d.same_top,
               100 * d.same_top_error, 100 * d.flips);
  }
  fmt::print("tokens scored  {} in {} windows of {}\n", result.tokens_scored, result.windows,
             result.context);
  fmt::print("time           {} ({:.0f} tokens a second)\n", FormatSeconds(evaluation.seconds),
             static_cast<double>(result.windows * result.context) / evaluation.seconds);
}

}  // namespace

int RunEvaluate(const Arguments& arguments, CommandSession& session) {
  if (arguments.texts.empty() && arguments.tasks.empty()) {
    throw UsageError("give --text, --tasks or both");
  }
  const TaskRun tasks(arguments);
  std::optional<Model> reference;
  if (!arguments.reference.empty()) reference.emplace(arguments.reference, session);
  Record records = Record::array();
  std::vector<ModelAccuracy> accuracies;
  std::vector<std::size_t> places;  // of their records, made once all are there
  for (const fs::path& path : arguments.models) {
    const Model model(path, session);
    Identity identity{.path = path, .hash = {}, .sizes = {}};
    if (arguments.json && !arguments.texts.empty()) {
      identity.hash = HashModel(model.folder);
      identity.sizes = MeasureSizes(model.folder);
    }
    for (const fs::path& file : arguments.texts) {
      const Evaluation evaluation =
          Evaluate(arguments, file, model, reference ? &*reference : nullptr, session);
      if (arguments.json) {
        records.push_back(ToJson(arguments, identity, file, evaluation, session));
        continue;
      }
      if (arguments.models.size() > 1) fmt::print("model          {}\n", path.string());
      if (arguments.texts.size() > 1) fmt::print("text           {}\n", file.string());
      Print(arguments, evaluation);
    }
    if (arguments.tasks.empty()) continue;
    accuracies.push_back(Named(model, session, [&] {
      return tasks.Measure(path, model.folder, model.tokenizer, session);
    }));
    places.push_back(records.size());
    records.push_back(nullptr);
  }
  if (!arguments.predictions.empty()) WritePredictions(arguments.predictions, accuracies);
  if (arguments.json) {
    for (std::size_t i = 0; i < places.size(); ++i) {
      records[places[i]] = ToJson(accuracies[i], WholeModel(accuracies), session);
    }
    session.Answer(records.size() == 1 ? records.front() : records);
  } else if (!accuracies.empty()) {
    PrintAccuracies(accuracies);
  }
  return 0;
}

}  // namespace lieq
