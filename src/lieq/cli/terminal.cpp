#include "lieq/cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/stage_clock.h"

namespace lieq {
namespace {

using Clock = std::chrono::steady_clock;

/// One line that is drawn over: "2 of 3: quantizing 3/24 layers, 1.2 s a layer, 25 s left, 40 s for
/// all; note". Where the stages were not declared, without the first and the last time.
class LineProgress final : public StagedProgress {
 public:
  void Declare(std::span<const PlannedStage> stages) override {
    Clear();
    if (!stages.empty()) fmt::print(stderr, "lieq: {}\n", NameStages(stages));
    stages_.Declare(stages);
  }
  void Begin(std::string_view stage, std::string_view unit, std::int64_t total) override {
    stages_.Begin(stage, total);
    stage_ = stage;
    unit_ = unit;
    total_ = total;
    begin_ = Clock::now();
    Draw(0, "");
  }
  void Update(std::int64_t done, std::string_view note) override {
    stages_.Update(done);
    Draw(done, note);
  }
  void End() override { Clear(); }

 private:
  void Clear() {
    if (!drawn_) return;
    std::fputs("\r\x1b[K", stderr);
    drawn_ = false;
  }
  void Draw(std::int64_t done, std::string_view note) {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    std::string line = fmt::format("{}{} {}/{} {}s", stages_.Place(), stage_, done, total_, unit_);
    if (done > 0) {
      const double each = seconds / static_cast<double>(done);
      line += each >= 1 ? fmt::format(", {:.1f} s a {}", each, unit_)
                        : fmt::format(", {:.1f} {}s a second", 1 / each, unit_);
      if (done < total_) {
        line += ", " + FormatSeconds(each * static_cast<double>(total_ - done)) + " left";
      }
    }
    if (const auto left = stages_.SecondsLeft()) {
      line += fmt::format(", {} for all", FormatSeconds(*left));
    }
    if (!note.empty()) line += fmt::format("; {}", note);
    fmt::print(stderr, "\r{}\x1b[K", line.substr(0, 120));
    std::fflush(stderr);
    drawn_ = true;
  }

  StageClock stages_;
  std::string stage_, unit_;
  std::int64_t total_ = 0;
  Clock::time_point begin_;
  bool drawn_ = false;
};

/// A line for each declared stage that begins: for logs.
class PlainProgress final : public StagedProgress {
 public:
  void Declare(std::span<const PlannedStage> stages) override {
    if (!stages.empty()) fmt::print(stderr, "lieq: {}\n", NameStages(stages));
    stages_.Declare(stages);
  }
  void Begin(std::string_view stage, std::string_view /*unit*/, std::int64_t total) override {
    if (!stages_.Begin(stage, total)) return;
    fmt::print(stderr, "lieq: {}{}", stages_.Place(), stage);
    if (const auto left = stages_.SecondsLeft()) {
      fmt::print(stderr, ", about {} left for all", FormatSeconds(*left));
    }
    fmt::print(stderr, "\n");
  }
  void Update(std::int64_t done, std::string_view /*note*/) override { stages_.Update(done); }

 private:
  StageClock stages_;
};

}  // namespace

Terminal::Terminal(const TerminalOptions& options)
    : options_(options), terminal_(::isatty(STDERR_FILENO) == 1) {
  const char* no_color = std::getenv("NO_COLOR");  // no-color.org: any value but an empty one
  color_ = terminal_ && (no_color == nullptr || *no_color == '\0');
  log_ = Log([this](LogLevel level, std::string_view text) { Write(level, text); });
  if (terminal_ && !options.quiet) {
    progress_ = std::make_unique<LineProgress>();
  } else if (!options.quiet) {
    progress_ = std::make_unique<PlainProgress>();
  } else {
    progress_ = std::make_unique<Progress>();
  }
}

Terminal::~Terminal() {
  progress_->End();
}

void Terminal::Error(std::string_view text) {
  Write(LogLevel::kError, text);
}

void Terminal::Write(LogLevel level, std::string_view text) {
  if (options_.quiet && level != LogLevel::kError) return;
  if (!options_.verbose && level == LogLevel::kDebug) return;
  progress_->End();
  std::string_view label, color;
  if (level == LogLevel::kError) label = "error: ", color = "\x1b[1;31m";
  if (level == LogLevel::kWarning) label = "warning: ", color = "\x1b[1;33m";
  if (color_ && !color.empty()) {
    fmt::print(stderr, "lieq: {}{}\x1b[0m{}\n", color, label, text);
  } else {
    fmt::print(stderr, "lieq: {}{}\n", label, text);
  }
}

}  // namespace lieq
