#include "lieq/pipeline/stage_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "lieq/diagnose/damage.h"
#include "lieq/model/forward.h"
#include "lieq/model/passes.h"
#include "lieq/pipeline/end_codes.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/layer_quantizer.h"
#include "lieq/quantize/unit_statistics.h"

namespace lieq {
namespace {

constexpr double kFloat = 4, kDouble = 8;

/// Counts in doubles, since products of sizes may be large.
class Memory {
 public:
  Memory(const Work& work, int threads)
      : work_(work),
        config_(work.model.weights.config),
        options_(WithDefaults(work.request.quant)),
        threads_(threads),
        hidden_(static_cast<double>(config_.hidden)),
        attention_(static_cast<double>(config_.In(Site::kO))),
        keys_(static_cast<double>(config_.Out(Site::kK))),
        inner_(static_cast<double>(GatedWidth(config_))) {}

  [[nodiscard]] double Most() const {
    double most = 0;
    if (work_.spectrum_tokens > 0) most = std::max(most, Spectra());
    if (!work_.candidates.empty()) most = std::max({most, Codes(), Damage()});
    if (!work_.transforms.empty()) most = std::max(most, Transforming());
    if (!work_.grids.layers.empty()) most = std::max({most, Quantizing(), Ends(), ReadingBack()});
    return most;
  }

 private:
  [[nodiscard]] double In(Unit unit) const {
    return static_cast<double>(config_.In(SitesOf(unit).front()));
  }
  [[nodiscard]] double LayerWeights() const {
    return static_cast<double>(config_.LayerWeightCount());
  }
  [[nodiscard]] double ItemBytes() const {
    return static_cast<double>(ItemSize(work_.model.dtype));
  }
  [[nodiscard]] double Batch(Index windows, Index length) const {
    const Index most = std::max<Index>(1, kBatchRows / std::max<Index>(1, length));
    return static_cast<double>(std::min(windows, most) * length);
  }
  /// What a forward pass holds beside the hidden states: q, k, v, up, and widened weights.
  [[nodiscard]] double Steps(double batch) const {
    constexpr double kTile = 1 << 21;
    double widened = 0;
    for (const Site site : kAllSites) {
      const auto in = static_cast<double>(config_.In(site)),
                 out = static_cast<double>(config_.Out(site));
      widened = std::max(widened, std::min({kTile, 1024 * in, out * in}));
    }
    return kFloat * (batch * (attention_ + 2 * keys_ + inner_) + threads_ * widened);
  }
  /// Forward::Layer's own buffers too.
  [[nodiscard]] double Pass(double batch) const {
    return Steps(batch) + kFloat * batch * (hidden_ + attention_ + inner_);
  }

  [[nodiscard]] double Spectra() const {
    const auto rows = static_cast<double>(work_.spectrum_tokens);
    double bytes = 3 * kFloat * rows * hidden_ + Pass(rows) + ItemBytes() * LayerWeights();
    if (!work_.spectra) return bytes;
    double widest = 0;
    for (const Unit unit : kAllUnits) {
      bytes += kDouble * In(unit) * In(unit);
      for (const Site site : SitesOf(unit)) {
        widest = std::max(widest, static_cast<double>(config_.Out(site)) * In(unit));
      }
    }
    return bytes + threads_ * 3 * kDouble * widest;
  }

  /// A matrix while it is rounded, on all threads; n columns. Rows go from weights to codes a block
  /// at a time, in float.
  [[nodiscard]] double Rounding(double rows, double n, const QuantOptions& options) const {
    const double bytes = (kFloat + 1) * rows * n;  // the weights, the codes
    const double block = threads_ * 64 * n;
    if (!FindQuantizer(options.method).needs_calibration) return bytes + block;
    return bytes + block * kFloat * (options.judges() ? 8 : 4);
  }

