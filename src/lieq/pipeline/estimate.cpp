#include "lieq/pipeline/estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>

#include "lieq/base/error.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/code_store.h"
#include "lieq/pipeline/end_codes.h"
#include "lieq/pipeline/machine.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/pieces.h"
#include "lieq/pipeline/session.h"
#include "lieq/pipeline/stage_memory.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/plan/plan.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/quantize/unit_statistics.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// Seconds of each stage of one piece of work.
class Clock {
 public:
  Clock(const Work& work, Pieces& pieces)
      : work_(work),
        pieces_(pieces),
        config_(work.model.weights.config),
        options_(WithDefaults(work.request.quant)) {}

  std::vector<PlannedStage> Stages() {
    if (work_.draws) Add("writing the calibration text", Drawing());
    if (work_.spectrum_tokens > 0) {
      Add(work_.spectra ? "compactness" : "block influence", Layers() * SpectrumLayer());
    }
    const double codes = Codes();
    if (codes > 0) Add("codes of candidates", codes);
    if (work_.measures_damage) Add("measuring damage", Damage());
    if (work_.mixes > 0) Mixes();
    if (work_.grids.layers.empty()) return std::move(stages_);
    if (!work_.transforms.empty()) Add("transforming", Transforming());
    if (work_.grids.ends != EndGrids{} && !work_.ends_finished) Add(kEndsStage, Ends());
    if (!work_.request.assemble) Add("quantizing", Quantizing());
    Add("writing", Writing());
    return std::move(stages_);
  }

 private:
  void Add(std::string name, double seconds) {
    stages_.push_back({.name = std::move(name), .seconds = seconds});
  }
  [[nodiscard]] double Layers() const { return static_cast<double>(config_.layers); }
  [[nodiscard]] Index In(Unit unit) const { return config_.In(SitesOf(unit).front()); }
  /// The grid that most layers have: what is timed stands for all of them.
  [[nodiscard]] const Grid& GridOfUnit(const std::array<Grid, kSites>& layer, Unit unit) const {
    return layer[static_cast<std::size_t>(SitesOf(unit).front())];
  }

  double Grams(Index rows) {
    double seconds = 0;
    for (const Unit unit : kAllUnits) seconds += pieces_.Gram(rows, In(unit));
    return seconds;
  }

  double Drawing() {
    constexpr Index kSideBySide = 64;
    const Index steps = CeilDiv(work_.windows, kSideBySide) * work_.length;
    const Index rows = std::min(work_.windows, kSideBySide);
    return static_cast<double>(steps) *
           (Layers() * pieces_.Layer(rows, 1, nullptr) + pieces_.Logits(rows));
  }

  double SpectrumLayer() {
    const Index rows = work_.spectrum_tokens;
    double seconds = pieces_.Layer(rows, std::min<Index>(rows, 1024), nullptr);
    if (!work_.spectra) return seconds;
    DiagnoseOptions options;
    return seconds + Grams(rows) + pieces_.Spectra(options);
  }

  /// Making the codes that are not there yet.
  double Codes() {
    const QuantOptions options = FloatInputs(CandidateOptions(work_.request));
    const bool calibrated = FindQuantizer(options.method).needs_calibration;
    double seconds = EndCodes(options);
    Index last = -1;
    std::vector<Index> missing(work_.candidates.size());
    for (std::size_t c = 0; c < missing.size(); ++c) {
      for (Index layer = 0; layer < config_.layers; ++layer) {
        if (fs::exists(work_.codes / CodeStore::FileName(layer, work_.candidates[c]))) continue;
        ++missing[c];
        last = std::max(last, layer);
      }
    }
    if (last < 0) return seconds;
    if (calibrated) {
      const Index rows = work_.windows * work_.length;
      seconds += static_cast<double>(last + 1) *
                 (pieces_.Layer(rows, work_.length, nullptr) + Grams(rows));
    }
    for (const Unit unit : kAllUnits) {
      bool prepared = !calibrated;
      for (std::size_t c = 0; c < missing.size(); ++c) {
        const Grid& grid = work_.candidates[c];
        if (missing[c] == 0 || !Fits(grid, config_, unit)) continue;
        double each = 0;
        if (!prepared) each += pieces_.Prepare(In(unit), grid, options);
        prepared = prepared || options.act_order != ActOrder::kGroup;
        for (const Site site : SitesOf(unit)) {
          if (config_.Out(site) == 0) continue;
          each += pieces_.Quantize(site, grid, options, 0);
        }
        seconds += static_cast<double>(missing[c]) * each;
      }
    }
    for (std::size_t c = 0; c < missing.size(); ++c) {
      seconds += static_cast<double>(missing[c]) * pieces_.WriteCodes(work_.candidates[c]);
    }
    return seconds;
  }

