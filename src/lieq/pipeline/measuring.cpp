#include "lieq/pipeline/measuring.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "lieq/base/error.h"
#include "lieq/container/engines.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/module_rules.h"
#include "lieq/pipeline/quantize_settings.h"
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
  const bool by_128 = std::ranges::all_of(
      kAllUnits, [&](Unit unit) { return config.In(SitesOf(unit).front()) % 128 == 0; });
  const Index group = by_128 ? 128 : 64;
  const double bits = BitsForLayers(request, config).value_or(0);
  if (IsForBlocks(request)) {
    std::vector<Grid> shapes{{.bits = 2, .group_size = 64}, {.bits = 4, .group_size = 32}};
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
    if (begin < bench.windows.count * bench.windows.length) {
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
    (void)add({.bits = 4, .group_size = 32});
    (void)add({.bits = 2, .group_size = 64});
  } else {
    // Widths with their groups, widest first; of a width alone what pays: at 8 bits a narrower
    // group gives nothing back, at 2 a wide one loses more than it saves.
    for (const Index group : {128, 64, 32}) {
      if (add({.bits = 8, .group_size = group})) break;
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

/// Each end at each of its candidates, all else whole.
std::vector<EndSensitivity> DamagesOfEnds(const Bench& bench,
                                          const std::vector<EndCandidates>& ends,
                                          DamageMeter& meter, Session& session) {
  std::size_t runs = 0, done = 0;
  for (const EndCandidates& end : ends) runs += end.grids.size();
  Progress& progress = session.context().progress;
  progress.Begin("measuring the ends", "candidate", static_cast<Index>(runs));
  std::vector<EndSensitivity> measured;
  for (const EndCandidates& end : ends) {
    EndSensitivity row{.candidates = end, .kl = {}, .nll_rise = {}};
    for (const std::optional<Grid>& grid : end.grids) {
      Damage damage;
      if (grid) damage = meter.Model(bench.store->WithEnd(end.end, *grid));
      row.kl.push_back(damage.kl);
      row.nll_rise.push_back(damage.nll_rise);
      progress.Update(static_cast<Index>(++done));
    }
    measured.push_back(std::move(row));
  }
  progress.End();
  return measured;
}

}  // namespace

Sensitivities MeasureSensitivities(const QuantizeRequest& request, const Bench& bench,
                                   const Candidates& all, bool every,
                                   const std::vector<std::size_t>& base, DamageMeter& meter,
                                   Session& session) {
  const auto begin = std::chrono::steady_clock::now();
  const ModelConfig& config = bench.source.model().weights.config;
  const std::vector<Grid>& candidates = all.units;
  const QuantOptions options = CandidateOptions(request);
  bench.store->Make(candidates, options, bench.windows, session);
  bench.store->MakeEnds(all.ends, options, bench.windows, session);

  Sensitivities s{.mode = base.empty() ? DamageMode::kSolo : DamageMode::kContext,
                  .candidates = candidates,
                  .base = base,
                  .windows = bench.damage_windows.count,
                  .context = bench.damage_windows.length,
                  .stride = meter.stride(),
                  .method = options.method,
                  .model_hash = bench.source.hash(),
                  .text_hash = bench.text.hash,
                  .calibration_hash =
                      bench.source.calibration_read() ? bench.source.calibration_read()->hash : ""};
  for (Index layer = 0; layer < config.layers; ++layer) {
    std::vector<std::array<LinearReport, kSites>> reports;
    for (const Grid& grid : candidates) reports.push_back(bench.store->Reports(layer, grid));
    for (const Unit unit : kAllUnits) {
      UnitSensitivity row{.layer = layer, .unit = unit};
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
      s.units.push_back(std::move(row));
    }
  }

  // Which replacements are run: all, or for each unit the one that changes its loss most.
  std::vector<LayerVariant> variants;
  std::vector<std::pair<std::size_t, std::size_t>> what;  // unit, candidate
  for (std::size_t u = 0; u < s.units.size(); ++u) {
    const UnitSensitivity& unit = s.units[u];
    const double from = base.empty() ? 0 : *unit.loss[base[u]];
    std::vector<std::size_t> wanted;
    for (std::size_t c = 0; c < candidates.size(); ++c) {
      if (!unit.loss[c] || (!base.empty() && c == base[u])) continue;
      if (every) {
        wanted.push_back(c);
      } else if (wanted.empty() ||
                 std::fabs(*unit.loss[c] - from) > std::fabs(*unit.loss[wanted.front()] - from)) {
        wanted = {c};
      }
    }
    for (const std::size_t c : wanted) {
      what.emplace_back(u, c);
      variants.push_back({unit.layer, [&, u, c] {
                            std::array<const Grid*, kUnits> grids{};
                            const std::size_t first = u - u % kUnits;
                            for (std::size_t i = 0; i < kUnits; ++i) {
                              if (!base.empty()) grids[i] = &candidates[base[first + i]];
                            }
                            grids[u % kUnits] = &candidates[c];
                            return bench.store->Layer(s.units[u].layer, grids);
                          }});
    }
  }
  s.layer_passes = DamageMeter::LayerPasses(config.layers, variants);
  session.log().Info(fmt::format(
      "measuring {} replacements: {:.1f} forward passes over {} windows of {} tokens",
      variants.size(), static_cast<double>(s.layer_passes) / static_cast<double>(config.layers),
      s.windows, s.context));
  const Weights start =
      base.empty() ? bench.source.model().weights
                   : bench.store->Mix(GridsOfChoice({.units = candidates, .ends = {}}, base));
  const std::vector<Damage> damages = meter.Variants(start, variants);
  for (std::size_t i = 0; i < what.size(); ++i) {
    s.units[what[i].first].measured.push_back({.candidate = what[i].second,
                                               .kl = damages[i].kl,
                                               .nll_rise = damages[i].nll_rise,
                                               .window_nll_rise = damages[i].window_nll_rise});
  }
  if (!base.empty()) {
    s.base_kl = damages.back().kl;
    s.base_nll_rise = damages.back().nll_rise;
  }
  if (base.empty()) s.ends = DamagesOfEnds(bench, all.ends, meter, session);
  s.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return s;
}

}  // namespace lieq
