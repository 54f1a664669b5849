// What a request works on: its model and the texts that it calibrates on.
#pragma once

#include <future>
#include <optional>
#include <string>
#include <thread>

#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"

namespace lieq {

/// Each part is opened, hashed and encoded once, when it is first asked for. What it refers to
/// outlives it.
class Source {
 public:
  /// Opens the model, and begins to hash it. Throws Error where there is none.
  Source(const QuantizeRequest& request, Session& session);
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  [[nodiscard]] const ModelFolder& model() const noexcept { return model_; }
  [[nodiscard]] const ModelConfig& config() const noexcept { return model_.weights.config; }
  /// HashModel, by a thread of its own: texts are encoded and a device started meanwhile.
  [[nodiscard]] const std::string& hash();
  /// CalibrationText.
  [[nodiscard]] const EncodedText& calibration();
  /// CalibrationText where it was asked for; else null.
  [[nodiscard]] const EncodedText* calibration_read() const {
    return calibration_ ? &*calibration_ : nullptr;
  }
  /// CalibrationWindows.
  [[nodiscard]] const Windows& windows();

 private:
  const QuantizeRequest& request_;
  Session& session_;
  ModelFolder model_;
  std::future<std::string> hashed_;
  std::optional<std::string> hash_;
  std::optional<EncodedText> calibration_;
  std::optional<Windows> windows_;
  std::jthread hashing_;  // the last: it stops before what it reads goes
};

}  // namespace lieq
