#include "lieq/pipeline/quantize.h"

#include <fmt/format.h>

#include <chrono>
#include <ctime>
#include <functional>
#include <future>
#include <optional>
#include <string_view>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/stage_times.h"
#include "lieq/container/engines.h"
#include "lieq/container/finite.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/code_store.h"
#include "lieq/pipeline/end_codes.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/model_card.h"
#include "lieq/pipeline/output_places.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/quality_warnings.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/pipeline/recipe.h"
#include "lieq/pipeline/result_files.h"
#include "lieq/pipeline/result_record.h"
#include "lieq/pipeline/run_folder.h"
#include "lieq/pipeline/source.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/pipeline/version.h"
#include "lieq/plan/plan_json.h"
#include "lieq/quantize/layer_quantizer.h"

namespace lieq {
namespace {

constexpr std::string_view kNoEstimates =
    "the times are worked out from a processor's: a GPU takes far less";

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// What the request works on, read and checked before anything is written.
struct Inputs {
  Source& source;
  const EncodedText* calibration = nullptr;  // null where the layers need none
  Windows windows;                           // empty where the quantizer needs no calibration
  std::vector<std::string> text_notes;       // of the text that damage is measured on
  Record settings;

  [[nodiscard]] const ModelFolder& model() const noexcept { return source.model(); }
};

/// Throws UsageError where transforms cannot work with the other options.
void CheckTransforms(const QuantizeRequest& request, const TransformList& transforms,
                     const ModelFolder& model) {
  if (transforms.empty()) return;
  const ModelConfig& config = model.weights.config;
  RequireHolding(transforms, config);
  if (model.quantized || model.ends != EndGrids{}) {
    throw Error({.what = "transforms want a source of floats",
                 .where = request.model.string(),
                 .expected = "F32, F16 or BF16, or no " + std::string(transforms.back()->name),
                 .found = "codes of 8 bits"});
  }
  if (request.assemble) {
    throw UsageError("--assemble: the codes of --codes are those of the model as it is, without " +
                     std::string(transforms.back()->name));
  }
  const bool bounds_file = request.budget.size || request.budget.bpw;
  if (bounds_file && config.tied && Unties(transforms)) {
    throw UsageError((request.budget.size ? "--size: " : "--bpw: ") +
                     std::string(transforms.front()->name) +
                     " parts the head from the embedding, which the plan does not count; take "
                     "--bits");
  }
}

Inputs ReadInputs(const QuantizeRequest& request, Source& source, Session& session) {
  if (request.tune && request.calibration.single_chats) {
    throw UsageError("--chat-windows single: --tune trains on packed windows alone");
  }
  Inputs inputs{.source = source};
  const ModelFolder& model = source.model();
  const ModelConfig& config = source.config();
  RequireSource(model, "quantize the float model it was made from", session.log());
  CheckGroupSize(config, request.grids.group_size);
  if (request.grids.k_quant) CheckKQuant(config);
  const TransformList transforms = TransformsOf(request.transforms, request.quant.method);
  CheckTransforms(request, transforms, model);
  RequireFinite(model, session.pool());  // now, and not in layer 20
  const bool calibrated =
      FindQuantizer(request.quant.method).needs_calibration || NeedsCalibration(transforms);
  if (calibrated || NeedsSpectra(request)) inputs.calibration = &source.calibration();
  if (calibrated) inputs.windows = source.windows();
  if (request.budget.allocation == "optimal" && !request.damage.text.empty()) {
    const FileText text = ReadTextFile(request.damage.text, request.reading);
    inputs.text_notes = Say(text.notes, session.log());
  }
  inputs.settings = WithDevice(
      QuantizeSettings(request, source.hash(), inputs.calibration, inputs.windows), session);
  return inputs;
}

/// True where OUT is there and was made by the same settings. Throws Error where something else is.
bool AlreadyDone(const QuantizeRequest& request, const Record& settings) {
  const fs::path& out = request.output;
  if (!fs::exists(fs::symlink_status(out)) || fs::is_empty(out)) return false;
  const fs::path record = out / "lieq.json";
  if (!request.force && fs::is_regular_file(record)) {
    const Record found = ReadRecord(record);
    const bool exported = found.contains("exported_by");  // the same numbers elsewhere
    if (!exported && found.value("settings", Record()) == settings) return true;
  }
  if (request.force || IsHalfFilled(out)) return false;
  throw Error({.what = "the output is there already",
               .where = out.string(),
               .hint = "choose another -o, or --force to replace it"});
}

/// What an earlier start left in OUT.run, or nothing where it is not there. A file that was cut is
/// made again.
template <class Read>
auto Kept(const fs::path& file, Session& session, const Read& read)
    -> std::optional<decltype(read())> {
  if (!fs::exists(file)) return std::nullopt;
  try {
    return read();
  } catch (const Error& error) {
    session.log().Warning(fmt::format("{} cannot be read and is made again: {}", file.string(),
                                      error.problem().what));
  } catch (const Json::exception& error) {
    session.log().Warning(
        fmt::format("{} cannot be read and is made again: {}", file.string(), error.what()));
  }
  return std::nullopt;
}

Plan PlanOfRun(const QuantizeRequest& request, const Inputs& inputs, const RunFolder& folder,
               Session& session) {
  const fs::path file = folder.path() / "plan.json";
  const ModelConfig& config = inputs.model().weights.config;
  const auto kept = Kept(file, session, [&] { return ReadPlan(file, request, config); });
  if (kept) return *kept;
  Plan plan = MakePlan(request, inputs.source, CodesFolder(request, true), session);
  WriteFileAtomically(file, ToJson(plan, config).dump(2) + "\n");
  return plan;
}

QuantizedLayer ReadLayer(const fs::path& file, const ModelConfig& config, Index layer,
                         const std::array<Grid, kSites>& grids) {
  const TensorFile tensors = TensorFile::Open(file);
  QuantizedLayer result;
  for (const Site site : config.Sites(layer)) {
    const auto index = static_cast<std::size_t>(site);
    result.matrices[index] =
        std::make_shared<const QMatrix>(ReadPacked(tensors, ModuleName(layer, site), grids[index]));
  }
  const auto reports = tensors.metadata().find("reports");
  if (reports == tensors.metadata().end()) {
    throw Error({.what = "no reports in the metadata", .where = file.string()});
  }
  result.reports = ReportsFromJson(ParseJson(reports->second, file.string()), file.string());
  return result;
}

/// One task at a time on a thread of its own, in the order of the calls. What it throws comes with
/// the next call.
class Behind {
 public:
  void Run(std::function<void()> task) {
    Finish();
    running_ = std::async(std::launch::async, std::move(task));
  }
  void Finish() {
    if (running_.valid()) running_.get();
  }

