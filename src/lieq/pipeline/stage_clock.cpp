#include "lieq/pipeline/stage_clock.h"

#include <fmt/format.h>

#include <algorithm>

#include "lieq/pipeline/amounts.h"

namespace lieq {
namespace {

double SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::string NameStages(std::span<const PlannedStage> stages) {
  double sum = 0;
  for (const PlannedStage& stage : stages) sum += stage.seconds;
  std::string text = fmt::format("about {}:", FormatSeconds(sum));
  for (std::size_t i = 0; i < stages.size(); ++i) {
    text += fmt::format("{} {}. {} ({})", i == 0 ? "" : ",", i + 1, stages[i].name,
                        FormatSeconds(stages[i].seconds));
  }
  return text;
}

void Declare(Progress& progress, std::span<const PlannedStage> stages) {
  if (auto* staged = dynamic_cast<StagedProgress*>(&progress)) staged->Declare(stages);
}

StageClock::StageClock() : now_(SteadySeconds) {}

void StageClock::Declare(std::span<const PlannedStage> stages) {
  stages_.assign(stages.begin(), stages.end());
  current_ = 0;
  spent_ = expected_ = 0;
}

bool StageClock::Begin(std::string_view name, std::int64_t total) {
  const auto later = stages_.begin() + static_cast<std::ptrdiff_t>(current_);
  const auto found =
      std::find_if(later, stages_.end(), [&](const auto& stage) { return stage.name == name; });
  inside_ = found == stages_.end();
  if (inside_) return false;
  const double now = now_();
  if (current_ > 0) {
    spent_ += now - begin_;
    expected_ += stages_[current_ - 1].seconds;
  }
  current_ = static_cast<std::size_t>(found - stages_.begin()) + 1;
  begin_ = now;
  done_ = 0;
  total_ = total;
  return true;
}

void StageClock::Update(std::int64_t done) {
  if (!inside_) done_ = done;
}

std::string StageClock::Place() const {
  return current_ == 0 ? "" : fmt::format("{} of {}: ", current_, stages_.size());
}

double StageClock::Declared(std::size_t first) const {
  double sum = 0;
  for (std::size_t i = first; i < stages_.size(); ++i) sum += stages_[i].seconds;
  return sum;
}

std::optional<double> StageClock::SecondsLeft() const {
  if (stages_.empty()) return std::nullopt;
  if (current_ == 0) return Declared(0);
  const double here = stages_[current_ - 1].seconds, spent = now_() - begin_;
  double left = 0, spent_in_all = spent_, expected = expected_;
  if (done_ > 0 && total_ > 0) {
    const double share = static_cast<double>(done_) / static_cast<double>(total_);
    left = spent / share - spent;
    spent_in_all += spent;
    expected += here * share;
  }
  // A share of the first stage says little: so much of the estimate counts as if it had come true.
  const double trust = 0.05 * Declared(0);
  const double scale = expected + trust > 0 ? (spent_in_all + trust) / (expected + trust) : 1;
  if (done_ == 0) left = std::max(0.0, here * scale - spent);
  return left + scale * Declared(current_);
}

}  // namespace lieq
