// The four studies. What they flag: method.md section 5, docs/studies.md.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "lieq/base/error.h"
#include "lieq/base/statistics.h"
#include "lieq/diagnose/damage.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/pipeline/result_record.h"
#include "lieq/pipeline/studies.h"
#include "lieq/pipeline/study_measures.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/plan/allocate.h"
#include "lieq/plan/exports.h"
#include "lieq/plan/rankings.h"
#include "lieq/plan/sensitivities_json.h"

namespace lieq {
namespace {

constexpr double kStable = 0.8;          // Kendall's tau between calibration texts
constexpr double kHopeless = 100;        // perplexity at about 2 bits
constexpr double kTextSpread = 0.20;     // of perplexity over calibration texts
constexpr double kBackendSpread = 0.15;  // of perplexity over group sizes and orders

Record BitsOf(const ModelConfig& config, const ModelGrids& grids) {
  std::int64_t code = 0, stored = 0;
  for (Index layer = 0; layer < grids.layer_count(); ++layer) {
    for (const Unit unit : kAllUnits) {
      const Grid& grid = grids.At(layer, unit);
      code += grid.bits * UnitWeightCount(config, layer, unit);
      stored += UnitStoredBits(config, layer, unit, grid);
    }
  }
  const auto weights = static_cast<double>(config.WeightCount());
  return {{"code_bits", static_cast<double>(code) / weights},
          {"bits_per_weight", static_cast<double>(stored) / weights}};
}

/// Worst perplexity of a row's texts.
double Worst(const Record& perplexities) {
  double worst = 0;
  for (const auto& [text, value] : perplexities.items()) {
    worst = std::max(worst, value.get<double>());
  }
  return worst;
}

/// Layers after which activations are massive: a ratio to the median above 100 that more than
/// doubled in the layer; where none is, the one of the largest ratio.
std::vector<Index> MassiveLayers(const Diagnosis& diagnosis) {
  std::vector<Index> layers;
  double before = 0, most = 0;
  Index widest = 0;
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) {
    const double ratio = diagnosis.layers[i].activation_ratio.value_or(0);
    if (ratio > 100 && ratio > 2 * before) layers.push_back(static_cast<Index>(i));
    if (ratio > most) {
      most = ratio;
      widest = static_cast<Index>(i);
    }
    before = ratio;
  }
  if (layers.empty()) layers.push_back(widest);
  return layers;
}

/// The flag of a perplexity above 100: is the damage where the massive activations are?
void FlagHopeless(StudyBench& bench, const Diagnosis& diagnosis, std::span<const Index> raised,
                  double perplexity, std::string_view what) {
  std::string protected_layers, open_layers;
  for (const Index layer : MassiveLayers(diagnosis)) {
    const bool is_raised = std::ranges::find(raised, layer) != raised.end();
    std::string& list = is_raised ? protected_layers : open_layers;
    list += (list.empty() ? "" : ", ") + std::to_string(layer);
  }
  bench.Flag(
      "perplexity-above-100",
      fmt::format("perplexity {:.0f} {}: massive activations arise in layers {}", perplexity, what,
                  open_layers.empty() ? protected_layers + ", all protected"
                  : protected_layers.empty()
                      ? open_layers + ", none of them protected"
                      : protected_layers + " (protected) and " + open_layers + " (not)"));
}

/// Adds what the rankings need besides: the perplexity drop, damages of --sensitivities.
void AddMeasurements(StudyBench& bench, const EncodedText& calibration,
                     std::span<const std::string> rankings, Diagnosis& diagnosis) {
  const auto needs_drop = [](const std::string& name) {
    return FindRanking(name).needs.perplexity_drop;
  };
  if (std::ranges::any_of(rankings, needs_drop)) {
    AddPerplexityDrop(bench, calibration, diagnosis);
  }
  StudyRequest told = bench.request;
  for (const std::string& name : rankings) {
    const Needs& needs = FindRanking(name).needs;
    if (!needs.solo_damage && !needs.context_damage) continue;
    told.run.ranking.name = name;
    AddDamage(told.run, bench.model_hash, diagnosis, bench.session);
  }
}

/// The one plan of a study: --plan, or the layers that --ranking raises by --high-layers or --bits.
Plan StudyPlan(StudyBench& bench, const EncodedText& calibration, Diagnosis& diagnosis) {
  const StudyRequest& a = bench.request;
  const ModelConfig& config = bench.model.weights.config;
  if (!a.run.plan.empty()) return ReadPlan(a.run.plan, a.run, config);
  AddMeasurements(bench, calibration, {&a.run.ranking.name, 1}, diagnosis);
  const std::vector<double> scores = ScoreBy(bench, a.run.ranking.name, diagnosis);
  const std::vector<std::int64_t> weights = LayerWeightCounts(config);
  return RaiseLayers(a.run.budget.high_layers ? HighestLayers(scores, *a.run.budget.high_layers)
                                              : TopLayers(scores, weights, AverageOf(a.run)),
                     bench.LowGrid(), bench.HighGrid(), config);
}

/// Layers with a unit above the plan's lowest width.
std::vector<Index> RaisedLayers(const Plan& plan) {
  Plan widths = plan;
  SetWidthsUsed(widths);
  std::vector<Index> raised;
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    if (std::ranges::max(WidthsOf(plan, layer)) > widths.low) raised.push_back(layer);
  }
  return raised;
}

