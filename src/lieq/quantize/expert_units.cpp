#include "lieq/quantize/expert_units.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "lieq/quantize/layer_inputs.h"
#include "lieq/quantize/scale_range.h"

namespace lieq {
namespace {

/// Adds the report of one of `experts`.
void AddReport(const LinearReport& one, Index experts, LinearReport& all) {
  const auto share = 1 / static_cast<double>(experts);
  all.error += one.error;
  all.signal += one.signal;
  all.damping = std::max(all.damping, one.damping);
  all.retries = std::max(all.retries, one.retries);
  all.fell_back = all.fell_back || one.fell_back;
  all.dead_columns += one.dead_columns;
  all.clamped += share * one.clamped;
  all.coarse_scales += share * one.coarse_scales;
  all.seconds += one.seconds;
  all.start_error += one.start_error;
  all.moves += one.moves;
  all.held_out_start += one.held_out_start;
  all.held_out += one.held_out;
  all.kept_rows += share * one.kept_rows;
}

/// Of one linear on one grid, the experts so far.
struct Parts {
  std::vector<std::shared_ptr<const QMatrix>> matrices;
  LinearReport report;
};

void WarnOfFactors(const ExpertUnit& work, Site site, const LinearReport& report,
                   Context& context) {
  if (!report.fell_back) return;
  context.log.Warning(LinearPlace(work.layer, Name(site)) +
                      ": the Gram matrix of some expert could not be factorised with any damping "
                      "up to 1; it was rounded to nearest instead");
}

}  // namespace

QuantOptions ForExperts(QuantOptions options) {
  options.drift = options.residual = Strength(0);
  return WithDefaults(std::move(options));
}

void RoundExperts(const ExpertUnit& work, std::vector<CalibrationStatistics> measured,
                  std::span<const Grid> grids, std::span<QuantizedLayer* const> results,
                  Context& context) {
  const auto& linears = work.unit.linears;
  const Index experts = work.config.experts.count;
  measured.resize(Size(experts));
  std::vector<Parts> parts(grids.size() * linears.size());
  for (Index expert = 0; expert < experts; ++expert) {
    context.ThrowIfStopped();
    CalibrationStatistics& own = measured[Size(expert)];
    if (work.quantizer.needs_calibration) {
      RequireFiniteGram(own.fit.gram, work.layer, work.unit.unit);
    }
    const std::unique_ptr<UnitSolver> solver =
        work.quantizer.begin(std::move(own), work.options, context);
    for (std::size_t i = 0; i < linears.size(); ++i) {
      const Site site = linears[i].site;
      const AnyMatrix& all = work.weights.At(site).weight;
      const Index rows = Rows(all) / experts;
      const Matrix<float> w =
          WidenedWeights(RowsOf(all, expert * rows, rows), work.layer, site, context);
      for (std::size_t g = 0; g < grids.size(); ++g) {
        Parts& to = parts[g * linears.size() + i];
        LinearReport report;
        to.matrices.push_back(std::make_shared<const QMatrix>(QuantizeInRange(
            w.view(), grids[g], work.wide, report, [&](const LinearFloats& some, double multiple) {
              return solver->Quantize(some, grids[g], multiple, report);
            })));
        AddReport(report, experts, to.report);
      }
    }
  }
  for (std::size_t g = 0; g < grids.size(); ++g) {
    for (std::size_t i = 0; i < linears.size(); ++i) {
      Parts& from = parts[g * linears.size() + i];
      const auto site = static_cast<std::size_t>(linears[i].site);
      from.report.thin_experts = work.thin;
      WarnOfFactors(work, linears[i].site, from.report, context);
      results[g]->matrices[site] = std::make_shared<const QMatrix>(QMatrix::Stacked(from.matrices));
      results[g]->reports[site] = std::move(from.report);
      from.matrices.clear();
    }
  }
}

}  // namespace lieq