 private:
  std::future<void> running_;  // whose destructor waits
};

/// Quantizes the layers that OUT.run does not hold yet; returns the reports of all.
std::vector<LayerReports> QuantizeLayers(const QuantizeRequest& request, const Inputs& inputs,
                                         const Weights& weights, const LayerGrids& grids,
                                         DType scale_type, const EndCodes& ends,
                                         const RunFolder& folder, const RunSeconds& seconds,
                                         StageTimes& times, Session& session) {
  const Index layers = weights.config.layers;
  std::vector<LayerReports> reports;
  // Read layer by layer, so that a file that was cut is found before any work is built on it.
  const auto read = [&](Index layer) {
    const fs::path file = folder.LayerFile(layer);
    return Kept(file, session,
                [&] { return ReadLayer(file, weights.config, layer, grids[Size(layer)]); });
  };
  for (std::optional<QuantizedLayer> done;
       static_cast<Index>(reports.size()) < layers && (done = read(std::ssize(reports)));) {
    reports.push_back(done->reports);
  }
  const Index finished = std::ssize(reports);
  if (finished > 0) {
    session.log().Info(fmt::format("{} of {} layers are done already", finished, layers));
  }
  if (finished == layers) return reports;
  // Those behind it saw what it had made.
  for (Index layer = finished; layer < layers; ++layer) fs::remove(folder.LayerFile(layer));

  LayerQuantizer quantizer(weights, session.team(), request.quant, inputs.windows.view(),
                           session.context(), ends.embedding);
  Progress& progress = session.context().progress;
  if (finished > 0) progress.Begin("resuming", "layer", finished);
  for (Index layer = 0; layer < finished; ++layer) {
    quantizer.Skip(ReadLayer(folder.LayerFile(layer), weights.config, layer, grids[Size(layer)]));
    progress.Update(layer + 1);
  }
  progress.Begin("quantizing", "layer", layers - finished);
  // While the next layer is at work, where that is done as fast as one is written; else a layer
  // that is said to be done is on the disk.
  const bool behind = session.device_has_own_bytes();
  Behind writing;
  for (Index layer = finished; layer < layers; ++layer) {
    const QuantizedLayer result = quantizer.Quantize(grids[Size(layer)]);
    const StageTimes::Timer timer = times.Time("writing layers");
    const auto write = [=, &folder, &seconds] {
      WriteLayerCodes(folder.LayerFile(layer), layer, result, scale_type);
      seconds.Keep();
    };
    behind ? writing.Run(write) : write();
    reports.push_back(result.reports);
    double error = 0, signal = 0;
    for (const LinearReport& report : result.reports) {
      error += report.error;
      signal += report.signal;
    }
    const double relative = signal > 0 ? error / signal : 0.0;
    session.log().Debug(fmt::format("layer {}: relative error {:.4f}", layer, relative));
    progress.Update(layer + 1 - finished, fmt::format("relative error {:.4f}", relative));
  }
  writing.Finish();
  progress.End();
  times.Add(quantizer.times());
  return reports;
}

/// The codes of --codes, with those made that the plan needs and that are not there.
CodeStore OpenCodes(const QuantizeRequest& request, const Inputs& inputs, const LayerGrids& grids,
                    Session& session) {
  CodeStore store(request.damage.codes, inputs.model(),
                  WithDevice(CodeSettings(request, inputs.source.hash(),
                                          inputs.windows.count > 0 ? inputs.calibration : nullptr,
                                          inputs.windows),
                             session));
  store.Make(GridsIn(grids), request.quant, inputs.windows, session);
  return store;
}

std::vector<LayerReports> StoredReports(const CodeStore& store, const LayerGrids& grids) {
  std::vector<LayerReports> reports(grids.size());
  for (std::size_t layer = 0; layer < grids.size(); ++layer) {
    for (std::size_t site = 0; site < kSites; ++site) {
      reports[layer][site] = store.Reports(static_cast<Index>(layer), grids[layer][site])[site];
    }
  }
  return reports;
}

/// The codes of the ends, made before the layers: those of an earlier start where it had them.
EndCodes EndsOfRun(const fs::path& file, const ModelFolder& model, const EndGrids& ends,
                   const QuantizeRequest& request, const Inputs& inputs, Session& session) {
  if (ends == EndGrids{}) return {};
  std::optional<EndCodes> kept = Kept(file, session, [&] { return ReadEnds(file, ends); });
  if (kept) return *std::move(kept);
  Stage stage(session.context().progress, kEndsStage, "pass", 1);
  std::optional<EndStatistics> statistics;
  if (AnyCalibrated(ends, model.weights.config, request.quant)) {
    statistics =
        MeasureEnds(model.weights, session.device(), inputs.windows.view(), session.context());
  }
  EndCodes codes =
      WriteEnds(file, model, ends, request.quant, statistics ? &*statistics : nullptr, session);
  stage.Done();
  return codes;
}

/// The card of a folder that `quantize` writes.
std::string CardOf(const fs::path& out, const Record& result, const ModelGrids& grids,
                   const ModelConfig& config) {
  const std::string container = result["container"];
  return ModelCard({.record = result,
                    .container = container,
                    .engines = RunnersOf(container, grids, config),
                    .config = config,
                    .files = WeightFiles(out),
                    .has_recipe = true});
}

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

/// Seconds stand here and not in lieq.json, which is the same for every run; 0 for a linear that an
/// earlier run had finished.
Record RunRecord(const QuantizeRequest& request, const RunSeconds& seconds,
                 const std::vector<LayerReports>& reports, Session& session) {
  Record linears = Record::array();
  for (const LayerReports& layer : reports) {
    Record row = Record::object();
    for (const Site site : kAllSites) {
      row[std::string(Name(site))] = layer[static_cast<std::size_t>(site)].seconds;
    }
    linears.push_back(std::move(row));
  }
  return {{"schema", 1},
          {"kind", "run"},
          {"finished", UtcNow()},
          {"command", request.command},
          {"seconds", seconds.total()},
          {"runs", seconds.runs()},
          {"linear_seconds", std::move(linears)},
          {"peak_bytes", PeakMemoryBytes()},
          {"threads", session.pool().size()},
          {"device", session.device().description()},
          {"devices", session.team().size()},
          {"device_peak_bytes", session.device().peak_memory()}};
}

/// Layers that an earlier start left in OUT.run.
Index FinishedLayers(const QuantizeRequest& request) {
  const fs::path folder = fs::path(request.output) += ".run";
  Index finished = 0;
  while (fs::exists(folder / RunFolder::LayerName(finished))) ++finished;
  return finished;
}

/// All that the command does, for the estimate.
Work WorkOf(const QuantizeRequest& request, const Inputs& inputs, const Forecast& forecast,
            const TransformList& transforms) {
  Work work{.request = request,
            .model = inputs.model(),
            .windows = inputs.windows.count,
            .length = inputs.windows.length};
  AddPlanning(request, inputs.source, forecast, work);
  if (!forecast.candidates.units.empty()) work.codes = CodesFolder(request, true);
  work.grids = forecast.plan.grids;
  if (!request.dry_run && !request.force) {
    work.finished = FinishedLayers(request);
    work.ends_finished = fs::exists(RunFolderOf(request.output) / kEndsFile);
  }
  if (request.assemble && work.candidates.empty()) {
    work.candidates = GridsIn(work.grids.layers);
    work.codes = request.damage.codes;
  }
  work.transforms = transforms;
  work.output_bytes = forecast.bytes;
  return work;
}

/// What the request writes against what it reads.
void CheckPlacesOf(const QuantizeRequest& request) {
  std::vector<InputPlace> inputs{{request.model, InputRole::kModel, "the source model"}};
  const auto add = [&](const fs::path& path, InputRole role, std::string_view what) {
    if (!path.empty()) inputs.push_back({path, role, what});
  };
  add(request.plan, InputRole::kModel, "the plan");
  add(request.ranking.diagnostics, InputRole::kFile, "the diagnostics");
  add(request.ranking.scores, InputRole::kFile, "the scores");
  add(request.damage.sensitivities, InputRole::kFile, "the sensitivities");
  add(request.damage.text, InputRole::kFile, "the text");
  for (const fs::path& file : request.calibration.files) {
    add(file, InputRole::kFile, "a calibration text");
  }
  std::vector<OutputPlace> outputs{
      {request.output, OutputRole::kModel, "the output"},
      {RunFolderOf(request.output), OutputRole::kRun, "the working folder of the output"}};
  if (!request.damage.codes.empty()) {
    outputs.push_back({request.damage.codes, OutputRole::kCodes, "the folder of codes"});
  }
  CheckPlaces(inputs, outputs, {.force = request.force, .resumes = true});
}

/// A request whose inputs are read: what will be done, and doing it.
class Job {
 public:
  Job(const QuantizeRequest& given, Session& session)
      : session_(session),
        request_(WithGroupSizeOfPlan(given)),
        source_(request_, session),
        inputs_(ReadInputs(request_, source_, session)),
        transforms_(TransformsOf(request_.transforms, request_.quant.method)) {
    times_.Add("reading and checking the model", SecondsSince(begin_));
    TakeEndsOfPlan(request_);
    written_as_ = source_.config();
    if (Unties(transforms_)) written_as_.tied = false;
    if (!ChoosesEnds(request_, source_.config())) ends_ = EndsOf(request_, written_as_);
  }

