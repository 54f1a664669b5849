#include "lieq/pipeline/evaluate.h"

#include <fmt/format.h>

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/hash.h"
#include "lieq/base/stopwatch.h"
#include "lieq/chat/chat_rows.h"
#include "lieq/container/finite.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/output_places.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/result_record.h"
#include "lieq/pipeline/version.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// A model that is evaluated, or is the reference of others.
class Evaluated {
 public:
  Evaluated(const fs::path& path, Session& session)
      : session_(session),
        folder_(OpenInput(path, session.log())),
        tokenizer_(OpenTokenizer(folder_, session.log())),
        fits_(SourceBytes(folder_) < static_cast<std::uint64_t>(AvailableMemoryBytes())) {
    // The passes find in the system's cache what this read. Where the model is larger than that
    // reading twice would be from the disk: the ends alone are judged, since what is not finite in
    // a layer shows in every loss (Named).
    if (fits_) RequireFinite(folder_, session.pool());
    if (!fits_) RequireFiniteEnds(folder_, session.pool());
  }

  [[nodiscard]] const ModelFolder& folder() const noexcept { return folder_; }
  [[nodiscard]] const Weights& weights() const noexcept { return folder_.weights; }
  [[nodiscard]] const Tokenizer& tokenizer() const noexcept { return tokenizer_; }
  /// HashModel, once.
  [[nodiscard]] const std::string& hash() {
    if (hash_.empty()) hash_ = HashModel(folder_);
    return hash_;
  }

  /// What `pass` gives; where it fails over weights that nobody judged, the error names them.
  template <class Pass>
  auto Named(const Pass& pass) const {
    try {
      return pass();
    } catch (const Error&) {
      if (!fits_) RequireFinite(folder_, session_.pool());
      throw;
    }
  }

 private:
  Session& session_;
  ModelFolder folder_;
  Tokenizer tokenizer_;
  std::string hash_;
  bool fits_ = true;  // in memory
};

/// Of what was done since; of pieces all of it, wherever they were computed.
double SecondsOf(const Stopwatch& watch, const Context& context) {
  return context.pieces == nullptr ? watch.seconds()
                                   : context.pieces->Seconds(context.scope, watch.seconds());
}

/// What keys of pieces begin with, for as long as it lives.
class Scope {
 public:
  Scope(Context& context, std::string scope) : context_(context) {
    context_.scope = std::move(scope);
  }
  ~Scope() { context_.scope.clear(); }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Context& context_;
};

/// What pieces depend on beside models and texts.
void Depend(const EvaluateRequest& request, Session& session) {
  WorkPieces* pieces = session.context().pieces;
  if (pieces == nullptr) return;
  if (request.check_answers > 0) {
    throw UsageError("--check-answers is not done in parts: give it in a run of its own");
  }
  pieces->Depend("version", std::string(kVersion));
  (void)session.device_description();
  (void)session.arithmetic_name();
}

/// How far the model is from its reference on the text.
DivergenceResult Diverge(const EvaluateRequest& request, const Evaluated& model,
                         Evaluated& reference, const ScoredText& text, const std::string& text_hash,
                         Session& session) {
  DivergencePieces pieces(model.weights(), text, session.context());
  const std::vector<bool> windows = pieces.windows();
  if (pieces.batches().empty()) {  // all that is to be known is
    return MeasureDivergence(model.weights(), reference.weights(), nullptr, pieces, session.team(),
                             text, session.context());
  }
  Hasher hasher;
  hasher.Add(reference.hash()).Add(text_hash).Add(request.convention->name);
  for (const Index number :
       {text.length, request.stride, static_cast<Index>(text.windows.size())}) {
    hasher.Add(std::to_string(number) + ",");
  }
  if (!text.answer.empty()) hasher.Add("answers");  // other windows may be there
  if (request.single_chats) hasher.Add("chats");
  if (std::ranges::find(windows, false) != windows.end()) {
    for (const bool wanted : windows) hasher.Add(wanted ? "1" : "0");
  }
  const std::string hash = hasher.Add(session.device().description()).Hex();
  const fs::path file = session.cache() / ("reference-" + hash + ".safetensors");
  session.log().Debug("the reference's states are kept in " + file.string());
  const auto states = ReferenceStates::Make(reference.weights(), session.team(), text, windows,
                                            hash, file, session.context());
  return MeasureDivergence(model.weights(), reference.weights(), &states, pieces, session.team(),
                           text, session.context());
}