double Spread(const Record& rows, const std::string& text) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const Record& row : rows) {
    const double value = row["perplexity"][text].get<double>();
    least = std::min(least, value);
    most = std::max(most, value);
  }
  return rows.empty() ? 0 : most / least - 1;
}

std::string GroupText(Index size) {
  return size == 0 ? "row" : std::to_string(size);
}

/// The choices of a back end that a row of its study is made by.
struct Backend {
  std::string transforms;  // "none", or rows joined by +
  std::string method;
  ActOrder order{};
  Index size = 0;
};

/// The same widths, each on the study's own grid.
ModelGrids InGroups(ModelGrids grids, Index group_size, Offset offset) {
  for (auto& layer : grids.layers) {
    for (Grid& grid : layer) {
      grid = {.bits = grid.bits, .group_size = group_size, .offset = offset};
    }
  }
  return grids;
}

/// Transforms come after the plan: they leave the function, so what a plan is made by, as it is.
void BackendRow(StudyBench& bench, const Backend& backend, const EncodedText& calibration,
                const Plan& plan) {
  const StudyRequest& a = bench.request;
  const bool ordered = FindQuantizer(backend.method).needs_calibration;
  const bool transforms = backend.transforms != "none";
  QuantOptions options = a.run.quant;
  options.method = backend.method;
  options.act_order = backend.order;
  const std::string name =
      (transforms ? backend.transforms + "-" : "") +
      (ordered ? fmt::format("{}-{}", backend.method, Name(backend.order)) : backend.method);
  bench.Row(fmt::format("{}, group {}", name, GroupText(backend.size)), [&] {
    const Index samples = a.run.calibration.samples.value_or(kDefaultSamples);
    const Index context = a.run.calibration.context.value_or(kDefaultContext);
    const ModelGrids mix = InGroups(plan.grids, backend.size, a.run.grids.offset);
    const TransformList rows = TransformsOf(TransformSet(backend.transforms), backend.method);
    std::optional<TransformedModel> transformed;
    std::string folder = name;
    if (!rows.empty()) {  // choices are those for the grids, so codes are for one group size
      folder += "-" + GroupText(backend.size);
      Windows windows;
      if (NeedsCalibration(rows)) {
        windows = CutWindows(calibration.ids, context, samples, calibration.where);
      }
      const std::filesystem::path path = a.run.output / ("model-" + folder);
      transformed.emplace(TransformModel(bench.model, rows, a.run.seed, a.run.quant.clip,
                                         mix.layers, windows, path, bench.session));
    }
    const CodeStore store =
        bench.Codes(folder, options, &calibration, samples, context, GridsIn(mix.layers),
                    transformed ? &transformed->model : nullptr);
    Record row{{"method", backend.method},
               {"act_order", ordered ? Name(backend.order) : "-"},
               {"group_size", backend.size == 0 ? Record("row") : Record(backend.size)},
               {"symmetric", a.run.grids.offset == Offset::kSymmetric}};
    if (!rows.empty()) row["transform"] = NamesOf(rows);
    AddOffset(a.run.grids.offset, row);
    row.update(BitsOf(bench.model.weights.config, mix));
    row["assembled"] = true;
    row["perplexity"] = bench.Perplexities(store.Mix(mix, bench.session.pool()));
    row["gap"] = bench.Gaps(row["perplexity"]);
    return row;
  });
}

/// The scores of all experts, layer by layer.
std::vector<double> OfExperts(const Diagnosis& diagnosis,
                              std::vector<double> LayerDiagnosis::* score) {
  std::vector<double> all;
  for (const LayerDiagnosis& layer : diagnosis.layers) {
    all.insert(all.end(), (layer.*score).begin(), (layer.*score).end());
  }
  return all;
}

