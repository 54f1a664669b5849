#include "lieq/pipeline/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "lieq/base/assert.h"
#include "lieq/base/stopwatch.h"
#include "lieq/container/compare.h"
#include "lieq/container/export_rows.h"
#include "lieq/container/exporters.h"
#include "lieq/container/finite.h"
#include "lieq/device/bf16_gain.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/export_record.h"
#include "lieq/pipeline/held_out.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/output_places.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/result_files.h"
#include "lieq/pipeline/run_folder.h"
#include "lieq/pipeline/source.h"
#include "lieq/pipeline/tune_store.h"
#include "lieq/pipeline/version.h"
#include "lieq/tune/trainer.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

void CheckTuneRequest(const TuneRequest& request) {
  if (request.tokens && request.minutes) throw UsageError("--tokens and --minutes: one of them");
  if (request.calibration.single_chats) throw UsageError("training knows packed windows alone");
  if (request.in_place) return;  // it was looked at before it was quantized
  CheckPlaces({{request.model, InputRole::kModel, "the quantized model"},
               {request.reference, InputRole::kModel, "the reference"}},
              {{request.output, OutputRole::kModel, "the output", nullptr},
               {RunFolderOf(request.output), OutputRole::kRun, "the working folder"}},
              {.force = request.force, .resumes = true});
  if (request.force || IsHalfFilled(request.output)) return;
  if (fs::exists(fs::symlink_status(request.output)) && !fs::is_empty(request.output)) {
    throw Error({.what = "the output is there already",
                 .where = request.output.string(),
                 .hint = "choose another -o, or --force to replace it"});
  }
}

/// What decides the result: a run goes on where an earlier start said the same.
Record SettingsOf(const TuneRequest& request, const ModelFolder& model, Source& source,
                  Session& session) {
  Record settings{{"version", kVersion},
                  {"method", "tune"},
                  {"what", Name(request.what)},
                  {"model", HashModel(model)},
                  {"reference", source.hash()},
                  {"calibration", TextRecord(source.calibration())},
                  {"windows", source.windows().count},
                  {"context", source.windows().length},
                  {"batch_tokens", request.batch_tokens},
                  {"rate", request.rate},
                  {"seed", request.seed},
                  {"arithmetic", Name(session.arithmetic())}};
  if (request.code_rate) settings["code_rate"] = *request.code_rate;
  if (request.tokens) settings["tokens"] = *request.tokens;
  if (request.minutes) settings["minutes"] = *request.minutes;
  return settings;
}

void CheckModels(const ModelFolder& model, const ModelFolder& reference, const Log& log) {
  RequireSource(reference, "--reference takes the model that it was quantized from", log);
  if (!model.quantized) {
    throw Error({.what = "the model is not quantized: there is nothing to tune",
                 .where = model.path.string(),
                 .expected = "what `lieq quantize` wrote, or a GGUF, GPTQ or MLX model"});
  }
  const ModelConfig &a = model.weights.config, &b = reference.weights.config;
  if (a.layers == b.layers && a.hidden == b.hidden && a.vocab == b.vocab &&
      a.architecture == b.architecture) {
    return;
  }
  throw Error({.what = "the reference is another model",
               .where = reference.path.string(),
               .expected = fmt::format("{} with {} layers of {}, {} tokens", a.architecture,
                                       a.layers, a.hidden, a.vocab),
               .found = fmt::format("{} with {} layers of {}, {} tokens", b.architecture, b.layers,
                                    b.hidden, b.vocab)});
}

/// An embedding or a head that the float model has, bit for bit, is read there: a device then holds
/// it once.
void ShareEnds(const Weights& reference, Weights& model) {
  const auto share = [](const AnyMatrix& from, AnyMatrix& to) {
    const std::span<const std::byte> a = MappedBytes(from), b = MappedBytes(to);
    const bool alike = from.index() == to.index() && !a.empty() && a.size() == b.size();
    if (alike && std::memcmp(a.data(), b.data(), a.size()) == 0) to = from;
  };
  share(reference.embedding, model.embedding);
  share(reference.head, model.head);
}