/// Says where the windows are fewer or longer than they should be.
void JudgeWindows(const EvaluateRequest& request, const ScoredText& text, const fs::path& file,
                  const ModelConfig& config, const Log& log) {
  const auto windows = static_cast<Index>(text.windows.size());
  if (!request.score_answers && request.samples && *request.samples > windows) {
    log.Warning(fmt::format("{} has {} windows of {} tokens, fewer than --samples {}",
                            file.string(), windows, text.length, *request.samples));
  }
  if (config.max_positions > 0 && text.length > config.max_positions) {
    log.Warning(
        fmt::format("windows of {} tokens are longer than the {} positions the "
                    "model was made for",
                    text.length, config.max_positions));
  }
}

/// A text as a model sees it.
struct Encoded {
  std::string content;          // of chats what the model's template makes of them
  std::vector<TextNote> notes;  // what was changed in it or left aside
  std::vector<TokenId> ids;
  std::vector<std::uint8_t> answer;  // of chats: [ids], 1 for the assistant's tokens
  std::vector<Index> chats;          // the first token of each
};

/// Throws Error where the reference's tokenizer gives other tokens.
Encoded Encode(const EvaluateRequest& request, const fs::path& file, const Convention& convention,
               const Evaluated& model, const Evaluated* reference) {
  Encoded encoded;
  std::vector<TokenId> of_reference;
  if (HoldsChats(file, request.reading)) {
    // The template writes the special tokens.
    const ChatTemplate chat = OpenChatTemplate(model.folder());
    EncodedChats chats = EncodeChats(file, chat, model.tokenizer(), request.reading);
    encoded = {std::move(chats.text), std::move(chats.notes), std::move(chats.ids),
               std::move(chats.answer), std::move(chats.begins)};
    if (reference != nullptr) {
      of_reference = EncodeChats(file, chat, reference->tokenizer(), request.reading).ids;
    }
  } else {
    if (request.score_answers) {
      throw Error({.what = "there are no answers in a text that is no chats",
                   .where = file.string(),
                   .expected = "rows of messages, or --chat-fields",
                   .hint = "score all of it: leave --score answers out"});
    }
    if (request.single_chats) {
      throw Error({.what = "one chat a window, of a text that is no chats",
                   .where = file.string(),
                   .expected = "rows of messages, or --chat-fields",
                   .hint = "leave --chat-windows single out"});
    }
    FileText read = ReadTextFile(file, request.reading);
    encoded = {std::move(read.text), std::move(read.notes), {}, {}, {}};
    encoded.ids = EncodeFor(convention, model.tokenizer(), encoded.content);
    if (reference != nullptr) {
      of_reference = EncodeFor(convention, reference->tokenizer(), encoded.content);
    }
  }
  if (reference == nullptr || encoded.ids == of_reference) return encoded;
  throw Error({.what = "the reference has another tokenizer: it gives other tokens",
               .where = request.reference.string(),
               .expected = "the model that this one was made from"});
}

