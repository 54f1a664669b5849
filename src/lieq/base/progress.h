// How far a long stage is. cli/ shows it with rate and time left; the default shows nothing.
#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>

namespace lieq {

class Progress {
 public:
  virtual ~Progress() = default;
  /// A stage of `total` steps begins; `unit` names one step ("layer", "window").
  virtual void Begin(std::string_view /*stage*/, std::string_view /*unit*/,
                     std::int64_t /*total*/) {}
  /// `done` steps of the stage are finished; `note` is the last result worth showing.
  virtual void Update(std::int64_t /*done*/, std::string_view /*note*/ = {}) {}
  virtual void End() {}
};

/// One stage of a piece of work, which ends however it is left.
class Stage {
 public:
  Stage(Progress& progress, std::string_view name, std::string_view unit, std::int64_t total)
      : progress_(progress) {
    progress_.Begin(name, unit, total);
  }
  ~Stage() { progress_.End(); }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  /// One more step is finished. By any thread.
  void Done(std::string_view note = {}) {
    const std::scoped_lock lock(mutex_);
    progress_.Update(++done_, note);
  }

 private:
  Progress& progress_;
  std::mutex mutex_;
  std::int64_t done_ = 0;
};

}  // namespace lieq
