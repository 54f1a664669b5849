#include "lieq/cli/transform_choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "lieq/base/error.h"
#include "lieq/cli/inputs.h"
#include "lieq/cli/transforming.h"
#include "lieq/diagnose/damage.h"
#include "lieq/quantize/layer_quantizer.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr Index kDraws = 3;
constexpr Index kMostFitted = 16, kMostJudged = 16;  // windows
constexpr Index kLeastWindows = 8;                   // two to judge, two for each draw
constexpr int kMostRounds = 1;
// With four rows, one error would let chance pick a row in every second model where none helps.
constexpr double kErrors = 2;

/// One set of rows and what it leaves: KL by draw and judging window.
struct Trial {
  std::vector<std::string> names;  // without what the method brings
  std::vector<std::vector<double>> kl;

  [[nodiscard]] double Mean() const {
    double sum = 0;
    for (const auto& draw : kl) {
      for (const double value : draw) sum += value / static_cast<double>(draw.size());
    }
    return sum / static_cast<double>(kl.size());
  }
};

/// How far a trial is below the plain model, and the two parts of its variance.
struct Gain {
  double mean = 0;
  double between_draws = 0;  // variance of one draw's gain
  double of_windows = 0;     // of the mean, by windows
};

/// Mean and variance (of one value). At least two values.
std::pair<double, double> MeanAndVariance(const std::vector<double>& values) {
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, squares / static_cast<double>(values.size() - 1)};
}

Gain GainOver(const Trial& plain, const Trial& trial) {
  std::vector<double> by_draw, by_window(plain.kl.front().size());
  for (std::size_t d = 0; d < plain.kl.size(); ++d) {
    double sum = 0;
    for (std::size_t w = 0; w < by_window.size(); ++w) {
      const double gain = plain.kl[d][w] - trial.kl[d][w];
      sum += gain / static_cast<double>(by_window.size());
      by_window[w] += gain / static_cast<double>(plain.kl.size());
    }
    by_draw.push_back(sum);
  }
  const auto [mean, between] = MeanAndVariance(by_draw);
  return {.mean = mean,
          .between_draws = between,
          .of_windows = MeanAndVariance(by_window).second / static_cast<double>(by_window.size())};
}

Weights Quantized(const ModelFolder& model, const QuantOptions& options, const LayerGrids& grids,
                  View<const TokenId, 2> windows, Session& session) {
  LayerQuantizer quantizer(model.weights, session.device(), options, windows, session.context());
  Weights result = model.weights;
  for (std::size_t layer = 0; layer < grids.size(); ++layer) {
    QuantizedLayer done = quantizer.Quantize(grids[layer]);
    for (const Site site : kAllSites) {
      result.layers[layer].At(site).weight =
          std::move(done.matrices[static_cast<std::size_t>(site)]);
    }
  }
  return result;
}

class Trials {
 public:
  Trials(const ModelFolder& source, const Arguments& arguments, const LayerGrids& grids,
         const Windows& windows, fs::path folder, Session& session)
      : source_(source),
        arguments_(arguments),
        grids_(grids),
        windows_(windows),
        folder_(std::move(folder)),
        session_(session),
        options_(WithDefaults(arguments.quant)),
        judged_(std::min(kMostJudged, windows.count / 4)),
        fitted_(std::min(kMostFitted, (windows.count - judged_) / kDraws)),
        meter_(source.weights, session.device(),
               windows.view().Rows(windows.count - judged_, judged_), session.context()) {
    options_.rounds = std::min(*options_.rounds, kMostRounds);
  }

  Trial Run(std::vector<std::string> names) {
    const TransformList rows = TransformsOf(names, arguments_.quant.method);
    Trial trial{.names = std::move(names), .kl = {}};
    for (Index draw = 0; draw < kDraws; ++draw) {
      const auto part = windows_.view().Rows(draw * fitted_, fitted_);
      fs::remove_all(folder_);  // of a run that was stopped, or the last draw
      std::optional<TransformedModel> transformed;
      if (!rows.empty()) {
        const Windows own{.tokens = {part.data(), part.data() + part.rows() * part.cols()},
                          .count = part.rows(),
                          .length = part.cols()};
        transformed.emplace(TransformModel(source_, rows, arguments_.seed, options_.clip, grids_,
                                           own, folder_, session_));
      }
      const Weights quantized = Quantized(transformed ? transformed->model : source_, options_,
                                          grids_, part, session_);
      trial.kl.push_back(meter_.Model(quantized).window_kl);
    }
    fs::remove_all(folder_);
    session_.log().Info(
        fmt::format("transforms {}: divergence {:.4f}",
                    trial.names.empty() ? "none" : fmt::format("{}", fmt::join(trial.names, "+")),
                    trial.Mean()));
    return trial;
  }