  [[nodiscard]] QuantizeForecast Foresee() {
    Forecast forecast = MakeForecast();
    if (session_.device_has_own_bytes()) session_.log().Warning(kNoEstimates);
    Estimate estimate = EstimateWork(WorkOf(request_, inputs_, forecast, transforms_),
                                     SecondsSince(begin_), session_);
    return {
        .forecast = std::move(forecast), .estimate = std::move(estimate), .config = written_as_};
  }

  [[nodiscard]] QuantizeOutcome Do() {
    if (AlreadyDone(request_, inputs_.settings)) {
      if (fs::exists(RunFolderOf(request_.output))) {
        RunFolder left(request_.output);
        if (left.IsOf(inputs_.settings)) left.Abandon();  // else another one, that is not done
      }
      return {.already_done = true, .record = ReadRecord(request_.output / "lieq.json")};
    }
    const Work work = WorkOf(request_, inputs_, MakeForecast(), transforms_);
    // Pieces are timed in processor seconds, which say nothing of a GPU.
    const bool in_time = request_.estimates && !session_.device_has_own_bytes();
    const Estimate estimate = in_time ? EstimateWork(work, SecondsSince(begin_), session_)
                                      : EstimateSpace(work, session_);
    CheckEstimate(estimate, request_.output);

    RunFolder folder(request_.output);
    folder.Begin(inputs_.settings, request_.force);
    const RunSeconds seconds(folder.path(), begin_);
    seconds.Keep();
    Declare(session_.context().progress, estimate.stages);
    const bool planned = NeedsSpectra(request_) || request_.budget.allocation == "optimal";
    try {
      return DoIn(folder, seconds);
    } catch (const Stopped&) {
      seconds.Keep();
      session_.log().Info("stopped; finished layers are kept. To go on:\n  " + request_.command);
      folder.AbandonUnlessWorked(planned);
      throw;
    } catch (...) {  // what is refused leaves nothing that the next request stumbles over
      folder.AbandonUnlessWorked(planned);
      throw;
    }
  }

