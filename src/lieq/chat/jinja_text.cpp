#include "lieq/chat/jinja_text.h"

#include <algorithm>
#include <utility>

namespace lieq::jinja {

Text::Text(std::string bytes, Mark mark) : bytes_(std::move(bytes)) {
  Add(0, bytes_.size(), mark);
}

Mark Text::MarkAt(std::size_t position) const noexcept {
  const auto after = std::ranges::upper_bound(spans_, position, {}, &MarkedSpan::begin);
  if (after == spans_.begin() || std::prev(after)->end <= position) return {};
  return std::prev(after)->mark;
}

std::size_t Text::cost() const noexcept {
  return bytes_.size() + spans_.size() * sizeof(MarkedSpan);
}

void Text::Add(std::size_t begin, std::size_t end, Mark mark) {
  if (begin == end || mark.plain()) return;
  if (!spans_.empty() && spans_.back().end == begin && spans_.back().mark == mark) {
    spans_.back().end = end;
  } else {
    spans_.push_back({.begin = begin, .end = end, .mark = mark});
  }
}

void Text::Append(std::string_view bytes, Mark mark) {
  const std::size_t begin = size();
  bytes_ += bytes;
  Add(begin, size(), mark);
}

void Text::Append(const Text& other, std::size_t begin, std::size_t end) {
  const std::size_t base = size();
  bytes_.append(other.bytes_, begin, end - begin);
  auto span = std::ranges::upper_bound(other.spans_, begin, {}, &MarkedSpan::end);
  for (; span != other.spans_.end() && span->begin < end; ++span) {
    Add(base + std::max(span->begin, begin) - begin, base + std::min(span->end, end) - begin,
        span->mark);
  }
}

Text Text::Part(std::size_t begin, std::size_t end) const {
  Text part;
  part.Append(*this, begin, end);
  return part;
}

void Text::MarkAnswer() {
  const std::vector<MarkedSpan> before = std::exchange(spans_, {});
  std::size_t done = 0;
  for (const MarkedSpan& span : before) {
    Add(done, span.begin, {.answer = true});
    Add(span.begin, span.end, {.origin = span.mark.origin, .answer = true});
    done = span.end;
  }
  Add(done, size(), {.answer = true});
}

}  // namespace lieq::jinja