/// What moves is held with its gradient and two moments, in floats: said before hours are spent.
/// Around it are the inputs of all layers, logits of a part of the tokens, and a layer's sums.
/// Where a device trains it has these; what codes begin with, and what is kept, is the host's
/// still.
void CheckMemory(const Weights& model, TuneWhat what, bool on_device, const Log& log) {
  if (what != TuneWhat::kCodes) return;
  const double of_number = on_device ? sizeof(float) + 1 : 4 * sizeof(float);
  constexpr double kAround = 1.5e9;
  const auto codes_of = [](const AnyMatrix& matrix) {
    const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
    if (packed == nullptr || *packed == nullptr) return 0.0;
    return static_cast<double>((*packed)->rows()) * static_cast<double>((*packed)->cols());
  };
  double codes = 0, of_ends = codes_of(model.embedding);
  for (const LayerWeights& layer : model.layers) {
    for (const Linear& linear : layer.linears) codes += codes_of(linear.weight);
  }
  if (!model.config.tied) of_ends += codes_of(model.head);
  codes += of_ends;
  // The gradient of an end's weights is held whole beside those of its codes.
  const double needed = of_number * codes + (on_device ? 0 : sizeof(float) * of_ends) + kAround;
  const auto there = static_cast<double>(AvailableMemoryBytes());
  // A device's moments come to the host where a state is written.
  const double of_state = on_device ? 2 * sizeof(float) * codes : 0;
  if (needed <= there && needed + of_state > there) {
    log.Warning(
        fmt::format("a state to go on from takes {} of the host's memory every two "
                    "minutes, and {} are there",
                    FormatBytes(needed + of_state), FormatBytes(there)));
  }
  if (needed <= there) return;
  throw Error({.what = "tuning codes takes more memory than there is",
               .where = fmt::format("{:.0f} million codes, each with {}", codes / 1e6,
                                    on_device ? "what it begins with, beside the GPU's memory"
                                              : "its gradient and two moments"),
               .expected = FormatBytes(needed),
               .found = FormatBytes(there),
               .hint = "--what scales takes little more than the model"});
}

Index StepsOf(const TuneRequest& request, Index windows, Index length, Index batch,
              const std::function<StepTimes(double)>& times, const TuneOptions& options) {
  const auto of_step = static_cast<double>(batch * length);
  double steps = 2.0 * static_cast<double>(windows * length) / of_step;
  if (request.tokens) steps = static_cast<double>(*request.tokens) / of_step;
  if (request.minutes) {
    constexpr double kTimingShare = 0.05;
    const double seconds = 60 * *request.minutes;
    const StepTimes each = times(kTimingShare * seconds);
    const double left = seconds - static_cast<double>(options.checks + 1) * each.check;
    steps = left / each.step;
  }
  return std::max<Index>(1, static_cast<Index>(steps));
}

Record TuningRecord(const TuneRequest& request, const TuneOptions& options,
                    const TuneOutcome& outcome, const TunedModel& tuned, const EncodedText& text,
                    Session& session) {
  const TuneResult& result = outcome.result;
  Record record{{"what", Name(request.what)},
                {"reference", fs::weakly_canonical(request.reference).filename().string()},
                {"steps", options.steps},
                {"kept_step", result.kept},
                {"tokens", outcome.tokens},
                {"windows", outcome.windows},
                {"held_out_windows", outcome.held_out},
                {"context", outcome.length},
                {"rate", options.rate},
                {"batch_windows", options.batch},
                {"seed", options.seed},
                {"arithmetic", Name(session.arithmetic())},
                {"numbers", outcome.numbers},
                {"held_out_kl_before", result.before()},
                {"held_out_kl", result.after()},
                {"calibration", TextRecord(text)},
                {"checks", ChecksRecord(result)},
                {"losses", result.losses}};
  for (std::size_t i = 0; i < outcome.held_out_at.size(); ++i) {
    record["held_out"].push_back(
        {{"window", outcome.held_out_at[i]}, {"text", outcome.held_out_texts[i]}});
  }
  for (const End end : kAllEnds) {
    if (tuned.Trained(end) == end) record["ends"].push_back(Name(end));
  }
  if (request.what == TuneWhat::kCodes) {
    record["code_rate"] = options.code_rate;
    record["codes"] = outcome.codes;
    record["moved_codes"] = result.moved_codes;
  }
  return record;
}

/// Steps of a code mostly undo one another, so that where it gets to grows with their square root:
/// as far, then, however many there are. What was found on two models and text held out
/// (docs/tuning.md); above the bound most codes move at once, which nothing makes good.
double CodeRateOf(Index steps) {
  constexpr double kWay = 0.25, kMost = 0.03;
  return std::min(kMost, kWay / std::sqrt(static_cast<double>(steps)));
}

