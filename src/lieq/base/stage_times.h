// Where the seconds of a piece of work go, by stage.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/stopwatch.h"

namespace lieq {

class StageTimes {
 public:
  /// Adds what passes while it lives.
  class Timer {
   public:
    Timer(StageTimes& times, std::string_view stage) : times_(times), stage_(stage) {}
    ~Timer() { times_.Add(stage_, watch_.seconds()); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

   private:
    StageTimes& times_;
    std::string_view stage_;
    Stopwatch watch_;
  };
  /// stage: outlives the timer.
  [[nodiscard]] Timer Time(std::string_view stage) { return {*this, stage}; }

  void Add(std::string_view stage, double seconds) {
    for (auto& [name, sum] : stages_) {
      if (name != stage) continue;
      sum += seconds;
      return;
    }
    stages_.emplace_back(stage, seconds);
  }
  void Add(const StageTimes& others) {
    for (const auto& [name, seconds] : others.stages_) Add(name, seconds);
  }
  /// In the order of their first seconds.
  [[nodiscard]] const std::vector<std::pair<std::string, double>>& stages() const noexcept {
    return stages_;
  }

 private:
  std::vector<std::pair<std::string, double>> stages_;
};

}  // namespace lieq
