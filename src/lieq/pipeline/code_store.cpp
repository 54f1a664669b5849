#include "lieq/pipeline/code_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/end_codes.h"
#include "lieq/pipeline/result_record.h"
#include "lieq/pipeline/run_folder.h"
#include "lieq/quantize/candidate_quantizer.h"

namespace lieq {
namespace fs = std::filesystem;

namespace {

/// False where the file is not there, or was cut: it is made again.
bool IsWhole(const fs::path& file, const Log& log) {
  if (!fs::exists(file)) return false;
  try {
    (void)TensorFile::Open(file);
    return true;
  } catch (const Error& error) {
    log.Warning(fmt::format("{} cannot be read and is made again: {}", file.string(),
                            error.problem().what));
    return false;
  }
}

bool HoldsCodes(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("layer-") && name.ends_with(".safetensors")) return true;
  }
  return false;
}

}  // namespace

void WriteLayerCodes(const fs::path& file, Index layer, const QuantizedLayer& codes,
                     DType scale_type) {
  std::vector<TensorSpec> specs;
  for (const Site site : kAllSites) {
    const auto& matrix = codes.matrices[static_cast<std::size_t>(site)];
    if (matrix == nullptr) continue;
    const auto packed = PackedSpecs(ModuleName(layer, site), matrix->rows(), matrix->cols(),
                                    matrix->grid(), scale_type);
    specs.insert(specs.end(), packed.begin(), packed.end());
  }
  TensorWriter writer(file, std::move(specs),
                      {{"format", "pt"}, {"reports", ReportsToJson(codes.reports).dump()}});
  for (const Site site : kAllSites) {
    const auto& matrix = codes.matrices[static_cast<std::size_t>(site)];
    if (matrix != nullptr) WritePacked(writer, ModuleName(layer, site), *matrix, scale_type);
  }
  writer.Commit();
}

CodeStore::CodeStore(fs::path folder, const ModelFolder& model, const Record& settings)
    : folder_(std::move(folder)), model_(&model), settings_(settings) {
  const fs::path file = folder_ / "settings.json";
  if (!HoldsCodes(folder_)) return;  // settings alone bind nobody
  if (!fs::exists(file)) {
    throw Error({.what = "codes, and nothing that says what they were made by",
                 .where = folder_.string(),
                 .expected = "settings.json",
                 .hint = "name another folder with --codes, or remove this one"});
  }
  const Record found = ReadRecord(file);
  Record wanted = settings;
  wanted.emplace("device", Record());  // none where a processor makes them
  for (const auto& [key, value] : wanted.items()) {
    const Record there = found.value(key, Record());
    if (there == value) continue;
    throw Error({.what = "codes of other settings",
                 .where = file.string() + ": " + key,
                 .expected = SettingText(value),
                 .found = SettingText(there),
                 .hint = "name another folder with --codes, or remove this one"});
  }
}

namespace {

/// "2-64-half"
std::string GridName(const Grid& grid) {
  const std::string suffix = grid.k_quant       ? "-k"
                             : grid.symmetric() ? ""
                             : grid.offset == Offset::kInteger
                                 ? "-asymmetric"
                                 : fmt::format("-{}", Name(grid.offset));
  return fmt::format("{}-{}{}", grid.bits,
                     grid.group_size == 0 ? "row" : std::to_string(grid.group_size), suffix);
}

}  // namespace

std::string CodeStore::FileName(Index layer, const Grid& grid) {
  return fmt::format("layer-{:05}-{}.safetensors", layer, GridName(grid));
}

std::string CodeStore::EndFileName(End end, const Grid& grid) {
  return fmt::format("end-{}-{}.safetensors", Name(end), GridName(grid));
}

fs::path CodeStore::EndFile(End end, const Grid& grid) const {
  return folder_ / EndFileName(end, grid);
}

fs::path CodeStore::File(Index layer, const Grid& grid) const {
  return folder_ / FileName(layer, grid);
}

void CodeStore::Begin() const {
  fs::create_directories(folder_);
  if (HoldsCodes(folder_)) return;
  WriteFileAtomically(folder_ / "settings.json", settings_.dump(2) + "\n");
}

void CodeStore::Make(std::span<const Grid> candidates, const QuantOptions& options,
                     const Windows& windows, Session& session) const {
  std::vector<Index> layers(Size(model_->weights.config.layers));
  std::iota(layers.begin(), layers.end(), 0);
  Make(candidates, options, windows, layers, session);
}

