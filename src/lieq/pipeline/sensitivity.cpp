#include "lieq/pipeline/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/stopwatch.h"
#include "lieq/diagnose/damage.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/forecast.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/output_places.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/source.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// Candidates of the mix that the others are changed in: those of --base, or the cheapest.
std::vector<std::size_t> BaseMix(const QuantizeRequest& request, const ModelConfig& config,
                                 const std::vector<Grid>& candidates) {
  std::vector<std::size_t> base;
  if (request.damage.base.empty()) {
    for (Index u = 0; u < config.layers * kUnits; ++u) {
      const Unit unit = kAllUnits[Size(u % kUnits)];
      std::size_t cheapest = candidates.size();
      for (std::size_t c = 0; c < candidates.size(); ++c) {
        if (!Fits(candidates[c], config, unit)) continue;
        if (cheapest == candidates.size() ||
            UnitStoredBits(config, u / kUnits, unit, candidates[c]) <
                UnitStoredBits(config, u / kUnits, unit, candidates[cheapest])) {
          cheapest = c;
        }
      }
      base.push_back(cheapest);
    }
    return base;
  }
  const Plan plan = ReadPlan(request.damage.base, request, config);
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    for (std::size_t unit = 0; unit < kUnits; ++unit) {
      const Grid& grid = plan.grids.At(layer, kAllUnits[unit]);
      const auto found = std::ranges::find(candidates, grid);
      if (found == candidates.end()) {
        throw Error({.what = "the base mix has a grid that is not among the candidates",
                     .where = request.damage.base.string() + ", layer " + std::to_string(layer) +
                              ", " + std::string(Name(kAllUnits[unit])),
                     .found = Label(grid),
                     .hint = "name it in --candidates"});
      }
      base.push_back(static_cast<std::size_t>(found - candidates.begin()));
    }
  }
  return base;
}

/// The codes, which are all that is written, against what is read.
void CheckCodes(const QuantizeRequest& request, const fs::path& codes) {
  std::vector<InputPlace> inputs{{request.model, InputRole::kModel, "the source model"}};
  const auto add = [&](const fs::path& path, InputRole role, std::string_view what) {
    if (!path.empty()) inputs.push_back({path, role, what});
  };
  add(request.damage.text, InputRole::kFile, "the text");
  add(request.damage.base, InputRole::kModel, "the base mix");
  for (const fs::path& file : request.calibration.files) {
    add(file, InputRole::kFile, "a calibration text");
  }
  CheckPlaces(inputs, {{codes, OutputRole::kCodes, "the folder of codes"}}, {});
}

/// A request whose inputs are read.
class Measurement {
 public:
  Measurement(const QuantizeRequest& request, Session& session)
      : request_(request),
        session_(session),
        codes_(CheckedCodes(request)),
        source_(request, session),
        bench_(OpenBench(request, source_, codes_, session)),
        candidates_{.units = CandidatesOf(request, source_.config()), .ends = {}} {
    if (request.damage.mode == DamageMode::kContext) {
      base_ = BaseMix(request, source_.config(), candidates_.units);
    } else {  // in a context, units alone are measured
      candidates_.ends = EndCandidatesOf(request, source_.config());
    }
  }

  [[nodiscard]] SensitivityForecast Foresee() {
    Estimate estimate = EstimateWork({.request = request_,
                                      .model = source_.model(),
                                      .windows = bench_.windows.count,
                                      .length = bench_.windows.length,
                                      .draws = request_.dry_run && CalibratesOnItself(request_),
                                      .candidates = candidates_.units,
                                      .ends = candidates_.ends,
                                      .codes = codes_,
                                      .measures_damage = true,
                                      .in_context = !base_.empty(),
                                      .damage_windows = bench_.damage_windows.count,
                                      .damage_length = bench_.damage_windows.length},
                                     watch_.seconds(), session_);
    return {.estimate = std::move(estimate), .config = source_.config()};
  }

  [[nodiscard]] Sensitivities Do() {
    if (request_.estimates && !session_.device_has_own_bytes()) {
      Declare(session_.context().progress, Foresee().estimate.stages);
    }
    Depend();
    std::optional<DamageMeter> meter;  // runs the whole model, so it is made when it is needed
    const auto needed = [&]() -> DamageMeter& {
      if (!meter) {
        meter.emplace(source_.model().weights, session_.team(), bench_.damage_windows.view(),
                      session_.context());
      }
      return *meter;
    };
    return MeasureSensitivities(request_, bench_, candidates_, request_.damage.measure_all, base_,
                                needed, session_);
  }

 private:
  /// What pieces depend on.
  void Depend() {
    WorkPieces* pieces = session_.context().pieces;
    if (pieces == nullptr) return;
    const bool calibrated = FindQuantizer(CandidateOptions(request_).method).needs_calibration;
    const Record codes = CodeSettings(
        request_, source_.hash(), calibrated ? &source_.calibration() : nullptr, bench_.windows);
    for (const auto& [name, value] : codes.items()) pieces->Depend(name, value.dump());
    (void)session_.device_description();
    (void)session_.arithmetic_name();
    pieces->Depend("damage", fmt::format("{} windows of {} of the text {}, {}, {}",
                                         bench_.damage_windows.count, bench_.damage_windows.length,
                                         bench_.text.hash, Name(request_.damage.mode),
                                         request_.damage.measure_all ? "all" : "some"));
    std::string grids;
    for (const Grid& grid : candidates_.units) grids += Label(grid) + ",";
    for (const EndCandidates& end : candidates_.ends) {
      grids += std::string(Name(end.end)) + ":";
      for (const std::optional<Grid>& grid : end.grids) grids += (grid ? Label(*grid) : "16") + ",";
    }
    for (const std::size_t candidate : base_) grids += std::to_string(candidate) + " ";
    pieces->Depend("candidates", grids);
  }

  static fs::path CheckedCodes(const QuantizeRequest& request) {
    fs::path codes = CodesFolder(request, false);
    CheckCodes(request, codes);
    return codes;
  }

  Stopwatch watch_;
  const QuantizeRequest& request_;
  Session& session_;
  fs::path codes_;
  Source source_;
  Bench bench_;
  Candidates candidates_;
  std::vector<std::size_t> base_;  // empty: each unit is changed alone
};

/// With the name of the output that the codes lie beside.
QuantizeRequest Plain(const QuantizeRequest& given, bool dry_run) {
  QuantizeRequest request = given;
  request.output = PlainOutput(request.output);
  request.dry_run = dry_run;
  return request;
}

}  // namespace

SensitivityForecast ForecastSensitivities(const QuantizeRequest& given, Session& session) {
  const QuantizeRequest request = Plain(given, true);
  return Measurement(request, session).Foresee();
}

Sensitivities MeasureSensitivities(const QuantizeRequest& given, Session& session) {
  const QuantizeRequest request = Plain(given, false);
  return Measurement(request, session).Do();
}

}  // namespace lieq
