// Where a piece of work stands among the stages that were declared, and how long all of them will
// still take.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/progress.h"

namespace lieq {

/// A stage that will come, and how long it is expected to take.
struct PlannedStage {
  std::string name;    // what Begin will call it
  double seconds = 0;  // 0: not known
};

/// Progress that is told of all stages of the work before the first begins.
class StagedProgress : public Progress {
 public:
  /// In order. Others may begin inside one of them, and some may be passed over.
  virtual void Declare(std::span<const PlannedStage> stages) = 0;
};
/// Tells a sink that wants to know.
void Declare(Progress& progress, std::span<const PlannedStage> stages);

/// "about 3 min 20 s: 1. compactness (40 s), 2. quantizing (2 min 40 s)"
[[nodiscard]] std::string NameStages(std::span<const PlannedStage> stages);

class StageClock {
 public:
  using Now = double (*)();  // seconds

  StageClock();
  explicit StageClock(Now now) : now_(now) {}

  void Declare(std::span<const PlannedStage> stages);
  /// A stage of that name that comes later than the one at work is where the work stands now; any
  /// other is a part of it. True for the first.
  bool Begin(std::string_view name, std::int64_t total);
  void Update(std::int64_t done);

  /// "2 of 3: ", empty where no declared stage is at work.
  [[nodiscard]] std::string Place() const;
  /// Of this stage by its own rate, once it has one, and the estimates of the later ones, scaled by
  /// how long the stages so far took against theirs. None where nothing was declared.
  [[nodiscard]] std::optional<double> SecondsLeft() const;

 private:
  [[nodiscard]] double Declared(std::size_t first) const;

  Now now_;
  std::vector<PlannedStage> stages_;
  std::size_t current_ = 0;          // stages begun; the one at work is the one before
  double begin_ = 0;                 // of the one at work
  double spent_ = 0, expected_ = 0;  // of those that are over
  std::int64_t done_ = 0, total_ = 0;
  bool inside_ = false;  // a part of the stage reports, whose counts are not the stage's
};

}  // namespace lieq