/// Says what a text is worth for training: notes the bundled one, warns where so few windows are
/// held out that a gain on them may be luck.
void JudgeTraining(const EncodedText& text, const TuneOutcome& outcome, const Log& log) {
  if (text.names.size() == 1 && text.names.front() == "bundled") {
    log.Info(
        "training on the bundled text; text of the kind that the model will see (--calibration "
        "FILE) is better");
  }
  if (outcome.held_out >= kMostHeldOut) return;
  log.Warning(fmt::format(
      "little text to train on: {} windows of {} tokens, and {} held out to judge by, where {} of "
      "{} are advised; the model may learn these by heart: give more text, or a shorter --context",
      outcome.windows, outcome.length, outcome.held_out, kMostHeldOut, 8 * kMostHeldOut));
}

TuneWindows Split(Source& source, TuneOutcome& outcome, const Log& log) {
  const EncodedText& text = source.calibration();
  const Windows& windows = source.windows();
  TuneWindows split = SplitWindows(text, windows);
  const std::vector<std::size_t> text_of = TextOfWindows(text, windows);
  for (const Index w : split.held_out_at) {
    outcome.held_out_texts.push_back(text.names[text_of[Size(w)]]);
  }
  if (split.repeated > 0) {
    log.Info(fmt::format("{} windows are not trained on: they say what one that is held out says",
                         split.repeated));
  }
  outcome.held_out_at = split.held_out_at;
  outcome.held_out = split.held_out.rows();
  outcome.windows = split.training.rows();
  outcome.length = windows.length;
  JudgeTraining(text, outcome, log);
  return split;
}

/// For --verbose.
void SayTimes(const StageTimes& times, Session& session) {
  std::string text = "seconds:";
  double all = 0;
  for (const auto& [part, seconds] : times.stages()) {
    text += fmt::format(" {} {:.1f},", part, seconds);
    all += seconds;
  }
  text += fmt::format(" all {:.1f}", all);
  if (const Index bytes = session.device().peak_memory(); bytes > 0) {
    text += fmt::format("; at most {:.1f} GB of the device's memory",
                        static_cast<double>(bytes) * 1e-9);
  }
  session.log().Debug(text);
}

/// Trains from where an earlier start of the run in `folder` ended.
void Train(const TuneRequest& request, const Weights& reference, const TuneWindows& windows,
           const RunFolder& folder, TunedModel& tuned, TuneOptions& options, TuneOutcome& outcome,
           Session& session) {
  const View<const TokenId, 2> training = windows.training.view();
  const View<const TokenId, 2> held_out = windows.held_out.view();
  TuneFile store(folder.path() / kTuneStateName);
  if (const std::optional<Index> steps = store.AllSteps()) {
    session.log().Info("going on with an earlier start");
    options.steps = *steps;
  } else {
    options.steps = StepsOf(
        request, outcome.windows, outcome.length, options.batch,
        [&](double most_seconds) {
          return TimeSteps(reference, tuned, training, outcome.held_out, most_seconds, options,
                           session.device(), session.context());
        },
        options);
  }
  options.code_rate = request.code_rate.value_or(CodeRateOf(options.steps));
  store.SetAllSteps(options.steps);
  outcome.tokens = options.steps * options.batch * outcome.length;
  session.log().Info(
      fmt::format("{} numbers, {} steps of {} windows of {} tokens; {} windows are "
                  "held out",
                  outcome.numbers, options.steps, options.batch, outcome.length, outcome.held_out));
  outcome.result = Tune(reference, tuned, training, held_out, options, session.device(),
                        session.context(), &store);
  SayTimes(outcome.result.times, session);
}

/// The model and its record, opened again and compared, in out/ of the run.
void WriteTuned(const TuneRequest& request, const RunFolder& folder, ModelFolder& model,
                const TunedModel& tuned, Record tuning, TuneOutcome& outcome, ThreadPool& pool) {
  const fs::path written = folder.FreshOut();
  const Weights before = model.weights;
  const Exporter& exporter = FindExporter("compressed-tensors");
  outcome.record = BeforeExport({.model = request.model, .exporter = &exporter}, model);
  model.weights = tuned.weights();
  WriteOwnFolder(model, written);
  const ModelFolder opened = OpenModel(written);
  const Comparison comparison = CompareModels(model, opened, RoundedMatrices::kNone, &pool);
  if (!comparison.equal()) {
    throw Error({.what = "what was read back is not what was written",
                 .where = written.string() + ": " + comparison.differences.front().tensor});
  }
  model.weights = before;
  Comparison moved = CompareModels(model, opened, RoundedMatrices::kNone, &pool);
  (void)TakeTuned(moved, request.what);
  if (!moved.equal()) {
    throw Error({.what = "training moved what it may not",
                 .where = moved.differences.front().tensor,
                 .found = moved.differences.front().kind});
  }
  for (const char* measured : {"measured_kl", "predicted_kl", "exported_by", "container"}) {
    outcome.record.erase(measured);
  }
  outcome.record["tuning"] = std::move(tuning);
  outcome.record = AfterExport(std::move(outcome.record), opened);
  outcome.bytes = outcome.record["bytes"].get<std::uint64_t>();
  const std::string card = CardOfExport(outcome.record, exporter, opened, {});
  WriteResultFiles(written, {.card = card, .record = outcome.record});
}