  [[nodiscard]] Record Facts() const {
    return {{"draws", kDraws},
            {"fitted_windows", fitted_},
            {"judged_windows", judged_},
            {"rounds", *options_.rounds},
            {"errors", kErrors}};
  }

 private:
  const ModelFolder& source_;
  const Arguments& arguments_;
  const LayerGrids& grids_;
  const Windows& windows_;
  const fs::path folder_;
  Session& session_;
  QuantOptions options_;
  Index judged_, fitted_;
  DamageMeter meter_;
};

/// The sets of one row each: those that another row of `allowed` brings along are tried with it.
std::vector<std::string> Single(const Arguments& arguments, const TransformList& allowed) {
  const TransformList of_method = TransformsOf({}, arguments.quant.method);
  std::vector<std::string> names;
  for (const Transform* row : allowed) {
    if (std::ranges::find(of_method, row) != of_method.end()) continue;
    const bool brought = std::ranges::any_of(
        allowed, [&](const Transform* other) { return other->needs == row->name; });
    if (!brought) names.emplace_back(row->name);
  }
  return names;
}

}  // namespace

TransformList AllowedTransforms(const Arguments& arguments, const ModelConfig& config) {
  std::vector<std::string> names = arguments.transforms;
  for (const Transform& row : Transforms()) {
    if (!config.tied || !row.unties) names.emplace_back(row.name);
  }
  return TransformsOf(std::move(names), arguments.quant.method);
}

TransformChoice ChooseTransforms(const ModelFolder& source, const Arguments& arguments,
                                 const LayerGrids& grids, const Windows& windows,
                                 const fs::path& folder, Session& session) {
  if (windows.count < kLeastWindows) {
    throw Error(
        {.what = "too few calibration windows to choose transforms by",
         .where = "--transform auto",
         .expected = fmt::format("at least {} windows of {} tokens", kLeastWindows, windows.length),
         .found = std::to_string(windows.count),
         .hint = "more --samples or text, a shorter --context, or name the transforms"});
  }
  session.context().progress.Begin("choosing transforms", "model", 1);
  Trials trials(source, arguments, grids, windows, folder, session);
  std::vector<Trial> tried{trials.Run({})};
  std::vector<Gain> gains{{}};
  double between = 0;  // variance of one draw's gain, over all rows: three draws alone say little
  for (const std::string& name :
       Single(arguments, AllowedTransforms(arguments, source.weights.config))) {
    tried.push_back(trials.Run({name}));
    gains.push_back(GainOver(tried.front(), tried.back()));
    between += gains.back().between_draws;
  }
  between /= static_cast<double>(std::max<std::size_t>(1, tried.size() - 1));
  const auto error = [&](const Gain& gain) {
    return std::sqrt(gain.of_windows + between / static_cast<double>(kDraws));
  };
  std::vector<std::string> passed;
  std::size_t chosen = 0;
  for (std::size_t i = 1; i < tried.size(); ++i) {
    if (!(gains[i].mean > kErrors * error(gains[i]))) continue;
    passed.push_back(tried[i].names.front());
    if (gains[i].mean > gains[chosen].mean) chosen = i;
  }
  if (passed.size() > 1) {
    tried.push_back(trials.Run(passed));
    gains.push_back(GainOver(tried.front(), tried.back()));
    if (gains.back().mean > gains[chosen].mean) chosen = tried.size() - 1;
  }
  Record record = trials.Facts();
  for (std::size_t i = 0; i < tried.size(); ++i) {
    Record row{{"transforms", tried[i].names}, {"kl", tried[i].Mean()}};
    if (i > 0) row["gain"] = gains[i].mean;
    if (i > 0) row["standard_error"] = error(gains[i]);
    record["tried"].push_back(std::move(row));
  }
  record["chosen"] = tried[chosen].names;
  return {.rows = TransformsOf(tried[chosen].names, arguments.quant.method),
          .record = std::move(record)};
}

}  // namespace lieq
