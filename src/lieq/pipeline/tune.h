// Tuning a quantized model: training its scales and norms, and its codes where that is asked for,
// towards the float model's predictions.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/container/compare.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/tune/tune.h"

namespace lieq {

struct TuneRequest {
  std::filesystem::path model, reference, output;
  CalibrationRequest calibration;  // samples: none: all windows there are
  TextOptions reading;
  std::optional<std::int64_t> tokens;  // to train on; none: what `minutes` says, else two passes
  std::optional<double> minutes;       // on this machine, about
  Index batch_tokens = 4096;           // of a step, in whole windows, one at least
  TuneWhat what = TuneWhat::kScales;
  double rate = TuneOptions().rate;
  std::optional<double> code_rate;  // none: by the number of steps
  std::uint64_t seed = 0;
  bool force = false;
  bool in_place = false;  // output is the model, which what was trained replaces
};

struct TuneOutcome {
  TuneResult result;
  Index windows = 0, held_out = 0, length = 0;
  std::vector<Index> held_out_at;           // among the windows of the text
  std::vector<std::string> held_out_texts;  // of each, by name
  std::int64_t tokens = 0;                  // trained on
  std::size_t numbers = 0;                  // that were free to move, codes counted
  std::int64_t codes = 0;                   // among them
  Record record;                            // lieq.json
  std::uint64_t bytes = 0;                  // of the weight files, as before
  double seconds = 0;
  /// False: no state was better on the windows held out, and nothing was written.
  [[nodiscard]] bool written() const noexcept { return result.kept > 0; }
};

/// Writes request.output, a folder of LieQ's own form with the grids and codes of request.model. It
/// appears by one rename once it was opened and found to be what was trained. Throws UsageError,
/// Error for inputs that are wrong or not of one model, and Stopped.
TuneOutcome TuneModel(const TuneRequest& request, Session& session);

/// Takes out of a comparison of a model and what training made of it those kinds of differences
/// that training makes, and returns them.
[[nodiscard]] std::vector<Difference> TakeTuned(Comparison& comparison, TuneWhat what);

/// The last step of a quantization that `request.tune` asks for: in place, on all of its
/// calibration text. None where its output is tuned already.
std::optional<TuneOutcome> TuneQuantized(const QuantizeRequest& request, Session& session);

}  // namespace lieq