  [[nodiscard]] Index DamageRows() const { return work_.damage_windows * work_.damage_length; }
  [[nodiscard]] double Score() {
    return pieces_.Logits(ScoredPositions(config_, work_.damage_windows, work_.damage_length));
  }

  double Damage() {
    Index variants = 0;  // of a layer
    for (const Unit unit : kAllUnits) {
      Index fitting = 0;
      for (const Grid& grid : work_.candidates) fitting += Fits(grid, config_, unit) ? 1 : 0;
      if (work_.in_context) --fitting;
      variants += work_.request.damage.measure_all ? fitting : std::min<Index>(fitting, 1);
    }
    const Grid* packed = work_.in_context ? &work_.candidates.front() : nullptr;
    const double layer = pieces_.Layer(DamageRows(), work_.damage_length, packed);
    const double whole = pieces_.Layer(DamageRows(), work_.damage_length, nullptr);
    const double passes = Layers() + static_cast<double>(variants) * Layers() * (Layers() + 1) / 2;
    double ends = 0;  // runs of the whole model
    for (const EndCandidates& end : work_.ends) {
      for (const std::optional<Grid>& grid : end.grids) ends += grid ? 1 : 0;
    }
    return (ends + 1) * (Layers() * whole + Score()) + Score() + passes * layer +
           (Layers() * static_cast<double>(variants) + 1) * Score();
  }

  void Mixes() {
    const Grid& grid = work_.candidates[work_.candidates.size() / 2];
    const double mix = Layers() * (pieces_.Layer(DamageRows(), work_.damage_length, &grid) +
                                   pieces_.ReadCodes(grid)) +
                       Score();
    const auto check = static_cast<double>(work_.request.damage.check);
    const auto refine = static_cast<double>(work_.request.damage.refine);
    if (!work_.measures_damage) {  // the model itself is run for the first time here
      const double whole = pieces_.Layer(DamageRows(), work_.damage_length, nullptr);
      Add(refine > 0 ? "refining" : "checking the prediction", Layers() * whole + 2 * Score());
      if (refine > 0) {
        stages_.back().seconds += (refine + 1) * mix;
      } else {
        stages_.back().seconds += check * mix;
        return;
      }
    } else if (refine > 0) {
      Add("refining", (refine + 1) * mix);
    }
    if (check > 0) Add("checking the prediction", check * mix);
  }

  double Transforming() {
    const Index rows = work_.windows * work_.length;
    const bool calibrated = NeedsCalibration(work_.transforms);
    double seconds = 0;
    if (calibrated) seconds += pieces_.Layer(rows, work_.length, nullptr) + Grams(rows);
    constexpr int kScales = 20;  // that are tried for each unit
    const std::array<Grid, kSites>& layer = work_.grids.layers.front();
    for (const Site site : kAllSites) {
      if (config_.Out(site) == 0) continue;
      const Grid& grid = layer[static_cast<std::size_t>(site)];
      const double rounds = calibrated ? kScales : 1;
      seconds += rounds * pieces_.Round(config_.Out(site), config_.In(site), grid, Clip::kNone);
    }
    return Layers() * seconds + pieces_.Write(TransformedBytes(config_), 1);
  }

  double Quantizing() {
    double seconds = 0;
    std::map<std::string, double> known;  // layers of one plan have few kinds of grids
    const bool calibrated = FindQuantizer(options_.method).needs_calibration;
    for (const auto& layer : std::span(work_.grids.layers).subspan(Size(work_.finished))) {
      std::string kind;
      for (const Grid& grid : layer) kind += Label(grid) + " ";
      auto found = known.find(kind);
      if (found == known.end()) {
        found = known.emplace(kind, QuantizedLayer(layer)).first;
      }
      seconds += found->second;
    }
    if (calibrated && work_.finished > 0) {  // windows go through what is there
      const Grid& grid = GridOfUnit(work_.grids.layers.front(), Unit::kGateUp);
      seconds += static_cast<double>(work_.finished) *
                 pieces_.Layer(work_.windows * work_.length, work_.length, &grid);
    }
    return seconds;
  }

