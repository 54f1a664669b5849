// Which layers suffer where their inputs are rounded: the same as those whose weights are?
#include <fmt/format.h>

#include <map>
#include <numeric>
#include <string>

#include "lieq/diagnose/damage.h"
#include "lieq/pipeline/studies.h"
#include "lieq/pipeline/study_measures.h"

namespace lieq {
namespace {

/// How inputs are rounded.
struct InputRounding {
  int bits;
  Index group;  // columns that share a scale; 0: the whole row

  [[nodiscard]] std::string name() const {
    return fmt::format("int{} by {}", bits, group == 0 ? "row" : std::to_string(group));
  }
};

std::vector<LayerVariant> LayersRounded(Index layers, const InputRounding& rounding,
                                        Device& device) {
  CalibrationOps& ops = RequireCalibration(device);
  std::vector<LayerVariant> variants;
  for (Index layer = 0; layer < layers; ++layer) {
    variants.push_back({.layer = layer, .inputs = [&ops, rounding](Unit, DeviceView<float> x) {
                          ops.RoundRows(x, rounding.group == 0 ? x.cols() : rounding.group,
                                        rounding.bits);
                        }});
  }
  return variants;
}

/// Divergences of a text's windows: of each rounding, and of weights at the lower width.
Record Measured(StudyBench& bench, const StudyText& text, Index length, const CodeStore& store,
                const Grid& grid, std::span<const InputRounding> roundings) {
  const Weights& weights = bench.model.weights;
  Device& device = bench.session.device();
  const Windows windows = bench.TextWindows(text, length);
  DamageMeter meter(weights, bench.session.team(), windows.view(), bench.session.context());
  Record row{{"text", text.name}, {"context", length}, {"windows", windows.count}};
  const auto add = [&](const std::string& name, std::span<const LayerVariant> variants) {
    const std::vector<Damage> damages = meter.Variants(weights, variants);
    for (std::size_t layer = 0; layer + 1 < damages.size(); ++layer) {
      row["kl"][name].push_back(damages[layer].window_kl);
    }
  };
  add("weights", LayersOnGrid(weights.config.layers, store, grid));
  for (const InputRounding& rounding : roundings) {
    add(rounding.name(), LayersRounded(weights.config.layers, rounding, device));
  }
  return row;
}

/// Mean over windows, summed over layers.
double Total(const LayerWindows& kl) {
  double total = 0;
  for (const std::vector<double>& windows : kl) {
    total +=
        std::accumulate(windows.begin(), windows.end(), 0.0) / static_cast<double>(windows.size());
  }
  return total;
}

}  // namespace

void StudyActivations(StudyBench& bench) {
  const EncodedText calibration = bench.Calibration();
  const Diagnosis cheap = Diagnose(bench, calibration);
  const Grid grid = bench.LowGrid();
  const CodeStore store =
      bench.Codes("", bench.request.run.quant, &calibration,
                  bench.request.run.calibration.samples.value_or(kDefaultSamples),
                  bench.request.run.calibration.context.value_or(kDefaultContext), {{grid}});
  std::vector<InputRounding> roundings;
  for (const Index group : bench.request.group_sizes) {
    for (const int bits : {8, 4}) roundings.push_back({bits, group});
  }
  for (const StudyText& text : bench.texts) {
    for (const Index length : bench.request.lengths) {
      const std::string where = fmt::format("{}, {}", text.name, length);
      const Record measured = bench.Row("measured: " + where, [&] {
        return Measured(bench, text, length, store, grid, roundings);
      });
      if (measured.is_null()) continue;  // another part's
      const auto of = [&](const std::string& name) {
        return measured["kl"][name].get<LayerWindows>();
      };
      std::map<std::string, LayerWindows> scores{{"weights", of("weights")}};
      for (const char* name : {"compactness", "energy", "block-influence"}) {
        scores[name] = Columns(ScoreBy(bench, name, cheap));
      }
      for (const InputRounding& rounding : roundings) {
        const LayerWindows truth = of(rounding.name());
        for (const auto& [name, score] : scores) {
          const Record& row =
              bench.Derived(fmt::format("{}: {} with {}", where, name, rounding.name()), [&] {
                Record made{{"text", text.name},
                            {"context", length},
                            {"score", name},
                            {"against", rounding.name()},
                            {"total_kl", Total(truth)}};
                made.update(Correlation(score, truth, measured["windows"].get<Index>(),
                                        bench.request.run.seed));
                return made;
              });
          const double rho = row.value("rho", 1.0);
          if (rounding.bits != 4 || name != "weights" || rho >= kTrusted) continue;
          bench.Flag("activation-layers",
                     fmt::format("Spearman's rho {:.2f} of the damage of {} with that of weights "
                                 "({}), below {:g}: the layers whose weights need bits are not "
                                 "those whose inputs do",
                                 rho, rounding.name(), where, kTrusted));
        }
      }
    }
  }
}

}  // namespace lieq
