#include "lieq/pipeline/measuring.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/base/stopwatch.h"
#include "lieq/container/engines.h"
#include "lieq/evaluate/piece_numbers.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/module_rules.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/pipeline/sensitivity_pieces.h"
#include "lieq/pipeline/size_budget.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/pipeline/version.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {

namespace {

bool HeldWhereItFits(const Grid& grid, const ContainerTarget& target, const ModelConfig& config) {
  return std::ranges::all_of(kAllUnits, [&](Unit unit) {
    return !Fits(grid, config, unit) || target.holds(grid, config.In(SitesOf(unit).front()));
  });
}

/// The offsets worth trying at a width in a container, where none is named: of those that cost
/// nothing and of those that are stored the one with the lower error on Gaussian weights. At 2 bits
/// levels on both sides alike beat a level at 0; from 3 bits on neither matters much.
std::vector<Offset> OffsetsFor(const ContainerTarget& target, int bits, Index group_size,
                               const ModelConfig& config) {
  const auto held = [&](Offset offset) {
    return HeldWhereItFits({.bits = bits, .group_size = group_size, .offset = offset}, target,
                           config);
  };
  std::vector<Offset> offsets;
  const auto add_first = [&](std::initializer_list<Offset> order) {
    const auto* found = std::ranges::find_if(order, held);
    if (found != order.end()) offsets.push_back(*found);
  };
  if (bits == 2) {
    add_first({Offset::kHalf, Offset::kSymmetric});
  } else {
    add_first({Offset::kSymmetric});
  }
  if (bits < 4) add_first({Offset::kFloat, Offset::kInteger});
  return offsets;
}

/// Bits that the budget of the file leaves to each weight of the layers, where there is one: beside
/// ends that are said, or where all share alike.
std::optional<double> BitsForLayers(const QuantizeRequest& request, const ModelConfig& config) {
  const std::optional<std::int64_t> bytes = ByteBudget(request.budget, config);
  if (!bytes) return std::nullopt;
  const double all = FileWeights(config), bits = 8 * static_cast<double>(*bytes);
  if (ChoosesEnds(request, config)) return bits / all;
  const double end = static_cast<double>(config.vocab * config.hidden);
  const EndGrids ends = EndsOf(request, config);
  double left = bits, weights = all;
  for (const End which : EndsIn(config)) {
    left -= end * (ends.At(which) ? ends.At(which)->bits : 16);
    weights -= end;
  }
  return left / weights;
}

/// Whether the result is for GGUF, whose blocks have a scale for each 64 columns at 2 bits and for
/// each 32 at more: scales of wider groups are written several times, and save nothing.
bool IsForBlocks(const QuantizeRequest& request) {
  return request.grids.target != nullptr && request.grids.target->offers_k_quants;
}

constexpr double kMoreBits = 5;  // of the layers, from where on wide grids may pay

/// Four or five steps from narrow to wide around what the layers may take.
std::vector<Grid> DefaultShapes(const QuantizeRequest& request, const ModelConfig& config) {
  constexpr double kPlenty = 3.6;  // 2 bits in small groups are out
  constexpr double kFourBits = 4;  // for blocks, where 4 bits are 4.5 and the next are 5.5
  const bool by_128 = std::ranges::all_of(
      kAllUnits, [&](Unit unit) { return config.In(SitesOf(unit).front()) % 128 == 0; });
  const Index group = by_128 ? 128 : 64;
  const double bits = BitsForLayers(request, config).value_or(0);
  if (IsForBlocks(request)) {
    std::vector<Grid> shapes{{.bits = 2, .group_size = 64}, {.bits = 4, .group_size = 32}};
    if (bits > kFourBits) shapes.push_back({.bits = 5, .group_size = 32});
    if (bits > kMoreBits) shapes.push_back({.bits = 8, .group_size = 32});
    return shapes;
  }
  if (bits > kPlenty) {
    std::vector<Grid> shapes{{.bits = 2, .group_size = 64},
                             {.bits = 3, .group_size = group},
                             {.bits = 4, .group_size = group},
                             {.bits = 4, .group_size = 32}};
    if (bits > kMoreBits) shapes.push_back({.bits = 8, .group_size = group});
    return shapes;
  }
  std::vector<Grid> shapes{{.bits = 2, .group_size = 64},
                           {.bits = 2, .group_size = 32},
                           {.bits = 3, .group_size = group},
                           {.bits = 4, .group_size = group}};
  if (by_128) shapes.insert(shapes.begin(), {.bits = 2, .group_size = 128});
  return shapes;
}

}  // namespace