  double QuantizedLayer(const std::array<Grid, kSites>& layer) {
    const bool calibrated = FindQuantizer(options_.method).needs_calibration;
    const Index rows = work_.windows * work_.length;
    const Index held_out =
        calibrated && options_.judges() ? HeldOutWindows(work_.windows) * work_.length : 0;
    double seconds = 0;
    if (calibrated) {
      const Grid& grid = GridOfUnit(layer, Unit::kGateUp);
      const double packed = pieces_.Layer(rows, work_.length, &grid);
      seconds += packed + Grams(rows);
      if (options_.corrects()) {
        seconds += pieces_.Layer(rows, work_.length, nullptr);
        for (const Unit unit : kAllUnits) {
          const bool adds = unit == Unit::kO || unit == Unit::kDown;
          // What is missing is a product by the weights, as large as its sums.
          seconds += adds ? 2 * pieces_.Cross(rows, config_.hidden, In(unit))
                          : pieces_.Cross(rows, In(unit), In(unit));
        }
      }
    }
    for (const Unit unit : kAllUnits) {
      const Grid& grid = GridOfUnit(layer, unit);
      if (calibrated) seconds += pieces_.Prepare(In(unit), grid, options_);
      for (const Site site : SitesOf(unit)) {
        if (config_.Out(site) == 0) continue;
        seconds += pieces_.Quantize(site, grid, options_, held_out);
      }
    }
    return seconds + pieces_.WriteCodes(layer.front());
  }

  double Writing() {
    const auto bytes = static_cast<std::int64_t>(work_.output_bytes);
    return pieces_.Write(bytes, 4) + 2 * pieces_.Read(bytes);
  }

  /// What MeasureEnds does.
  double MeasuringEnds() {
    const Index rows = EndWindows(work_.windows, work_.length) * work_.length;
    const double layers = Layers() * pieces_.Layer(rows, work_.length, nullptr);
    const double one = layers + pieces_.Gram(rows, config_.hidden);
    if (!config_.tied) return one;
    return one + layers + 3 * pieces_.Logits(rows) +
           pieces_.Gram(std::min(rows, config_.vocab), config_.hidden);
  }

  double RoundingEnd(End end, const Grid& grid, const QuantOptions& options) {
    const Index vocab = config_.vocab, hidden = config_.hidden;
    if (!IsCalibrated(end, grid, config_, options)) {
      return pieces_.Round(vocab, hidden, grid, options.clip);
    }
    return pieces_.Prepare(hidden, grid, options) +
           pieces_.QuantizeMatrix(vocab, hidden, /*adds=*/false, grid, options, 0);
  }

  double Ends() {
    const EndGrids& ends = work_.grids.ends;
    const QuantOptions options = FloatInputs(work_.request.quant);
    double seconds = AnyCalibrated(ends, config_, options) ? MeasuringEnds() : 0;
    for (const End end : kAllEnds) {
      if (ends.At(end)) seconds += RoundingEnd(end, *ends.At(end), options);
    }
    return seconds;
  }

  /// The same of the candidates that are not there yet.
  double EndCodes(const QuantOptions& options) {
    double seconds = 0;
    bool measured = false;
    for (const EndCandidates& end : work_.ends) {
      for (const std::optional<Grid>& grid : end.grids) {
        if (!grid || fs::exists(work_.codes / CodeStore::EndFileName(end.end, *grid))) continue;
        seconds += RoundingEnd(end.end, *grid, options);
        if (measured || !IsCalibrated(end.end, *grid, config_, options)) continue;
        measured = true;
        seconds += MeasuringEnds();
      }
    }
    return seconds;
  }

  const Work& work_;
  Pieces& pieces_;
  const ModelConfig& config_;
  const QuantOptions options_;
  std::vector<PlannedStage> stages_;
};

/// Bytes of the files in a folder and below it, those of one name left out.
std::int64_t BytesBelow(const fs::path& folder, const std::string& but = "") {
  std::int64_t bytes = 0;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    if (!but.empty() && entry.path().filename() == but) continue;
    if (entry.is_directory(failed)) {
      bytes += BytesBelow(entry.path());
    } else if (entry.is_regular_file(failed)) {
      bytes += static_cast<std::int64_t>(entry.file_size(failed));
    }
  }
  return bytes;
}