  /// The largest of any unit: its statistics, those over `held_out` tokens, factors and matrices.
  [[nodiscard]] double LargestUnit(const QuantOptions& options, Index held_out) const {
    double most = 0;
    for (const Unit unit : kAllUnits) {
      const double n = In(unit), square = n * n;
      double widest = 0;
      for (const Site site : SitesOf(unit)) {
        widest = std::max(widest, static_cast<double>(config_.Out(site)));
      }
      const double rounding = Rounding(widest, n, options);
      if (!FindQuantizer(options.method).needs_calibration) {
        most = std::max(most, rounding);
        continue;
      }
      const bool adds = unit == Unit::kO || unit == Unit::kDown;
      double followed = 0;  // of fitted windows and of those held out
      if (options.corrects()) followed = kFloat * (adds ? hidden_ * n : square);
      double judge = 0;
      if (held_out > 0) {
        const bool by_tokens =
            JudgedByTokens(held_out, config_.In(SitesOf(unit).front()), adds, options.corrects());
        judge = by_tokens ? kFloat * static_cast<double>(held_out) * (n + (adds ? hidden_ : 0))
                          : kFloat * square + followed;
      }
      // Sums in double become floats; those are factorised in double, and factors are floats.
      const double factorised = (2 * kFloat + kDouble) * square;
      most =
          std::max(most, followed + judge + std::max(factorised, 2 * kFloat * square + rounding));
    }
    return std::max(most, Experts(options, held_out));
  }

  /// Sums of all experts of a unit are held at once, and one is rounded at a time.
  [[nodiscard]] double Experts(const QuantOptions& options, Index held_out) const {
    if (!config_.HasExperts() || !FindQuantizer(options.method).needs_calibration) return 0;
    const auto count = static_cast<double>(config_.experts.count);
    const double n = std::max(hidden_, static_cast<double>(config_.experts.inner));
    const double sums = n * n * (kDouble + (held_out > 0 ? kFloat : 0));
    return count * sums + (2 * kFloat + kDouble) * n * n + Rounding(n, n, options);
  }

  [[nodiscard]] double Quantizing() const {
    double bytes = (ItemBytes() + 1) * LayerWeights();  // mapped, and as codes
    const bool calibrated = FindQuantizer(options_.method).needs_calibration;
    bytes +=
        LargestUnit(options_, options_.judges() ? HeldOutWindows(work_.windows) * work_.length : 0);
    if (!calibrated) return bytes;
    const auto rows = static_cast<double>(work_.windows * work_.length);
    const double batch = Batch(work_.windows, work_.length);
    const bool keeps = rows * inner_ <= static_cast<double>(kMostKeptFloats);
    const double stream = rows * (hidden_ + attention_) + batch * hidden_;
    const double widest = std::max({hidden_, attention_, inner_});
    bytes += kFloat * (stream + (keeps ? rows : batch) * inner_) + Steps(batch);
    if (options_.corrects()) bytes += kFloat * (stream + batch * (inner_ + widest + hidden_));
    return bytes;
  }

  [[nodiscard]] double Codes() const {
    const QuantOptions options = FloatInputs(CandidateOptions(work_.request));
    double bytes = (ItemBytes() + static_cast<double>(work_.candidates.size())) * LayerWeights();
    bytes += LargestUnit(options, 0);
    if (!FindQuantizer(options.method).needs_calibration) return bytes;
    const auto rows = static_cast<double>(work_.windows * work_.length);
    for (const Unit unit : kAllUnits) bytes += kDouble * In(unit) * In(unit);
    return bytes + kFloat * rows * hidden_ + Pass(Batch(work_.windows, work_.length));
  }