void CodeStore::Make(std::span<const Grid> candidates, const QuantOptions& options,
                     const Windows& windows, std::span<const Index> layers,
                     Session& session) const {
  const auto missing_of = [&](Index layer) {
    std::vector<Grid> missing;
    for (const Grid& grid : candidates) {
      if (!IsWhole(File(layer, grid), session.log())) missing.push_back(grid);
    }
    return missing;
  };
  Index last = -1;
  for (const Index layer : layers) {
    if (!missing_of(layer).empty()) last = std::max(last, layer);
  }
  if (last < 0) return;
  Begin();
  const DType scale_type = ScaleType(model_->dtype);
  CandidateQuantizer quantizer(model_->weights, session.team(), options, windows.view(),
                               session.context());
  Progress& progress = session.context().progress;
  progress.Begin("codes of candidates", "layer", last + 1);
  for (Index first = 0; first <= last;) {
    // Looked for when it comes to that: another process may have made them since.
    const Index count = std::min(quantizer.together(), last + 1 - first);
    std::vector<std::vector<Grid>> grids(Size(count));
    for (Index i = 0; i < count; ++i) {
      const bool wanted = std::ranges::find(layers, first + i) != layers.end();
      if (wanted) grids[Size(i)] = missing_of(first + i);
    }
    quantizer.Quantize(grids, [&](Index layer, const std::vector<QuantizedLayer>& codes) {
      const std::vector<Grid>& its = grids[Size(layer - first)];
      for (std::size_t i = 0; i < its.size(); ++i) {
        WriteLayerCodes(File(layer, its[i]), layer, codes[i], scale_type);
      }
    });
    first += count;
    progress.Update(first);
  }
  progress.End();
}

bool CodeStore::Has(std::span<const Grid> candidates) const {
  for (Index layer = 0; layer < model_->weights.config.layers; ++layer) {
    for (const Grid& grid : candidates) {
      if (!fs::exists(File(layer, grid))) return false;
    }
  }
  return true;
}

void CodeStore::MakeEnds(std::span<const EndCandidates> ends, const QuantOptions& options,
                         const Windows& windows, Session& session) const {
  std::vector<std::pair<const EndCandidates*, std::size_t>> all;
  for (const EndCandidates& end : ends) {
    for (std::size_t c = 0; c < end.grids.size(); ++c) all.emplace_back(&end, c);
  }
  MakeEnds(all, options, windows, session);
}

void CodeStore::MakeEnds(std::span<const std::pair<const EndCandidates*, std::size_t>> ends,
                         const QuantOptions& options, const Windows& windows,
                         Session& session) const {
  std::optional<EndStatistics> statistics;  // measured where some codes are missing
  for (const auto& [end, candidate] : ends) {
    const std::optional<Grid>& grid = end->grids[candidate];
    if (!grid || IsWhole(EndFile(end->end, *grid), session.log())) continue;
    Begin();  // of a part, these may be all that it makes
    EndGrids grids;
    grids.At(end->end) = grid;
    if (!statistics && AnyCalibrated(grids, model_->weights.config, options)) {
      statistics =
          MeasureEnds(model_->weights, session.device(), windows.view(), session.context());
    }
    (void)WriteEnds(EndFile(end->end, *grid), *model_, grids, options,
                    statistics ? &*statistics : nullptr, session);
  }
}

void CodeStore::ReplaceEnd(End end, const Grid& grid, Weights& weights) const {
  const std::string_view module = end == End::kEmbedding ? kEmbeddingModule : kHeadModule;
  const auto matrix = std::make_shared<const QMatrix>(
      ReadPacked(TensorFile::Open(EndFile(end, grid)), module, grid));
  if (end == End::kEmbedding) weights.embedding = matrix;
  if (end == End::kHead || weights.config.tied) weights.head = matrix;
}

Weights CodeStore::WithEnd(End end, const Grid& grid) const {
  Weights weights = model_->weights;
  ReplaceEnd(end, grid, weights);
  return weights;
}

std::array<LinearReport, kSites> CodeStore::Reports(Index layer, const Grid& grid) const {
  const fs::path file = File(layer, grid);
  const TensorFile tensors = TensorFile::Open(file);
  const auto reports = tensors.metadata().find("reports");
  if (reports == tensors.metadata().end()) {
    throw Error({.what = "no reports in the metadata", .where = file.string()});
  }
  return ReportsFromJson(ParseJson(reports->second, file.string()), file.string());
}

LayerWeights CodeStore::Layer(Index layer, const std::array<const Grid*, kUnits>& grids) const {
  LayerWeights weights = model_->weights.layers[Size(layer)];
  for (const Unit unit : kAllUnits) {
    const Grid* grid = grids[static_cast<std::size_t>(unit)];
    if (grid == nullptr) continue;
    const TensorFile tensors = TensorFile::Open(File(layer, *grid));
    for (const Site site : model_->weights.config.SitesOf(layer, unit)) {
      weights.At(site).weight =
          std::make_shared<const QMatrix>(ReadPacked(tensors, ModuleName(layer, site), *grid));
    }
  }
  return weights;
}

Weights CodeStore::Mix(const ModelGrids& grids, ThreadPool& pool) const {
  Weights weights = model_->weights;
  pool.ParallelFor(grids.layer_count(), [&](Index layer, int) {
    std::array<const Grid*, kUnits> units{};
    for (const Unit unit : kAllUnits) {
      units[static_cast<std::size_t>(unit)] = &grids.At(layer, unit);
    }
    weights.layers[Size(layer)] = Layer(layer, units);
  });
  for (const End end : kAllEnds) {
    if (grids.ends.At(end)) ReplaceEnd(end, *grids.ends.At(end), weights);
  }
  return weights;
}

}  // namespace lieq
