#include <fmt/format.h>

#include <chrono>
#include <ctime>
#include <optional>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/cli/assemble.h"
#include "lieq/cli/calibration_text.h"
#include "lieq/cli/code_store.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/estimate.h"
#include "lieq/cli/forecast.h"
#include "lieq/cli/inputs.h"
#include "lieq/cli/measuring.h"
#include "lieq/cli/model_card.h"
#include "lieq/cli/plan_source.h"
#include "lieq/cli/planning.h"
#include "lieq/cli/quality_warnings.h"
#include "lieq/cli/quantize_settings.h"
#include "lieq/cli/result_record.h"
#include "lieq/cli/run_folder.h"
#include "lieq/cli/shell_command.h"
#include "lieq/cli/terminal.h"
#include "lieq/cli/transforming.h"
#include "lieq/cli/version.h"
#include "lieq/container/engines.h"
#include "lieq/container/finite.h"
#include "lieq/plan/plan_json.h"
#include "lieq/quantize/gptq.h"
#include "lieq/quantize/layer_quantizer.h"
#include "lieq/quantize/scale_range.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// What the command works on, read and checked before anything is written.
struct Inputs {
  ModelFolder model;
  std::string model_hash;
  std::optional<EncodedText> calibration;
  Windows windows;                      // empty where the quantizer needs no calibration
  std::vector<std::string> text_notes;  // of --text
  Record settings;
};

/// Throws UsageError where transforms cannot work with the other options.
void CheckTransforms(const Arguments& arguments, const TransformList& transforms,
                     const ModelFolder& model) {
  if (transforms.empty()) return;
  const ModelConfig& config = model.weights.config;
  if (model.quantized || model.ends != EndGrids{}) {
    throw Error({.what = "transforms want a source of floats",
                 .where = arguments.model.string(),
                 .expected = "F32, F16 or BF16, or no " + std::string(transforms.back()->name),
                 .found = "codes of 8 bits"});
  }
  if (arguments.assemble) {
    throw UsageError("--assemble: the codes of --codes are those of the model as it is, without " +
                     std::string(transforms.back()->name));
  }
  if (arguments.size && config.tied && Unties(transforms)) {
    throw UsageError("--size: " + std::string(transforms.front()->name) +
                     " parts the head from the embedding, which the plan does not count; take "
                     "--bpw or --bits");
  }
}

Inputs ReadInputs(const Arguments& arguments, Session& session) {
  Inputs inputs{.model = OpenInput(arguments.model, session.log())};
  const ModelConfig& config = inputs.model.weights.config;
  RequireSource(inputs.model, "quantize the float model it was made from", session.log());
  CheckGroupSize(config, arguments.group_size);
  if (arguments.k_quant) CheckKQuant(config);
  inputs.model_hash = HashModel(inputs.model);
  const TransformList transforms = TransformsOf(arguments.transforms, arguments.quant.method);
  CheckTransforms(arguments, transforms, inputs.model);
  RequireFinite(inputs.model, session.pool());  // now, and not in layer 20
  const bool calibrated =
      FindQuantizer(arguments.quant.method).needs_calibration || NeedsCalibration(transforms);
  if (calibrated || NeedsSpectra(arguments)) {
    inputs.calibration = CalibrationText(arguments, inputs.model, session);
  }
  if (calibrated) {
    inputs.windows = CalibrationWindows(arguments, *inputs.calibration, config, session.log());
  }
  if (arguments.allocation == "optimal" && !arguments.text.empty()) {
    const FileText text = ReadTextFile(arguments.text, HowToRead(arguments));
    inputs.text_notes = Say(text.notes, session.log());
  }
  inputs.settings =
      QuantizeSettings(arguments, inputs.model_hash,
                       inputs.calibration ? &*inputs.calibration : nullptr, inputs.windows);
  return inputs;
}