/// Whether the scores of experts predict what rounding one alone costs: over all experts, and the
/// mean over layers of the correlation inside each.
void CorrelateExperts(StudyBench& bench, const Diagnosis& cheap, const CodeStore& store,
                      const Grid& grid) {
  const Weights& weights = bench.model.weights;
  const std::vector<LayerVariant> variants = ExpertsOnGrid(weights, store, grid);
  const std::map<std::string, std::vector<double>> scores{
      {"compactness", OfExperts(cheap, &LayerDiagnosis::expert_compactness)},
      {"energy", OfExperts(cheap, &LayerDiagnosis::expert_top_k_energy)}};
  for (const StudyText& text : bench.texts) {
    for (const Index length : bench.request.lengths) {
      const std::string where = fmt::format("{}, {}", text.name, length);
      const Record measured = bench.Row("measured: " + where + ", experts", [&] {
        const Windows windows = bench.TextWindows(text, length);
        DamageMeter meter(weights, bench.session.team(), windows.view(), bench.session.context());
        const std::vector<Damage> damages = meter.Variants(weights, variants);
        Record row{{"text", text.name}, {"context", length}, {"windows", windows.count}};
        for (std::size_t i = 0; i < variants.size(); ++i) {
          row["expert_layers"].push_back(variants[i].layer);
          row["expert_kl"].push_back(damages[i].window_kl);
        }
        return row;
      });
      if (measured.is_null()) continue;  // another part's
      const auto truth = measured["expert_kl"].get<LayerWindows>();
      const auto layers = measured["expert_layers"].get<std::vector<Index>>();
      for (const auto& [name, score] : scores) {
        if (score.size() != truth.size()) continue;  // of attention alone
        bench.Derived(fmt::format("{}: {} of experts with solo-kl", where, name), [&] {
          Record made{{"text", text.name},
                      {"context", length},
                      {"score", name + " of experts"},
                      {"against", "solo-kl"}};
          made.update(Correlation(Columns(score), truth, measured["windows"].get<Index>(),
                                  bench.request.run.seed));
          return made;
        });
        bench.Derived(
            fmt::format("{}: {} of experts with solo-kl, inside layers", where, name), [&] {
              Record made{{"text", text.name},
                          {"context", length},
                          {"score", name + " of experts"},
                          {"against", "solo-kl inside layers"}};
              double sum = 0, count = 0;
              for (std::size_t begin = 0, end; begin < layers.size(); begin = end) {
                for (end = begin; end < layers.size() && layers[end] == layers[begin];) ++end;
                std::vector<double> mine(score.begin() + static_cast<std::ptrdiff_t>(begin),
                                         score.begin() + static_cast<std::ptrdiff_t>(end));
                std::vector<double> damage;
                for (std::size_t i = begin; i < end; ++i) {
                  damage.push_back(std::accumulate(truth[i].begin(), truth[i].end(), 0.0));
                }
                const auto rho = SpearmanRho(mine, damage);
                if (!rho) continue;
                sum += *rho;
                ++count;
              }
              if (count > 0) made["rho"] = sum / count;
              return made;
            });
      }
    }
  }
}

}  // namespace