/// The windows of a text, with a note of what one chat a window comes to.
ScoredText CutText(const EvaluateRequest& request, const Convention& convention, Encoded& encoded,
                   const Evaluated& model, const fs::path& file, TextEvaluation& evaluation,
                   const Log& log) {
  const Index length = request.context.value_or(convention.context);
  const Index limit = request.samples.value_or(0);
  if (!request.single_chats) {
    return CutScored(std::move(encoded.ids), convention, length, request.stride, limit,
                     BosOf(model.tokenizer()), file.string());
  }
  if (request.stride != 0) throw UsageError("--chat-windows single: windows have no --stride");
  Index taken = static_cast<Index>(encoded.chats.size()), cut = 0;
  if (limit > 0) taken = std::min(taken, limit);
  for (Index chat = 0; chat < taken; ++chat) {
    const Index end = EndOfChat(encoded.chats, chat, evaluation.tokens);
    cut += end - encoded.chats[Size(chat)] > length ? 1 : 0;
  }
  const std::vector<std::string> notes =
      Say({{.text = fmt::format("{}: one chat a window, {} of {} chats; {} are longer than {} "
                                "tokens and cut",
                                file.filename().string(), taken, encoded.chats.size(), cut, length),
            .warning = false}},
          log);
  evaluation.notes.insert(evaluation.notes.end(), notes.begin(), notes.end());
  return CutScoredChats(std::move(encoded.ids), encoded.chats, convention, length, limit,
                        file.string());
}

TextEvaluation EvaluateText(const EvaluateRequest& request, const fs::path& file,
                            const Evaluated& model, Evaluated* reference, Session& session) {
  Convention convention = *request.convention;
  // Rows of JSON are joined by blank lines already.
  if (HoldsRows(file)) convention.joins_rows = false;
  Encoded encoded = Encode(request, file, convention, model, reference);
  TextEvaluation evaluation{.text = file,
                            .hash = Hasher().Add(encoded.content).Hex(),
                            .notes = Say(encoded.notes, session.log())};
  if (WorkPieces* pieces = session.context().pieces; pieces != nullptr) {
    pieces->Depend(session.context().scope + "its content", evaluation.hash);
  }
  evaluation.tokens = static_cast<Index>(encoded.ids.size());
  ScoredText text = CutText(request, convention, encoded, model, file, evaluation, session.log());
  if (request.score_answers) {
    text = CountAnswers(std::move(text), std::move(encoded.answer), file.string());
  }
  JudgeWindows(request, text, file, model.weights().config, session.log());
  const Stopwatch watch;
  if (reference != nullptr) {
    evaluation.divergence = model.Named(
        [&] { return Diverge(request, model, *reference, text, evaluation.hash, session); });
    evaluation.result = evaluation.divergence->model;
  } else {
    evaluation.result = model.Named([&] {
      return MeasurePerplexity(model.weights(), session.team(), text, session.context());
    });
  }
  evaluation.seconds = SecondsOf(watch, session.context());
  evaluation.peak_bytes = PeakMemoryBytes();
  return evaluation;
}

/// The tasks of a request, read once for all models.
class TaskRun {
 public:
  explicit TaskRun(const EvaluateRequest& request) : tasks_(request.tasks) {
    for (TaskDescription& task : tasks_) {
      if (request.shots && !task.shots_data.empty()) task.shots = *request.shots;
      subjects_.push_back(ReadTask(task, request.task_data, request.limit));
    }
  }

  /// of_model: what keys of its pieces begin with.
  [[nodiscard]] std::vector<TaskResult> Measure(const Evaluated& model, const std::string& of_model,
                                                Session& session) const {
    std::vector<TaskResult> results;
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      const Scope scope(session.context(), fmt::format("{}task {}: ", of_model, tasks_[i].name));
      const Stopwatch watch;
      results.push_back(MeasureTask(model.weights(), model.tokenizer(), session.team(), tasks_[i],
                                    subjects_[i], session.context()));
      results.back().seconds = SecondsOf(watch, session.context());
    }
    return results;
  }

 private:
  std::vector<TaskDescription> tasks_;
  std::vector<std::vector<TaskSubject>> subjects_;  // [tasks]
};