  [[nodiscard]] double Damage() const {
    if (work_.damage_windows == 0) return 0;
    const auto rows = static_cast<double>(work_.damage_windows * work_.damage_length);
    const auto positions =
        static_cast<double>(ScoredPositions(config_, work_.damage_windows, work_.damage_length));
    const auto windows = static_cast<double>(work_.damage_windows);
    const auto vocab = static_cast<double>(config_.vocab);
    const double logits = kFloat * vocab * positions * (1 + 1 / windows);
    const double passes =
        2 * kFloat * rows * hidden_ + Pass(Batch(work_.damage_windows, work_.damage_length));
    // The layers behind a variant are read again and again, so the model stays.
    const double layers = static_cast<double>(config_.layers) * LayerWeights();
    const double model = ItemBytes() * (layers + vocab * hidden_);
    const double mix = work_.mixes > 0 ? 0.5 * layers : 0;  // 4 bits or less a weight
    return logits + passes + model + mix;
  }

  /// Measuring the ends, then rounding them some thousand rows at a time, with their codes.
  [[nodiscard]] double Ends() const {
    const EndGrids& ends = work_.grids.ends;
    if (ends == EndGrids{}) return 0;
    const double matrix = static_cast<double>(config_.vocab) * hidden_, square = hidden_ * hidden_;
    const double both = ends.embedding && ends.head ? 1 : 0;  // codes of the other
    const double codes = (1 + both) * matrix;
    const double block = 3 * kFloat * static_cast<double>(kEndBlockFloats);
    if (!AnyCalibrated(ends, config_, options_)) return ItemBytes() * matrix + codes + block;
    const Index windows = EndWindows(work_.windows, work_.length);
    const auto rows = static_cast<double>(EndBatch(config_, windows, work_.length) * work_.length);
    const double streams = config_.tied ? 3 : 2;  // and the probe's codes
    const double measuring =
        kFloat * (rows * hidden_ * streams + static_cast<double>(kLogitElements)) +
        Pass(std::min(rows, static_cast<double>(kBatchRows))) +
        ItemBytes() * (matrix + LayerWeights()) + (config_.tied ? 2 * matrix : 0);
    const double rounding = ItemBytes() * matrix + codes + block +
                            (4 * kFloat + 2 * kDouble) * square + threads_ * 64 * hidden_ * 32;
    return kDouble * square + std::max(measuring, rounding);
  }

  /// The result beside the source, both mapped: their largest matrices are the ends.
  [[nodiscard]] double ReadingBack() const {
    const double end = static_cast<double>(config_.vocab) * hidden_;
    return (ItemBytes() + (work_.grids.ends.embedding ? 1 : ItemBytes())) * end;
  }

  [[nodiscard]] double Transforming() const {
    double bytes = (ItemBytes() + 3 * kFloat) * LayerWeights();
    if (!NeedsCalibration(work_.transforms)) return bytes;
    const auto rows = static_cast<double>(work_.windows * work_.length);
    for (const Unit unit : kAllUnits) bytes += kDouble * In(unit) * In(unit);
    return bytes + kFloat * rows * hidden_ + Pass(Batch(work_.windows, work_.length));
  }

  const Work& work_;
  const ModelConfig& config_;
  const QuantOptions options_;
  const int threads_;
  const double hidden_, attention_, keys_, inner_;
};

}  // namespace

Index ScoredPositions(const ModelConfig& config, Index windows, Index length) {
  const Index scored = length - 1;
  const Index stride = std::clamp<Index>(
      CeilDiv(windows * scored * config.vocab, DamageMeter::kMostLogits), 1, scored);
  return windows * ((scored - 1 - stride / 2) / stride + 1);
}

std::int64_t ResidentBytes() {
  std::ifstream in("/proc/self/statm");  // in pages: of all, and those resident
  std::int64_t all = 0, resident = 0;
  in >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::int64_t StageMemory(const Work& work, int threads) {
  const bool products = work.windows > 0 || work.spectrum_tokens > 0 || work.damage_windows > 0;
  const double buffers = products ? 4 << 20 : 0;  // of BLAS, for each thread
  return static_cast<std::int64_t>(Memory(work, threads).Most() + buffers * threads);
}

}  // namespace lieq
