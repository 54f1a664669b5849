#include "lieq/tune/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <numeric>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/base/stopwatch.h"
#include "lieq/tune/trainer.h"

namespace lieq {
namespace {

/// Each window once before any comes again.
class Order {
 public:
  Order(Index windows, std::uint64_t seed) : order_(Size(windows)), rng_(seed) {
    std::iota(order_.begin(), order_.end(), Index{0});
    next_ = order_.size();
  }
  Index Next() {
    if (next_ == order_.size()) {
      for (std::size_t i = order_.size(); i > 1; --i) {
        std::swap(order_[i - 1], order_[rng_.Below(static_cast<std::uint32_t>(i))]);
      }
      next_ = 0;
    }
    return order_[next_++];
  }

 private:
  std::vector<Index> order_;
  Rng rng_;
  std::size_t next_ = 0;
};

/// As a share of the highest rate.
double RateAt(Index step, const TuneOptions& options) {
  const double all = static_cast<double>(options.steps), at = static_cast<double>(step);
  const double warm = std::max(1.0, all * options.warm_up);
  const double falling = 0.5 + 0.5 * std::cos(std::numbers::pi * at / all);
  return std::min(1.0, (at + 1) / warm) * falling;
}

std::unique_ptr<Trainer> MakeTrainer(const Weights& reference, TunedModel& model, Index length,
                                     const TuneOptions& options, Device& device, Context& context) {
  const auto make = model.on_device() ? MakeDeviceTrainer : MakeHostTrainer;
  return make(reference, model, length, options, device, context);
}

}  // namespace

double TuneResult::after() const {
  const auto found = std::ranges::find(checks, kept, &TuneCheck::step);
  return found == checks.end() ? before() : found->held_out;
}

StepTimes TimeSteps(const Weights& reference, TunedModel& model, View<const TokenId, 2> windows,
                    Index held_out, double most_seconds, const TuneOptions& options, Device& device,
                    Context& context) {
  const Log silent;  // what a trainer says is said when it trains
  Context timing{context.pool, silent, context.progress, context.stop};
  const auto trainer = MakeTrainer(reference, model, windows.cols(), options, device, timing);
  const Index batch = std::min(options.batch, windows.rows());
  // The first time has memory to take and files to read, which are not of every step.
  Index timed = trainer->far() ? batch : Index{1};
  Stopwatch watch;
  (void)trainer->AddGradients(windows.Rows(0, timed));
  if (!trainer->far()) {
    const double fit = std::min(most_seconds / watch.seconds(), static_cast<double>(batch));
    timed = std::max<Index>(1, static_cast<Index>(fit));
  }
  watch = Stopwatch();
  (void)trainer->AddGradients(windows.Rows(0, timed));
  trainer->ClearGradients();
  const double of_window = watch.seconds() / static_cast<double>(timed);
  constexpr double kCheckShare = 0.4;  // two passes forward and the heads, of about five
  return {of_window * static_cast<double>(options.batch),
          kCheckShare * of_window * static_cast<double>(held_out)};
}

TuneResult Tune(const Weights& reference, TunedModel& model, View<const TokenId, 2> windows,
                View<const TokenId, 2> held_out, const TuneOptions& options, Device& device,
                Context& context, TuneStore* store) {
  LIEQ_ASSERT(windows.rows() > 0 && held_out.rows() > 0 && windows.cols() >= 2);
  LIEQ_ASSERT(options.steps > 0 && options.batch > 0);
  TuneResult result;
  const auto trainer = MakeTrainer(reference, model, windows.cols(), options, device, context);
  StageTimes& times = trainer->times();
  Stopwatch since_written;
  const auto write = [&](Index step) {
    const StageTimes::Timer timer = times.Time(step::kState);
    if (store != nullptr) store->Write(step, trainer->Arrays(), result);
    since_written = Stopwatch();
  };
  const auto check = [&](Index step) {  // of what was applied
    const StageTimes::Timer timer = times.Time(step::kChecks);
    const double kl = trainer->Divergence(held_out) / static_cast<double>(held_out.size());
    const bool better = result.checks.empty() || kl < result.after();
    result.checks.push_back({step, kl});
    if (!better) return;
    result.kept = step;
    if (!trainer->far()) result.moved_codes = model.moved_codes(context.pool);
    trainer->Keep();
  };
  trainer->Apply();
  trainer->Keep();
  Index step = store != nullptr && !store->empty() ? store->Read(trainer->Arrays(), result) : 0;
  if (step > 0) trainer->TakeArrays();
  Order order(windows.rows(), options.seed);
  for (Index i = 0; i < step * options.batch; ++i) (void)order.Next();
  trainer->Apply();
  Matrix<TokenId> batch(options.batch, windows.cols());
  const auto tokens = static_cast<double>(batch.size());
  const Index every = std::max<Index>(1, options.steps / std::max<Index>(1, options.checks));
  // Where a state is copied from a device, that takes longer than many steps.
  constexpr double kSecondsBetweenFarWrites = 120;
  context.progress.Begin("tuning", "step", options.steps);
  if (step == 0) check(0);
  for (; step < options.steps; ++step) {
    for (Index b = 0; b < options.batch; ++b) {
      std::ranges::copy(windows.Row(order.Next()), batch.view().Row(b).begin());
    }
    trainer->ClearGradients();
    double kl = 0;
    try {
      kl = trainer->AddGradients(batch.view()) / tokens;
    } catch (const Stopped&) {
      write(step);
      throw;
    }
    result.losses.push_back(kl);
    const Stopwatch update;
    const double norm = std::sqrt(trainer->GradientSquares()) / tokens;
    if (!std::isfinite(norm)) {
      throw Error({.what = "a gradient is not finite",
                   .where = "tuning, step " + std::to_string(step),
                   .hint = "a smaller --rate"});
    }
    const double scale = options.clip > 0 && norm > options.clip ? options.clip / norm : 1.0;
    const double share = RateAt(step, options);
    trainer->Step({.numbers = Adam::Next(share * options.rate, scale / tokens, step + 1),
                   .codes = Adam::Next(share * options.code_rate, scale / tokens, step + 1)});
    trainer->Apply();
    device.Sync();
    times.Add(step::kUpdate, update.seconds());
    if ((step + 1) % every == 0 || step + 1 == options.steps) {
      check(step + 1);
      const bool worth = !trainer->far() || since_written.seconds() > kSecondsBetweenFarWrites;
      if (step + 1 < options.steps && worth) write(step + 1);
    }
    context.progress.Update(
        step + 1, fmt::format("KL {:.4f}, held out {:.4f}", kl, result.checks.back().held_out));
  }
  trainer->Restore();
  result.moved_codes = model.moved_codes(context.pool);
  result.times = times;
  context.progress.End();
  return result;
}

}  // namespace lieq
