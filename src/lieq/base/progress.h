// How far a long stage is. cli/ shows it with rate and time left; the default shows nothing.
#pragma once

#include <cstdint>
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

}  // namespace lieq
