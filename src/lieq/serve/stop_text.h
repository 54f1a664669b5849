// Texts at which an answer ends.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lieq {

/// Lets a text through as it comes, up to the stop that is the first to be complete (of two that
/// end at one place the longer). What may turn out to be the beginning of a stop is held back.
class StopText {
 public:
  StopText() = default;
  /// stops: none empty.
  explicit StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// What can be let through now.
  [[nodiscard]] std::string Add(std::string_view text);
  /// What was held back, where the text ends otherwise.
  [[nodiscard]] std::string Finish();
  /// Whether a stop came; nothing is let through from then on.
  [[nodiscard]] bool hit() const noexcept { return hit_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool hit_ = false;
};

}  // namespace lieq