std::vector<Grid> DefaultCandidates(const QuantizeRequest& request, const ModelConfig& config) {
  std::vector<Grid> candidates;
  if (request.grids.k_quant || IsForBlocks(request)) {
    const bool wide = BitsForLayers(request, config).value_or(0) > kMoreBits;
    for (const KQuant& row : KQuants()) {
      if (row.grid.bits > 4 && !wide) continue;
      const bool fits =
          std::ranges::any_of(kAllUnits, [&](Unit unit) { return Fits(row.grid, config, unit); });
      if (fits || request.grids.k_quant) candidates.push_back(row.grid);
    }
  }
  if (request.grids.k_quant) return candidates;
  for (const Grid& shape : DefaultShapes(request, config)) {
    std::vector<Offset> offsets{request.grids.offset};
    if (request.grids.target != nullptr && !request.grids.says_offset) {
      offsets = OffsetsFor(*request.grids.target, shape.bits, shape.group_size, config);
    }
    for (const Offset offset : offsets) {
      candidates.push_back({.bits = shape.bits, .group_size = shape.group_size, .offset = offset});
    }
  }
  return candidates;
}

std::vector<Grid> CandidatesOf(const QuantizeRequest& request, const ModelConfig& config) {
  std::vector<Grid> candidates;
  if (request.grids.candidates.empty()) candidates = DefaultCandidates(request, config);
  for (const Candidate& candidate : request.grids.candidates) {
    const Grid grid = candidate.Resolved(request.grids.offset);
    if (request.grids.target != nullptr && !HeldWhereItFits(grid, *request.grids.target, config)) {
      throw Error({.what = "a candidate that the container does not hold exactly",
                   .where = "--candidates, --for " + std::string(request.grids.target->name),
                   .expected = std::string(request.grids.target->description),
                   .found = Label(grid)});
    }
    candidates.push_back(grid);
  }
  for (const Grid& grid : candidates) {
    const bool fits =
        std::ranges::any_of(kAllUnits, [&](Unit unit) { return Fits(grid, config, unit); });
    if (fits) continue;
    throw Error({.what = "the groups of a candidate divide no row of the model",
                 .where = "--candidates",
                 .found = Label(grid)});
  }
  for (const Unit unit : kAllUnits) {
    const bool fits =
        std::ranges::any_of(candidates, [&](const Grid& grid) { return Fits(grid, config, unit); });
    if (fits) continue;
    throw Error({.what = "no candidate fits a unit",
                 .where = "--candidates",
                 .expected = fmt::format("groups that divide {}, the inputs of {}",
                                         config.In(SitesOf(unit).front()), Name(unit))});
  }
  return candidates;
}

QuantOptions CandidateOptions(const QuantizeRequest& request) {
  QuantOptions options = request.quant;
  if (!request.damage.method.empty()) {
    options.method = request.damage.method;
  } else if (options.method == "best" && !request.assemble) {
    options.method = "gptq";
  }
  return options;
}

Record CodeSettings(const QuantizeRequest& a, const std::string& model_hash,
                    const EncodedText* calibration, const Windows& windows) {
  Record record{{"version", kVersion}, {"model", model_hash}};
  AddOptions(FloatInputs(CandidateOptions(a)), record);
  if (calibration != nullptr) {
    record["calibration"] = calibration->hash;
    record["samples"] = windows.count;
    record["context"] = windows.length;
    if (a.calibration.single_chats) record["chat_windows"] = "single";
  }
  return record;
}