void StudyCorrelation(StudyBench& bench) {
  const Weights& weights = bench.model.weights;
  const Index layers = weights.config.layers;
  const EncodedText calibration = bench.Calibration();
  const Diagnosis cheap = Diagnose(bench, calibration);
  const std::vector<Grid> grids{bench.LowGrid()};
  const CodeStore store =
      bench.Codes("", bench.request.run.quant, &calibration,
                  bench.request.run.calibration.samples.value_or(kDefaultSamples),
                  bench.request.run.calibration.context.value_or(kDefaultContext), grids);
  const std::vector<LayerVariant> variants = LayersOnGrid(layers, store, grids.front());
  double least = 1;
  std::string weakest;
  for (const StudyText& text : bench.texts) {
    for (const Index length : bench.request.lengths) {
      const std::string where = fmt::format("{}, {}", text.name, length);
      // The measurements of a text are one row of the record, its correlations follow from them.
      const Record measured = bench.Row("measured: " + where, [&] {
        const Windows windows = bench.TextWindows(text, length);
        Diagnosis drop;
        MeasurePerplexityDrop(weights, bench.session.device(), windows.view(),
                              bench.session.context(), drop);
        DamageMeter meter(weights, bench.session.team(), windows.view(), bench.session.context());
        const std::vector<Damage> damages = meter.Variants(weights, variants);
        Record row{{"text", text.name}, {"context", length}, {"windows", windows.count}};
        row["base_perplexity"] = *drop.base_perplexity;
        for (Index layer = 0; layer < layers; ++layer) {
          row["drop"].push_back(drop.layers[Size(layer)].window_nll_drop);
          row["solo"].push_back(damages[Size(layer)].window_nll_rise);
          row["solo_kl"].push_back(damages[Size(layer)].window_kl);
        }
        return row;
      });
      if (measured.is_null()) continue;  // another part's
      const auto windows = measured["windows"].get<Index>();
      using Table = LayerWindows;
      const std::map<std::string, Table> truths{{"perplexity-drop", measured["drop"].get<Table>()},
                                                {"solo", measured["solo"].get<Table>()},
                                                {"solo-kl", measured["solo_kl"].get<Table>()}};
      for (const auto& [against, truth] : truths) {
        std::map<std::string, Table> scores{
            {"compactness", Columns(ScoreBy(bench, "compactness", cheap))},
            {"energy", Columns(ScoreBy(bench, "energy", cheap))},
            {"block-influence", Columns(ScoreBy(bench, "block-influence", cheap))}};
        if (against != "perplexity-drop") scores["perplexity-drop"] = truths.at("perplexity-drop");
        for (const auto& [name, score] : scores) {
          const std::string key = fmt::format("{}: {} with {}", where, name, against);
          const Record row = bench.Derived(key, [&, &name = name, &score = score, &truth = truth] {
            Record made{
                {"text", text.name}, {"context", length}, {"score", name}, {"against", against}};
            made.update(Correlation(score, truth, windows, bench.request.run.seed));
            return made;
          });
          if (!row.contains("rho") || name == "perplexity-drop") continue;
          const double rho = row["rho"].get<double>();
          if (rho < least) {
            least = rho;
            weakest = key;
          }
        }
      }
    }
  }
  if (weights.config.HasExperts()) CorrelateExperts(bench, cheap, store, grids.front());
  if (least < kTrusted) {
    bench.Flag("cheap-ranking",
               fmt::format("Spearman's rho down to {:.2f} ({}), below {:g}: do not trust the cheap "
                           "rankings on this model; measure the damage (lieq sensitivity) and take "
                           "--allocation optimal",
                           least, weakest, kTrusted));
  }
}

void StudyLayers(StudyBench& bench) {
  const ModelConfig& config = bench.model.weights.config;
  const EncodedText calibration = bench.Calibration();
  Diagnosis diagnosis = Diagnose(bench, calibration);
  AddMeasurements(bench, calibration, bench.request.rankings, diagnosis);
  const Grid low = bench.LowGrid(), high = bench.HighGrid();
  const std::vector<Grid> grids{low, high};
  const CodeStore store =
      bench.Codes("", bench.request.run.quant, &calibration,
                  bench.request.run.calibration.samples.value_or(kDefaultSamples),
                  bench.request.run.calibration.context.value_or(kDefaultContext), grids);
  bench.BeginWithBase();
  const auto row_of = [&](const std::string& ranking, const std::vector<Index>& raised) {
    const ModelGrids mix = RaiseLayers(raised, low, high, config).grids;
    Record row{{"ranking", ranking}, {"high_layers", raised.size()}, {"layers", raised}};
    row.update(BitsOf(config, mix));
    row["assembled"] = true;
    row["perplexity"] = bench.Perplexities(store.Mix(mix, bench.session.pool()));
    row["gap"] = bench.Gaps(row["perplexity"]);
    return row;
  };
  const Index most = std::min(bench.request.most, config.layers);
  for (const std::string& ranking : bench.request.rankings) {
    const std::vector<double> scores = ScoreBy(bench, ranking, diagnosis);
    Record last;
    std::vector<Index> raised;
    for (Index m = 0; m <= most; ++m) {
      raised = HighestLayers(scores, m);
      const std::string key = m == 0 ? "no layer raised" : fmt::format("{} {}", ranking, m);
      last = bench.Row(key, [&] { return row_of(m == 0 ? "none" : ranking, raised); });
      if (last.is_null() || m != 1 || Worst(last["perplexity"]) <= kHopeless) continue;
      FlagHopeless(bench, diagnosis, raised, Worst(last["perplexity"]),
                   "with one layer raised by " + ranking);
    }
  }
}