 private:
  static QuantizeRequest WithGroupSizeOfPlan(const QuantizeRequest& given) {
    CheckBudgetOptions(given);
    QuantizeRequest request = given;
    TakeDefaultBudget(request);
    TakeGroupSizeOfPlan(request);
    return request;
  }

  /// Of the plan that an earlier start of the run made, or of the one to come.
  Forecast MakeForecast() {
    const fs::path made = RunFolderOf(request_.output) / "plan.json";
    const bool unties = Unties(transforms_);
    std::optional<Plan> kept;
    if (!request_.dry_run && !request_.force && fs::exists(made)) {
      kept = Kept(made, session_, [&] { return ReadPlan(made, request_, source_.config()); });
    }
    if (!kept) return ForecastPlan(request_, source_, ends_, unties, session_);
    Forecast earlier{.plan = *std::move(kept), .candidates = {}, .planned = true};
    if (ends_) earlier.plan.grids.ends = *ends_;
    const ModelFolder& model = source_.model();
    earlier.bytes = PlanOutput(model, earlier.plan.grids, ScaleType(model.dtype), unties).bytes;
    earlier.elsewhere = BytesFor(request_.grids.target, model, earlier.plan.grids, unties);
    return earlier;
  }

  QuantizeOutcome DoIn(RunFolder& folder, const RunSeconds& seconds) {
    const ModelFolder& model = source_.model();
    const DType scale_type = ScaleType(model.dtype);
    Plan plan = PlanOfRun(request_, inputs_, folder, session_);
    if (ends_) plan.grids.ends = *ends_;  // of the model as it is written
    const LayerGrids& grids = plan.grids.layers;
    std::optional<TransformedModel> transformed;
    if (!transforms_.empty()) {
      transformed.emplace(TransformModel(model, transforms_, request_.seed, request_.quant.clip,
                                         grids, inputs_.windows, folder.path() / "model",
                                         session_));
    }
    const ModelFolder& written = transformed ? transformed->model : model;
    const OutputFiles files = PlanOutput(written, plan.grids, scale_type);
    const auto elsewhere = BytesFor(request_.grids.target, written, plan.grids);
    const fs::path end_file = folder.path() / kEndsFile;
    const EndCodes end_codes =
        EndsOfRun(end_file, written, plan.grids.ends, request_, inputs_, session_);
    std::optional<CodeStore> store;
    if (request_.assemble) store = OpenCodes(request_, inputs_, grids, session_);
    const std::vector<LayerReports> reports =
        store ? StoredReports(*store, grids)
              : QuantizeLayers(request_, inputs_, written.weights, grids, scale_type, end_codes,
                               folder, seconds, times_, session_);

    Stage writing(session_.context().progress, "writing", "model", 1);
    const std::vector<std::string> warnings =
        QualityWarnings(reports, end_codes.reports, model.weights.config);
    for (const std::string& warning : warnings) session_.log().Warning(warning);
    const fs::path out = folder.FreshOut();
    const auto layer_file = [&](Index layer, Site site) {
      return store ? store->File(layer, grids[Size(layer)][static_cast<std::size_t>(site)])
                   : folder.LayerFile(layer);
    };
    {
      const StageTimes::Timer timer = times_.Time("writing the model");
      AssembleModel(written, plan.grids, files, layer_file, end_file, out);
    }
    {
      const StageTimes::Timer timer = times_.Time("reading it back");
      ReadBack(written, plan.grids, layer_file, end_file, out);
    }
    writing.Done();
    SayTimes();
    QuantizeOutcome outcome = Describe(plan, written, transformed ? transformed->record : Record(),
                                       reports, end_codes.reports, files.bytes, elsewhere);
    if (!warnings.empty()) outcome.record["warnings"] = warnings;
    outcome.run = RunRecord(request_, seconds, reports, session_);
    WriteRecords(out, outcome, plan, written, files.bytes, elsewhere);
    folder.Finish();
    return outcome;
  }

