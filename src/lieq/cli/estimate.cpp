#include "lieq/cli/estimate.h"

#include <algorithm>
#include <chrono>

#include "lieq/base/error.h"
#include "lieq/cli/session.h"
#include "lieq/cli/terminal.h"
#include "lieq/linalg/linalg.h"
#include "lieq/model/forward.h"
#include "lieq/quantize/layer_quantizer.h"

namespace lieq {
namespace {

/// Multiply-adds a second of one thread, measured for some hundredths of a second.
double MeasureSpeed() {
  constexpr Index kSize = 384;
  Matrix<float> a(kSize, kSize), b(kSize, kSize), c(kSize, kSize);
  const auto begin = std::chrono::steady_clock::now();
  double seconds = 0;
  int products = -1;  // the first one warms up
  std::chrono::steady_clock::time_point start = begin;
  while (seconds < 0.03) {
    Gemm(1.0f, a.view(), Transpose::kNo, b.view(), Transpose::kYes, 0.0f, c.view());
    if (++products == 0) start = std::chrono::steady_clock::now();
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return static_cast<double>(products) * kSize * kSize * kSize / seconds;
}

}  // namespace

Estimate EstimateRun(const ModelFolder& model, Index windows, Index length, bool spectra,
                     std::uint64_t output_bytes, int threads) {
  const ModelConfig& config = model.weights.config;
  const double layers = static_cast<double>(config.layers);
  const double rows = static_cast<double>(windows * length);
  const double batch = std::min(rows, static_cast<double>(kBatchRows));
  const double hidden = static_cast<double>(config.hidden);
  const double attention = static_cast<double>(config.In(Site::kO));
  const double keys = static_cast<double>(config.Out(Site::kK));
  const double inner = static_cast<double>(config.intermediate);
  const double widest = std::max({hidden, attention, inner});
  const auto layer_weights = static_cast<double>(config.LayerWeightCount());

  const bool keeps_gated = rows * inner <= static_cast<double>(kMostKeptFloats);
  double floats = rows * (hidden + attention) + batch * (hidden + attention + 2 * keys + inner) +
                  (keeps_gated ? rows : batch) * inner;
  double doubles = 0, widened = 0;
  for (const Site site : kAllSites) {
    const double size =
        static_cast<double>(config.Out(site)) * static_cast<double>(config.In(site));
    widened = std::max(widened, size);
  }
  if (rows > 0) doubles = 2 * widest * widest + threads * 64 * 4 * widest;
  floats += widened + threads * double(1 << 21);

  Estimate estimate;
  estimate.memory_bytes =
      static_cast<std::int64_t>(4 * floats + 8 * doubles + 2 * layer_weights) + (96 << 20);
  estimate.disk_bytes = static_cast<std::int64_t>(2 * output_bytes) + (1 << 20);

  // Multiply-adds: one pass over the tokens, Gram matrices, the rounding itself (in double, at half
  // the speed); compactness: five spectra of each linear, dominated by eigenvalues at a fraction
  // of the speed of products.
  const double spectrum_rows = spectra ? 4096 : 0;
  const double grams = 0.5 * (2 * hidden * hidden + attention * attention + inner * inner);
  const double gate_twice = keeps_gated ? 0 : 2 * inner * hidden;
  double work = layers * (rows + spectrum_rows) *
                (layer_weights + grams + gate_twice + static_cast<double>(length) * attention);
  double solve = 0, spectrum = 0;
  for (const Site site : kAllSites) {
    const auto in = static_cast<double>(config.In(site)),
               out = static_cast<double>(config.Out(site));
    if (rows > 0) solve += out * in * in + in * in * in / 3;
    const double side = std::min(in, out);
    spectrum += 5 * (in * out * side + 20 * side * side * side / 3);
  }
  work += layers * (2 * solve + (spectra ? 2 * spectrum : 0));
  work += layers * 60 * 4 * layer_weights;  // searching scales
  estimate.seconds = 1.3 * work / (MeasureSpeed() * threads);
  return estimate;
}

void CheckEstimate(const Estimate& estimate, const std::filesystem::path& output) {
  const std::int64_t memory = AvailableMemoryBytes();
  if (memory > 0 && estimate.memory_bytes > memory) {
    throw Error({.what = "not enough memory",
                 .where = output.string(),
                 .expected = FormatBytes(static_cast<double>(estimate.memory_bytes)),
                 .found = FormatBytes(static_cast<double>(memory)) + " available",
                 .hint = "fewer --samples or a shorter --context need less"});
  }
  auto folder = std::filesystem::absolute(output).parent_path();
  while (!std::filesystem::exists(folder)) folder = folder.parent_path();
  const auto space = std::filesystem::space(folder);
  if (static_cast<std::uint64_t>(estimate.disk_bytes) > space.available) {
    throw Error({.what = "not enough disk space",
                 .where = folder.string(),
                 .expected = FormatBytes(static_cast<double>(estimate.disk_bytes)),
                 .found = FormatBytes(static_cast<double>(space.available)) + " free"});
  }
}

}  // namespace lieq
