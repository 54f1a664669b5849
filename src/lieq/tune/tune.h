// Tuning: training the few numbers that a quantized model has beside its codes, so that it says
// what its float model says. This uses gradients, which nothing else of a quantization does.
//
// Loss: KL(reference || model) over all positions of windows, mean over tokens (Hinton et al.,
// arXiv:1503.02531). Steps: AdamW without decay (Loshchilov and Hutter, arXiv:1711.05101), a linear
// warm-up, then a cosine to zero. Numbers are rounded to what files hold before every pass, and
// gradients pass through the rounding (Bengio et al., arXiv:1308.3432), so that nothing is lost
// when the model is written. Windows that nothing is fitted to choose which state is kept.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/stage_times.h"
#include "lieq/device/device.h"
#include "lieq/model/weights.h"
#include "lieq/tensor/view.h"
#include "lieq/tune/tuned_model.h"

namespace lieq {

struct TuneOptions {
  Index steps = 100;
  Index batch = 8;          // windows of a step
  double rate = 1e-2;       // of u, at its height
  double code_rate = 1e-2;  // the same of codes
  double warm_up = 0.05;    // share of the steps
  double clip = 1;          // largest norm of the gradient of the mean loss; 0: none
  Index checks = 10;        // on the windows held out, beside the one before the first step
  std::uint64_t seed = 0;   // order of the windows
  Index most_kept = Index{1} << 27;  // floats of layers' inputs held at once, with the host
  // With a device, bytes of layers' activations that are held until their way back; no more than
  // fit into its memory. No result depends on it.
  Index most_saved = std::numeric_limits<Index>::max();
};

struct TuneCheck {
  Index step = 0;       // after so many
  double held_out = 0;  // mean KL, nats a token
};

struct TuneResult {
  std::vector<double> losses;     // [steps], mean KL of the step's windows before it
  std::vector<TuneCheck> checks;  // the first before any step
  Index kept = 0;                 // the step whose state the model is left in
  std::int64_t moved_codes = 0;   // in that state
  StageTimes times;               // where the seconds of this start went
  [[nodiscard]] double before() const { return checks.front().held_out; }
  [[nodiscard]] double after() const;
};

/// Keeps the state of a run, so that another one goes on from there.
class TuneStore {
 public:
  virtual ~TuneStore() = default;
  /// Whether nothing was written yet, where that is known at once.
  [[nodiscard]] virtual bool empty() const { return false; }
  /// Reads what was written last into the arrays and `result`; the step that comes next, or 0 where
  /// nothing was written. Throws Error where it is not of these arrays.
  virtual Index Read(std::span<const TunedArray> arrays, TuneResult& result) = 0;
  virtual void Write(Index step, std::span<const TunedArray> arrays, const TuneResult& result) = 0;
};

/// Trains `model`, which ends in the state of least divergence on the windows held out: its first
/// one, where no other is better. reference: of the same vocabulary. windows, held_out [count,
/// length >= 2]. store: is written at every check and where the run is stopped; may be null. Same
/// bytes for any number of threads, stopped or not. Throws Error where a loss is not finite or the
/// architecture has no gradients, and Stopped.
TuneResult Tune(const Weights& reference, TunedModel& model, View<const TokenId, 2> windows,
                View<const TokenId, 2> held_out, const TuneOptions& options, Device& device,
                Context& context, TuneStore* store = nullptr);

/// Seconds of a step and of a check.
struct StepTimes {
  double step = 0, check = 0;
};

/// By two passes that change nothing; on the host of one window and of as many as take most_seconds
/// by the first. held_out: windows of a check. Else as Tune.
[[nodiscard]] StepTimes TimeSteps(const Weights& reference, TunedModel& model,
                                  View<const TokenId, 2> windows, Index held_out,
                                  double most_seconds, const TuneOptions& options, Device& device,
                                  Context& context);

/// Adds the gradients of the sum of the divergence over all positions of the windows to those of
/// the model's numbers, which lie with the host; returns that sum. windows [count, length];
/// most_kept: as of TuneOptions. times: is added to.
double AddDivergenceGradients(const Weights& reference, TunedModel& model,
                              View<const TokenId, 2> windows, Index most_kept, Device& device,
                              Context& context, StageTimes& times);

}  // namespace lieq
