#include "lieq/serve/stop_text.h"

#include <algorithm>
#include <utility>

namespace lieq {

std::string StopText::Add(std::string_view text) {
  if (hit_) return {};
  held_ += text;
  std::size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t found = held_.find(stop);
    if (found == std::string::npos) continue;
    const std::size_t behind = found + stop.size();
    if (behind > end || (behind == end && found > begin)) continue;
    begin = found;
    end = behind;
  }
  if (begin != std::string::npos) {
    hit_ = true;
    std::string before = held_.substr(0, begin);
    held_.clear();
    return before;
  }
  std::size_t kept = 0;  // the longest end that a stop begins with
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > kept; --n) {
      if (held_.ends_with(std::string_view(stop).substr(0, n))) kept = n;
    }
  }
  std::string through = held_.substr(0, held_.size() - kept);
  held_.erase(0, held_.size() - kept);
  return through;
}

std::string StopText::Finish() {
  return std::exchange(held_, {});
}

}  // namespace lieq
