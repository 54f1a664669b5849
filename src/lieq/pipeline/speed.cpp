#include "lieq/pipeline/speed.h"

#include <algorithm>
#include <utility>

#include "lieq/base/rng.h"
#include "lieq/base/stopwatch.h"
#include "lieq/model/decoder.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/bandwidth.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/pack.h"
#include "lieq/pipeline/requests.h"

namespace lieq {
namespace {

std::int64_t StoredBytes(const AnyMatrix& matrix) {
  if (const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix)) {
    return ((*packed)->stored_bits() + 7) / 8;
  }
  if (const auto* laid_out = std::get_if<std::shared_ptr<const LaidOutMatrix>>(&matrix)) {
    return ((*laid_out)->stored_bits() + 7) / 8;
  }
  return Rows(matrix) * Cols(matrix) * static_cast<std::int64_t>(ItemSize(TypeOf(matrix)));
}

std::int64_t WeightBytes(const Weights& weights) {
  std::int64_t bytes = StoredBytes(weights.head);
  for (const LayerWeights& layer : weights.layers) {
    const Index experts = ExpertsOf(layer);
    for (const Site site : kAllSites) {
      const std::int64_t all = StoredBytes(layer.At(site).weight);
      const bool routed = experts > 0 && UnitOf(site) >= Unit::kGateUp;
      bytes += routed ? all * weights.config.experts.used / experts : all;  // what a token reads
    }
  }
  return bytes;
}

/// Runs and times one kind of work.
class Runs {
 public:
  Runs(const SpeedRequest& request, Weights weights, Session& session)
      : request_(request),
        session_(session),
        capacity_(std::max<Index>({request.prompt_tokens, request.new_tokens, 1})),
        decoder_(std::move(weights), session.device(), 1, capacity_) {
    Rng rng(1);
    for (Index i = 0; i < capacity_; ++i) {
      tokens_.push_back(
          static_cast<TokenId>(rng.Below(static_cast<std::uint32_t>(decoder_.vocab()))));
    }
  }

  /// `tokens` in pieces of `piece`, from an empty cache on.
  SpeedOf Of(Index tokens, Index piece, Stage& stage) {
    SpeedOf speed{.tokens = tokens, .seconds = {}};
    for (int run = 0; tokens > 0 && run <= request_.repetitions; ++run) {
      decoder_.Rewind(0);
      const Stopwatch watch;
      for (Index at = 0; at < tokens; at += piece) {
        session_.context().ThrowIfStopped();
        (void)decoder_.Append({tokens_.data() + at, 1, piece});
      }
      if (run > 0) speed.seconds.push_back(watch.seconds());  // the first one warms caches
      stage.Done();
    }
    return speed;
  }

 private:
  const SpeedRequest& request_;
  Session& session_;
  Index capacity_;
  Decoder decoder_;
  std::vector<TokenId> tokens_;
};

Record RecordOf(const SpeedOf& speed) {
  return {{"tokens", speed.tokens},
          {"seconds", speed.seconds},
          {"tokens_per_second", speed.TokensPerSecond()}};
}

}  // namespace

double SpeedOf::TokensPerSecond() const {
  if (seconds.empty()) return 0;
  std::vector<double> sorted = seconds;
  std::ranges::sort(sorted);
  const std::size_t middle = sorted.size() / 2;
  const double median =
      sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return static_cast<double>(tokens) / median;
}

Speed MeasureSpeed(const SpeedRequest& request, Session& session) {
  if (request.prompt_tokens == 0 && request.new_tokens == 0) {
    throw UsageError("nothing to run: give -p or -n above 0");
  }
  ModelFolder model = OpenRunnable(request.model, session);
  Speed speed{.weight_bytes = WeightBytes(model.weights)};
  const int kinds = (request.prompt_tokens > 0 ? 1 : 0) + (request.new_tokens > 0 ? 1 : 0);
  Stage stage(session.context().progress, "measuring speed", "run",
              kinds * (request.repetitions + 1));
  Runs runs(request, std::move(model.weights), session);
  speed.prompt = runs.Of(request.prompt_tokens, request.prompt_tokens, stage);
  speed.generation = runs.Of(request.new_tokens, 1, stage);
  speed.peak_bytes = PeakMemoryBytes();  // before the block that bandwidth is measured on
  speed.read_bytes_per_second = session.device_has_own_bytes() ? CopyBandwidth(session.device())
                                                               : ReadBandwidth(session.pool());
  return speed;
}

Record SpeedRecord(const SpeedRequest& request, const Speed& speed, Session& session) {
  Record generation = RecordOf(speed.generation);
  generation["gigabytes_per_second"] = speed.BytesPerSecond() / 1e9;
  generation["bandwidth_share"] = speed.BandwidthShare();
  return {{"schema", 1},
          {"kind", "speed"},
          {"model", request.model.string()},
          {"prompt", RecordOf(speed.prompt)},
          {"generation", std::move(generation)},
          {"weight_bytes", speed.weight_bytes},
          {"read_gigabytes_per_second", speed.read_bytes_per_second / 1e9},
          {"peak_bytes", speed.peak_bytes},
          {"device", session.device().description()},
          {"threads", session.pool().size()}};
}

}  // namespace lieq