/// What a quantization wrote beside its model.
void KeepFiles(const fs::path& from, const fs::path& to) {
  for (const char* name : {"plan.json", "recipe.json", "run.json"}) {
    if (fs::exists(from / name)) fs::copy_file(from / name, to / name);
  }
}

}  // namespace

std::vector<Difference> TakeTuned(Comparison& comparison, TuneWhat what) {
  constexpr std::array<std::string_view, 5> kKinds{"scales", "minima", "super-blocks", "norms",
                                                   "biases"};
  const auto may = [&](const Difference& each) {
    return std::ranges::find(kKinds, each.kind) != kKinds.end() ||
           (what == TuneWhat::kCodes && each.kind == "codes") ||
           (each.kind == "values" && each.count == comparison.explained);
  };
  std::vector<Difference>& all = comparison.differences;
  const auto rest = std::stable_partition(all.begin(), all.end(), std::not_fn(may));
  std::vector<Difference> taken(rest, all.end());
  all.erase(rest, all.end());
  return taken;
}

std::optional<TuneOutcome> TuneQuantized(const QuantizeRequest& request, Session& session) {
  LIEQ_ASSERT(request.tune);
  const fs::path output = PlainOutput(request.output);
  if (ReadRecord(output / "lieq.json").contains("tuning")) return std::nullopt;
  TuneRequest tune{.model = output,
                   .reference = request.model,
                   .output = output,
                   .calibration = request.calibration,
                   .reading = request.reading,
                   .tokens = request.tune->tokens,
                   .minutes = request.tune->minutes,
                   .what = request.tune->what,
                   .seed = request.seed,
                   .in_place = true};
  // Of what the model writes, as much as the quantization had; of other texts all there is.
  if (!CalibratesOnItself(request)) tune.calibration.samples.reset();
  return TuneModel(tune, session);
}

TuneOutcome TuneModel(const TuneRequest& given, Session& session) {
  const Stopwatch watch;
  TuneRequest request = given;
  request.output = PlainOutput(request.output);
  CheckTuneRequest(request);
  QuantizeRequest texts;
  texts.model = request.reference;
  texts.calibration = request.calibration;
  texts.calibration.all = true;
  texts.calibration.trains = true;
  texts.reading = request.reading;
  texts.seed = request.seed;
  Source source(texts, session);
  ModelFolder model = OpenInput(request.model, session.log());
  CheckModels(model, source.model(), session.log());
  RequireFinite(model, session.pool());
  ShareEnds(source.model().weights, model.weights);
  TuneOutcome outcome;
  const TuneWindows windows = Split(source, outcome, session.log());

  const bool on_device = TrainsOn(session.device(), model.weights);
  CheckMemory(model.weights, request.what, on_device, session.log());
  const bool codes = request.what == TuneWhat::kCodes;
  TunedModel tuned(model.weights, model.dtype,
                   {.codes = codes,
                    .reference = codes ? &source.model().weights : nullptr,
                    .on_device = on_device,
                    .pool = &session.pool()});
  outcome.numbers = tuned.count();
  outcome.codes = tuned.codes();
  TuneOptions options{
      .batch = std::clamp<Index>(request.batch_tokens / outcome.length, 1, outcome.windows),
      .rate = request.rate,
      .seed = request.seed};
  RunFolder folder(request.output);
  folder.Begin(SettingsOf(request, model, source, session), request.force);
  try {
    Train(request, source.model().weights, windows, folder, tuned, options, outcome, session);
    if (outcome.written()) {
      WriteTuned(request, folder, model, tuned,
                 TuningRecord(request, options, outcome, tuned, source.calibration(), session),
                 outcome, session.pool());
    }
  } catch (const Stopped&) {
    session.log().Info("stopped; what was trained is kept, and the same command goes on");
    folder.AbandonUnlessWorked(false);
    throw;
  } catch (...) {
    folder.AbandonUnlessWorked(false);
    throw;
  }
  if (outcome.written()) {
    if (request.in_place) KeepFiles(request.output, folder.path() / "out");
    folder.Finish();
  } else {
    folder.Abandon();
  }
  outcome.seconds = watch.seconds();
  return outcome;
}

}  // namespace lieq