  /// For --verbose.
  void SayTimes() {
    std::string text = "seconds: ";
    for (const auto& [stage, seconds] : times_.stages()) {
      text += fmt::format("{} {:.1f}, ", stage, seconds);
    }
    text += fmt::format("all {:.1f}", SecondsSince(begin_));
    if (const Index bytes = session_.device().peak_memory(); bytes > 0) {
      text += fmt::format("; at most {:.1f} GB of the device's memory",
                          static_cast<double>(bytes) * 1e-9);
    }
    session_.log().Debug(text);
  }

  QuantizeOutcome Describe(const Plan& plan, const ModelFolder& written, const Record& transforms,
                           const std::vector<LayerReports>& reports, const EndReports& ends,
                           std::uint64_t bytes, const std::optional<BytesElsewhere>& elsewhere) {
    const Origin origin = OriginOf(source_.model());
    return {.record =
                ResultRecord({.model = written,
                              .source_bytes = SourceBytes(source_.model()),
                              .origin = origin,
                              .transforms = transforms,
                              .plan = plan,
                              .reports = reports,
                              .ends = ends,
                              .settings = inputs_.settings,
                              .calibration = inputs_.calibration,
                              .calibration_tokens = inputs_.windows.count * inputs_.windows.length,
                              .text_notes = inputs_.text_notes,
                              .output_bytes = bytes,
                              .elsewhere = elsewhere,
                              .command = CanonicalCommand(request_)}),
            .asked = AskedText(plan, source_.config()),
            .fits = FitsOf(plan.grids, written.weights.config)};
  }