/// The cache, where it is written to, against what is read.
void CheckCache(const EvaluateRequest& request, const Session& session) {
  if (request.reference.empty()) return;
  std::vector<InputPlace> inputs{{request.reference, InputRole::kModel, "the reference"}};
  for (const fs::path& each : request.models)
    inputs.push_back({each, InputRole::kModel, "a model"});
  for (const fs::path& each : request.texts) inputs.push_back({each, InputRole::kFile, "a text"});
  CheckPlaces(inputs, {{session.cache(), OutputRole::kCache, "the cache of references"}}, {});
}

}  // namespace

double ModelEvaluation::TaskAverage() const {
  double sum = 0;
  for (const TaskResult& task : tasks) sum += task.shown().mean;
  return sum / static_cast<double>(tasks.size());
}

std::vector<ModelEvaluation> Evaluate(const EvaluateRequest& request, Session& session,
                                      const TextEvaluated& told) {
  if (request.texts.empty() && request.tasks.empty() && request.check_answers == 0) {
    throw UsageError("give --text, --tasks or --check-answers, or several of them");
  }
  Depend(request, session);
  CheckCache(request, session);
  const TaskRun tasks(request);
  std::optional<AnswerChecker> checker;
  if (request.check_answers > 0) {
    checker.emplace(request.check_answers, request.texts, request.reading, session.log());
  }
  std::optional<Evaluated> reference;
  if (!request.reference.empty()) reference.emplace(request.reference, session);
  if (reference && session.context().pieces != nullptr) {
    session.context().pieces->Depend("the reference's weights", reference->hash());
  }
  std::vector<ModelEvaluation> models;
  for (const fs::path& path : request.models) {
    Evaluated model(path, session);
    ModelEvaluation& made = models.emplace_back();
    made.model = path;
    made.sizes = MeasureSizes(model.folder());
    const bool records_hash = !request.texts.empty() || checker;
    if (request.hashes_models && records_hash) made.hash = model.hash();
    const std::string of_model = fmt::format("model {}, ", models.size());
    WorkPieces* pieces = session.context().pieces;
    if (pieces != nullptr) pieces->Depend(of_model + "its weights", model.hash());
    for (const fs::path& file : request.texts) {
      const Scope scope(session.context(),
                        fmt::format("{}text {}: ", of_model, made.texts.size() + 1));
      made.texts.push_back(
          EvaluateText(request, file, model, reference ? &*reference : nullptr, session));
      if (told && !session.context().is_part()) told(made, made.texts.back());
    }
    made.tasks = model.Named([&] { return tasks.Measure(model, of_model, session); });
    if (!checker) continue;
    made.answers = model.Named([&] {
      return checker->Check(model.folder(), model.tokenizer(),
                            reference ? &reference->folder() : nullptr,
                            reference ? &reference->tokenizer() : nullptr, session);
    });
  }
  return models;
}

const ModelEvaluation* WholeModel(const std::vector<ModelEvaluation>& models) {
  const auto found = std::ranges::find_if(
      models, [](const ModelEvaluation& each) { return each.sizes.BitsPerWeight() >= 16; });
  return found != models.end() ? &*found : nullptr;
}

double Flips(const ModelEvaluation& a, const ModelEvaluation& b) {
  Index flips = 0, all = 0;
  for (std::size_t t = 0; t < a.tasks.size(); ++t) {
    for (std::size_t s = 0; s < a.tasks[t].subjects.size(); ++s) {
      const SubjectResult &mine = a.tasks[t].subjects[s], &other = b.tasks[t].subjects[s];
      for (std::size_t i = 0; i < mine.answers.size(); ++i) {
        const bool normalized = mine.normalized.has_value();
        flips += mine.answers[i].Right(normalized) != other.answers[i].Right(normalized) ? 1 : 0;
        ++all;
      }
    }
  }
  return static_cast<double>(flips) / static_cast<double>(all);
}

}  // namespace lieq
