// The state of a tuning run in a file, so that an interrupted one goes on.
#pragma once

#include <filesystem>
#include <optional>
#include <utility>

#include "lieq/io/json.h"
#include "lieq/tune/tune.h"

namespace lieq {

inline constexpr const char* kTuneStateName = "tuning.safetensors";

class TuneFile final : public TuneStore {
 public:
  explicit TuneFile(std::filesystem::path file) : file_(std::move(file)) {}
  [[nodiscard]] bool empty() const override { return !std::filesystem::exists(file_); }
  Index Read(std::span<const TunedArray> arrays, TuneResult& result) override;
  void Write(Index step, std::span<const TunedArray> arrays, const TuneResult& result) override;

  /// Of all steps of the run that wrote the file: none where there is none. A run in minutes finds
  /// how many they are by the time that one takes, and a later start takes as many.
  [[nodiscard]] std::optional<Index> AllSteps() const;
  void SetAllSteps(Index steps) { all_steps_ = steps; }

 private:
  std::filesystem::path file_;
  Index all_steps_ = 0;
};

/// The checks of a result as a record has them, and back.
[[nodiscard]] Record ChecksRecord(const TuneResult& result);

}  // namespace lieq