/// Tokenizer, licence and the like, which go along.
std::int64_t SidecarBytes(const ModelFolder& model) {
  std::int64_t bytes = 0;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(model.path, failed)) {
    const std::string type = entry.path().extension().string();
    if (!entry.is_regular_file(failed) || type == ".safetensors" || type == ".gguf") continue;
    bytes += static_cast<std::int64_t>(entry.file_size(failed));
  }
  return bytes;
}

std::int64_t CodeBytes(const ModelConfig& config, const std::vector<Grid>& candidates) {
  std::int64_t bytes = 0;
  for (Index layer = 0; layer < config.layers; ++layer) {
    std::int64_t bits = 0;
    for (const Grid& grid : candidates) {
      for (const Unit unit : kAllUnits) {
        if (Fits(grid, config, unit)) bits += UnitStoredBits(config, layer, unit, grid);
      }
    }
    constexpr std::int64_t kHeader = 16 << 10;  // with the reports
    bytes += bits / 8 + kHeader * static_cast<std::int64_t>(candidates.size());
  }
  return bytes;
}

/// The one rule for disk space: all that lies side by side at the worst moment, less what an
/// earlier start of the run has written already.
std::int64_t DiskBytes(const Work& work) {
  const ModelConfig& config = work.model.weights.config;
  constexpr std::int64_t kRecords = 1 << 20;
  std::int64_t bytes = kRecords;
  if (!work.candidates.empty()) {
    bytes += std::max<std::int64_t>(0, CodeBytes(config, work.candidates) - BytesBelow(work.codes));
  }
  if (work.grids.layers.empty()) return bytes;
  std::int64_t run = static_cast<std::int64_t>(work.output_bytes);  // finished layers, ends
  if (!work.transforms.empty()) {
    ModelConfig written = config;
    if (Unties(work.transforms)) written.tied = false;
    run += TransformedBytes(written);
  }
  const fs::path folder = fs::path(work.request.output) += ".run";
  const std::int64_t there = BytesBelow(folder, "codes") - BytesBelow(folder / "out");
  return bytes + std::max<std::int64_t>(0, run - there) +
         static_cast<std::int64_t>(work.output_bytes) + SidecarBytes(work.model);
}

}  // namespace

double Estimate::seconds() const {
  double sum = spent;
  for (const PlannedStage& stage : stages) sum += stage.seconds;
  return sum;
}

Estimate EstimateSpace(const Work& work, Session& session) {
  const std::int64_t stages = StageMemory(work, session.pool().size());
  return {.memory_bytes = std::max(PeakMemoryBytes(), ResidentBytes() + stages),
          .disk_bytes = DiskBytes(work),
          .stages = {}};
}

Estimate EstimateWork(const Work& work, double spent, Session& session) {
  Estimate estimate = EstimateSpace(work, session);
  Machine machine(session.cache(), session.device().description(), session.pool().size());
  Pieces pieces(work.model, machine, session);
  estimate.stages = Clock(work, pieces).Stages();
  estimate.spent = spent;
  machine.Remember();
  return estimate;
}

std::uint64_t FreeBytes(const fs::path& output) {
  fs::path folder = fs::absolute(output).parent_path();
  while (!fs::exists(folder)) folder = folder.parent_path();
  return fs::space(folder).available;
}

void CheckEstimate(const Estimate& estimate, const fs::path& output) {
  const std::int64_t memory = AvailableMemoryBytes();
  if (memory > 0 && estimate.memory_bytes > memory) {
    throw Error({.what = "not enough memory",
                 .where = output.string(),
                 .expected = FormatBytes(static_cast<double>(estimate.memory_bytes)),
                 .found = FormatBytes(static_cast<double>(memory)) + " available",
                 .hint = "fewer --samples or a shorter --context need less"});
  }
  const std::uint64_t free = FreeBytes(output);
  if (static_cast<std::uint64_t>(estimate.disk_bytes) > free) {
    throw Error({.what = "not enough disk space",
                 .where = fs::absolute(output).parent_path().string(),
                 .expected = FormatBytes(static_cast<double>(estimate.disk_bytes)),
                 .found = FormatBytes(static_cast<double>(free)) + " free"});
  }
}

}  // namespace lieq
