#include "lieq/serve/reply.h"

#include <utility>

#include "lieq/base/assert.h"

namespace lieq {

std::optional<std::string> Reply::Next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !text_.empty() || finish_; });
  if (text_.empty()) return std::nullopt;
  return std::exchange(text_, {});
}

std::optional<std::string> Reply::Next(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [&] { return !text_.empty() || finish_; });
  if (text_.empty() && finish_) return std::nullopt;
  return std::exchange(text_, {});
}

void Reply::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
}

Finish Reply::finish() const {
  const std::lock_guard lock(mutex_);
  LIEQ_ASSERT(finish_.has_value());
  return *finish_;
}

std::string Reply::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

ReplyCounts Reply::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void Reply::Add(std::string_view text, const ReplyCounts& counts) {
  const std::lock_guard lock(mutex_);
  text_ += text;
  counts_ = counts;
  if (!text.empty()) changed_.notify_all();
}

void Reply::End(Finish finish, const ReplyCounts& counts, std::string error) {
  const std::lock_guard lock(mutex_);
  finish_ = finish;
  counts_ = counts;
  error_ = std::move(error);
  changed_.notify_all();
}

bool Reply::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

}  // namespace lieq
