// How fast a model runs here: prompts, and tokens one at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/pipeline/session.h"

namespace lieq {

struct SpeedRequest {
  std::filesystem::path model;
  Index prompt_tokens = 512;  // read at once; 0: none
  Index new_tokens = 128;     // written one at a time behind nothing; 0: none
  int repetitions = 5;
};

/// Seconds of each repetition; one more came before, unmeasured.
struct SpeedOf {
  Index tokens = 0;
  std::vector<double> seconds;

  /// By the median. 0 where nothing was run.
  [[nodiscard]] double TokensPerSecond() const;
};

struct Speed {
  SpeedOf prompt, generation;
  std::int64_t weight_bytes = 0;     // that a token passes through: linears and head, as stored
  double read_bytes_per_second = 0;  // of a plain read of memory by as many threads; of a device
                                     // with a memory of its own of a copy there
  std::uint64_t peak_bytes = 0;

  /// Of weights, by the generation.
  [[nodiscard]] double BytesPerSecond() const {
    return generation.TokensPerSecond() * static_cast<double>(weight_bytes);
  }
  /// Of the plain read.
  [[nodiscard]] double BandwidthShare() const {
    return read_bytes_per_second > 0 ? BytesPerSecond() / read_bytes_per_second : 0;
  }
};

/// Runs random tokens, the same ones always. Throws UsageError, Error, Stopped.
[[nodiscard]] Speed MeasureSpeed(const SpeedRequest& request, Session& session);

[[nodiscard]] Record SpeedRecord(const SpeedRequest& request, const Speed& speed, Session& session);

}  // namespace lieq