void StudyCalibration(StudyBench& bench) {
  const StudyRequest& a = bench.request;
  const ModelConfig& config = bench.model.weights.config;
  bench.BeginWithBase();
  std::set<std::string> names;  // rows have them in their keys
  for (const auto& file : a.run.calibration.files) {
    if (names.insert(file.filename().string()).second) continue;
    throw Error({.what = "two texts of one name",
                 .where = "--calibration",
                 .found = file.filename().string()});
  }
  std::vector<std::vector<std::filesystem::path>> sets;
  for (const auto& file : a.run.calibration.files) sets.push_back({file});
  if (sets.empty()) sets.emplace_back();

  std::optional<Diagnosis> first;
  ModelGrids mix;  // one plan for all: what differs is the back end's text
  std::map<std::string, double> least;
  for (const auto& files : sets) {
    const EncodedText calibration = bench.Encode(files);
    Diagnosis diagnosis = Diagnose(bench, calibration);
    Record tau;
    if (!first) {
      mix = StudyPlan(bench, calibration, diagnosis).grids;
      first = diagnosis;
    } else {
      for (const std::string name : {"compactness", "energy", "block-influence"}) {
        const auto value =
            KendallTau(ScoreBy(bench, name, *first), ScoreBy(bench, name, diagnosis));
        if (!value) continue;
        tau[name] = *value;
        least[name] = least.contains(name) ? std::min(least[name], *value) : *value;
      }
    }
    for (const Index length : a.lengths) {
      for (const Index size : a.sizes) {
        const std::string name = calibration.names.front();
        const std::string key = fmt::format("{}, {} windows of {}", name, size, length);
        bench.Row(key, [&] {
          const CodeStore store =
              bench.Codes(fmt::format("{}-{}-{}", name, size, length), a.run.quant, &calibration,
                          size, length, GridsIn(mix.layers));
          Record row{{"calibration", calibration.names.front()},
                     {"samples", size},
                     {"context", length},
                     {"tokens", size * length}};
          row.update(BitsOf(config, mix));
          row["assembled"] = true;
          row["perplexity"] = bench.Perplexities(store.Mix(mix, bench.session.pool()));
          row["gap"] = bench.Gaps(row["perplexity"]);
          if (!tau.empty()) row["tau"] = tau;
          return row;
        });
      }
    }
  }
  for (const auto& [name, value] : least) {
    if (value >= kStable) continue;
    bench.Flag(
        "ranking-stability",
        fmt::format("the ranking by {} changes with the calibration text: Kendall's tau {:.2f}, "
                    "below {:g}",
                    name, value, kStable));
  }
  for (const StudyText& text : bench.texts) {
    const double spread = Spread(bench.rows(), text.name);
    if (spread <= kTextSpread) continue;
    bench.Flag(
        "calibration-spread",
        fmt::format("perplexity on {} differs by {:.0f} % over the calibration settings, more "
                    "than {:.0f} %",
                    text.name, 100 * spread, 100 * kTextSpread));
  }
}

void StudyBackend(StudyBench& bench) {
  const StudyRequest& a = bench.request;
  const ModelConfig& config = bench.model.weights.config;
  const EncodedText calibration = bench.Calibration();
  for (const Index size : a.group_sizes) CheckGroupSize(config, size);
  Diagnosis diagnosis = Diagnose(bench, calibration);
  const Plan plan = StudyPlan(bench, calibration, diagnosis);
  const std::vector<Index> raised = RaisedLayers(plan);
  bench.BeginWithBase();
  for (const std::string& set : a.transform_sets) {
    for (const std::string& method : a.methods) {
      for (const ActOrder order : a.act_orders) {
        if (!FindQuantizer(method).needs_calibration && order != a.act_orders.front()) continue;
        for (const Index size : a.group_sizes) {
          BackendRow(bench, {.transforms = set, .method = method, .order = order, .size = size},
                     calibration, plan);
        }
      }
    }
  }
  for (const StudyText& text : bench.texts) {
    const double spread = Spread(bench.rows(), text.name);
    if (spread <= kBackendSpread) continue;
    bench.Flag(
        "backend-spread",
        fmt::format("perplexity on {} differs by {:.0f} % over the back ends under one plan, "
                    "more than {:.0f} %: the back end decides, not the plan",
                    text.name, 100 * spread, 100 * kBackendSpread));
  }
  for (const Record& row : bench.rows()) {
    const double worst = Worst(row["perplexity"]);
    if (worst <= kHopeless) continue;
    FlagHopeless(bench, diagnosis, raised, worst, "with " + row["key"].get<std::string>());
    break;
  }
}

}  // namespace lieq