Bench OpenBench(const QuantizeRequest& request, Source& source, const std::filesystem::path& codes,
                Session& session) {
  Bench bench{.source = source};
  const ModelFolder& model = source.model();
  RequireSource(model, "measure the float model it was made from", session.log());
  const DamageRequest& damage = request.damage;
  const bool calibrated = FindQuantizer(CandidateOptions(request).method).needs_calibration;
  const bool reads_calibration = calibrated || damage.text.empty();
  // What there is to say of the tokenizer is said once, with the calibration text.
  const Tokenizer tokenizer = OpenTokenizer(model, reads_calibration ? Log() : session.log());
  if (reads_calibration) (void)source.calibration();
  if (calibrated) bench.windows = source.windows();
  const Index length = damage.context, count = damage.windows;
  if (!damage.text.empty()) {
    const std::filesystem::path files[] = {damage.text};
    bench.text = EncodeFiles(tokenizer, files, request.reading, model, session.log());
    bench.damage_windows =
        CutWindows(bench.text.ids, length, count, bench.text.where, "--damage-context");
  } else {
    bench.text = source.calibration();
    const std::size_t wanted = std::min(bench.text.ids.size(), Size(length * count));
    const Index begin = static_cast<Index>(bench.text.ids.size() - wanted);
    if (begin < bench.windows.end) {
      session.log().Info(
          "damage is measured on windows that calibrate too: more calibration text, or --text "
          "FILE, makes it say more");
    }
    bench.damage_windows = CutWindows({bench.text.ids.begin() + begin, bench.text.ids.end()},
                                      std::min<Index>(length, static_cast<Index>(wanted)), count,
                                      bench.text.where, "--damage-context");
  }
  if (request.dry_run) return bench;
  bench.store.emplace(
      codes, model,
      WithDevice(CodeSettings(request, source.hash(), calibrated ? &source.calibration() : nullptr,
                              bench.windows),
                 session));
  return bench;
}

bool ChoosesEnds(const QuantizeRequest& request, const ModelConfig& config) {
  if (request.budget.allocation != "optimal" || !request.plan.empty()) return false;
  if (request.grids.embedding_bits || request.grids.head_bits) return false;
  // A head that a transform parts from the embedding is in no plan.
  return !(config.tied && Unties(TransformsOf(request.transforms, request.quant.method)));
}

std::vector<EndCandidates> EndCandidatesOf(const QuantizeRequest& request,
                                           const ModelConfig& config) {
  const ContainerTarget* target = request.grids.target;
  std::vector<std::optional<Grid>> grids{std::nullopt};
  const auto add = [&](const Grid& grid) {
    if (config.hidden % RowStep(grid, config.hidden) != 0) return false;
    if (target != nullptr && !HoldsEnds(*target, grid, config)) return false;
    grids.emplace_back(grid);
    return true;
  };
  if (IsForBlocks(request)) {
    (void)add({.bits = 8, .group_size = 32});
    for (const int bits : {6, 4}) (void)add(KQuantOfBits(bits)->grid);
    for (const int bits : {5, 4}) (void)add({.bits = bits, .group_size = 32});
    (void)add({.bits = 2, .group_size = 64});
  } else {
    // Widths with their groups, widest first; of a width alone what pays: at 8 bits a narrower
    // group gives nothing back, at 2 a wide one loses more than it saves.
    for (const Index group : {128, 64, 32}) {
      if (add({.bits = 8, .group_size = group})) break;
    }
    if (target != nullptr && target->offers_six_bits) {
      for (const Index group : {128, 64, 32}) {
        if (add({.bits = 6, .group_size = group})) break;
      }
    }
    for (const Index group : {128, 64, 32}) (void)add({.bits = 4, .group_size = group});
    for (const Index group : {128, 64}) (void)add({.bits = 3, .group_size = group});
    for (const Index group : {64, 32}) (void)add({.bits = 2, .group_size = group});
  }
  std::vector<EndCandidates> ends;
  const BoundGrids bound = BindRules(request, config);
  for (const End end : EndsIn(config)) {
    const auto& rule = bound.ends[static_cast<std::size_t>(end)];
    ends.push_back({end, rule ? std::vector{*rule} : grids});
  }
  return ends;
}

