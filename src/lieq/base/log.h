// Where messages go. The library prints nothing by itself; cli/ installs a sink.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace lieq {

enum class LogLevel { kError, kWarning, kInfo, kDebug };

class Log {
 public:
  using Sink = std::function<void(LogLevel, std::string_view)>;

  Log() = default;  // silent
  explicit Log(Sink sink) : sink_(std::move(sink)) {}

  void Warning(std::string_view text) const { Write(LogLevel::kWarning, text); }
  void Info(std::string_view text) const { Write(LogLevel::kInfo, text); }
  void Debug(std::string_view text) const { Write(LogLevel::kDebug, text); }

 private:
  void Write(LogLevel level, std::string_view text) const {
    if (sink_) sink_(level, text);
  }
  Sink sink_;
};

}  // namespace lieq