/// True where OUT is there and was made by the same settings. Throws Error where something else is.
bool AlreadyDone(const Arguments& arguments, const Record& settings) {
  const fs::path& out = arguments.output;
  if (!fs::exists(fs::symlink_status(out)) || fs::is_empty(out)) return false;
  const fs::path record = out / "lieq.json";
  if (!arguments.force && fs::is_regular_file(record)) {
    const Record found = ReadRecord(record);
    const bool exported = found.contains("exported_by");  // the same numbers elsewhere
    if (!exported && found.value("settings", Record()) == settings) return true;
  }
  if (arguments.force || IsHalfFilled(out)) return false;
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

Plan PlanOfRun(const Arguments& arguments, const Inputs& inputs, const RunFolder& folder,
               Session& session) {
  const fs::path file = folder.path() / "plan.json";
  const ModelConfig& config = inputs.model.weights.config;
  const auto kept = Kept(file, session, [&] { return ReadPlan(file, arguments, config); });
  if (kept) return *kept;
  Plan plan = MakePlan(arguments, inputs.model, inputs.model_hash,
                       inputs.calibration ? &*inputs.calibration : nullptr,
                       CodesFolder(arguments, true), session);
  WriteFileAtomically(file, ToJson(plan, config).dump(2) + "\n");
  return plan;
}

QuantizedLayer ReadLayer(const fs::path& file, Index layer, const std::array<Grid, kSites>& grids) {
  const TensorFile tensors = TensorFile::Open(file);
  QuantizedLayer result;
  for (const Site site : kAllSites) {
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

/// Quantizes the layers that OUT.run does not hold yet; returns the reports of all.
std::vector<LayerReports> QuantizeLayers(const Arguments& arguments, const Inputs& inputs,
                                         const Weights& weights, const LayerGrids& grids,
                                         DType scale_type, const RunFolder& folder,
                                         const RunSeconds& seconds, Session& session) {
  const Index layers = weights.config.layers;
  std::vector<LayerReports> reports;
  // Read layer by layer, so that a file that was cut is found before any work is built on it.
  const auto read = [&](Index layer) {
    const fs::path file = folder.LayerFile(layer);
    return Kept(file, session, [&] { return ReadLayer(file, layer, grids[Size(layer)]); });
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

  LayerQuantizer quantizer(weights, session.device(), arguments.quant, inputs.windows.view(),
                           session.context());
  Progress& progress = session.context().progress;
  if (finished > 0) progress.Begin("resuming", "layer", finished);
  for (Index layer = 0; layer < finished; ++layer) {
    quantizer.Skip(ReadLayer(folder.LayerFile(layer), layer, grids[Size(layer)]));
    progress.Update(layer + 1);
  }
  progress.Begin("quantizing", "layer", layers - finished);
  for (Index layer = finished; layer < layers; ++layer) {
    const QuantizedLayer result = quantizer.Quantize(grids[Size(layer)]);
    WriteLayerCodes(folder.LayerFile(layer), layer, result, scale_type);
    seconds.Keep();
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
  progress.End();
  return reports;
}

/// The codes of --codes, with those made that the plan needs and that are not there.
CodeStore OpenCodes(const Arguments& arguments, const Inputs& inputs, const LayerGrids& grids,
                    Session& session) {
  CodeStore store(
      arguments.codes, inputs.model,
      CodeSettings(arguments, inputs.model_hash,
                   inputs.windows.count > 0 ? &*inputs.calibration : nullptr, inputs.windows));
  store.Make(GridsIn(grids), arguments.quant, inputs.windows, session);
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

/// Rounds the embedding and the head to nearest, and writes their packed tensors.
EndReports WriteEnds(const fs::path& file, const ModelFolder& model, const EndGrids& ends,
                     const Arguments& arguments, DType scale_type, Session& session) {
  const ModelConfig& config = model.weights.config;
  std::vector<std::pair<std::string, QMatrix>> packed;
  EndReports reports;
  const auto add = [&](std::string_view module, const AnyMatrix& matrix, const Grid& grid) {
    Matrix<float> w(Rows(matrix), Cols(matrix));
    WidenRows(matrix, 0, w.view());
    LinearReport report;
    const bool wide = HasWideScales(model.weights, arguments.quant);
    packed.emplace_back(
        module,
        QuantizeInRange(w.view(), grid, wide, report, [&](View<const float, 2> multiple, double) {
          return QuantizeRtn(multiple, {}, grid, arguments.quant.clip, session.context(), report);
        }));
    reports.emplace_back(module, report);
    model.weights.Release(matrix);
  };
  if (ends.embedding) add(kEmbeddingModule, model.weights.embedding, *ends.embedding);
  if (ends.head) add(kHeadModule, model.weights.head, *ends.head);
  std::vector<TensorSpec> specs;
  for (const auto& [module, matrix] : packed) {
    const auto more = EndSpecs(module, config, matrix.grid(), scale_type);
    specs.insert(specs.end(), more.begin(), more.end());
  }
  TensorWriter writer(file, std::move(specs), {{"format", "pt"}});
  for (const auto& [module, matrix] : packed) {
    WriteEnd(writer, module, config, matrix, scale_type);
  }
  writer.Commit();
  return reports;
}

/// The card of a folder that `quantize` writes.
std::string CardOf(const Record& result, const ModelGrids& grids, const ModelConfig& config) {
  const std::string container = result["container"];
  return ModelCard({.record = result,
                    .container = container,
                    .engines = RunnersOf(container, grids, config),
                    .tied = config.tied});
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
Record RunRecord(const Arguments& arguments, const RunSeconds& seconds,
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
          {"command", ShellCommand(arguments)},
          {"seconds", seconds.total()},
          {"runs", seconds.runs()},
          {"linear_seconds", std::move(linears)},
          {"peak_bytes", PeakMemoryBytes()},
          {"threads", session.pool().size()},
          {"device", session.device().description()}};
}

void PrintResult(const Arguments& arguments, const Record& result, const Record& run,
                 const std::string& asked, const std::vector<Fit>& fits, const Session& session) {
  if (arguments.json) {
    Record printed = result;
    printed["output"] = arguments.output.string();
    printed["seconds"] = run["seconds"];
    printed["runs"] = run["runs"];
    printed["peak_bytes"] = run["peak_bytes"];
    session.Answer(printed);
    return;
  }
  const auto number = [](const Record& value) { return value.get<double>(); };
  fmt::print("written to     {}\n", arguments.output.string());
  fmt::print("linears        {:.4f} code bits a weight{}, {:.4f} with scales and zero-points\n",
             number(result["code_bits_per_weight"]), asked, number(result["bits_per_weight"]));
  fmt::print("weights        {} bytes ({}), {:.2f} times smaller than the source\n",
             result["bytes"].get<std::uint64_t>(), FormatBytes(number(result["bytes"])),
             number(result["compression_ratio"]["true_bytes"]));
  fmt::print("fits           {}\n", FitsText(fits));
  const auto runs = run["runs"].get<int>();
  fmt::print("took           {}{}, {} of memory\n", FormatSeconds(number(run["seconds"])),
             runs > 1 ? fmt::format(" in {} runs", runs) : "",
             FormatBytes(number(run["peak_bytes"])));
}

/// Layers that an earlier start left in OUT.run.
Index FinishedLayers(const Arguments& arguments) {
  const fs::path folder = fs::path(arguments.output) += ".run";
  Index finished = 0;
  while (fs::exists(folder / RunFolder::LayerName(finished))) ++finished;
  return finished;
}

/// All that the command does, for the estimate.
Work WorkOf(const Arguments& arguments, const Inputs& inputs, const Forecast& forecast,
            const TransformList& transforms, const EndGrids& ends) {
  Work work{.arguments = arguments,
            .model = inputs.model,
            .windows = inputs.windows.count,
            .length = inputs.windows.length};
  AddPlanning(arguments, inputs.calibration ? &*inputs.calibration : nullptr, forecast, work);
  if (!forecast.candidates.empty()) work.codes = CodesFolder(arguments, true);
  work.grids = {.layers = forecast.plan.grids.layers, .ends = ends};
  if (!arguments.dry_run && !arguments.force) work.finished = FinishedLayers(arguments);
  if (arguments.assemble && work.candidates.empty()) {
    work.candidates = GridsIn(work.grids.layers);
    work.codes = arguments.codes;
  }
  work.transforms = transforms;
  work.output_bytes = forecast.bytes;
  return work;
}

}  // namespace

int RunQuantize(const Arguments& given, Session& session) {
  const auto begin = Clock::now();
  CheckBudgetOptions(given);
  Arguments arguments = given;
  TakeGroupSizeOfPlan(arguments);
  const Inputs inputs = ReadInputs(arguments, session);
  const ModelFolder& model = inputs.model;
  TakeEndsOfPlan(model.weights.config, arguments);
  const DType scale_type = ScaleType(model.dtype);
  const TransformList transforms = TransformsOf(arguments.transforms, arguments.quant.method);
  ModelConfig written_as = model.weights.config;
  if (Unties(transforms)) written_as.tied = false;
  const EndGrids ends = EndsOf(arguments, written_as);
  const auto forecast = [&]() -> Forecast {
    const fs::path made = RunFolderOf(arguments.output) / "plan.json";
    if (arguments.dry_run || arguments.force || !fs::exists(made)) {
      return ForecastPlan(arguments, model, inputs.model_hash, ends, Unties(transforms), session);
    }
    const auto kept =
        Kept(made, session, [&] { return ReadPlan(made, arguments, model.weights.config); });
    if (!kept) {
      return ForecastPlan(arguments, model, inputs.model_hash, ends, Unties(transforms), session);
    }
    Forecast earlier{.plan = *kept, .candidates = {}, .planned = true};
    earlier.plan.grids.ends = ends;
    earlier.bytes = PlanOutput(model, earlier.plan.grids, scale_type, Unties(transforms)).bytes;
    return earlier;
  };
  if (arguments.dry_run) {
    const Forecast plan = forecast();
    Announce(arguments,
             EstimateWork(WorkOf(arguments, inputs, plan, transforms, ends), SecondsSince(begin),
                          session),
             &plan, ends, written_as, session);
    return 0;
  }
  if (AlreadyDone(arguments, inputs.settings)) {
    if (fs::exists(RunFolderOf(arguments.output))) {
      RunFolder left(arguments.output);
      if (left.IsOf(inputs.settings)) left.Abandon();  // else another one, that is not done
    }
    if (arguments.json) {
      Record done = ReadRecord(arguments.output / "lieq.json");
      done["output"] = arguments.output.string();
      done["already_done"] = true;
      session.Answer(done);
    } else {
      fmt::print("already done: {}\n", arguments.output.string());
    }
    return 0;
  }
  const Work work = WorkOf(arguments, inputs, forecast(), transforms, ends);
  const Estimate estimate = arguments.quiet ? EstimateSpace(work, session)
                                            : EstimateWork(work, SecondsSince(begin), session);
  CheckEstimate(estimate, arguments.output);

  RunFolder folder(arguments.output);
  folder.Begin(inputs.settings, arguments.force);
  const RunSeconds seconds(folder.path(), begin);
  seconds.Keep();
  Declare(session.context().progress, estimate.stages);
  const bool planned = NeedsSpectra(arguments) || arguments.allocation == "optimal";
  try {
    Plan plan = PlanOfRun(arguments, inputs, folder, session);
    plan.grids.ends = ends;  // of the model as it is written
    const LayerGrids& grids = plan.grids.layers;
    std::optional<TransformedModel> transformed;
    if (!transforms.empty()) {
      transformed.emplace(TransformModel(model, transforms, arguments.seed, arguments.quant.clip,
                                         grids, inputs.windows, folder.path() / "model", session));
    }
    const ModelFolder& written = transformed ? transformed->model : model;
    const OutputFiles files = PlanOutput(written, plan.grids, scale_type);
    std::optional<CodeStore> store;
    if (arguments.assemble) store = OpenCodes(arguments, inputs, grids, session);
    const std::vector<LayerReports> reports =
        store ? StoredReports(*store, grids)
              : QuantizeLayers(arguments, inputs, written.weights, grids, scale_type, folder,
                               seconds, session);

    Stage writing(session.context().progress, "writing", "model", 1);
    const fs::path end_file = folder.path() / "edges.safetensors";
    EndReports end_reports;
    if (ends != EndGrids{}) {
      end_reports = WriteEnds(end_file, written, ends, arguments, scale_type, session);
    }
    const std::vector<std::string> warnings = QualityWarnings(reports, end_reports);
    for (const std::string& warning : warnings) session.log().Warning(warning);
    const fs::path out = folder.FreshOut();
    const auto layer_file = [&](Index layer, Site site) {
      return store ? store->File(layer, grids[Size(layer)][static_cast<std::size_t>(site)])
                   : folder.LayerFile(layer);
    };
    AssembleModel(written, plan.grids, files, layer_file, end_file, out);
    ReadBack(written, plan.grids, layer_file, end_file, out);
    writing.Done();
    const Record run = RunRecord(arguments, seconds, reports, session);
    const Record no_transforms;
    const Origin origin = OriginOf(model);
    const ResultFacts facts{.model = written,
                            .source_bytes = SourceBytes(model),
                            .origin = origin,
                            .transforms = transformed ? transformed->record : no_transforms,
                            .plan = plan,
                            .reports = reports,
                            .settings = inputs.settings,
                            .calibration = inputs.calibration ? &*inputs.calibration : nullptr,
                            .calibration_tokens = inputs.windows.count * inputs.windows.length,
                            .text_notes = inputs.text_notes,
                            .output_bytes = files.bytes,
                            .command = CanonicalCommand(arguments)};
    Record result = ResultRecord(facts);
    if (!warnings.empty()) result["warnings"] = warnings;
    WriteFileAtomically(out / "README.md", CardOf(result, plan.grids, written.weights.config));
    WriteFileAtomically(
        out / "plan.json",
        PlanRecord(plan, written.weights.config, files.bytes, facts.source_bytes).dump(2) + "\n");
    WriteFileAtomically(out / "run.json", run.dump(2) + "\n");
    WriteFileAtomically(out / "lieq.json", result.dump(2) + "\n");
    folder.Finish();
    PrintResult(arguments, result, run, AskedText(plan, model.weights.config),
                FitsOf(plan.grids, written.weights.config), session);
    return 0;
  } catch (const Stopped&) {
    seconds.Keep();
    session.log().Info("stopped; finished layers are kept. To go on:\n  " +
                       ShellCommand(arguments));
    folder.AbandonUnlessWorked(planned);
    throw;
  } catch (...) {  // what is refused leaves nothing that the next command stumbles over
    folder.AbandonUnlessWorked(planned);
    throw;
  }
}

}  // namespace lieq