ModelGrids GridsOfChoice(const Candidates& candidates, const std::vector<std::size_t>& choice) {
  ModelGrids grids;
  const std::size_t rows = choice.size() - candidates.ends.size();
  for (std::size_t u = 0; u < rows; u += kUnits) {
    std::array<Grid, kUnits> units;
    for (std::size_t i = 0; i < kUnits; ++i) units[i] = candidates.units[choice[u + i]];
    grids.AddLayer(units);
  }
  for (std::size_t i = 0; i < candidates.ends.size(); ++i) {
    const EndCandidates& end = candidates.ends[i];
    grids.ends.At(end.end) = end.grids[choice[rows + i]];
  }
  return grids;
}

namespace {

/// Whether a piece is not known and is to be computed here. Without pieces all are to be.
bool IsToBeMeasured(const std::string& key, Index owner, WorkPieces* pieces) {
  return pieces == nullptr || (pieces->Find(key) == nullptr && pieces->IsMine(owner));
}

std::string LayerKey(Index layer) {
  return fmt::format("layer {}", layer);
}

std::string EndKey(End end, std::size_t candidate) {
  return fmt::format("{} at candidate {}", Name(end), candidate);
}

/// Candidates of the ends that are to be measured here.
using EndRuns = std::vector<std::pair<const EndCandidates*, std::size_t>>;

/// owners: of the candidates that are no floats, in order.
EndRuns EndsToMeasure(std::span<const EndCandidates> ends, std::span<const Index> owners,
                      WorkPieces* pieces) {
  EndRuns runs;
  std::size_t next = 0;
  for (const EndCandidates& end : ends) {
    for (std::size_t c = 0; c < end.grids.size(); ++c) {
      if (!end.grids[c]) continue;  // floats cost nothing
      if (IsToBeMeasured(EndKey(end.end, c), owners[next++], pieces)) runs.emplace_back(&end, c);
    }
  }
  return runs;
}

/// Each end at each of its candidates, all else whole; those that are another's stay 0.
std::vector<EndSensitivity> DamagesOfEnds(const Bench& bench, std::span<const EndCandidates> ends,
                                          const EndRuns& runs,
                                          const std::function<DamageMeter&()>& meter,
                                          Session& session) {
  std::vector<EndSensitivity> measured;
  for (const EndCandidates& end : ends) {
    const std::vector<double> nothing(end.grids.size());
    measured.push_back({.candidates = end, .kl = nothing, .nll_rise = nothing});
  }
  WorkPieces* pieces = session.context().pieces;
  if (!runs.empty()) {
    Stage progress(session.context().progress, "measuring the ends", "candidate",
                   static_cast<Index>(runs.size()));
    meter().Models(
        static_cast<Index>(runs.size()),
        [&](Index i) {
          const auto& [end, candidate] = runs[Size(i)];
          return bench.store->WithEnd(end->end, *end->grids[candidate]);
        },
        [&](Index i, const Damage& damage) {
          const auto& [end, candidate] = runs[Size(i)];
          EndSensitivity& row = measured[Size(end - ends.data())];
          row.kl[candidate] = damage.kl;
          row.nll_rise[candidate] = damage.nll_rise;
          if (pieces != nullptr) {
            const std::vector<double> numbers{damage.kl, damage.nll_rise};
            pieces->Keep(EndKey(end->end, candidate), PieceOfNumbers({&numbers, 1}));
          }
          progress.Done();
        });
  }
  if (pieces == nullptr || !pieces->whole()) return measured;
  for (EndSensitivity& row : measured) {
    for (std::size_t c = 0; c < row.kl.size(); ++c) {
      if (!row.candidates.grids[c]) continue;
      const std::string key = EndKey(row.candidates.end, c);
      constexpr std::size_t kNumbers = 2;
      const auto numbers = NumbersOfPiece(*pieces->Find(key), {&kNumbers, 1}, key);
      row.kl[c] = numbers[0][0];
      row.nll_rise[c] = numbers[0][1];
    }
  }
  return measured;
}

/// The units of a layer with the losses of their candidates; nothing is measured.
std::vector<UnitSensitivity> LossesOf(const Bench& bench, Index layer,
                                      const std::vector<Grid>& candidates) {
  const ModelConfig& config = bench.source.model().weights.config;
  std::vector<std::array<LinearReport, kSites>> reports;
  for (const Grid& grid : candidates) reports.push_back(bench.store->Reports(layer, grid));
  std::vector<UnitSensitivity> units;
  for (const Unit unit : kAllUnits) {
    UnitSensitivity row{.layer = layer, .unit = unit, .loss = {}, .measured = {}};
    for (std::size_t c = 0; c < candidates.size(); ++c) {
      double error = 0, signal = 0;
      for (const Site site : SitesOf(unit)) {
        error += reports[c][static_cast<std::size_t>(site)].error;
        signal += reports[c][static_cast<std::size_t>(site)].signal;
      }
      row.loss.push_back(!Fits(candidates[c], config, unit)
                             ? std::nullopt
                             : std::optional(signal > 0 ? error / signal : 0.0));
    }
    units.push_back(std::move(row));
  }
  return units;
}

/// Which replacements of a unit are run: all, or the one that changes its loss most. base: the
/// candidate that it has in the base mix; none: it is whole there.
std::vector<std::size_t> CandidatesToRun(const UnitSensitivity& unit, bool every,
                                         std::optional<std::size_t> base) {
  const double from = base ? *unit.loss[*base] : 0;
  std::vector<std::size_t> wanted;
  for (std::size_t c = 0; c < unit.loss.size(); ++c) {
    if (!unit.loss[c] || c == base) continue;
    if (every) {
      wanted.push_back(c);
    } else if (wanted.empty() ||
               std::fabs(*unit.loss[c] - from) > std::fabs(*unit.loss[wanted.front()] - from)) {
      wanted = {c};
    }
  }
  return wanted;
}

/// Measures the units of some layers, [layers]; `layers` rises.
std::vector<LayerSensitivity> MeasureLayers(const Bench& bench, const std::vector<Index>& layers,
                                            const std::vector<Grid>& candidates, bool every,
                                            const std::vector<std::size_t>& base,
                                            const std::function<DamageMeter&()>& meter,
                                            Session& session) {
  std::vector<LayerSensitivity> measured;
  std::vector<LayerVariant> variants;
  std::vector<std::array<std::size_t, 3>> what;  // of `measured`, unit, candidate
  for (const Index layer : layers) {
    measured.push_back({.units = LossesOf(bench, layer, candidates)});
    for (std::size_t i = 0; i < kUnits; ++i) {
      const std::size_t first = Size(layer) * kUnits;
      const auto held = base.empty() ? std::nullopt : std::optional(base[first + i]);
      for (const std::size_t c : CandidatesToRun(measured.back().units[i], every, held)) {
        what.push_back({measured.size() - 1, i, c});
        variants.push_back({layer, [&, layer, first, i, c] {
                              std::array<const Grid*, kUnits> grids{};
                              for (std::size_t u = 0; u < kUnits && !base.empty(); ++u) {
                                grids[u] = &candidates[base[first + u]];
                              }
                              grids[i] = &candidates[c];
                              return bench.store->Layer(layer, grids);
                            }});
      }
    }
  }
  const ModelConfig& config = bench.source.model().weights.config;
  const Index passes = DamageMeter::LayerPasses(config.layers, variants);
  session.log().Info(
      fmt::format("measuring {} replacements: {:.1f} forward passes over {} windows of {} tokens",
                  variants.size(), static_cast<double>(passes) / static_cast<double>(config.layers),
                  bench.damage_windows.count, bench.damage_windows.length));
  const Weights start =
      base.empty() ? bench.source.model().weights
                   : bench.store->Mix(GridsOfChoice({.units = candidates, .ends = {}}, base),
                                      session.pool());
  const std::vector<Damage> damages = meter().Variants(start, variants);
  for (std::size_t i = 0; i < what.size(); ++i) {
    const auto& [row, unit, candidate] = what[i];
    measured[row].units[unit].measured.push_back({.candidate = candidate,
                                                  .kl = damages[i].kl,
                                                  .nll_rise = damages[i].nll_rise,
                                                  .window_nll_rise = damages[i].window_nll_rise});
  }
  for (LayerSensitivity& layer : measured) {
    layer.stride = meter().stride();
    if (base.empty()) continue;
    layer.base_kl = damages.back().kl;
    layer.base_nll_rise = damages.back().nll_rise;
  }
  return measured;
}

/// As many variants as were run in each layer, to count passes.
Index LayerPasses(const Sensitivities& s) {
  std::vector<LayerVariant> variants;
  for (const UnitSensitivity& unit : s.units) {
    variants.insert(variants.end(), unit.measured.size(),
                    LayerVariant{.layer = unit.layer, .weights = {}});
  }
  return DamageMeter::LayerPasses(s.layers(), variants);
}

}  // namespace