  void WriteRecords(const fs::path& out, const QuantizeOutcome& outcome, const Plan& plan,
                    const ModelFolder& written, std::uint64_t bytes,
                    const std::optional<BytesElsewhere>& elsewhere) {
    const ModelConfig& config = written.weights.config;
    const Record document =
        PlanRecord(plan, config, bytes, SourceBytes(source_.model()), elsewhere);
    const Record recipe = RecipeOf(request_);
    WriteResultFiles(out, {.card = CardOf(out, outcome.record, plan.grids, config),
                           .record = outcome.record,
                           .plan = &document,
                           .run = &outcome.run,
                           .recipe = &recipe});
  }

  Clock::time_point begin_ = Clock::now();
  StageTimes times_;
  Session& session_;
  QuantizeRequest request_;
  Source source_;
  Inputs inputs_;
  TransformList transforms_;
  ModelConfig written_as_;
  std::optional<EndGrids> ends_;  // that the request says; none where the plan does
};

}  // namespace

QuantizeForecast ForecastQuantize(const QuantizeRequest& given, Session& session) {
  QuantizeRequest request = given;
  request.output = PlainOutput(request.output);
  request.dry_run = true;
  return Job(request, session).Foresee();
}

QuantizeOutcome Quantize(const QuantizeRequest& given, Session& session) {
  QuantizeRequest request = given;
  request.output = PlainOutput(request.output);
  request.dry_run = false;
  CheckPlacesOf(request);
  return Job(request, session).Do();
}

}  // namespace lieq