Sensitivities MeasureSensitivities(const QuantizeRequest& request, const Bench& bench,
                                   const Candidates& all, bool every,
                                   const std::vector<std::size_t>& base,
                                   const std::function<DamageMeter&()>& meter, Session& session) {
  const Stopwatch watch;
  const ModelConfig& config = bench.source.model().weights.config;
  const std::vector<Grid>& candidates = all.units;
  const QuantOptions options = CandidateOptions(request);
  WorkPieces* pieces = session.context().pieces;
  // In a context, units alone are measured.
  const std::span<const EndCandidates> measured_ends =
      base.empty() ? std::span(all.ends) : std::span<const EndCandidates>();
  const std::vector<Index> owners =
      DealSensitivities({.config = config,
                         .options = options,
                         .candidates = candidates,
                         .ends = measured_ends,
                         .calibration = bench.windows,
                         .damage = bench.damage_windows,
                         .every = every},
                        pieces != nullptr ? session.others().parts() : 1);
  std::vector<Index> layers;  // to be measured here
  for (Index layer = 0; layer < config.layers; ++layer) {
    if (IsToBeMeasured(LayerKey(layer), owners[Size(layer)], pieces)) layers.push_back(layer);
  }
  const EndRuns ends =
      EndsToMeasure(measured_ends, std::span(owners).subspan(Size(config.layers)), pieces);
  if (pieces != nullptr && pieces->computes()) session.others().Show();
  bench.store->Make(candidates, options, bench.windows, layers, session);
  if (!base.empty() && !layers.empty()) {  // the mix is of all layers
    if (pieces != nullptr) {
      (void)AwaitOthers(session.others(), session.context(), watch.seconds(),
                        [&] { return bench.store->Has(candidates); });
    }
    bench.store->Make(candidates, options, bench.windows, session);
  }
  bench.store->MakeEnds(ends, options, bench.windows, session);

  Sensitivities s{.mode = base.empty() ? DamageMode::kSolo : DamageMode::kContext,
                  .candidates = candidates,
                  .units = {},
                  .ends = {},
                  .base = base,
                  .windows = bench.damage_windows.count,
                  .context = bench.damage_windows.length,
                  .method = options.method,
                  .model_hash = bench.source.hash(),
                  .text_hash = bench.text.hash,
                  .calibration_hash =
                      bench.source.calibration_read() ? bench.source.calibration_read()->hash : ""};
  std::vector<LayerSensitivity> measured;
  if (!layers.empty()) {
    measured = MeasureLayers(bench, layers, candidates, every, base, meter, session);
  }
  for (std::size_t i = 0; i < measured.size() && pieces != nullptr; ++i) {
    pieces->Keep(LayerKey(layers[i]), PieceOf(measured[i]));
  }
  s.ends = DamagesOfEnds(bench, measured_ends, ends, meter, session);
  s.seconds = watch.seconds();
  if (pieces != nullptr) {
    s.seconds = pieces->Seconds("sensitivity", s.seconds);
    if (!pieces->whole()) return s;
    measured.clear();
    for (Index layer = 0; layer < config.layers; ++layer) {
      const std::string key = LayerKey(layer);
      measured.push_back(
          LayerOfPiece(*pieces->Find(key), key, layer, candidates.size(), s.windows));
    }
  }
  for (LayerSensitivity& layer : measured) {
    std::ranges::move(layer.units, std::back_inserter(s.units));
    s.stride = layer.stride;
    s.base_kl = layer.base_kl;
    s.base_nll_rise = layer.base_nll_rise;
  }
  s.layer_passes = LayerPasses(s);
  return s;
}

}  // namespace lieq
